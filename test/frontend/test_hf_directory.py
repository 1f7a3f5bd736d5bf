"""Hugging Face directories: what is read, and how faults are reported."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from amk.errors import AmkError
from amk.frontend.bf16 import to_bf16
from amk.frontend.checkpoint import TensorInfo, open_checkpoint

_KEY = "model.layers.1.mlp.up_proj.weight"


def _refused(path: Path, *parts: str) -> None:
    with pytest.raises(AmkError, match=".*".join(re.escape(part) for part in parts)) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sharded", [False, True], ids=["single", "sharded"])
def test_reads_every_tensor(tiny, sharded: bool) -> None:
    checkpoint = open_checkpoint(tiny.write_shards() if sharded else tiny.write())
    assert checkpoint.config == tiny.config
    assert set(checkpoint.tensors()) == set(tiny.weights)
    for key, expected in tiny.weights.items():
        assert checkpoint.tensors()[key] == TensorInfo(expected.shape, "f32")
        found = checkpoint.read(key)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(checkpoint.read_bf16(key), to_bf16(expected))


def test_reads_what_the_safetensors_package_writes(tiny) -> None:
    from safetensors.numpy import save_file

    tiny.write_config()
    save_file(tiny.weights, tiny.directory / "model.safetensors")
    checkpoint = open_checkpoint(tiny.directory)
    for key, expected in tiny.weights.items():
        np.testing.assert_array_equal(checkpoint.read(key), expected)


@pytest.mark.parametrize(("dtype", "name"), [("BF16", "bf16"), ("F16", "f16")])
def test_reads_half_precision(tiny, dtype: str, name: str) -> None:
    checkpoint = open_checkpoint(tiny.write(dtype))
    expected = tiny.weights[_KEY]
    if dtype == "F16":
        expected = expected.astype(np.float16).astype(np.float32)
    assert checkpoint.info(_KEY) == TensorInfo(expected.shape, name)
    np.testing.assert_array_equal(checkpoint.read(_KEY), expected)
    np.testing.assert_array_equal(checkpoint.read_bf16(_KEY), to_bf16(expected))


def test_wider_numbers_are_rounded_to_bf16(tiny) -> None:
    tiny.weights[_KEY] = np.random.default_rng(3).standard_normal((10, 12)).astype(np.float32)
    checkpoint = open_checkpoint(tiny.write())
    np.testing.assert_array_equal(checkpoint.read_bf16(_KEY), to_bf16(tiny.weights[_KEY]))


def test_config_alone_has_no_weights(tiny) -> None:
    checkpoint = open_checkpoint(tiny.write_config())
    assert checkpoint.tensors() == {}
    with pytest.raises(AmkError, match=f"holds no weights, only a config: {_KEY} cannot be read"):
        checkpoint.read(_KEY)


def test_an_unknown_tensor_is_named(tiny) -> None:
    with pytest.raises(AmkError, match=r"has no tensor model\.nothing"):
        open_checkpoint(tiny.write()).read("model.nothing")


def test_generation_config_names_the_eos_tokens(tiny) -> None:
    tiny.write()
    (tiny.directory / "generation_config.json").write_text('{"eos_token_id": [3, 4]}')
    assert open_checkpoint(tiny.directory).config["eos_token_id"] == [3, 4]
    (tiny.directory / "generation_config.json").write_text('{"temperature": 1.0}')
    assert open_checkpoint(tiny.directory).config["eos_token_id"] == 2


def test_fingerprint_follows_the_content(tiny) -> None:
    first = open_checkpoint(tiny.write()).fingerprint()
    assert open_checkpoint(tiny.directory).fingerprint() == first
    os.utime(tiny.directory / "model.safetensors", ns=(1, 1))
    touched = open_checkpoint(tiny.directory).fingerprint()
    assert touched != first
    tiny.config["rms_norm_eps"] = 1e-6
    assert open_checkpoint(tiny.write_config()).fingerprint() != touched


def test_missing_path(tmp_path: Path) -> None:
    _refused(tmp_path / "none", "none does not exist: give a model directory or a .gguf file")


def test_directory_without_config(tmp_path: Path) -> None:
    _refused(tmp_path, "is no model directory: it has no config.json")


def test_files_that_are_no_model(tiny, tmp_path: Path) -> None:
    directory = tiny.write()
    _refused(directory / "config.json", "is one file of a model: give the directory")
    _refused(directory / "model.safetensors", "is one file of a model: give the directory")
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    _refused(text, "notes.txt is no model: give a directory with config.json, or a .gguf file")


def test_config_that_is_not_json(tiny) -> None:
    directory = tiny.write()
    path = directory / "config.json"
    path.write_text(path.read_text()[:40])
    _refused(directory, "config.json: not valid JSON at line 1", "is the file truncated?")
    path.write_text("[1]")
    _refused(directory, "config.json: must be a JSON object")
    path.write_bytes(b"\xff\xfe{}")
    _refused(directory, "config.json: cannot be read:")


@pytest.mark.parametrize("kept", [0, 4, 8, 100])
def test_truncated_in_the_header(tiny, kept: int) -> None:
    path = tiny.write() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    _refused(tiny.directory, "model.safetensors: not a safetensors file, or truncated", str(kept))


def test_truncated_in_the_data(tiny) -> None:
    path = tiny.write() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    _refused(tiny.directory, "model.safetensors: truncated: ", "ends at byte", "fetch it again")


def test_a_web_page_instead_of_weights(tiny) -> None:
    path = tiny.write() / "model.safetensors"
    path.write_text("<!DOCTYPE html>" + "x" * 1000)
    _refused(tiny.directory, "model.safetensors: not a safetensors file, or truncated")


def test_headers_that_are_damaged(tiny) -> None:
    path = tiny.write() / "model.safetensors"

    def rewrite(header: str) -> None:
        path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(64))

    rewrite("{not json")
    _refused(tiny.directory, "the header is not JSON: not a safetensors file")
    rewrite("[1, 2]")
    _refused(tiny.directory, "the header is not a JSON object: not a safetensors file")
    rewrite('{"x": {"dtype": "F32", "shape": [2]}}')
    _refused(tiny.directory, "the header entry of x is malformed")
    rewrite('{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}')
    _refused(tiny.directory, "x of shape (2,) has 4 bytes, needs 8")
    rewrite('{"x": {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}}')
    _refused(tiny.directory, "x of shape (-1, -2) has 8 bytes")


def test_unsupported_tensor_type(tiny) -> None:
    dtypes = dict.fromkeys(tiny.weights, "F32") | {_KEY: "F64"}
    _refused(tiny.write(dtypes), f"{_KEY} has type F64, supported are F32, F16, BF16")


def test_missing_shard(tiny) -> None:
    directory = tiny.write_shards()
    (directory / "model-00002-of-00002.safetensors").unlink()
    _refused(directory, "model-00002-of-00002.safetensors is missing", "fetch it again")


def test_a_tensor_in_two_shards(tiny) -> None:
    directory = tiny.write_shards(overlapping=True)
    _refused(directory, "00002-of-00002.safetensors: tensor lm_head.weight is in another shard")


def test_weights_that_cannot_be_read(tiny) -> None:
    directory = tiny.write_config()
    (directory / "model.safetensors").mkdir()
    _refused(directory, "model.safetensors cannot be read: Is a directory")


def test_bad_index(tiny) -> None:
    directory = tiny.write_shards()
    index = directory / "model.safetensors.index.json"
    index.write_text("{}")
    _refused(directory, "model.safetensors.index.json: has no weight_map")
    index.write_text(json.dumps({"weight_map": {"x": "../other/model.safetensors"}}))
    _refused(directory, '"../other/model.safetensors" is not a plain file name')


def test_pickled_weights_are_refused_unopened(tiny) -> None:
    directory = tiny.write_config()
    (directory / "pytorch_model.bin").write_bytes(b"whatever it holds")
    _refused(directory, "pytorch_model.bin, a pickled file, which AMK does not open", "safetensors")


def test_weights_under_other_names(tiny) -> None:
    directory = tiny.write_config()
    (directory / "weights.safetensors").write_bytes(b"")
    _refused(directory, "holds weights.safetensors but neither model.safetensors nor")
    (directory / "weights.safetensors").unlink()
    (directory / "model.gguf").write_bytes(b"")
    _refused(directory, "holds model.gguf: give that file itself")
