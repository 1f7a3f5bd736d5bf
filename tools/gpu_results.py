"""Runs on this GPU what docs/results says of one, and leaves the logs and reports in a folder.

    python tools/gpu_results.py -o DIR [--alternatives graph,compile] [--skip bench-llama-2 bits]

Kernels of the benchmarks are compiled first, all at once. Then each benchmark runs alone; at last,
side by side, the checks that are not timed. A step that takes too long is ended; the exit status is
1 if one failed. `--list` prints the commands.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import BinaryIO

from amk.runtime.toolchain import has_gpu, read_gpus

ROOT = Path(__file__).resolve().parent.parent
ALL, SHORT = (64, 1024, 8192), (64, 1024)
SHAPES: dict[str, tuple[int, ...]] = {
    "llama-3.2-1b": ALL,
    "llama-3-8b": ALL,
    "smollm2-135m": SHORT,
    "qwen2.5-1.5b": SHORT,
    "odd-3000": SHORT,
    "llama-3.2-3b": SHORT,
    "llama-2-7b": SHORT,
    "llama-2-13b": SHORT,
}


@dataclass(frozen=True)
class Step:
    """One command, and how many seconds it may take."""

    name: str
    command: tuple[str, ...]
    seconds: int


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output-directory", type=Path, default=Path("gpu-results"))
    parser.add_argument("--alternatives", default="none", help="of the first two benchmarks")
    parser.add_argument("--skip", nargs="*", default=[], help="steps whose names begin like this")
    parser.add_argument("--list", action="store_true", help="print the commands and do nothing")
    arguments = parser.parse_args()

    def wanted(steps: list[Step]) -> list[Step]:
        return [step for step in steps if not step.name.startswith(tuple(arguments.skip))]

    out: Path = arguments.output_directory.resolve()
    timed = wanted(benchmarks(out, arguments.alternatives))
    others = wanted(checks())
    if arguments.list:
        for step in timed + others:
            print(f"{step.name}: {' '.join(step.command)}")
        return 0
    if not has_gpu():
        print(f"needs a GPU: {read_gpus()[1] or 'CuPy is not installed'}", file=sys.stderr)
        return 1
    out.mkdir(parents=True, exist_ok=True)
    compile_kernels([step.name.removeprefix("bench-") for step in timed if step.name != "ncu"])
    good = [run(step, out) for step in timed]
    with ThreadPoolExecutor(max(1, len(others))) as pool:
        good += pool.map(lambda step: run(step, out), others)
    return 0 if all(good) else 1


def benchmarks(out: Path, alternatives: str) -> list[Step]:
    """What runs alone."""
    steps: list[Step] = []
    for shape, contexts in SHAPES.items():
        command = [sys.executable, "-m", "amk.cli.amk", "bench", "--shape", shape]
        command += ["--contexts", ",".join(map(str, contexts))]
        command += ["-o", str(out / f"{shape}.json"), "--plot", str(out / f"{shape}.svg")]
        if contexts == ALL:
            command += ["--alternatives", alternatives]
        elif shape != "smollm2-135m":
            command += ["--quick", "--alternatives", "none"]
        else:
            command.append("--quick")
        if shape == "llama-3.2-1b":
            command.append("--check-long")
        steps.append(Step(f"bench-{shape}", tuple(command), 240))
    return [*steps, script("ncu", 60, "tools/dram_throughput.py", "--context", "1024")]


def checks() -> list[Step]:
    """What need not run alone."""
    sanitize = "tools/sanitize.py"
    folders = ("test/runtime", "test/bench", "test/trace")
    tests = (sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *folders)
    return [
        script("racecheck-sm_80", 200, sanitize, "--tools", "racecheck", "--arch", "sm_80"),
        script("racecheck", 200, sanitize, "--tools", "racecheck"),
        script("memcheck", 200, sanitize, "--tools", "memcheck"),
        script("bits", 300, "bench/gpu_bits.py", "--shape", "smollm2-135m"),
        Step("tests", tests, 300),
    ]


def script(name: str, seconds: int, path: str, *arguments: str) -> Step:
    return Step(name, (sys.executable, path, *arguments), seconds)


def run(step: Step, out: Path) -> bool:
    """Runs a step with its output in a log; says how it ended, with the log's last lines."""
    started, log = time.monotonic(), out / f"{step.name}.log"
    with log.open("wb") as file:
        status = exit_status(step, file)
    seconds = time.monotonic() - started
    how = "took too long" if status is None else "good" if status == 0 else f"failed ({status})"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-6:]
    print(f"== {step.name}: {how}, {seconds:.0f} s", *lines, sep="\n", flush=True)
    return status == 0


def exit_status(step: Step, log: BinaryIO) -> int | None:
    """None where the step took too long; what it started is then ended as well."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    process = subprocess.Popen(
        step.command,
        cwd=ROOT,
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(step.seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def compile_kernels(shapes: list[str]) -> None:
    """Compile the programs of the benchmarks into the cache, several at a time."""
    started = time.monotonic()
    jobs = [(shape, way) for shape in shapes for way in range(3)]
    # CUDA is in use here, and does not survive a fork.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(compile_kernel, jobs))
    print(f"== compiled {len(jobs)} kernels, {time.monotonic() - started:.0f} s", flush=True)


def compile_kernel(job: tuple[str, int]) -> None:
    """Compile one of the three programs of a benchmark: AMK's, and two that only stream."""
    from amk.backends import emit_program
    from amk.bench.random_weights import RandomCheckpoint
    from amk.bench.shapes import shape_config
    from amk.frontend.import_model import import_model
    from amk.runtime.choose import choose_device
    from amk.runtime.cubin import cached_cubin, device_arch
    from amk.runtime.cuda import compute_capability

    shape, way = job
    module = import_model(
        RandomCheckpoint(shape_config(shape), shape), dtype="bf16", context=max(SHAPES[shape])
    )
    choice = choose_device("cuda", None)
    choice.lower(module)
    program = emit_program(module, choice.target, stream_only=way > 0, whole_ring=way == 2)
    cached_cubin(program.source, device_arch(*compute_capability()))


if __name__ == "__main__":
    sys.exit(main())
