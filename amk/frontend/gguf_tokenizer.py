"""Tokenizers from GGUF metadata: byte-level BPE and SentencePiece-style BPE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import PreTokenizer

from amk.errors import AmkError
from amk.frontend.tokenizer import Tokenizer

_PREFIX = "tokenizer.ggml."
_CONTROL, _USER_DEFINED = 3, 4
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"

_LLAMA3_NAMES = ("llama-bpe", "llama3", "llama-v3")
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenizer_of_metadata(metadata: Mapping[str, Any], where: str) -> Tokenizer:
    """The tokenizer that a GGUF file's metadata describe; `where` names the file in errors.

    Raises AmkError on a tokenizer model or a pre-tokenizer that is not known.
    """
    model = metadata.get(_PREFIX + "model")
    tokens = metadata.get(_PREFIX + "tokens")
    if model is None or not tokens:
        raise AmkError(f"{where} has no tokenizer: give token numbers")
    if model == "gpt2":
        backend = _byte_level(metadata, tokens, where)
    elif model == "llama":
        backend = _sentencepiece(metadata, tokens, where)
    else:
        raise AmkError(
            f'{where}: tokenizer model "{model}" is not supported (supported: gpt2, llama)'
        )
    _add_special_tokens(backend, metadata, tokens)
    _add_start_token(backend, metadata, tokens, default=model == "llama")
    eos = {metadata.get(_PREFIX + key) for key in ("eos_token_id", "eot_token_id")}
    return Tokenizer(
        backend,
        eos_ids=sorted(token for token in eos if token is not None),
        chat_template=metadata.get("tokenizer.chat_template"),
        special_tokens=_named_tokens(metadata, tokens),
    )


def _byte_level(metadata: Mapping[str, Any], tokens: list[str], where: str) -> Backend:
    pre = metadata.get(_PREFIX + "pre", "default")
    splitters = _pre_tokenizers()
    if pre not in splitters:
        known = ", ".join(splitters)
        raise AmkError(f'{where}: pre-tokenizer "{pre}" is not supported (supported: {known})')
    merges = [tuple(merge.split(" ", 1)) for merge in metadata.get(_PREFIX + "merges", [])]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    # Llama 3 takes a whole word that is a token as it is, even where no merges lead to it.
    backend = Backend(BPE(vocabulary, merges, ignore_merges=pre in _LLAMA3_NAMES))
    backend.pre_tokenizer = splitters[pre]
    backend.decoder = decoders.ByteLevel()
    return backend


def _pre_tokenizers() -> dict[str, PreTokenizer]:
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    llama3 = pre_tokenizers.Split(Regex(_LLAMA3_SPLIT), behavior="isolated")
    return {
        "gpt-2": words,
        "smollm": pre_tokenizers.Sequence([digits, words]),
        **{name: pre_tokenizers.Sequence([llama3, as_bytes]) for name in _LLAMA3_NAMES},
    }


def _sentencepiece(metadata: Mapping[str, Any], tokens: list[str], where: str) -> Backend:
    scores = metadata.get(_PREFIX + "scores")
    if scores is None or len(scores) != len(tokens):
        raise AmkError(f"{where}: the tokenizer has no score for each token")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    unknown = tokens[metadata.get(_PREFIX + "unknown_token_id", 0)]
    model = BPE(
        vocabulary,
        _merges_of_scores(vocabulary, scores),
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=True,
    )
    backend = Backend(model)
    steps: list[normalizers.Normalizer] = [normalizers.Replace(" ", _SPACE)]
    last: list[decoders.Decoder] = []
    if metadata.get(_PREFIX + "add_space_prefix", True):
        steps.insert(0, normalizers.Prepend(_SPACE))
        last.append(decoders.Strip(" ", 1, 0))
    backend.normalizer = normalizers.Sequence(steps)
    backend.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *last]
    )
    return backend


def _merges_of_scores(vocabulary: dict[str, int], scores: list[float]) -> list[tuple[str, str]]:
    """The pairs of tokens that join to a third, best first: by its score, then the longer left."""
    merges: list[tuple[float, int, tuple[str, str]]] = []
    for token, index in vocabulary.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocabulary and right in vocabulary:
                merges.append((-scores[index], -cut, (left, right)))
    return [pair for *_, pair in sorted(merges)]


def _add_special_tokens(backend: Backend, metadata: Mapping[str, Any], tokens: list[str]) -> None:
    kinds = metadata.get(_PREFIX + "token_type") or [0] * len(tokens)
    pairs = list(zip(tokens, kinds, strict=False))
    special = [AddedToken(t, special=True, normalized=False) for t, k in pairs if k == _CONTROL]
    backend.add_special_tokens(special)
    plain = [AddedToken(t, special=False, normalized=False) for t, k in pairs if k == _USER_DEFINED]
    backend.add_tokens(plain)


def _add_start_token(
    backend: Backend, metadata: Mapping[str, Any], tokens: list[str], *, default: bool
) -> None:
    start = metadata.get(_PREFIX + "bos_token_id")
    # Llama 3 files may leave the flag out and mean it; every other byte-level model sets it.
    default = default or metadata.get(_PREFIX + "pre") in _LLAMA3_NAMES
    if start is None or not metadata.get(_PREFIX + "add_bos_token", default):
        return
    text = tokens[start]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{text} $A", pair=f"{text} $A {text} $B", special_tokens=[(text, start)]
    )


def _named_tokens(metadata: Mapping[str, Any], tokens: list[str]) -> dict[str, str]:
    names = {
        "bos_token": "bos_token_id",
        "eos_token": "eos_token_id",
        "unk_token": "unknown_token_id",
        "pad_token": "padding_token_id",
    }
    found = {name: metadata.get(_PREFIX + key) for name, key in names.items()}
    return {name: tokens[index] for name, index in found.items() if index is not None}
