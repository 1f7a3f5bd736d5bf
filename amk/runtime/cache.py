"""Files that are expensive to make, kept on disk: compiled kernels and programs."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

DIRECTORY_VARIABLE = "AMK_CACHE_DIR"
"""Environment variable that names the cache directory."""


def cache_dir() -> Path:
    """The cache directory, created: $AMK_CACHE_DIR, else amk in $XDG_CACHE_HOME, else ~/.cache/amk.

    Where it cannot be written, a directory that lives as long as this process, with a remark.
    """
    directory = configured_dir()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return _temporary(directory)
    return directory if os.access(directory, os.W_OK) else _temporary(directory)


def configured_dir() -> Path:
    """Where the cache should be, whether or not it can be written."""
    named = os.environ.get(DIRECTORY_VARIABLE)
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "amk"


@functools.cache
def _temporary_directory(instead_of: Path) -> tempfile.TemporaryDirectory[str]:
    # Imported late: `amk doctor` looks at the cache too, and is light.
    from amk.ir.diagnostics import remark

    remark(
        None,
        f"the cache {instead_of} cannot be written, so what is compiled is not kept:"
        f" set {DIRECTORY_VARIABLE} to another directory",
    )
    return tempfile.TemporaryDirectory(prefix="amk-cache-")


def _temporary(instead_of: Path) -> Path:
    return Path(_temporary_directory(instead_of).name)


def cached_file(key: Iterable[str], suffix: str, build: Callable[[Path], None]) -> Path:
    """The file for `key`; where it does not exist, `build(path)` writes it first.

    The file appears complete or not at all, also with several processes at once: `build` writes
    under a name of its own, which is renamed at the end.
    """
    digest = hashlib.sha256()
    for part in key:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    target = cache_dir() / f"{digest.hexdigest()[:32]}{suffix}"
    if target.exists():
        return target
    handle, name = tempfile.mkstemp(dir=target.parent, prefix="building-", suffix=suffix)
    os.close(handle)
    partial = Path(name)
    try:
        build(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target
