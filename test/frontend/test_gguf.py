"""GGUF files: the container, row order, formats, and how faults are reported."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from amk.errors import AmkError
from amk.frontend.bf16 import to_bf16
from amk.frontend.checkpoint import open_checkpoint
from amk.frontend.config import parse_config
from amk.frontend.gguf_checkpoint import GGUFCheckpoint
from amk.frontend.gguf_file import FORMATS, GGUFFile
from amk.frontend.import_model import import_model
from amk.interpreters.nn import NNRunner

_GLOBAL = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_UP = "model.layers.1.mlp.up_proj.weight"


def _gguf_name(key: str) -> str:
    if key in _GLOBAL:
        return _GLOBAL[key]
    _, _, layer, rest = key.split(".", 3)
    return f"blk.{layer}.{_LAYER[rest.removesuffix('.weight')]}.weight"


def _permute(rows: np.ndarray, heads: int) -> np.ndarray:
    """The row order of llama.cpp's converter: within a head d, d + D/2 become 2d, 2d + 1."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


class Writer:
    """Writes the tiny model as a GGUF file with llama.cpp's names, order and metadata."""

    def __init__(self, tiny: Any, path: Path) -> None:
        self.tiny = tiny
        self.path = path
        config = tiny.config
        self.architecture = "llama"
        self.metadata: dict[str, Any] = {
            "llama.block_count": config["num_hidden_layers"],
            "llama.context_length": config["max_position_embeddings"],
            "llama.embedding_length": config["hidden_size"],
            "llama.feed_forward_length": config["intermediate_size"],
            "llama.attention.head_count": config["num_attention_heads"],
            "llama.attention.head_count_kv": config["num_key_value_heads"],
            "llama.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
            "llama.rope.dimension_count": config["hidden_size"] // config["num_attention_heads"],
            "llama.rope.freq_base": config["rope_theta"],
            "tokenizer.ggml.eos_token_id": config["eos_token_id"],
        }
        self.types: dict[str, Type] = {}
        self.extra: dict[str, np.ndarray] = {}

    def write(self) -> Path:
        writer = gguf.GGUFWriter(self.path, self.architecture)
        for key, value in self.metadata.items():
            add: Callable[[str, Any], None] = {
                bool: writer.add_bool,
                int: writer.add_uint32,
                float: writer.add_float32,
                str: writer.add_string,
                list: writer.add_array,
            }[type(value)]
            add(key, value)
        for key, values in self.tiny.weights.items():
            if ".q_proj." in key:
                values = _permute(values, self.tiny.config["num_attention_heads"])
            elif ".k_proj." in key:
                values = _permute(values, self.tiny.config["num_key_value_heads"])
            self._add(writer, _gguf_name(key), values, self.types.get(key, Type.F32))
        for name, values in self.extra.items():
            self._add(writer, name, values, Type.F32)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return self.path

    def _add(self, writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: Type) -> None:
        if kind == Type.F32:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


@pytest.fixture
def writer(tiny, tmp_path: Path) -> Writer:
    return Writer(tiny, tmp_path / "tiny.gguf")


def _refused(path: Path, message: str) -> None:
    with pytest.raises(AmkError, match=re.escape(message)) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_is_the_same_model_as_the_hugging_face_directory(writer) -> None:
    found, expected = open_checkpoint(writer.write()), open_checkpoint(writer.tiny.write())
    assert found.tensors() == expected.tensors()
    for key in expected.tensors():
        np.testing.assert_array_equal(found.read(key), expected.read(key))
        np.testing.assert_array_equal(found.read_bf16(key), expected.read_bf16(key))
    logits = [NNRunner(import_model(c), c.read).logits([1, 2, 3]) for c in (found, expected)]
    # llama.cpp stores eps as a float32.
    np.testing.assert_allclose(*logits, rtol=1e-4)


def test_config_of_metadata(writer) -> None:
    found = parse_config(open_checkpoint(writer.write()).config, "x")
    expected = parse_config(writer.tiny.config, "x")
    assert found.eps == pytest.approx(expected.eps, rel=1e-7)
    for name in ("vocabulary", "hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim"):
        assert getattr(found, name) == getattr(expected, name)
    assert (found.theta, found.eos, found.tied, found.max_context) == (10000.0, (2,), False, 32)


def test_a_file_without_a_head_is_tied(writer) -> None:
    del writer.tiny.weights["lm_head.weight"]
    checkpoint = open_checkpoint(writer.write())
    assert checkpoint.config["tie_word_embeddings"] is True
    import_model(checkpoint)


def test_head_size_of_its_own(writer) -> None:
    writer.tiny.config["head_dim"] = 6
    writer.tiny.draw_weights()
    keys = ("attention.key_length", "attention.value_length", "rope.dimension_count")
    writer.metadata |= dict.fromkeys((f"llama.{key}" for key in keys), 6)
    checkpoint = open_checkpoint(writer.write())
    import_model(checkpoint)
    key = "model.layers.0.self_attn.q_proj.weight"
    np.testing.assert_array_equal(checkpoint.read(key), writer.tiny.weights[key])


def test_rope_divisors(writer) -> None:
    writer.extra["rope_freqs.weight"] = np.array([1.0, 8.0], np.float32)
    checkpoint = open_checkpoint(writer.write())
    assert "rope_freqs.weight" not in checkpoint.tensors()
    frequencies = parse_config(checkpoint.config, "x").frequencies()
    np.testing.assert_allclose(frequencies, [1.0, 0.01 / 8], rtol=1e-6)
    import_model(checkpoint)


@pytest.mark.parametrize("kind", [Type.F16, Type.BF16, Type.Q8_0, Type.Q4_1, Type.Q5_0])
def test_formats(writer, kind: Type) -> None:
    writer.tiny.config |= {"hidden_size": 96, "head_dim": 32}
    writer.tiny.draw_weights()
    writer.types[_UP] = kind
    keys = ("embedding_length", "attention.key_length", "attention.value_length")
    writer.metadata |= {f"llama.{key}": 96 if "embed" in key else 32 for key in keys}
    writer.metadata["llama.rope.dimension_count"] = 32
    checkpoint = open_checkpoint(writer.write())
    values = writer.tiny.weights[_UP]
    expected = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
    assert checkpoint.info(_UP).dtype == kind.name.lower()
    np.testing.assert_array_equal(checkpoint.read(_UP), expected)
    np.testing.assert_array_equal(checkpoint.read_bf16(_UP), to_bf16(expected))


@pytest.mark.parametrize("number", FORMATS)
def test_format_table_is_that_of_ggml(number: int) -> None:
    form, kind = FORMATS[number], Type(number)
    assert form.name == kind.name.lower()
    assert (form.elements, form.size) == gguf.GGML_QUANT_SIZES[kind]
    assert not any(gguf.quants.dequantize(np.zeros((1, form.size), np.uint8), kind).ravel())


def test_metadata_equals_that_of_the_gguf_package(writer) -> None:
    writer.metadata |= {
        "x.string": "žluťoučký",
        "x.strings": ["a", "", "é"],
        "x.numbers": [1, -2, 3],
        "x.floats": [0.5, -1.0],
        "x.yes": True,
    }
    path = writer.write()
    found = GGUFFile(path)
    reader = gguf.GGUFReader(path)
    for name, field in reader.fields.items():
        if not name.startswith("GGUF."):
            assert found.metadata[name] == field.contents(), name
    assert len(found.tensors) == len(reader.tensors)
    for tensor in reader.tensors:
        assert found.tensors[tensor.name].shape == tuple(tensor.shape.tolist())[::-1]
        assert found.tensors[tensor.name].offset == tensor.data_offset


def test_fingerprint_follows_the_content(writer) -> None:
    first = open_checkpoint(writer.write()).fingerprint()
    assert open_checkpoint(writer.path).fingerprint() == first
    writer.metadata["llama.rope.freq_base"] = 5000.0
    assert open_checkpoint(writer.write()).fingerprint() != first


def test_truncated_files(writer) -> None:
    data = writer.write().read_bytes()
    path = writer.path
    path.write_bytes(data[:-1])
    _refused(path, "tiny.gguf: truncated: tensor ")
    path.write_bytes(data[:10])
    _refused(path, "tiny.gguf: not a GGUF file, or truncated (10 bytes)")
    for size in range(24, 1500, 61):
        path.write_bytes(data[:size])
        _refused(path, "tiny.gguf: truncated in its header: fetch it again")


def test_files_that_are_no_gguf(writer) -> None:
    data = bytearray(writer.write().read_bytes())
    writer.path.write_bytes(b"PK" + data[2:])
    _refused(writer.path, "tiny.gguf: not a GGUF file")
    data[4:8] = (9).to_bytes(4, "little")
    writer.path.write_bytes(data)
    _refused(writer.path, "GGUF version 9 is not supported (supported: 2, 3)")


def test_huge_counts_do_not_exhaust_memory(writer) -> None:
    path = writer.path
    for inner in (4, 8):  # an array of integers, of strings
        header = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1)
        path.write_bytes(header + struct.pack("<Q1sIIQ", 1, b"k", 9, inner, 2**60))
        _refused(path, "truncated in its header")


def test_other_architectures(writer) -> None:
    writer.architecture = "qwen2"
    _refused(writer.write(), 'architecture "qwen2" is not supported (supported: "llama")')


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("llama.expert_count", 8, "llama.expert_count = 8 is not supported"),
        ("llama.rope.scaling.type", "yarn", "llama.rope.scaling.type = 'yarn' is not supported"),
        ("llama.rope.scaling.factor", 4.0, "llama.rope.scaling.factor = 4.0 is not supported"),
        ("llama.attention.temperature", 2.0, "llama.attention.temperature = 2.0 is not known"),
        (
            "llama.rope.dimension_count",
            2,
            "llama.rope.dimension_count = 2 is not the head size 4: that is not supported",
        ),
        (
            "llama.attention.value_length",
            8,
            "llama.attention.value_length = 8 is not the head size 4: that is not supported",
        ),
        (
            "llama.attention.head_count",
            [3, 3],
            "head_count and embedding_length must be single integers",
        ),
    ],
)
def test_unsupported_metadata(writer, key: str, value: Any, message: str) -> None:
    writer.metadata[key] = value
    _refused(writer.write(), message)


def test_unknown_tensor(writer) -> None:
    writer.extra["blk.0.ffn_gate_inp.weight"] = np.zeros((2, 12), np.float32)
    _refused(writer.write(), "tensor blk.0.ffn_gate_inp.weight is not known to AMK")


def test_a_tensor_that_occurs_twice(writer) -> None:
    path = writer.write()
    path.write_bytes(path.read_bytes().replace(b"blk.1.attn_k", b"blk.0.attn_k"))
    _refused(path, "tensor blk.0.attn_k.weight occurs twice")


def test_unknown_format(writer) -> None:
    path = writer.write()
    data = path.read_bytes()
    name = b"output_norm.weight"
    # The type number follows the name, the number of dimensions (1) and the one dimension.
    at = data.index(name) + len(name) + 4 + 8
    path.write_bytes(data[:at] + (16).to_bytes(4, "little") + data[at + 4 :])
    _refused(path, "tensor output_norm.weight has GGML type 16, supported are f32, f16")


def test_shapes_that_differ_from_the_metadata(writer) -> None:
    writer.metadata["llama.feed_forward_length"] = 11
    checkpoint = open_checkpoint(writer.write())
    with pytest.raises(AmkError, match=r"gate_proj\.weight has shape \(10, 12\), but the config"):
        import_model(checkpoint)
    writer.metadata["llama.attention.head_count_kv"] = 3
    checkpoint = GGUFCheckpoint(writer.write())
    with pytest.raises(AmkError, match="has 4 rows, which 3 heads cannot share"):
        checkpoint.read("model.layers.0.self_attn.k_proj.weight")
