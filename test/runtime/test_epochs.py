"""Bookkeeping of packet epochs over launches."""

from __future__ import annotations

import pytest

from amk.errors import AmkError
from amk.runtime.epochs import LIMIT, Epochs


def test_the_base_grows_by_the_iterations_that_ran():
    epochs = Epochs(31)
    assert not epochs.begin(100)
    epochs.end(7)
    assert epochs.base == 7
    assert not epochs.begin(100)


def test_memory_is_cleared_after_a_launch_that_did_not_end():
    epochs = Epochs(31, base=50)
    assert not epochs.begin(10)
    assert epochs.begin(10)
    assert epochs.base == 0
    epochs.end(10)
    assert not epochs.begin(10)
    assert epochs.base == 10


@pytest.mark.parametrize("uses", [1, 2, 31, 61])
def test_memory_is_cleared_before_an_epoch_wraps(uses):
    steps = 16
    last = (LIMIT - 1) // uses - steps
    epochs = Epochs(uses, base=last)
    assert not epochs.begin(steps)
    # The largest epoch that this launch writes still fits.
    assert (last + steps - 1) * uses + (uses - 1) + 1 < LIMIT
    epochs.end(steps)
    assert epochs.begin(steps)
    assert epochs.base == 0


def test_a_launch_that_cannot_fit_is_refused():
    with pytest.raises(AmkError, match="epochs would wrap"):
        Epochs(61).begin(2**27)
