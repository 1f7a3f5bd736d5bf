"""Random small models on a device, against the nn interpreter and Hugging Face."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import write_model

import amk
from amk.backends import emit_program
from amk.backends.program import Program
from amk.bench.subject import prepare
from amk.errors import AmkError
from amk.frontend.import_model import import_model
from amk.interpreters.nn import NNRunner
from amk.runtime.abi import TIMEOUT
from amk.runtime.build import PassOptions
from amk.runtime.epochs import LIMIT
from amk.runtime.model import CompiledModel
from amk.runtime.progress import silent
from amk.runtime.toolchain import find_cxx

no_compiler = pytest.mark.skipif(find_cxx() is None, reason="no C++ compiler")
ARCHS = [pytest.param("host", marks=no_compiler), pytest.param("cuda", marks=pytest.mark.gpu)]
PROMPT = [5, 17, 3, 88]

SHAPES: dict[str, dict[str, Any]] = {
    "shared kv head, tied": {},
    "two kv heads, untied, llama3 rope": {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "hidden_size": 36,
        "intermediate_size": 44,
        "tie_word_embeddings": False,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "one head, one layer, odd vocabulary": {
        "num_attention_heads": 1,
        "hidden_size": 12,
        "intermediate_size": 7,
        "head_dim": 12,
        "num_hidden_layers": 1,
        "vocab_size": 37,
    },
    "nine heads": {
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "hidden_size": 72,
        "head_dim": 8,
        "num_hidden_layers": 3,
    },
}


def reference(model: CompiledModel, dtype: Any = None) -> NNRunner:
    """The nn interpreter with the weights of `model`."""
    checkpoint = model.checkpoint
    return NNRunner(import_model(checkpoint, dtype=dtype), checkpoint.read)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("name", "workers"), list(zip(SHAPES, (2, 3, 1, 7), strict=True)))
def test_float32_gives_the_tokens_of_the_interpreter_and_of_hugging_face(
    tmp_path, arch, name, workers
):
    path = write_model(tmp_path, seed=len(name), **SHAPES[name])
    with amk.compile(path, arch, "f32", 32, workers) as model:
        prompt = [token % model.program.vocab for token in PROMPT]
        tokens = list(model.generate(prompt, 24))
        assert tokens == reference(model).generate(prompt, 24)
        ids = prompt + tokens
        logits = model.logits(ids)
        np.testing.assert_allclose(logits, reference(model).logits(ids), rtol=0, atol=2e-4)
    transformers = pytest.importorskip("transformers", reason="pip install 'amk[hf]'")
    theirs = transformers.LlamaForCausalLM.from_pretrained(path)
    from amk.cli.huggingface import greedy_tokens

    assert tokens == greedy_tokens(theirs, prompt, 24, [2])


@pytest.mark.parametrize("arch", ARCHS)
def test_bfloat16_is_close_to_the_reference(tmp_path, arch):
    with amk.compile(write_model(tmp_path), arch, "bf16", 32, workers=5) as model:
        assert model.dtype == "bf16"
        ids = [int(token) for token in np.random.default_rng(1).integers(3, 101, 32)]
        logits, wanted = model.logits(ids), reference(model, "bf16").logits(ids)
        assert np.linalg.norm(logits - wanted) < 0.03 * np.linalg.norm(wanted)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("head_dim", [24, 128])
def test_many_rows_of_one_split(tmp_path, arch, head_dim):
    # A GPU takes so many by rows, in units that do not fill the last round of the warps.
    path = write_model(
        tmp_path,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=256,
    )
    checkpoint = amk.open_checkpoint(path)
    options = PassOptions(tiles="splits=1 units=2")
    prepared = prepare(
        checkpoint, arch, dtype="bf16", context=200, workers=3, options=options, progress=silent
    )
    program = emit_program(prepared.module, prepared.choice.target)
    device = prepared.choice.load(program, prepared.module, prepared.weights, silent)
    with CompiledModel(checkpoint, program, device, 20.0) as model:
        ids = [int(token) for token in np.random.default_rng(2).integers(3, 101, 195)]
        logits, again = model.logits(ids), model.logits(ids)
        assert (logits == again).all()
        wanted = reference(model, "bf16").logits(ids)
    assert np.linalg.norm(logits - wanted) < 0.03 * np.linalg.norm(wanted)


@pytest.fixture(scope="module", params=ARCHS)
def compiled(request, tmp_path_factory) -> Iterator[CompiledModel]:
    path = write_model(tmp_path_factory.mktemp("model"), seed=3, eos_token_id=100)
    with amk.compile(path, request.param, "f32", context=48, workers=3) as model:
        yield model


@pytest.fixture(scope="module")
def expected(compiled) -> Callable[[list[int], int], list[int]]:
    runner = reference(compiled)
    return lambda prompt, count: runner.generate(prompt, count)


def test_a_launch_of_one_token(compiled, expected):
    assert list(compiled.generate([9], 1)) == expected([9], 1)


def test_launches_in_a_row_go_on_from_the_caches(compiled, expected):
    first = list(compiled.generate(PROMPT, 8))
    assert first == expected(PROMPT, 8)
    longer = PROMPT + first + [44]
    assert list(compiled.generate(longer, 8)) == expected(longer, 8)
    assert list(compiled.generate(PROMPT[:2], 5)) == expected(PROMPT[:2], 5)


def test_a_stop_while_it_runs(compiled, expected):
    tokens = compiled.generate(PROMPT, 50)
    first = next(tokens)
    tokens.close()
    assert [first] == expected(PROMPT, 1)
    assert not compiled.device.running()
    assert list(compiled.generate(PROMPT, 20)) == expected(PROMPT, 20)


def test_a_launch_after_one_that_failed(compiled, expected, monkeypatch):
    # Every worker sees that another one has failed, and leaves where it is.
    status = compiled.device._status
    monkeypatch.setattr(compiled.device, "_clear_status", lambda: setattr(status, "code", TIMEOUT))
    with pytest.raises(AmkError, match=r"the launch hung: worker \d, task '\w+', position \d+"):
        list(compiled.generate([1, 2, 3], 40))
    monkeypatch.undo()
    assert list(compiled.generate(PROMPT, 20)) == expected(PROMPT, 20)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_packet_that_never_comes_is_an_error_that_names_it(tmp_path, arch, monkeypatch):
    """Worker 1 keeps back what it sends at position 6; the launch after the error is as ever."""

    def emit_faulty(module: Any, target: str) -> Program:
        program = emit_program(module, target)
        send = re.search(r"amk::send\(out_gate_up_out, .*;", program.source)
        assert send is not None
        lossy = f"if (w.id != 1 || w.pos != 6) {send[0]}"
        return replace(program, source=program.source.replace(send[0], lossy))

    monkeypatch.setattr("amk.runtime.model.emit_program", emit_faulty)
    path = write_model(tmp_path, seed=1)
    with amk.compile(path, arch, "f32", 32, 3, timeout=0.5) as model:
        # On a GPU some warps run ahead: they need other elements, and starve in the next layer.
        message = (
            "the launch hung: worker [0-2], "
            "(task 'down', position 6 .* 'gate_up_out'|task 'q_k_v', position 6 .* 'x')"
        )
        with pytest.raises(AmkError, match=message):
            list(model.generate(PROMPT, 8))
        assert list(model.generate(PROMPT, 2)) == reference(model).generate(PROMPT, 2)


def test_epochs_just_below_the_wrap(compiled, expected):
    steps = len(PROMPT) + 8 - 1
    compiled.session.fed.clear()
    compiled.session.epochs.base = (LIMIT - 1) // compiled.program.max_uses - steps
    assert list(compiled.generate(PROMPT, 8)) == expected(PROMPT, 8)
    assert compiled.session.epochs.base * compiled.program.max_uses > LIMIT - 1000
    assert list(compiled.generate([7], 8)) == expected([7], 8)
    assert compiled.session.epochs.base == 8


def test_the_context_is_filled_to_its_end(compiled, expected):
    assert list(compiled.generate(PROMPT, 500)) == expected(PROMPT, 45)
    full = [int(token) for token in np.random.default_rng(2).integers(3, 100, 48)]
    assert list(compiled.generate(full, 9)) == expected(full, 1)


def test_two_runs_give_the_same_bits(compiled):
    ids = [int(token) for token in np.random.default_rng(4).integers(3, 100, 40)]
    np.testing.assert_array_equal(compiled.logits(ids), compiled.logits(ids))


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("length", [1, 4, 8])
def test_an_end_of_text_token_ends_the_launch(tmp_path, arch, length):
    free = write_model(tmp_path / "free", seed=5, eos_token_id=100)
    with amk.compile(free, arch, "f32", 32, workers=2) as model:
        tokens = reference(model).generate(PROMPT, 8)
    eos = tokens[length - 1]
    wanted = tokens[: tokens.index(eos) + 1]
    path: Path = write_model(tmp_path / "eos", seed=5, eos_token_id=[100, eos])
    with amk.compile(path, arch, "f32", 32, workers=2) as model:
        assert list(model.generate(PROMPT, 8)) == wanted
        # In the prompt it is a token like any other.
        assert list(model.generate([eos, *PROMPT], 3)) == reference(model).generate(
            [eos, *PROMPT], 3
        )
