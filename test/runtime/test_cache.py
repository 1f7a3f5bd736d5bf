"""Cached files."""

from __future__ import annotations

from pathlib import Path

import pytest

from amk.runtime.cache import cache_dir, cached_file


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("AMK_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_file_is_built_once_per_key(directory):
    built = []

    def build(path: Path) -> None:
        built.append(path)
        path.write_text("made")

    first = cached_file(["source", "-O3"], ".so", build)
    assert first.read_text() == "made"
    assert first.parent == directory
    assert cached_file(["source", "-O3"], ".so", build) == first
    assert cached_file(["sourc", "e-O3"], ".so", build) != first
    assert len(built) == 2


def test_a_build_that_fails_leaves_nothing(directory):
    def build(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cached_file(["x"], ".so", build)
    assert list(directory.iterdir()) == []


def test_the_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("AMK_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "amk"


def test_a_directory_that_cannot_be_made_is_replaced_by_a_temporary_one(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AMK_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert cache_dir().is_dir()
