"""Compile a model for a GPU: the IR of every level, the kernel, its cubin and a report."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amk.cli.options import add_model, add_workers
from amk.errors import AmkError

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from amk.backends.arch import Arch
    from amk.backends.program import Program
    from amk.runtime.cubin import Cubin

SUMMARY = "compile a model for a GPU, into files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_model(parser)
    parser.add_argument(
        "--arch", default="sm_90", metavar="ARCH", help="architecture (default: sm_90)"
    )
    parser.add_argument(
        "-o", "--output-directory", required=True, metavar="DIR", help="where the files go"
    )
    add_workers(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write nn.mlir, tile.mlir, task.mlir, kernel.cu, kernel.cubin and report.json."""
    import json
    import sys

    from amk.backends import emit_program
    from amk.cli.progress import show_progress
    from amk.frontend.checkpoint import open_checkpoint
    from amk.frontend.import_model import import_model
    from amk.runtime.build import find_arch, ir_text, lower
    from amk.runtime.cubin import compile_cuda

    arch = find_arch(arguments.arch)
    directory = _directory(arguments.output_directory)
    checkpoint = open_checkpoint(arguments.model)
    module = import_model(checkpoint, dtype=arguments.dtype, context=arguments.context)
    files: dict[str, str | bytes] = {}
    report: dict[str, Any] = {"model": checkpoint.name, "arch": arch.name, "operations": {}}

    def keep(level: str, module: ModuleOp) -> None:
        files[f"{level}.mlir"] = ir_text(module)
        report["operations"][level] = sum(1 for _ in module.walk())

    workers = arguments.workers or arch.workers
    even = arguments.workers is None
    lower(module, workers, arch.name, even=even, on_level=keep, progress=show_progress)
    with show_progress("printing the kernel"):
        program = emit_program(module, arch.name)
    files["kernel.cu"] = program.source
    with show_progress("compiling the kernel"):
        cubin = compile_cuda(program.source, arch.nvcc, prefer_nvcc=True)
    if cubin is None:
        print("no cubin: neither nvcc nor NVRTC is there (see amk doctor)", file=sys.stderr)
    else:
        files["kernel.cubin"] = cubin.image
    report |= _report(module, program, arch, cubin)
    files["report.json"] = json.dumps(report, indent=2) + "\n"
    _write(directory, files)
    print(f"{directory}: {', '.join(files)}", file=sys.stderr)
    return 0


def _report(
    module: ModuleOp, program: Program, arch: Arch, cubin: Cubin | None
) -> dict[str, object]:
    from amk.runtime.build import task_count

    state = sum(info.nbytes for info in program.buffers if info.kind == "state")
    return {
        "tasks": task_count(module),
        "workers": program.workers,
        "context": program.context,
        "kernel_lines": program.source.count("\n"),
        "bytes_per_token": program.stream_bytes,
        "kv_bytes_per_position": state // program.context,
        "device_bytes": sum(info.nbytes for info in program.buffers),
        "threads": program.threads,
        "shared_bytes": program.shared_bytes,
        "registers": cubin.registers if cubin else None,
        "spilled_bytes": cubin.spilled_bytes if cubin else None,
        "compiler": cubin.compiler if cubin else None,
        "bandwidth_gb_s": arch.bandwidth,
        "roofline_us": round(program.stream_bytes / arch.bandwidth / 1e3, 2),
    }


def _directory(name: str) -> Path:
    """The output directory; it may not exist yet, but nothing else may stand there."""
    directory = Path(name)
    if directory.exists() and not directory.is_dir():
        raise AmkError(f"cannot write into '{name}': it is not a directory")
    return directory


def _write(directory: Path, files: Mapping[str, str | bytes]) -> None:
    """Write `files`, each of which appears complete or not at all."""
    import os

    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            partial = directory / f".{name}.{os.getpid()}.partial"
            try:
                partial.write_bytes(content if isinstance(content, bytes) else content.encode())
                partial.replace(directory / name)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise AmkError(f"cannot write into '{directory}': {error.strerror or error}") from error
