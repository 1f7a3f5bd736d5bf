"""Importing checkpoints: the module, and checkpoints that do not fit their config."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, bf16, f32
from xdsl.parser import Parser
from xdsl.printer import Printer

from amk.dialects import nn
from amk.errors import AmkError
from amk.frontend.checkpoint import open_checkpoint
from amk.frontend.import_model import DEFAULT_CONTEXT, import_model
from amk.interpreters.nn import NNRunner, find_model

_KEY = "model.layers.1.mlp.up_proj.weight"


def _import(path: Path, **options: Any) -> nn.ModelOp:
    return find_model(import_model(open_checkpoint(path), **options))


def _refused(path: Path, message: str, **options: Any) -> None:
    with pytest.raises(AmkError, match=re.escape(message)) as caught:
        import_model(open_checkpoint(path), **options)
    assert "\n" not in str(caught.value)


def test_the_module_names_every_tensor_once(tiny) -> None:
    model = _import(tiny.write())
    named = [key for op in model.parameters() for key in op.checkpoint_keys()]
    assert sorted(named) == sorted(tiny.weights)
    assert model.context.value.data == 32
    assert model.eos_tokens == (2,)
    assert model.vocabulary == 20


def test_the_module_survives_printing_and_parsing(tiny) -> None:
    tiny.config["rope_theta"] = 123.456
    module = import_model(open_checkpoint(tiny.write()))
    context = Context()
    context.load_dialect(Builtin)
    context.load_dialect(nn.NN)
    for generic in (False, True):
        text = StringIO()
        Printer(text, print_generic_format=generic).print_op(module)
        again = Parser(context, text.getvalue()).parse_module()
        again.verify()
        assert again.is_structurally_equivalent(module)


def test_layers_are_one_loop(tiny) -> None:
    few = sum(1 for _ in _import(tiny.write()).walk())
    tiny.config["num_hidden_layers"] = 31
    many = sum(1 for _ in _import(_config_alone(tiny)).walk())
    assert few == many


def _config_alone(tiny: Any) -> Path:
    for path in tiny.directory.glob("*.safetensors"):
        path.unlink()
    return tiny.write_config()


def test_a_tied_head_is_the_embedding(tiny) -> None:
    tiny.config["tie_word_embeddings"] = True
    tiny.draw_weights()
    model = _import(tiny.write())
    assert "lm_head.weight" not in {op.key.data for op in model.parameters()}
    found = NNRunner(import_model(open_checkpoint(tiny.directory)), tiny.weights.__getitem__)
    untied = tiny.weights | {"lm_head.weight": tiny.weights["model.embed_tokens.weight"]}
    tiny.config["tie_word_embeddings"] = False
    tiny.weights = untied
    expected = NNRunner(import_model(open_checkpoint(tiny.write())), untied.__getitem__)
    np.testing.assert_array_equal(found.logits([1, 2]), expected.logits([1, 2]))


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        ("F32", None, f32),
        ("F16", None, f32),
        ("BF16", None, bf16),
        ("BF16", "f32", f32),
        ("F32", "bf16", bf16),
    ],
)
def test_storage_type(tiny, stored: str, wanted: Any, expected: Any) -> None:
    model = _import(tiny.write(stored), dtype=wanted)
    assert model.dtype == expected
    for op in model.parameters():
        tensor = nn.tensor_of(op.result, "parameter")
        assert tensor.element_type == (expected if tensor.get_num_dims() == 2 else f32)


def test_a_mixed_checkpoint_is_f32_unless_all_matrices_are_bf16(tiny) -> None:
    norms = {key: "F32" if values.ndim == 1 else "BF16" for key, values in tiny.weights.items()}
    assert _import(tiny.write(norms)).dtype == bf16
    assert _import(tiny.write(norms | {_KEY: "F32"})).dtype == f32


def test_a_config_alone_is_enough_for_a_module(tiny) -> None:
    assert _import(tiny.write_config()).dtype == f32
    tiny.config["torch_dtype"] = "bfloat16"
    assert _import(tiny.write_config()).dtype == bf16


def test_context(tiny) -> None:
    directory = tiny.write()
    assert _import(directory, context=7).context.value.data == 7
    _refused(directory, "context 33 is outside 1..32", context=33)
    _refused(directory, "context 0 is outside 1..32", context=0)
    tiny.config["max_position_embeddings"] = 131072
    assert _import(tiny.write_config()).context.value.data == DEFAULT_CONTEXT


def test_unknown_dtype(tiny) -> None:
    _refused(tiny.write(), 'dtype "f64" is not supported (supported: f32, bf16)', dtype="f64")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "hidden_size",
            18,
            "tensor model.embed_tokens.weight has shape (20, 12), but the config says (20, 18)",
        ),
        (
            "vocab_size",
            21,
            "tensor model.embed_tokens.weight has shape (20, 12), but the config says (21, 12)",
        ),
        (
            "intermediate_size",
            11,
            "tensor model.layers.0.mlp.gate_proj.weight has shape (10, 12), "
            "but the config says (11, 12)",
        ),
        (
            "num_key_value_heads",
            3,
            "tensor model.layers.0.self_attn.k_proj.weight has shape (4, 12), "
            "but the config says (12, 12)",
        ),
        (
            "head_dim",
            6,
            "tensor model.layers.0.self_attn.q_proj.weight has shape (12, 12), "
            "but the config says (18, 12)",
        ),
        (
            "num_hidden_layers",
            3,
            "the config needs tensor model.layers.2.input_layernorm.weight, which is missing",
        ),
        (
            "num_hidden_layers",
            1,
            "tensor model.layers.1.input_layernorm.weight has no place in a Llama model",
        ),
    ],
)
def test_a_config_that_lies(tiny, key: str, value: int, message: str) -> None:
    tiny.config[key] = value
    _refused(tiny.write(), message)


def test_a_missing_tensor(tiny) -> None:
    del tiny.weights[_KEY]
    _refused(tiny.write(), f"the config needs tensor {_KEY}, which is missing")


def test_a_bias_has_no_place(tiny) -> None:
    tiny.weights["model.layers.0.self_attn.q_proj.bias"] = np.zeros(12, np.float32)
    _refused(tiny.write(), "tensor model.layers.0.self_attn.q_proj.bias has no place")


def test_old_rotary_buffers_are_passed_over(tiny) -> None:
    tiny.weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(2, np.float32)
    tiny.weights["model.rotary_emb.inv_freq"] = np.zeros(2, np.float32)
    _import(tiny.write())


def test_a_tied_head_that_differs(tiny) -> None:
    tiny.config["tie_word_embeddings"] = True
    _refused(tiny.write(), "the config ties lm_head.weight to model.embed_tokens.weight, but they")
    tiny.weights["lm_head.weight"] = tiny.weights["model.embed_tokens.weight"]
    _import(tiny.write())


def test_an_unsupported_config_is_refused_by_the_directory_name(tiny) -> None:
    tiny.config["attention_bias"] = True
    _refused(tiny.write(), f"{tiny.directory}: attention_bias = True is not supported")


def test_the_light_core_imports_neither_torch_nor_transformers(tiny) -> None:
    program = """
import sys
from amk.frontend.checkpoint import open_checkpoint
from amk.frontend.import_model import import_model
from amk.frontend import gguf_checkpoint, gguf_tokenizer, tokenizer, transformers_adapter
from amk.interpreters.nn import NNRunner
checkpoint = open_checkpoint(sys.argv[1])
print(NNRunner(import_model(checkpoint), checkpoint.read).generate([1], 3))
heavy = {"torch", "transformers", "safetensors", "accelerate"}
assert not heavy & {name.split(".")[0] for name in sys.modules}
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny.write())],
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[")
