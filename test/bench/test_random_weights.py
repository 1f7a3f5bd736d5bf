"""Random weights: the same bits by whatever path, and a usual distribution."""

from __future__ import annotations

import numpy as np
import pytest

from amk.bench.random_weights import RandomCheckpoint, RandomOnDevice
from amk.bench.shapes import SHAPES, shape_config
from amk.errors import AmkError
from amk.frontend.bf16 import from_bf16, to_bf16
from amk.frontend.config import parse_config
from amk.frontend.import_model import import_model

MATRIX = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def checkpoint() -> RandomCheckpoint:
    return RandomCheckpoint(shape_config("tiny"), "tiny")


def test_rows_taken_in_parts_are_those_of_the_whole(checkpoint):
    whole = checkpoint.read_bf16(MATRIX)
    rows = RandomOnDevice(checkpoint, np).read_bf16(MATRIX)
    assert rows.shape == whole.shape == (96, 256)
    parts = [rows[first : first + 7] for first in range(0, len(rows), 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    floats = RandomOnDevice(checkpoint, np).read(MATRIX)[5:9]
    np.testing.assert_array_equal(floats, from_bf16(whole[5:9]))
    np.testing.assert_array_equal(to_bf16(floats), whole[5:9])


def test_elements_have_the_variance_of_a_usual_initialisation(checkpoint):
    values = checkpoint.read(MATRIX)
    assert abs(values.mean()) < 0.01 / 16
    assert values.var() * 256 == pytest.approx(1, rel=0.03)
    assert abs(np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]) < 0.02
    gains = checkpoint.read("model.norm.weight")
    assert 0.9 <= gains.min() < 0.95 < 1.05 < gains.max() < 1.105


def test_tensors_and_seeds_differ(checkpoint):
    other = RandomCheckpoint(shape_config("tiny"), "tiny", seed=1)
    values = checkpoint.read_bf16(MATRIX)
    assert (values != other.read_bf16(MATRIX)).mean() > 0.9
    assert (values != checkpoint.read_bf16(MATRIX.replace("1", "0"))).mean() > 0.9
    assert checkpoint.fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        # As their model cards say.
        ("llama-3.2-1b", 1.24),
        ("llama-3.2-3b", 3.21),
        ("llama-3-8b", 8.03),
        ("llama-2-7b", 6.74),
        ("llama-2-13b", 13.02),
        ("smollm2-135m", 0.1345),
        ("qwen2.5-1.5b", 1.54),
    ],
)
def test_shapes_have_the_parameters_of_their_models(name, billions):
    tensors = RandomCheckpoint(shape_config(name), name).tensors()
    total = sum(int(np.prod(info.shape)) for info in tensors.values())
    assert total / 1e9 == pytest.approx(billions, rel=5e-3)


@pytest.mark.parametrize("name", list(SHAPES))
def test_every_shape_is_imported(name):
    config = shape_config(name)
    assert parse_config(config, name).eos == ()  # a text never ends by itself
    import_model(RandomCheckpoint(config, name), dtype="bf16", context=64)


def test_what_amk_does_not_implement_is_refused_by_name():
    config = {**shape_config("tiny"), "model_type": "qwen2"}
    with pytest.raises(AmkError, match='a shape: model_type "qwen2" is not supported'):
        RandomCheckpoint(config, "a shape")
    with pytest.raises(AmkError, match="unknown shape 'gpt-5'; known: llama-3"):
        shape_config("gpt-5")
