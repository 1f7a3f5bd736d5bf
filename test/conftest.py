"""Fixtures and rules for all tests."""

from __future__ import annotations

import pytest

from amk.runtime.toolchain import has_gpu, read_gpus


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where no GPU can be used, saying why."""
    if has_gpu():
        return
    _, problem = read_gpus()
    skip = pytest.mark.skip(reason=f"needs a GPU: {problem or 'CuPy is not installed'}")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)
