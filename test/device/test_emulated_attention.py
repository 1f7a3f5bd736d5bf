"""Attention of the CUDA device layer on the CPU: its own text, in an emulated block of 256 threads.

Only the PTX is replaced (`emulated_attention.h`); barriers, copies and warp collectives are those
of the text. Exact results equal `numerics.attention_partial` bit for bit, whatever order the
threads run in; fast ones deal the rows out differently, so that only the sum of all partial results
is the same.
"""

from __future__ import annotations

import ctypes
import itertools
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from device_text import device_file, replace, without_functions
from numpy.typing import NDArray

from amk.backends.device import attention_bytes, cache_row
from amk.interpreters import numerics
from amk.runtime.toolchain import find_cxx, missing_cxx

ROWS = (0, 1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200, 300)
EPOCH, SPLITS = 7, 2  # as in emulated_attention_entry.h
ERRORS = ("", "deadlock", "misaligned access", "copy out of the tile", "copy not waited for")
ERRORS += ("write behind the tile",)
MOVED, EQUAL = "cuda/registers_moved.cuh", "cuda/registers_equal.cuh"
C_TYPES = {"f32": "float", "bf16": "amk::bf16"}


@dataclass(frozen=True)
class Shape:
    """Dtypes of the cache and of the packets, head size, heads of a group, units, functions."""

    cache: str
    packets: str
    head: int
    group: int
    units: int
    functions: str = "Exact"

    @property
    def arguments(self) -> list[str]:
        types = [C_TYPES[self.cache], C_TYPES[self.packets]]
        numbers = [str(self.head), str(self.group), str(self.units)]
        return [*types, *numbers, f"amk::{self.functions}"]


FLOAT = [Shape("f32", "f32", d, g, z) for d in (24, 64, 128) for g in (1, 3, 4) for z in (1, 2)]
FLOAT.append(Shape("f32", "f32", 20, 3, 2))  # rows with padding
FLOAT.append(Shape("f32", "f32", 64, 7, 2))  # more than eight jobs, two items of a warp
BFLOAT = [Shape("bf16", "bf16", s.head, s.group, s.units) for s in FLOAT]
BFLOAT.append(Shape("bf16", "f32", 64, 4, 2))  # rounded where it is received
EQUAL_DIFFERS = [("f32", 64, 2), ("f32", 128, 1), ("bf16", 128, 2)]  # held in registers_moved only
FAST = [replaced(s, functions="Fast") for s in BFLOAT]
FAST += [Shape("bf16", "bf16", d, 2, 2, "Fast") for d in (8, 80, 120, 256)]
FAST += [Shape("bf16", "bf16", 64, 8, 1, "Fast"), Shape("f32", "bf16", 128, 2, 2, "Fast")]
LIBRARIES = {
    "f32": (MOVED, FLOAT),
    "bf16": (MOVED, BFLOAT),
    "fast": (MOVED, FAST),
    "equal": (EQUAL, [Shape(t, t, d, g, z) for t, d, z in EQUAL_DIFFERS for g in (1, 3, 4)]),
}
ROWS_WAY, HELD, COPIED = range(3)  # as in emulated_attention_entry.h


# The text.


def emulated_text(registers: str, mutate: Callable[[str], str]) -> str:
    """The device layer as far as attention needs it, without PTX, and attention itself mutated."""
    folder = Path(__file__).parent
    common = ["types.h", "math.h", "tiling.h", "support.h"]
    warp = replace(device_file("cuda/worker.cuh"), r"^// Units of about a millisecond.*", "}")
    packets = without_functions(
        device_file("cuda/packets.cuh"),
        *("store_packet", "store_packets", "load_packet", "load_packets"),
        *("send_host", "load_host"),
    )
    parts = replace(device_file("cuda/attention_parts.cuh"), r"^template <int N>\n")
    parts = without_functions(parts, "copy_16", "commit_copies", "wait_copies")
    tiles = without_functions(device_file("cuda/attention_tiles.cuh"), "load_16")
    rows = device_file("cuda/attention_rows.cuh")
    device = [
        warp,
        packets,
        without_functions(device_file(registers), "give_registers", "take_registers"),
        device_file("cuda/receive.cuh"),
        mutate(parts + tiles + rows),
        device_file("cuda/attention.cuh"),
    ]
    assert "asm" not in "".join(device), "PTX that the emulation does not replace"
    return "\n".join(
        [
            device_file("host/platform.h"),
            "#define AMK_TRACE(...)",
            *(device_file(f"common/{name}") for name in common),
            (folder / "simt.h").read_text(encoding="utf-8"),
            (folder / "emulated_attention.h").read_text(encoding="utf-8"),
            *device,
            (folder / "emulated_attention_entry.h").read_text(encoding="utf-8"),
        ]
    )


def build(
    folder: Path,
    registers: str,
    shapes: Sequence[Shape],
    mutate: Callable[[str], str] = lambda text: text,
) -> ctypes.CDLL:
    compiler = find_cxx()
    if compiler is None:
        pytest.skip(missing_cxx())
    units = 3 if registers == EQUAL else 2
    sizes = [attention_bytes(s.cache, s.head, s.group, s.units, units) for s in shapes]
    config = (
        f"constexpr int kSlices = 8, kProducers = 4, kScoreBytes = {max(sizes) + 64};"
        f" constexpr int kRowUnits = {units};"
    )
    listed = " ".join(f"X({', '.join(s.arguments)})" for s in shapes)
    source = folder / "emulated.cpp"
    source.write_text(
        f"namespace amk::config {{ {config} }}\n#define AMK_SHAPES(X) {listed}\n"
        + emulated_text(registers, mutate)
    )
    command = [str(compiler), "-std=c++20", "-O1", "-fno-strict-aliasing", "-ffp-contract=off"]
    command += ["-shared", "-fPIC", "-fvisibility=hidden"]  # libraries of one process share nothing
    command += ["-w", str(source), "-o", str(folder / "emulated.so")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return ctypes.CDLL(str(folder / "emulated.so"))


# A task.


class CTask(ctypes.Structure):
    _fields_: ClassVar = [
        *((name, ctypes.c_int) for name in ("rows", "own")),
        *((name, ctypes.c_void_p) for name in ("keys", "values", "q", "k", "v", "partial")),
        *((name, ctypes.c_void_p) for name in ("sent_q", "sent_k", "sent_v")),
        *((name, ctypes.c_int) for name in ("q_packets", "row_packets")),
    ]


def stored(x: numerics.F32, dtype: str) -> NDArray[np.uint16] | NDArray[np.uint32]:
    return x.view(np.uint32) if dtype == "f32" else numerics.to_bf16(x)


def rounded(x: numerics.F32, dtype: str) -> numerics.F32:
    return x if dtype == "f32" else numerics.round_bf16(x)


def packets(x: numerics.F32, dtype: str) -> NDArray[np.uint64]:
    payload = stored(x, dtype).reshape(-1).view(np.uint32)
    return payload.astype(np.uint64) | np.uint64(EPOCH << 32)


class Task:
    """One call: caches of `rows` old rows, NaN behind them, and what is to come out."""

    def __init__(self, shape: Shape, rows: int, own: bool, rng: np.random.Generator) -> None:
        self.name = f"{shape}, {rows} rows{', own' if own else ''}"
        self.fast = shape.functions == "Fast"
        head, group, self.total = shape.head, shape.group, rows + own
        q = rounded(rng.standard_normal((group, head), np.float32), shape.packets)
        sent = rounded(rng.standard_normal((2, rows + 1, head), np.float32), shape.packets)
        data = rounded(sent, shape.cache)
        self.scale = 2.0 / head**0.5

        width = stored(q, shape.cache).dtype
        poison = np.iinfo(width).max
        self.caches = np.full((2, rows + 40, cache_row(head)), poison, width)
        self.caches[:, :rows, :head] = stored(data[:, :rows], shape.cache)
        self.expected_caches = self.caches.copy()
        if own:
            self.expected_caches[:, rows, :head] = stored(data[:, rows], shape.cache)

        self.sent = [packets(x, shape.packets) for x in (q, sent[0, rows], sent[1, rows])]
        self.received = [np.zeros_like(x) for x in self.sent]
        parts = shape.units * SPLITS
        self.partial = np.zeros((group, parts, head + 2), np.uint64)
        self.expected = np.zeros_like(self.partial)
        keys, values = data[:, : self.total]
        for z in range(shape.units):
            part = numerics.attention_partial(q, keys, values, self.scale, z, shape.units)
            bits = np.ascontiguousarray(part).view(np.uint32)
            self.expected[:, z] = bits.astype(np.uint64) | np.uint64(EPOCH << 32)
        addresses = [x.ctypes.data for x in [*self.caches, *self.received, self.partial]]
        addresses += [x.ctypes.data for x in self.sent]
        sizes = [len(x) for x in self.sent[:2]]
        self.c = CTask(rows, own, *addresses, *sizes)

    def wrong(self) -> str | None:
        if not np.array_equal(self.caches, self.expected_caches):
            where = np.argwhere(self.caches != self.expected_caches)[0]
            return f"{self.name}: the caches differ, first at {where.tolist()}"
        if self.fast:
            error = float(np.abs(combined(self.partial) - combined(self.expected)).max())
            return None if error < 1e-5 else f"{self.name}: the results differ by {error}"
        if not np.array_equal(self.partial, self.expected):
            where = np.argwhere(self.partial != self.expected)[0]
            return f"{self.name}: the partial results differ, first at {where.tolist()}"
        return None


def combined(partial: NDArray[np.uint64]) -> NDArray[np.float64]:
    """What the parts [heads, parts, head + 2] add up to: values, and the log of the weight."""
    floats = partial.astype(np.uint32).view(np.float32).astype(np.float64)
    floats[partial == 0] = -np.inf  # of another split
    out, top, weight = floats[..., :-2], floats[..., -2], floats[..., -1]
    highest = np.maximum(top.max(1, keepdims=True), -1e30)  # of no rows: no weight at all
    shares = np.exp(top - highest)
    out, weight = np.where(shares[..., None] > 0, out, 0), np.where(shares > 0, weight, 0)
    total = np.maximum((shares * weight).sum(1), 1e-30)
    values = (shares[..., None] * out).sum(1) / total[:, None]
    logs = highest[:, 0] + np.log(total)
    return np.concatenate([values, logs[:, None]], 1)


def run(library: ctypes.CDLL, shape: Shape, tasks: Sequence[Task], seed: int) -> str | None:
    """The first thing that is wrong after a launch of these tasks."""
    array = (CTask * len(tasks))(*(t.c for t in tasks))
    scale = ctypes.c_float(tasks[0].scale)
    error = library.run_tasks(" ".join(shape.arguments).encode(), array, len(tasks), scale, seed)
    assert error >= 0, f"{shape} is not in this library"
    if error:
        return f"{tasks[0].name}: {ERRORS[error]}"
    return next((message for t in tasks if (message := t.wrong())), None)


def first_wrong(library: ctypes.CDLL, shape: Shape) -> str | None:
    """The first thing that is wrong, of single tasks and of tasks behind one another."""
    rng = np.random.default_rng(shape.head)
    launches = [[case] for case in itertools.product(ROWS, (False, True))]
    launches += [
        list(zip((33, 200, 1, 0, 129, 65), owns, strict=True))
        for owns in ((False, True) * 3, (True, False) * 3)
    ]
    for i, launch in enumerate(launches):
        tasks = [Task(shape, rows, own, rng) for rows, own in launch]
        # Odd seeds have warps of different speeds: the new row meets both kinds.
        message = run(library, shape, tasks, i + i // 2)
        if message is not None:
            return message
    return None


# The tests.


def by_rows(shape: Shape) -> bool:
    """Whether the matrix unit can: two-byte types, and rows of whole pieces of 16 bytes."""
    two_bytes = (shape.cache, shape.packets) == ("bf16", "bf16")
    return shape.functions == "Fast" and two_bytes and shape.head % 8 == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", list(LIBRARIES))
def test_every_number_of_rows(name: str, tmp_path: Path) -> None:
    registers, shapes = LIBRARIES[name]
    library = build(tmp_path, registers, shapes)
    for shape in shapes:
        way = library.way(" ".join(shape.arguments).encode())
        largest = (shape.cache, shape.head, shape.units) == ("f32", 128, 2)
        tiles = COPIED if registers == EQUAL or largest else HELD
        assert way == (ROWS_WAY if by_rows(shape) else tiles), shape
        assert first_wrong(library, shape) is None


HELD_SHAPE, COPIED_SHAPE = Shape("f32", "f32", 24, 3, 1), Shape("f32", "f32", 128, 3, 2)
BY_TILES = [HELD_SHAPE, COPIED_SHAPE]
BY_ROWS = [Shape("bf16", "bf16", 64, 3, 2, "Fast")]
MUTATIONS: dict[str, tuple[list[Shape], list[tuple[str, str]]]] = {
    "copies are not waited for": (
        BY_TILES,
        [(r"^  wait_copies<0>\(\);\n  w", "  w"), (r"^      wait_copies<0>\(\);", "")],
    ),
    "no barrier behind the first tile": (
        BY_TILES,
        [(r"(?<=^  wait_copies<0>\(\);\n)  w.sync\(\);", "")],
    ),
    "no barrier behind a next tile": (BY_TILES, [(r"^    w.sync\(\);\n  }", "  }")]),
    "no barrier before the next tile": (BY_TILES, [(r"w.sync\(\);  // the tile was read$", "")]),
    "a tile comes twice": (
        BY_TILES,
        [
            (r"next.request\(old, pass \+ 1\)", "next.request(old, pass)"),
            (r"old.copy\(pass \+ 1\)", "old.copy(pass)"),
        ],
    ),
    "the new row stays outside": (
        BY_TILES,
        [(r"if \(own && [^;]*place_new_row<Plan>\(w, rows\);", "")],
    ),
    "the new row comes a pass early": (
        BY_TILES,
        [(r"last_pass = rows / Plan::kRows", "last_pass = (rows - 1) / Plan::kRows")],
    ),
    "the new row is not appended": ([*BY_TILES, *BY_ROWS], [(r"to\[d\] = end\[d\] =", "to[d] =")]),
    "the last old row is left out": (
        BY_TILES,
        [(r"\? rows - first : Plan::kRows", "? rows - first - 1 : Plan::kRows")],
    ),
    "units are not waited for": (BY_ROWS, [(r"wait_copies<Plan::kUnits - 1>\(\);", "")]),
    "units are waited for too late": (
        BY_ROWS,
        [(r"wait_copies<Plan::kUnits - 1>\(\);", "wait_copies<Plan::kUnits>();")],
    ),
    "rows behind the last one count": (
        BY_ROWS,
        [(r"\? left : Plan::kUnitRows", "? left + 1 : Plan::kUnitRows")],
    ),
    "units go round in the wrong order": (BY_ROWS, [(r"place \+ 1 : 0;", "place + 1 : 1;")]),
    "a warp is left out": (
        BY_ROWS,
        [(r"warp < kSlices \? Plan::part", "warp < kSlices - 1 ? Plan::part")],
    ),
    "the new row is left out": (BY_ROWS, [(r"own && warp == kSlices - 1;", "false;")]),
    "weights do not shrink": (BY_ROWS, [(r"weight \*= by;", "")]),
    "heads shrink like others": (BY_ROWS, [(r"lane % 4 \* 8 \+ 4\)", "lane % 4 * 8)")]),
    "weights are rounded": (BY_ROWS, [(r"^ *multiply_columns\([^;]*, low, [^;]*;\n", "")]),
    "a weight is the sum of half of the rows": (
        BY_ROWS,
        [(r"weight \+= __shfl_xor_sync\(kAllLanes, weight, 2\);", "")],
    ),
    "rows that are not there are read": (
        BY_ROWS,
        [(r"t \* 8 \+ lane % 8 < last \? t \* 8 \+ lane % 8 : last", "t * 8 + lane % 8")],
    ),
    "pieces that are not there are read": (
        [Shape("bf16", "bf16", 24, 3, 2, "Fast")],
        [(r"piece = Plan::kPieces - 1;", ";")],
    ),
    "no barrier before the sum": (BY_ROWS, [(r"(?<=softmax.store\(warp\);\n)  w.sync\(\);", "")]),
    "no barrier behind the query": (
        BY_ROWS,
        [(r"(?<=pause_ring\(\);\n)  w.sync\(\);", "")],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MUTATIONS))
def test_the_emulation_sees(name: str, tmp_path: Path) -> None:
    shapes, mutations = MUTATIONS[name]

    def mutate(text: str) -> str:
        for pattern, by in mutations:
            text = replace(text, pattern, by)
        return text

    for number, shape in enumerate(shapes):
        folder = tmp_path / str(number)
        folder.mkdir()
        registers = EQUAL if shape == COPIED_SHAPE else MOVED
        library = build(folder, registers, [shape], mutate)
        assert first_wrong(library, shape) is not None, shape
