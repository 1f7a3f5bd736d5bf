"""Without a C++ compiler a model runs in the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_model import write_model

import amk
from amk.errors import AmkError
from amk.frontend.import_model import import_model
from amk.interpreters.nn import NNRunner
from amk.runtime.interpret import InterpreterDevice


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch):
    monkeypatch.setattr("amk.runtime.choose.find_cxx", lambda: None)


@pytest.fixture
def model(tmp_path):
    path = write_model(tmp_path, eos_token_id=100, num_hidden_layers=1)
    with amk.compile(path, "host", "f32", context=24, workers=2) as model:
        yield model


def test_generates_the_same_tokens_and_says_that_it_is_slow(model, capsys):
    assert isinstance(model.device, InterpreterDevice)
    wanted = NNRunner(import_model(model.checkpoint), model.checkpoint.read)
    assert list(model.generate([5, 17], 6)) == wanted.generate([5, 17], 6)
    ids = [5, 17, 9, 9, 1]
    np.testing.assert_allclose(model.logits(ids), wanted.logits(ids), rtol=0, atol=2e-4)
    tokens = model.generate([5, 17, 44], 9)
    assert next(tokens) == wanted.generate([5, 17, 44], 1)[0]
    tokens.close()
    assert list(model.generate([3], 2)) == wanted.generate([3], 2)


def test_says_in_one_line_that_it_is_slow(tmp_path, capsys):
    path = write_model(tmp_path, num_hidden_layers=1)
    amk.compile(path, "host", context=8).close()
    line = capsys.readouterr().err
    assert line.startswith("remark: no C++")
    assert line.count("\n") == 1


def test_an_error_of_the_interpreter_ends_the_launch_only(model, monkeypatch):
    def fail(*_arguments):
        raise AmkError("deadlock: nobody moves")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(model.device._machine, "run", fail)
        with pytest.raises(AmkError, match="nobody moves"):
            list(model.generate([5, 17], 6))
    assert len(list(model.generate([5, 17], 6))) == 6
