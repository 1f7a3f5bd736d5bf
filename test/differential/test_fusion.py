"""Modules that no checkpoint gives: other epilogues, biases, shared weights, odd names."""

from __future__ import annotations

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp

from amk.dialects import new_context, nn
from amk.interpreters.memory import load_constants
from amk.interpreters.nn import NNRunner, find_model
from amk.interpreters.numerics import to_bf16
from amk.interpreters.task import TaskMachine
from amk.interpreters.tile import TileRunner
from amk.ir.module import parse_module, verify_module
from amk.passes.lower_to_tasks import LowerToTasksPass
from amk.passes.lower_to_tiles import LowerToTilesPass

pytestmark = pytest.mark.filterwarnings("ignore:Calling parse_operand:DeprecationWarning")

MODEL = """
nn.model @m {context = 16, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %e = nn.param "embed.weight" : tensor<9x12xf32>
  %x0 = nn.embedding %e, %token : (tensor<9x12xf32>, tensor<i32>) -> tensor<12xf32>
  %x = nn.repeat %layer = 2 iter(%h = %x0) : tensor<12xf32> {
    %g = nn.param "layers.{layer}.norm.weight" : tensor<12xf32>
    %n = nn.rms_norm %h, %g {eps = 1.0e-5 : f64} : tensor<12xf32>
    %wq = nn.param "layers.{layer}.q.weight" : tensor<16x12xf32>
    %wk = nn.param "layers.{layer}.k.weight" : tensor<8x12xf32>
    %wv = nn.param "layers.{layer}.v.weight" : tensor<8x12xf32>
    %q = nn.linear %n, %wq : (tensor<12xf32>, tensor<16x12xf32>) -> tensor<16xf32>
    %k = nn.linear %n, %wk : (tensor<12xf32>, tensor<8x12xf32>) -> tensor<8xf32>
    %v = nn.linear %n, %wv : (tensor<12xf32>, tensor<8x12xf32>) -> tensor<8xf32>
    %qr = nn.rope %q, %pos {head_dim = 4, frequencies = dense<[1.0, 0.5]> : tensor<2xf32>} : tensor<16xf32>
    %kr = nn.rope %k, %pos {head_dim = 4, frequencies = dense<[1.0, 0.5]> : tensor<2xf32>} : tensor<8xf32>
    %a = nn.attention %qr, %kr, %v, %pos {heads = 4, kv_heads = 2, head_dim = 4, scale = 0.5 : f64} : tensor<16xf32>, tensor<8xf32>
    %wo = nn.param "layers.{layer}.o.weight" : tensor<12x16xf32>
    %o = nn.linear %a, %wo : (tensor<16xf32>, tensor<12x16xf32>) -> tensor<12xf32>
    %h1 = nn.add %h, %o : tensor<12xf32>
    %wg = nn.param "layers.{layer}.gate.weight" : tensor<20x12xf32>
    %wu = nn.param "layers.{layer}.up.weight" : tensor<20x12xf32>
    %gate = nn.linear %h1, %wg : (tensor<12xf32>, tensor<20x12xf32>) -> tensor<20xf32>
    %up = nn.linear %h1, %wu : (tensor<12xf32>, tensor<20x12xf32>) -> tensor<20xf32>
    %act = nn.silu %gate : tensor<20xf32>
    %m = nn.mul %act, %up : tensor<20xf32>
    %wd = nn.param "layers.{layer}.down.weight" : tensor<12x20xf32>
    %d = nn.linear %m, %wd : (tensor<20xf32>, tensor<12x20xf32>) -> tensor<12xf32>
    %h2 = nn.add %h1, %d : tensor<12xf32>
    nn.yield %h2 : tensor<12xf32>
  }
  %gf = nn.param "final.weight" : tensor<12xf32>
  %xf = nn.rms_norm %x, %gf {eps = 1.0e-5 : f64} : tensor<12xf32>
  %logits = nn.linear %xf, %e : (tensor<12xf32>, tensor<9x12xf32>) -> tensor<9xf32>
  %next = nn.argmax %logits : tensor<9xf32>
  nn.return %logits, %next : tensor<9xf32>
}
"""  # noqa: E501


def _bias(value: str, size: int) -> tuple[str, str]:
    """Adds a parameter to a product: the text that follows it, and the new value."""
    text = f"""
    %b_{value} = nn.param "layers.{{layer}}.{value}.bias" : tensor<{size}xf32>
    %{value}_b = nn.add %{value}, %b_{value} : tensor<{size}xf32>"""
    return text, f"%{value}_b"


def _with_bias(value: str, size: int, user: str) -> list[tuple[str, str]]:
    """Edits that put a bias between a product and its user (a line of the model)."""
    text, biased = _bias(value, size)
    new_user = user.replace(f"%{value},", f"{biased},").replace(f"%{value} ", f"{biased} ")
    assert new_user != user
    return [(user, f"{text.strip()}\n    {new_user}")]


NO_ROTATION = [(line + "\n", "") for line in MODEL.split("\n") if "nn.rope" in line]
VARIANTS: dict[str, list[tuple[str, str]]] = {
    "as it is": [],
    "bias of q, before the rotation": _with_bias("q", 16, "%qr = nn.rope %q, %pos"),
    "bias of v": _with_bias("v", 8, "%a = nn.attention %qr, %kr, %v, %pos"),
    "bias of o": _with_bias("o", 12, "%h1 = nn.add %h, %o : tensor<12xf32>"),
    "bias of gate": _with_bias("gate", 20, "%act = nn.silu %gate : tensor<20xf32>"),
    "bias of down": _with_bias("d", 12, "%h2 = nn.add %h1, %d : tensor<12xf32>"),
    "residual on the right": [("nn.add %h, %o", "nn.add %o, %h")],
    "GELU": [("nn.silu", "nn.gelu")],
    "one product used twice": [("nn.mul %act, %up", "nn.mul %act, %gate")],
    "two activations": [
        ("%m = nn.mul %act, %up", "%m0 = nn.gelu %up : tensor<20xf32>\n    %m = nn.mul %act, %m0")
    ],
    "no activation": [("%m = nn.mul %act, %up", "%m = nn.add %gate, %up")],
    "scaled logits": [
        (
            "%next = nn.argmax %logits",
            '%s = nn.param "scale" : tensor<9xf32>\n'
            "  %scaled = nn.mul %logits, %s : tensor<9xf32>\n"
            "  %next = nn.argmax %scaled",
        ),
        ("nn.return %logits", "nn.return %scaled"),
    ],
    "norms of the same name": [('"final.weight"', '"norm.weight"')],
    "a norm that all layers share": [("layers.{layer}.norm", "norm")],
    "a matrix that all layers share": [("layers.{layer}.o", "shared.o")],
    "nothing is rotated": [*NO_ROTATION, ("%qr, %kr, %v, %pos", "%q, %k, %v, %pos")],
    "the same keys and values": [*NO_ROTATION, ("%qr, %kr, %v, %pos", "%q, %k, %k, %pos")],
    "an unused rotation": [("%qr, %kr, %v, %pos", "%q, %k, %v, %pos")],
}


class _Weights:
    def __init__(self, module: ModuleOp) -> None:
        random = np.random.default_rng(7)
        self.values: dict[str, np.ndarray] = {}
        for op in find_model(module).parameters():
            shape = nn.tensor_of(op.result, "parameter").get_shape()
            for key in op.checkpoint_keys():
                values = random.standard_normal(shape) / np.sqrt(shape[-1] if shape[1:] else 4)
                self.values.setdefault(key, values.astype(np.float32))

    def read(self, key: str) -> np.ndarray:
        return self.values[key]

    def read_bf16(self, key: str) -> np.ndarray:
        return to_bf16(self.values[key])


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_computes_the_same_at_every_level(name: str) -> None:
    text = MODEL
    for old, new in VARIANTS[name]:
        assert old in text
        text = text.replace(old, new)
    module = parse_module(text, "variant.mlir")
    verify_module(module)
    weights = _Weights(module)
    tokens = [1, 5, 7, 3, 0, 2]
    expected = NNRunner(module, weights.read, np.float64).logits(tokens)
    plain = NNRunner(module, weights.read).logits(tokens)

    LowerToTilesPass(splits=2).apply(new_context(), module)
    verify_module(module)
    constants = load_constants(module, weights).__getitem__
    found = TileRunner(module, constants).logits(tokens)
    # Another order of the same sums, at most four times the error of float32 itself.
    assert np.linalg.norm(found - expected) < 4 * np.linalg.norm(plain - expected)

    LowerToTasksPass(workers=2).apply(new_context(), module)
    verify_module(module)
    machine = TaskMachine(module, constants, seed=3)
    for position, token in enumerate(tokens):
        assert len(list(machine.run(position, [token], 1))) == 1
        assert np.array_equal(machine.logits[0], found[position])
