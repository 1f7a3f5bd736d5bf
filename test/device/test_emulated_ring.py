"""The copy warps of the CUDA device layer on the CPU: their own text, in an emulated block.

The consumers, the memory and mbarriers are emulated (`emulated_ring.h`): what is copied where, in
which order, how much is in flight, also while the ring is paused, and that a launch ends.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from device_text import device_file, replace

from amk.runtime.toolchain import find_cxx, missing_cxx

CONFIG = {
    "kSlices": 8,
    "kProducers": 4,
    "kSlotBytes": 4096,
    "kSlots": 24,
    "kWindow": 8,
    "kWideWindow": 12,
    "kPausedWindow": 4,
    "kOperandBytes": 64,
    "kScoreBytes": 0,
    "kPrivateBytes": 0,
}


TRACED = {
    "kWorkers": 1,
    "kTraceWarps": 8,
    "kTraceTasks": 1,
    "kTraceTokens": 2,
    "kTraceFirst": 0,
    "kTraceCopies": 18,  # the most of a producer: three layers, three blocks, two chunks
}
"""What an instrumented ring has beside CONFIG."""


def ring_text(config: dict[str, int], mutate: Callable[[str], str]) -> str:
    folder = Path(__file__).parent
    block = replace(
        device_file("cuda/block.cuh"),
        r"^  extern __shared__ .*?\n  return [^\n]*\n",
        "  static Block b;\n  return b;\n",
    )
    traced = "kTraceCopies" in config
    producer = ["common/trace.h", "cuda/trace_ring.cuh"] if traced else []
    producer.append("cuda/producer.cuh")
    sizes = ", ".join(f"{name} = {value}" for name, value in config.items())
    return "\n".join(
        [
            f"namespace amk::config {{ constexpr int {sizes}; }}",
            device_file("host/platform.h"),
            "#define TRACED\n#define AMK_TRACE(...) __VA_ARGS__"
            if traced
            else "#define AMK_TRACE(...)",
            *(device_file(f"common/{name}") for name in ("types.h", "math.h", "tiling.h")),
            (folder / "simt.h").read_text(encoding="utf-8"),
            block,
            (folder / "emulated_ring.h").read_text(encoding="utf-8"),
            mutate("\n".join(map(device_file, producer))),
            (folder / "emulated_ring_entry.h").read_text(encoding="utf-8"),
        ]
    )


def run(
    folder: Path, config: dict[str, int], mutate: Callable[[str], str] = lambda text: text
) -> str:
    """What the program says of some launches: "good", or the first thing that is wrong."""
    compiler = find_cxx()
    if compiler is None:
        pytest.skip(missing_cxx())
    source, program = folder / "ring.cpp", folder / "ring"
    source.write_text(ring_text(config, mutate))
    command = [str(compiler), "-std=c++20", "-O1", "-w", str(source), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([str(program), "0"], capture_output=True, text=True, check=False)
    return ran.stdout.strip() or f"exit status {ran.returncode}"


@pytest.mark.slow
@pytest.mark.parametrize("slots", [8, 24, 40])
@pytest.mark.parametrize(("window", "wide", "paused"), [(4, 4, 0), (4, 8, 4), (8, 8, 8)])
def test_stages_come_in_order_and_no_more_than_the_window(
    slots: int, window: int, wide: int, paused: int, tmp_path: Path
) -> None:
    sizes = {"kSlots": slots, "kWindow": window, "kWideWindow": wide, "kPausedWindow": paused}
    assert run(tmp_path, CONFIG | sizes) == "good"


@pytest.mark.slow
def test_an_instrumented_producer_notes_every_copy(tmp_path: Path) -> None:
    assert run(tmp_path, CONFIG | TRACED) == "good"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "by", "message"),
    [
        (r"AMK_TRACE\(trace.copied\(bytes\);\)", "", "another copy's record"),
        (r"config::kTraceTokens \+ 1;", "config::kTraceTokens;", "records in another order"),
        (r"    copies = 0;\n", "", "another copy's record"),
        (r"\* kWords \+ \+\+copies", "* kWords + copies++", "another copy's record"),
        (r"trace_clock\(\) << 16", "(1000000 - trace_clock()) << 16", "records in another order"),
    ],
)
def test_the_emulation_sees_wrong_records(
    pattern: str, by: str, message: str, tmp_path: Path
) -> None:
    assert run(tmp_path, CONFIG | TRACED, lambda text: replace(text, pattern, by)) == message


MUTATIONS = {
    "a slot is not waited for": (
        (r"while \(any_lane\(!stage_done\(&b.empty\[slot\], parity \^ 1\)\)\)", "while (false)"),
        "a slot that was not released",
    ),
    "a stage more than the window": (
        (r"kWideWindow : kWindow\)\) retire", "kWideWindow + 1 : kWindow)) retire"),
        "more in flight than the window",
    ),
    "always a wide window": (
        (r"starved \? kWideWindow : kWindow", "kWideWindow"),
        "a wide window for a ring that has stages",
    ),
    "never a wide window": (
        (r"starved \? kWideWindow : kWindow", "kWindow"),
        "never a wide window",
    ),
    "another slot tells whether the ring is empty": (
        (r"kSlots / kProducers - kWideWindow - 1;", "kSlots / kProducers - kWideWindow - 3;"),
        "a wide window for a ring that has stages",
    ),
    "the slot of another round tells it": (
        (r"far_parity \^= 1;", ""),
        "a wide window for a ring that has stages",
    ),
    "no pause": ((r"if \(paused\) pause\(\);", ""), "the ring did not pause"),
    "a pause where there is none": (
        (r"barrier_done\(&block\(\).paused, 1\)", "barrier_done(&block().paused, 0)"),
        "the ring did not pause",
    ),
    "a stage more than the window of a pause": (
        (r"in_flight >= kPausedWindow &&", "in_flight > kPausedWindow &&"),
        "the ring did not pause",
    ),
    "the oldest copy is another one": (
        (r"advance\(oldest, oldest_parity\);", ""),
        "more in flight than the window",
    ),
    "slots in another order": (
        (r"place \+= kProducers;", "place += 2 * kProducers;"),
        "another stage",
    ),
    "nobody looks whether consumers left": (
        (r"if \(!any_lane\(barrier_done\(&b.leaving, 0\)\)\) continue;", "continue;"),
        "nothing goes on",
    ),
    "chunks in another order": ((r"int c = p.index;", "int c = 3 - p.index;"), "another stage"),
    "copies are left behind": (
        (r"while \(in_flight > 0\) retire\(\);", ""),
        "a copy that nobody waits for",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MUTATIONS))
def test_the_emulation_sees(name: str, tmp_path: Path) -> None:
    (pattern, by), message = MUTATIONS[name]
    assert run(tmp_path, CONFIG, lambda text: replace(text, pattern, by)) == message
