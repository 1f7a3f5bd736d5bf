"""Tokenizers, streaming and chat templates, on small vocabularies made here."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from amk.errors import AmkError
from amk.frontend.checkpoint import open_checkpoint
from amk.frontend.gguf_tokenizer import tokenizer_of_metadata
from amk.frontend.tokenizer import Tokenizer

_TEXT = "Grüße! 你好, wörld 👋🏽 1234 naïve  spaces\n"
_MESSAGES = [{"role": "system", "content": "Be <b>."}, {"role": "user", "content": "Hi"}]
_TEMPLATE = """{{ bos_token }}
{%- for message in messages %}
    {{- '<' + message['role'] + '>' + message['content'] + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<assistant>' }}
{%- endif %}"""


def _byte_level() -> Backend:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([_TEXT] * 3, trainer)
    return backend


BACKEND = _byte_level()
TOKENIZER = Tokenizer(BACKEND, eos_ids=[1])


def _streamed(tokenizer: Tokenizer, ids: list[int], **options: Any) -> list[str]:
    stream = tokenizer.stream(**options)
    return [*(stream.push(token) for token in ids), stream.finish()]


def test_round_trip() -> None:
    ids = TOKENIZER.encode(_TEXT)
    assert TOKENIZER.decode(ids) == _TEXT
    assert TOKENIZER.vocabulary_size == len(BACKEND.get_vocab())


def test_streaming_gives_whole_characters_only() -> None:
    ids = TOKENIZER.encode("👋🏽")
    assert len(ids) > 1
    pieces = _streamed(TOKENIZER, ids)
    assert "".join(pieces) == "👋🏽"
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces)


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_streaming_any_text(text: str) -> None:
    ids = TOKENIZER.encode(text)
    pieces = _streamed(TOKENIZER, ids, skip_special_tokens=False)
    assert "".join(pieces) == TOKENIZER.decode(ids, skip_special_tokens=False)
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, TOKENIZER.vocabulary_size - 1), max_size=30))
def test_streaming_any_tokens_equals_decoding_them_at_once(ids: list[int]) -> None:
    pieces = _streamed(TOKENIZER, ids)
    assert "".join(pieces) == TOKENIZER.decode(ids)
    "".join(pieces).encode("utf-8")


def test_special_tokens_are_skipped_unless_wanted() -> None:
    ids = [0, *TOKENIZER.encode("ab"), 1]
    assert TOKENIZER.decode(ids) == "ab"
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == "<s>ab</s>"
    assert "".join(_streamed(TOKENIZER, ids)) == "ab"
    assert TOKENIZER.encode("<s>ab") == ids[:-1]


def test_chat_template() -> None:
    tokenizer = Tokenizer(
        BACKEND, eos_ids=[1], chat_template=_TEMPLATE, special_tokens={"bos_token": "<s>"}
    )
    text = tokenizer.apply_chat(_MESSAGES)
    assert text == "<s><system>Be <b>.\n<user>Hi\n<assistant>"
    assert tokenizer.apply_chat(_MESSAGES, add_generation_prompt=False) == text[:-11]
    assert tokenizer.encode_chat(_MESSAGES) == TOKENIZER.encode(text, add_special_tokens=False)


def test_chat_template_functions() -> None:
    def render(template: str) -> str:
        return Tokenizer(BACKEND, eos_ids=[], chat_template=template).apply_chat(_MESSAGES)

    assert render("{{ messages[0] | tojson }}") == '{"role": "system", "content": "Be <b>."}'
    assert re.fullmatch(r"\d{4}", render("{{ strftime_now('%Y') }}"))
    assert render("{% for m in messages %}{% break %}{% endfor %}x") == "x"
    with pytest.raises(AmkError, match="the chat template of the model fails: no system role"):
        render("{{ raise_exception('no system role') }}")
    with pytest.raises(AmkError, match="the chat template of the model fails: "):
        render("{% if %}")
    with pytest.raises(AmkError, match=r"the chat template of the model fails: .*unsafe"):
        render("{{ messages.__class__.__mro__ }}")


def test_no_chat_template() -> None:
    with pytest.raises(AmkError, match="this model has no chat template: use a plain prompt"):
        TOKENIZER.apply_chat(_MESSAGES)


def test_tokenizer_of_a_directory(tiny) -> None:
    directory = tiny.write()
    BACKEND.save(str(directory / "tokenizer.json"))
    settings_ = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": _TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings_))
    tokenizer = open_checkpoint(directory).tokenizer()
    assert tokenizer.eos_ids == (2,)
    assert tokenizer.encode(_TEXT) == TOKENIZER.encode(_TEXT)
    assert tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert tokenizer.apply_chat(_MESSAGES).startswith("<s><system>")

    (directory / "chat_template.jinja").write_text("{{ eos_token }}!")
    assert open_checkpoint(directory).tokenizer().apply_chat(_MESSAGES) == "</s>!"


def test_the_default_of_several_templates(tiny) -> None:
    directory = tiny.write()
    BACKEND.save(str(directory / "tokenizer.json"))
    templates = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": templates}))
    assert open_checkpoint(directory).tokenizer().apply_chat(_MESSAGES) == "d"


def test_a_directory_without_a_tokenizer(tiny) -> None:
    checkpoint = open_checkpoint(tiny.write())
    with pytest.raises(AmkError, match=r"has no tokenizer\.json: save the model with a fast"):
        checkpoint.tokenizer()
    (tiny.directory / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(AmkError, match=r"tokenizer\.json: cannot be read as a tokenizer: ") as e:
        checkpoint.tokenizer()
    assert "\n" not in str(e.value)


def _byte_level_metadata(pre: str) -> dict[str, Any]:
    model = json.loads(BACKEND.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3] + [1] * (len(tokens) - 2),
        "tokenizer.ggml.merges": [" ".join(merge) for merge in model["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.chat_template": "{{ bos_token }}",
    }


def test_byte_level_gguf_tokenizer() -> None:
    tokenizer = tokenizer_of_metadata(_byte_level_metadata("gpt-2"), "x.gguf")
    assert tokenizer.eos_ids == (1,)
    assert tokenizer.encode(_TEXT) == TOKENIZER.encode(_TEXT)
    assert tokenizer.decode(tokenizer.encode(_TEXT)) == _TEXT
    assert tokenizer.encode("<s>a</s>") == [0, *TOKENIZER.encode("a"), 1]
    assert tokenizer.apply_chat(_MESSAGES) == "<s>"


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("gpt-2", ["Ab", "'ll", "Ġ", "Ġ12345", "Ċ", "Ċ", "c"]),
        ("smollm", ["Ab", "'ll", "ĠĠ", "1", "2", "3", "4", "5", "Ċ", "Ċ", "c"]),
        ("llama-bpe", ["Ab", "'ll", "Ġ", "Ġ", "123", "45", "ĊĊ", "c"]),
    ],
)
def test_pre_tokenizers(pre: str, pieces: list[str]) -> None:
    tokenizer = tokenizer_of_metadata(_byte_level_metadata(pre), "x.gguf")
    splitter = tokenizer.backend.pre_tokenizer
    assert splitter is not None
    assert [piece for piece, _ in splitter.pre_tokenize_str("Ab'll  12345\n\nc")] == pieces


def test_start_token_of_gguf_tokenizers() -> None:
    metadata = _byte_level_metadata("gpt-2")
    plain = tokenizer_of_metadata(metadata, "x").encode("ab")
    asked = tokenizer_of_metadata(metadata | {"tokenizer.ggml.add_bos_token": True}, "x")
    assert asked.encode("ab") == [0, *plain]
    assert asked.encode("ab", add_special_tokens=False) == plain
    assert (
        tokenizer_of_metadata(metadata | {"tokenizer.ggml.pre": "llama3"}, "x").encode("a")[0] == 0
    )


# A word-boundary mark, bytes, letters, and pieces with falling scores.
_SPM = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
_SPM += ["▁", "a", "b", "▁a", "ab", "▁ab", "ba", "▁b"]


def _spm_metadata() -> dict[str, Any]:
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": _SPM,
        "tokenizer.ggml.scores": [0.0] * 259 + [-float(i) for i in range(len(_SPM) - 259)],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * (len(_SPM) - 259)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("ab", ["<s>", "▁ab"]),  # ▁a + b: ▁a comes first, then ▁ab
        ("ba ab", ["<s>", "▁", "ba", "▁ab"]),  # b + a beats ▁ + b
        ("é", ["<s>", "▁", "<0xC3>", "<0xA9>"]),
        (" a", ["<s>", "▁", "▁a"]),
        ("a</s>b", ["<s>", "▁a", "</s>", "▁b"]),
    ],
)
def test_sentencepiece_gguf_tokenizer(text: str, pieces: list[str]) -> None:
    tokenizer = tokenizer_of_metadata(_spm_metadata(), "x.gguf")
    ids = tokenizer.encode(text)
    assert [_SPM[token] for token in ids] == pieces


def test_sentencepiece_decoding() -> None:
    tokenizer = tokenizer_of_metadata(_spm_metadata(), "x.gguf")
    for text in ("ab ba", "é a", " ab", "你"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert "".join(_streamed(tokenizer, ids)) == text


def test_sentencepiece_without_a_leading_space() -> None:
    metadata = _spm_metadata() | {"tokenizer.ggml.add_space_prefix": False}
    tokenizer = tokenizer_of_metadata(metadata, "x.gguf")
    assert [_SPM[token] for token in tokenizer.encode("ab")] == ["<s>", "ab"]
    assert tokenizer.decode(tokenizer.encode(" ab")) == " ab"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer.ggml.model": None}, "x.gguf has no tokenizer: give token numbers"),
        (
            {"tokenizer.ggml.model": "t5"},
            'x.gguf: tokenizer model "t5" is not supported (supported: gpt2, llama)',
        ),
        (
            {"tokenizer.ggml.pre": "tekken"},
            'x.gguf: pre-tokenizer "tekken" is not supported '
            "(supported: gpt-2, smollm, llama-bpe, llama3, llama-v3)",
        ),
        ({"tokenizer.ggml.model": "llama"}, "x.gguf: the tokenizer has no score for each token"),
    ],
)
def test_unknown_gguf_tokenizers(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AmkError) as caught:
        tokenizer_of_metadata(_byte_level_metadata("gpt-2") | changes, "x.gguf")
    assert str(caught.value) == message
