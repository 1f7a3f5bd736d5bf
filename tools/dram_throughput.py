"""Runs one launch under Nsight Compute and prints what the memory delivered.

    python tools/dram_throughput.py --shape llama-3.2-1b [--context 1024] [--tokens 64]

Bytes that DRAM read and wrote, per second and of the peak that Nsight Compute knows, beside the
bytes that the tokens need by the model of `docs/performance.md`. Random weights and caches. Needs
`ncu` and the permission to read its counters.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys

READ, WRITTEN = "dram__bytes_read.sum", "dram__bytes_write.sum"
SECONDS = "gpu__time_duration.sum"
SHARE = "dram__throughput.avg.pct_of_peak_sustained_elapsed"
MARKER = "needed: "


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", default="llama-3.2-1b")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--run", action="store_true", help="only run the launch")
    arguments = parser.parse_args()
    if arguments.run:
        launch(arguments.shape, arguments.context, arguments.tokens)
        return 0
    command = ["ncu", "--csv", "--print-units", "base", "--clock-control", "none"]
    command += ["--kernel-name", "amk_decode", "--launch-skip", "1", "--launch-count", "1"]
    command += ["--metrics", ",".join((READ, WRITTEN, SECONDS, SHARE))]
    command += [sys.executable, __file__, "--run", "--shape", arguments.shape]
    command += ["--context", str(arguments.context), "--tokens", str(arguments.tokens)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = result.stdout.splitlines()
    found = metrics(lines)
    needed = next((line for line in lines if line.startswith(MARKER)), None)
    if needed is None or len(found) < 4:
        print(result.stdout + result.stderr, file=sys.stderr)
        return 1
    seconds = found[SECONDS] / 1e9
    read, written = found[READ], found[WRITTEN]
    wanted = float(needed.removeprefix(MARKER))
    print(
        f"{arguments.shape}, {arguments.tokens} tokens that end at {arguments.context}:"
        f" {seconds / arguments.tokens * 1e6:.1f} us a token under ncu;"
        f" DRAM read {read / 1e9:.2f} GB (needed {wanted / 1e9:.2f}), wrote {written / 1e9:.3f} GB,"
        f" {(read + written) / seconds / 1e9:.0f} GB/s, {found[SHARE]:.1f} % of ncu's peak"
    )
    return 0


def launch(shape: str, context: int, tokens: int) -> None:
    """A launch to warm up, and the one that ncu looks at."""
    from amk.bench.random_weights import RandomCheckpoint
    from amk.bench.shapes import shape_config
    from amk.bench.subject import Subject, fill_caches

    checkpoint = RandomCheckpoint(shape_config(shape), shape)
    subject = Subject(checkpoint, "cuda", dtype="bf16", context=context)
    fill_caches(subject.device)
    start = context - tokens
    for _ in range(2):
        subject.model.session.time(1, start, tokens)
    attended = start + (tokens + 1) / 2
    needed = tokens * (subject.device.program.stream_bytes + attended * subject.kv_bytes)
    print(f"{MARKER}{needed:.0f}", flush=True)
    subject.close()


def metrics(lines: list[str]) -> dict[str, float]:
    """Values by name, of the lines that ncu printed as CSV."""
    table = [line for line in lines if line.startswith('"')]
    rows = csv.DictReader(table)
    return {row["Metric Name"]: float(row["Metric Value"].replace(",", "")) for row in rows}


if __name__ == "__main__":
    sys.exit(main())
