"""Tokenizers: text to tokens and back, streaming, and chat templates.

Built on the `tokenizers` library; nothing here needs transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from amk.errors import AmkError
from amk.frontend.hf_directory import read_json_object

Message = Mapping[str, str]
"""A chat message: `role` ("system", "user", "assistant") and `content`."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Tokenizer:
    """A tokenizer with its end-of-text tokens and chat template.

    `special_tokens` are what a chat template may name: `bos_token`, `eos_token` and the like.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        eos_ids: Iterable[int],
        chat_template: str | None = None,
        special_tokens: Mapping[str, str] | None = None,
    ) -> None:
        self.backend = backend
        self.eos_ids = tuple(eos_ids)
        self.chat_template = chat_template
        self.special_tokens = dict(special_tokens or {})

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens, added ones included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Tokens of `text`; with the model's start token if it uses one and none is declined.

        Special tokens that are spelled out in `text` become those tokens.
        """
        return self.backend.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation, up to where the assistant's next answer begins."""
        return self.encode(self.apply_chat(messages), add_special_tokens=False)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of `ids`; bytes that are no UTF-8 become replacement characters."""
        return self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def stream(self, *, skip_special_tokens: bool = True) -> IncrementalDecoder:
        """A decoder for tokens that come one by one."""
        return IncrementalDecoder(self, skip_special_tokens)

    def apply_chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The chat template applied to `messages`; AmkError if there is no template or it fails."""
        if self.chat_template is None:
            raise AmkError("this model has no chat template: use a plain prompt")
        return _render(self.chat_template, messages, add_generation_prompt, self.special_tokens)


class IncrementalDecoder:
    """Turns tokens into text as they come; a character is given out once it is complete.

    The pieces joined (with that of `finish`) are what decoding all tokens at once gives.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._ids: list[int] = []
        # _ids[_start:_given] has been given out. It is decoded again with what follows, because
        # a token's text may depend on the one before it (a leading space, for instance).
        self._start = 0
        self._given = 0

    def push(self, token: int) -> str:
        """The text that is complete with `token`; empty while a character is unfinished."""
        self._ids.append(token)
        before, text = self._decode(self._given), self._decode(len(self._ids))
        if text.endswith(_REPLACEMENT):
            return ""
        self._start, self._given = self._given, len(self._ids)
        return text[len(before) :]

    def finish(self) -> str:
        """What is left at the end: empty, unless the tokens stop within a character."""
        before, text = self._decode(self._given), self._decode(len(self._ids))
        self._start = self._given = len(self._ids)
        return text[len(before) :]

    def _decode(self, end: int) -> str:
        ids = self._ids[self._start : end]
        return self._tokenizer.decode(ids, skip_special_tokens=self._skip)


def tokenizer_of_directory(directory: Path, config: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a Hugging Face directory: tokenizer.json and, where present, its config.

    Raises AmkError where there is no tokenizer.json, or where it cannot be read.
    """
    path = directory / "tokenizer.json"
    if not path.exists():
        raise AmkError(
            f"{directory} has no tokenizer.json: save the model with a fast tokenizer, "
            "or give token numbers"
        )
    try:
        backend = Backend.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise AmkError(f"{path}: cannot be read as a tokenizer: {error}") from error
    settings_path = directory / "tokenizer_config.json"
    settings = read_json_object(settings_path) if settings_path.exists() else {}
    template_path = directory / "chat_template.jinja"
    template = settings.get("chat_template")
    if template_path.exists():
        template = template_path.read_text(encoding="utf-8", errors="replace")
    eos = config.get("eos_token_id")
    return Tokenizer(
        backend,
        eos_ids=[] if eos is None else eos if isinstance(eos, list) else [eos],
        chat_template=_default_template(template),
        special_tokens=_special_tokens(settings),
    )


def _default_template(template: object) -> str | None:
    # Several templates come as a list of {name, template}.
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = settings.get(key)
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            found[key] = content
    return found


def _render(
    template: str,
    messages: Sequence[Message],
    add_generation_prompt: bool,
    special_tokens: Mapping[str, str],
) -> str:
    # A late import: only chats need it.
    import json
    from datetime import datetime

    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def fail(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    # What Hugging Face gives to templates; its tojson does not escape HTML as jinja2's does.
    environment.filters["tojson"] = lambda value, **options: json.dumps(
        value, ensure_ascii=False, **options
    )
    environment.globals["raise_exception"] = fail
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    try:
        return environment.from_string(template).render(
            messages=[dict(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
            **special_tokens,
        )
    except jinja2.TemplateError as error:
        raise AmkError(f"the chat template of the model fails: {error}") from error
