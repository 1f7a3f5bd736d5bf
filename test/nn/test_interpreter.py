"""The `nn` interpreter by itself: what each op computes, state, storage types and errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.parser import Parser

from amk.dialects.nn import NN
from amk.errors import AmkError
from amk.frontend.bf16 import from_bf16, to_bf16
from amk.interpreters.nn import ModelState, NNRunner, find_model, run_step

Weights = Callable[[str], np.ndarray]

X = np.array([-3.0, -0.5, 0.0, 2.0], np.float32)
Y = np.array([4.0, 0.25, 1.0, -1.0], np.float32)


def _parse(text: str) -> ModuleOp:
    context = Context()
    context.load_dialect(Builtin)
    context.load_dialect(NN)
    module = Parser(context, text).parse_module()
    module.verify()
    return module


def _model(body: str, result: str = "%r", size: int = 4, dtype: str = "f32") -> ModuleOp:
    return _parse(f"""
      nn.model @m {{context = 100, eos = array<i64: 1>, dtype = {dtype}}}
          (%token: tensor<i32>, %pos: index) {{
        {body}
        %next = nn.argmax {result} : tensor<{size}xf32>
        nn.return {result}, %next : tensor<{size}xf32>
      }}""")


def _run(
    body: str, dtype: type = np.float64, position: int = 0, **weights: np.ndarray
) -> np.ndarray:
    params = "".join(f'%{k} = nn.param "{k}" : tensor<4xf32>\n' for k in weights)
    runner = NNRunner(_model(params + body), weights.__getitem__, dtype)
    state = runner.new_state()
    for earlier in range(position):
        runner.step(state, 0, earlier)
    return runner.step(state, 0, position)[0]


def test_elementwise_ops() -> None:
    x, y = X.astype(np.float64), Y.astype(np.float64)
    np.testing.assert_array_equal(_run("%r = nn.add %x, %y : tensor<4xf32>", x=X, y=Y), x + y)
    np.testing.assert_array_equal(_run("%r = nn.mul %x, %y : tensor<4xf32>", x=X, y=Y), x * y)
    silu = _run("%r = nn.silu %x : tensor<4xf32>", x=X)
    np.testing.assert_allclose(silu, x / (1 + np.exp(-x)), rtol=1e-15)
    gelu = _run("%r = nn.gelu %x : tensor<4xf32>", x=X)
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    np.testing.assert_allclose(gelu, 0.5 * x * (1 + np.tanh(inner)), rtol=1e-14)


def test_silu_of_very_negative_numbers_is_zero_without_a_warning() -> None:
    x = np.array([-1e4, -100, 100, 1e4], np.float32)
    with np.errstate(all="raise", under="ignore"):
        found = _run("%r = nn.silu %x : tensor<4xf32>", np.float32, x=x)
    np.testing.assert_array_equal(found, np.array([0, 0, 100, 1e4], np.float32))


def test_rms_norm() -> None:
    found = _run("%r = nn.rms_norm %x, %y {eps = 0.5 : f64} : tensor<4xf32>", x=X, y=Y)
    x = X.astype(np.float64)
    np.testing.assert_allclose(found, x / np.sqrt(np.mean(x * x) + 0.5) * Y, rtol=1e-14)


def test_rope_rotates_the_pairs_of_each_head() -> None:
    body = """%r = nn.rope %x, %pos {
        head_dim = 4, frequencies = dense<[1.0, 0.5]> : tensor<2xf32>} : tensor<4xf32>"""
    np.testing.assert_array_equal(_run(body, x=X), X)
    found = _run(body, position=3, x=X)
    for d, frequency in enumerate((1.0, 0.5)):
        pair = complex(X[d], X[d + 2]) * np.exp(1j * 3 * frequency)
        np.testing.assert_allclose([found[d], found[d + 2]], [pair.real, pair.imag], atol=3e-7)


def test_argmax_takes_the_lowest_of_equals() -> None:
    x = np.array([1.0, 5.0, 5.0, -1.0], np.float32)
    runner = NNRunner(_model('%r = nn.param "x" : tensor<4xf32>'), {"x": x}.__getitem__)
    assert runner.step(runner.new_state(), 0, 0)[1] == 1


def test_attention_keeps_a_cache_for_each_layer_and_op() -> None:
    module = _model(
        """
        %e = nn.param "e" : tensor<4x4xf32>
        %x = nn.embedding %e, %token : (tensor<4x4xf32>, tensor<i32>) -> tensor<4xf32>
        %y = nn.repeat %layer = 2 iter(%h = %x) : tensor<4xf32> {
          %a = nn.attention %h, %h, %h, %pos {
              heads = 2, kv_heads = 2, head_dim = 2, scale = 0.5 : f64}
              : tensor<4xf32>, tensor<4xf32>
          %b = nn.attention %a, %a, %a, %pos {
              heads = 1, kv_heads = 1, head_dim = 4, scale = 0.5 : f64}
              : tensor<4xf32>, tensor<4xf32>
          nn.yield %b : tensor<4xf32>
        }
        """,
        "%y",
    )
    table = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    runner = NNRunner(module, {"e": table}.__getitem__, np.float64)
    state = runner.new_state()
    tokens = [0, 1, 2, 3, 1]
    found = [runner.step(state, token, at)[0] for at, token in enumerate(tokens)]
    assert len(state.caches) == 4
    np.testing.assert_allclose(found, _attend_twice(table[tokens].astype(np.float64)), rtol=1e-13)


def _attend_twice(x: np.ndarray) -> np.ndarray:
    for _ in range(2):
        x = np.concatenate([_causal(x[:, :2]), _causal(x[:, 2:])], axis=1)
        x = _causal(x)
    return x


def _causal(x: np.ndarray) -> np.ndarray:
    weights = np.tril(np.exp(x @ x.T * 0.5))
    return weights @ x / weights.sum(axis=1, keepdims=True)


def test_repeat_carries_values_and_names_layers() -> None:
    module = _model(
        """
        %z = nn.param "zero" : tensor<4xf32>
        %o = nn.param "one" : tensor<4xf32>
        %a, %r = nn.repeat %layer = 5 iter(%p = %z, %q = %o) : tensor<4xf32>, tensor<4xf32> {
          %w = nn.param "layer.{layer}" : tensor<4xf32>
          %s = nn.add %p, %q : tensor<4xf32>
          %t = nn.mul %s, %w : tensor<4xf32>
          nn.yield %q, %t : tensor<4xf32>, tensor<4xf32>
        }
        """
    )
    weights = {"zero": np.zeros(4), "one": np.ones(4)}
    weights |= {f"layer.{layer}": np.full(4, layer + 1.0) for layer in range(5)}
    runner = NNRunner(module, weights.__getitem__)
    p, q = 0.0, 1.0
    for layer in range(5):
        p, q = q, (p + q) * (layer + 1)
    np.testing.assert_array_equal(runner.step(runner.new_state(), 0, 0)[0], np.full(4, q))
    assert set(runner.parameters) == set(weights)


_DECODER = """
  %e = nn.param "e" : tensor<6x4xTYPE>
  %k = nn.param "k" : tensor<2x4xTYPE>
  %x = nn.embedding %e, %token : (tensor<6x4xTYPE>, tensor<i32>) -> tensor<4xf32>
  %kv = nn.linear %x, %k : (tensor<4xf32>, tensor<2x4xTYPE>) -> tensor<2xf32>
  %a = nn.attention %x, %kv, %kv, %pos {
      heads = 2, kv_heads = 1, head_dim = 2, scale = 1.0 : f64} : tensor<4xf32>, tensor<2xf32>
  %r = nn.linear %a, %e : (tensor<4xf32>, tensor<6x4xTYPE>) -> tensor<6xf32>
"""


@pytest.fixture
def weights() -> Weights:
    random = np.random.default_rng(1)
    arrays = {"e": random.standard_normal((6, 4)), "k": random.standard_normal((2, 4))}
    return {key: value.astype(np.float32) for key, value in arrays.items()}.__getitem__


def _decoder(dtype: str = "f32") -> ModuleOp:
    return _model(_DECODER.replace("TYPE", dtype), size=6, dtype=dtype)


def test_bf16_parameters_are_rounded_when_they_are_loaded(weights: Weights) -> None:
    exact = NNRunner(_decoder(), lambda key: from_bf16(to_bf16(weights(key))))
    rounded = NNRunner(_decoder("bf16"), weights)
    np.testing.assert_array_equal(rounded.logits([1, 2, 3]), exact.logits([1, 2, 3]))
    assert not np.array_equal(exact.logits([1]), NNRunner(_decoder(), weights).logits([1]))


def test_a_position_can_be_run_again_and_drops_what_followed(weights: Weights) -> None:
    runner = NNRunner(_decoder(), weights)
    state = runner.new_state()
    for at, token in enumerate([1, 2, 3, 4]):
        runner.step(state, token, at)
    again, _ = runner.step(state, 5, 1)
    np.testing.assert_array_equal(again, runner.logits([1, 5])[-1])
    with pytest.raises(AmkError, match="position 3 cannot run: only 2 ran before it"):
        runner.step(state, 0, 3)


def test_caches_grow(weights: Weights) -> None:
    runner = NNRunner(_decoder(), weights, np.float64)
    tokens = np.random.default_rng(2).integers(0, 6, 100).tolist()
    whole = runner.logits(tokens)
    np.testing.assert_array_equal(whole[:50], runner.logits(tokens[:50]))
    with pytest.raises(AmkError, match="position 100 is outside the context of 100"):
        runner.logits([*tokens, 0])


def test_run_step_is_one_step_of_a_runner(weights: Weights) -> None:
    module, state = _decoder(), ModelState(np.float64)
    expected = NNRunner(module, weights, np.float64).logits([3, 4])
    for at, token in enumerate([3, 4]):
        logits, following = run_step(module, weights, state, token, at)
        assert logits.dtype == np.float64
        np.testing.assert_array_equal(logits, expected[at])
        assert following == int(np.argmax(expected[at]))


def test_generation_ends_with_an_eos_token(weights: Weights) -> None:
    runner = NNRunner(_decoder(), weights)
    state = runner.new_state()
    token, expected = 2, []
    for position in range(10):
        _, token = runner.step(state, token, position)
        expected.append(token)
    if 1 in expected:
        expected = expected[: expected.index(1) + 1]
    assert runner.generate([2], 10) == expected
    assert runner.generate([2], 0) == []
    with pytest.raises(AmkError, match="empty prompt"):
        runner.generate([], 4)


def test_every_first_token_that_is_eos_ends_generation() -> None:
    always_one = np.array([0.0, 1.0, 0.0, 0.0], np.float32)
    runner = NNRunner(_model('%r = nn.param "x" : tensor<4xf32>'), {"x": always_one}.__getitem__)
    assert runner.generate([0, 2], 8) == [1]


def test_errors_name_what_is_wrong(weights: Weights) -> None:
    with pytest.raises(AmkError, match='no weights for parameter "e"'):
        NNRunner(_decoder(), {}.__getitem__)
    with pytest.raises(AmkError, match=r'"e" has shape \(4,\), the module says \(6, 4\)'):
        NNRunner(_decoder(), lambda key: np.zeros(4))
    runner = NNRunner(_decoder(), weights)
    with pytest.raises(AmkError, match=r"token 6 is outside 0\.\.5"):
        runner.step(runner.new_state(), 6, 0)
    with pytest.raises(AmkError, match="state of float64 for a runner of float32"):
        runner.step(ModelState(np.float64), 0, 0)
    with pytest.raises(AmkError, match=r"expected one nn\.model in the module, found 0"):
        find_model(ModuleOp([]))


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.0, 0x3F80),
        (-0.0, 0x8000),
        (1.00390625, 0x3F80),  # half way between two: to even, down
        (1.01171875, 0x3F82),  # half way between two: to even, up
        (1.00390637, 0x3F81),
        (3.4e38, 0x7F80),
        (np.inf, 0x7F80),
        (-np.inf, 0xFF80),
        (1e-45, 0x0000),
    ],
)
def test_bf16_rounds_to_nearest_even(value: float, bits: int) -> None:
    assert to_bf16(np.array([value], np.float32))[0] == bits


def test_every_bf16_survives_a_round_trip() -> None:
    bits = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    back = to_bf16(from_bf16(bits))
    numbers = ~np.isnan(from_bf16(bits))
    np.testing.assert_array_equal(back[numbers], bits[numbers])
    assert np.isnan(from_bf16(back[~numbers])).all()
    # A NaN whose payload lies in the bits that are cut off stays a NaN.
    low_payload = np.array([0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(from_bf16(to_bf16(low_payload)))[0]
