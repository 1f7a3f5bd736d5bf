"""Single kernels: what their operations compute, and how errors point at them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amk.errors import AmkError
from amk.interpreters.kernel import Kernels
from amk.interpreters.memory import View, load_constants
from amk.interpreters.numerics import exp, from_bf16, round_bf16, rsqrt, to_bf16
from amk.ir.module import parse_module, verify_module

pytestmark = pytest.mark.filterwarnings("ignore:Calling parse_operand:DeprecationWarning")

INF, NAN = np.float32(np.inf), np.float32(np.nan)


def _run(body: str, **arrays: np.ndarray | int | None) -> bool | None:
    """Runs a kernel whose parameters are `arrays`: float32, uint16 (bf16), int32 or an index."""
    names = {"float32": "f32", "uint16": "bf16", "int32": "i32"}
    parameters: list[str] = []
    arguments: list[View | int] = []
    for name, value in arrays.items():
        if isinstance(value, int):
            parameters.append(f"%{name}: index")
            arguments.append(value)
            continue
        data = np.zeros(1, np.float32) if value is None else value
        dims = "".join("?x" if axis == 0 else f"{n}x" for axis, n in enumerate(data.shape))
        if data.shape == (1,):
            dims = "1x"
        parameters.append(f"%{name}: memref<{dims}{names[data.dtype.name]}>")
        arguments.append(View(name, value))
    text = f"tile.kernel @k({', '.join(parameters)}) {{\n{body}\n}}"
    module = parse_module(text, "kernel.mlir")
    verify_module(module)
    return Kernels(module).run("k", arguments)


def _map(expression: str, x: Any, y: Any = 0, result: str = "f32") -> np.ndarray:
    """The values of `%r`, computed from `%a` of x and `%b` of y element by element."""
    dtype = np.int32 if result == "i32" else np.float32
    kind = np.asarray(x).dtype.type if np.asarray(x).dtype != np.float64 else np.float32
    a = np.asarray(x, kind)
    b = np.broadcast_to(np.asarray(y, kind), a.shape).copy()
    out = np.zeros(a.shape, dtype)
    body = f"""
    tile.map -> %out {{counts = array<i64: 1>}} {{
    ^bb0(%i: index):
      %a = tile.load %x[%i]
      %b = tile.load %y[%i]
      {expression}
      tile.yield %r : {result}
    }}"""
    _run(body, x=a, y=b, out=out)
    return out


FLOATS = np.array([1.5, -0.0, 3e38, 1e-45, -7.25, INF, NAN, 2.0], np.float32)
OTHERS = np.array([0.1, 4.0, 3e38, 1e-45, 0.0, INF, 1.0, -2.0], np.float32)


@pytest.mark.parametrize(
    ("op", "function"),
    [
        ("arith.addf", np.add),
        ("arith.subf", np.subtract),
        ("arith.mulf", np.multiply),
        ("arith.divf", np.divide),
        ("arith.maximumf", np.maximum),
        ("arith.minimumf", np.minimum),
    ],
)
def test_floats_are_rounded_after_each_operation(op: str, function: Any) -> None:
    found = _map(f"%r = {op} %a, %b : f32", FLOATS, OTHERS)
    with np.errstate(all="ignore"):
        assert found.tobytes() == function(FLOATS, OTHERS).astype(np.float32).tobytes()


@pytest.mark.parametrize(
    ("op", "function"),
    [
        ("math.exp", exp),
        ("math.rsqrt", rsqrt),
        ("math.sqrt", np.sqrt),
        ("math.absf", np.abs),
        ("arith.negf", np.negative),
    ],
)
def test_functions_of_one_float(op: str, function: Any) -> None:
    with np.errstate(all="ignore"):
        expected = np.asarray(function(FLOATS), np.float32)
    assert np.array_equal(_map(f"%r = {op} %a : f32", FLOATS), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ("oeq", [0, 1, 0]),
        ("ogt", [1, 0, 0]),
        ("oge", [1, 1, 0]),
        ("olt", [0, 0, 0]),
        ("ole", [0, 1, 0]),
        ("une", [1, 0, 1]),
    ],
)
def test_comparisons_of_floats(predicate: str, expected: list[int]) -> None:
    text = f"""%c = arith.cmpf {predicate}, %a, %b : f32
      %one = arith.constant 1.0 : f32
      %zero = arith.constant 0.0 : f32
      %r = arith.select %c, %one, %zero : f32"""
    assert _map(text, [2.0, 1.0, NAN], [1.0, 1.0, 1.0]).tolist() == expected


def test_unordered_comparisons_are_refused() -> None:
    with pytest.raises(AmkError, match="compares floats by oeq, ogt, oge, olt, ole or une"):
        _map("%c = arith.cmpf ult, %a, %b : f32\n%r = arith.select %c, %a, %b : f32", [1.0])


INTEGERS = np.array([2**31 - 1, -1, 7, -(2**31)], np.int32)


@pytest.mark.parametrize(
    ("op", "other", "expected"),
    [
        ("addi", 1, [-(2**31), 0, 8, -(2**31) + 1]),
        ("subi", 1, [2**31 - 2, -2, 6, 2**31 - 1]),
        ("muli", 2, [-2, -2, 14, 0]),
        ("divui", 2, [2**30 - 1, 2**31 - 1, 3, 2**30]),
        ("remui", 10, [7, 5, 7, 8]),
        ("andi", 5, [5, 5, 5, 0]),
        ("ori", 8, [2**31 - 1, -1, 15, 8 - 2**31]),
        ("xori", 1, [2**31 - 2, -2, 6, 1 - 2**31]),
    ],
)
def test_integers_wrap(op: str, other: int, expected: list[int]) -> None:
    found = _map(f"%r = arith.{op} %a, %b : i32", INTEGERS, other, result="i32")
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ("eq", [0, 0, 1]),
        ("ne", [1, 1, 0]),
        ("slt", [1, 0, 0]),
        ("sge", [0, 1, 1]),
        ("ult", [0, 0, 0]),
        ("ugt", [1, 1, 0]),
        ("uge", [1, 1, 1]),
    ],
)
def test_comparisons_of_integers(predicate: str, expected: list[int]) -> None:
    text = f"""%c = arith.cmpi {predicate}, %a, %b : i32
      %one = arith.constant 1 : i32
      %zero = arith.constant 0 : i32
      %r = arith.select %c, %one, %zero : i32"""
    found = _map(text, np.array([-1, 9, 7], np.int32), np.int32(7), result="i32")
    assert found.tolist() == expected


def test_casts() -> None:
    assert _map("%r = arith.sitofp %a : i32 to f32", INTEGERS).tolist()[2] == 7.0
    text = "%n = arith.index_cast %i : index to i32\n%r = arith.addi %n, %a : i32"
    assert _map(text, np.array([5, 5], np.int32), result="i32").tolist() == [5, 6]


def test_bf16_is_rounded_when_it_is_stored() -> None:
    x = np.array([1.00390625, 1.01171875, -3.1415927, NAN], np.float32)
    out = np.zeros(4, np.uint16)
    body = """
    tile.map -> %out {counts = array<i64: 1>} {
    ^bb0(%i: index):
      %v = tile.load %x[%i]
      tile.yield %v : f32
    }"""
    _run(body, x=x, out=out)
    assert out.tolist() == to_bf16(x).tolist()
    back = np.zeros(4, np.float32)
    _run(body, x=out, out=back)
    assert np.array_equal(back, round_bf16(x), equal_nan=True)


def test_a_map_deals_elements_to_its_outputs() -> None:
    first, second = np.zeros(6, np.float32), np.zeros(3, np.int32)
    _run(
        """
    tile.map -> %p, %q {counts = array<i64: 2, 1>} {
    ^bb0(%i: index):
      %n = arith.index_cast %i : index to i32
      %v = arith.sitofp %n : i32 to f32
      %one = arith.constant 1.0 : f32
      tile.yield %v, %one, %n : f32, f32, i32
    }""",
        p=first,
        q=second,
    )
    assert first.tolist() == [0, 1, 1, 1, 2, 1]
    assert second.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 3, 2], 11), ([3, 3, 3], 10), ([NAN, 1, NAN], 11), ([-INF, -INF, -INF], 10)],
)
def test_argmax_takes_the_smallest_index(values: list[float], expected: int) -> None:
    out = np.zeros(1, np.int32)
    body = """
    %zero = arith.constant 0 : index
    %best = tile.argmax %v, %n
    tile.store %best, %out[%zero]"""
    indices = np.array([12, 11, 10], np.int32)
    _run(body, v=np.array(values, np.float32), n=indices, out=out)
    # Positions 0, 1, 2 have the indices 12, 11, 10.
    assert out[0] == expected


@pytest.mark.parametrize("flags", [(True, False), (False, True), (False, False)])
def test_stop_decides(flags: tuple[bool, bool]) -> None:
    body = "\n".join(
        f"%c{n} = arith.constant {str(flag).lower()}\ntile.stop %c{n}"
        for n, flag in enumerate(flags)
    )
    assert _run(body) is any(flags)
    assert _run("") is None


def test_an_attention_reads_its_own_row_as_it_is_stored() -> None:
    random = np.random.default_rng(0)
    query = random.standard_normal(4).astype(np.float32)
    new = random.standard_normal((2, 4)).astype(np.float32)
    rows = [np.zeros(4, np.uint16), np.zeros(4, np.uint16)]
    partial = np.zeros((1, 1, 6), np.float32)
    module = parse_module(
        """tile.kernel @k(%q: memref<4xf32>, %k: memref<4xf32>, %v: memref<4xf32>,
            %kc: memref<?x4xbf16>, %vc: memref<?x4xbf16>, %kr: memref<4xbf16>,
            %vr: memref<4xbf16>, %p: memref<1x1x6xf32>) {
          %own = arith.constant true
          tile.attention %q, %k, %v, %kc, %vc append %own -> %kr, %vr, %p {scale = 0.5 : f64}
        }""",
        "kernel.mlir",
    )
    arrays = [query, *new, *(np.zeros((0, 4), np.uint16),) * 2, *rows, partial]
    Kernels(module).run("k", [View("x", array) for array in arrays])
    assert np.array_equal(from_bf16(rows[0]), round_bf16(new[0]))
    # With a single position, the result is its value.
    assert np.array_equal(partial[0, 0, :4], round_bf16(new[1]))
    score = np.float32(partial[0, 0, 4])
    assert score == pytest.approx(0.5 * query @ round_bf16(new[0]), rel=1e-6)


@pytest.mark.parametrize(
    ("body", "message", "line"),
    [
        ("%v = tile.load %x[%at]", "index 4 is outside of the region of @x, which has 4", 2),
        ("%v = tile.load %off[%zero]", "touches @off, which its guard excludes here", 2),
        ("%s = arith.shli %zero, %zero : index", "Could not find interpretation function", 2),
        (
            "tile.map -> %x, %y {counts = array<i64: 1, 1>} {\n^bb0(%i: index):\n"
            "%v = arith.constant 1.0 : f32\ntile.yield %v, %v : f32, f32\n}",
            "the outputs of tile.map have different numbers of elements",
            2,
        ),
    ],
)
def test_errors_name_the_operation(body: str, message: str, line: int) -> None:
    with pytest.raises(AmkError, match=message) as error:
        _run(body, x=np.zeros(4, np.float32), y=np.zeros(3, np.float32), off=None, at=4, zero=0)
    assert str(error.value).startswith("kernel @k: ")
    assert (error.value.location or "").startswith(f"kernel.mlir:{line}:")


def test_kernels_must_exist_and_fit() -> None:
    module = parse_module("tile.kernel @k(%x: index) {\n}", "kernel.mlir")
    with pytest.raises(AmkError, match=r"there is no tile\.kernel @other"):
        Kernels(module).run("other", [])
    with pytest.raises(AmkError, match="kernel @k has 1 parameters, but 0 arguments"):
        Kernels(module).run("k", [])


def test_constants_are_reordered_as_they_say() -> None:
    module = parse_module(
        """
tile.constant @paired {kind = "rows", sources = ["q", "k"], pairs = array<i64: 4, 0>} : memref<8x1xf32>
tile.constant @mixed {kind = "rows", sources = ["q", "k"], interleave} : memref<8x1xf32>
tile.constant @layers {kind = "rows", sources = ["{layer}"]} : memref<2x8xf32>
""",  # noqa: E501
        "constants.mlir",
    )

    class Weights:
        def read(self, key: str) -> np.ndarray:
            starts = {"q": 0, "k": 10}
            if key in starts:
                return np.arange(starts[key], starts[key] + 4, dtype=np.float32)[:, None]
            return np.full(6, 1 + int(key), np.float32)

        def read_bf16(self, key: str) -> np.ndarray:
            return to_bf16(self.read(key))

    found = load_constants(module, Weights())
    assert found["paired"][:, 0].tolist() == [0, 2, 1, 3, 10, 11, 12, 13]
    assert found["mixed"][:, 0].tolist() == [0, 10, 1, 11, 2, 12, 3, 13]
    # Rows that a last tile lacks are zero.
    assert found["layers"].tolist() == [[1.0] * 6 + [0.0] * 2, [2.0] * 6 + [0.0] * 2]
