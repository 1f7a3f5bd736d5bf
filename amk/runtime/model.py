"""`amk.compile`: a model on a device, generating tokens and computing logits."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from amk.backends import emit_program
from amk.backends.program import Program
from amk.errors import AmkError
from amk.frontend.checkpoint import Checkpoint, open_checkpoint
from amk.frontend.import_model import import_model
from amk.runtime.choose import choose_device
from amk.runtime.device import Device
from amk.runtime.progress import Progress, silent
from amk.runtime.session import Session

if TYPE_CHECKING:
    from amk.frontend.tokenizer import Tokenizer

TIMEOUT_SECONDS = {"cuda": 5.0, "cpu": 60.0}
"""The longest wait inside a launch: on the CPU, workers share cores and may stand in line."""

Dtype = Literal["f32", "bf16"]


class CompiledModel:
    """A model that is loaded on a device and ready to run; made by `amk.compile`.

    It holds the keys and values of one sequence. A call that begins with the tokens of the call
    before goes on from there. One call at a time: a new one ends an iteration that is under way.
    Use it as a context manager, or call `close`, to free the memory.
    """

    def __init__(self, checkpoint: Checkpoint, program: Program, device: Device, timeout: float):
        """Use `amk.compile`. `timeout` (seconds) bounds each wait inside a launch."""
        self.checkpoint = checkpoint
        self.program = program
        self.device = device
        self.session = Session(device, timeout)
        self._active: Generator[int] | None = None

    @property
    def context(self) -> int:
        """How many positions a sequence can have."""
        return self.program.context

    @property
    def dtype(self) -> str:
        """The storage type of the matrices: f32 or bf16."""
        return next(info.dtype for info in self.program.buffers if info.stream is not None)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the checkpoint; AmkError if it has none."""
        return self.checkpoint.tokenizer()

    def generate(self, ids: Sequence[int], max_new_tokens: int = 128) -> Iterator[int]:
        """Greedy continuation of the tokens `ids`, one by one while the device computes them.

        Ends after `max_new_tokens`, after an end-of-text token (which is the last one given), or
        when the context is full. The prompt runs in the same launch, less the part of it that the
        call before has left in the caches. Closing the iterator stops the device.
        Raises AmkError where `ids` is empty, longer than the context or holds unknown tokens.
        """
        prompt = self._checked(ids)
        if max_new_tokens < 0:
            raise AmkError(f"max_new_tokens must not be negative, got {max_new_tokens}")
        self._end_active()
        if max_new_tokens == 0:
            return iter(())
        start = min(_common(self.session.fed, prompt), len(prompt) - 1)
        steps = min(len(prompt) - start + max_new_tokens - 1, self.context - start)
        self._active = self._generate(prompt, start, steps)
        return self._active

    def _generate(self, prompt: list[int], start: int, steps: int) -> Generator[int]:
        run = self.session.run(prompt, start, steps)
        try:
            for position, token in enumerate(run, start):
                if position >= len(prompt) - 1:
                    yield token
        finally:
            run.close()

    def logits(self, ids: Sequence[int], first: int = 0) -> np.ndarray:
        """The logits (float32 [len(ids) - first, vocabulary]) after each of `ids` from `first` on.

        Raises AmkError where `ids` is empty, longer than the context or holds unknown tokens.
        """
        tokens = self._checked(ids)
        self._end_active()
        slots = self.program.buffer("logits").shape[0]
        if not 0 <= first < len(tokens):
            raise AmkError(f"first {first} is outside 0..{len(tokens) - 1}")
        if first > 0:
            for _ in self.session.run(tokens[:first], 0, first):
                pass
        result = np.empty((len(tokens) - first, self.program.vocab), np.float32)
        for start in range(first, len(tokens), slots):
            steps = min(slots, len(tokens) - start)
            for _ in self.session.run(tokens, start, steps):
                pass
            # The rows of the buffer may be padded.
            rows = self.device.read("logits", steps)
            result[start - first : start - first + steps] = rows[:, : self.program.vocab]
        return result

    def close(self) -> None:
        """Stop what runs and free the device memory."""
        self._end_active()
        self.device.close()

    def __enter__(self) -> CompiledModel:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _end_active(self) -> None:
        active, self._active = self._active, None
        if active is not None:
            active.close()

    def _checked(self, ids: Sequence[int]) -> list[int]:
        if not self.device.memory:
            raise AmkError("this model has been closed")
        tokens = [int(token) for token in ids]
        check_length(len(tokens), self.context)
        for token in tokens:
            if not 0 <= token < self.program.vocab:
                raise AmkError(f"token {token} is outside 0..{self.program.vocab - 1}")
        return tokens


def check_length(tokens: int, context: int) -> None:
    """Raise an AmkError unless a prompt of so many tokens fits a context of so many positions."""
    if tokens == 0:
        raise AmkError("the prompt is empty: give at least one token")
    if tokens > context:
        raise AmkError(
            f"the prompt has {tokens} tokens, but the context holds {context}:"
            " shorten it, or use a larger context"
        )


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens `a` and `b` have in common from the start."""
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count


def compile(
    model: str | Path | Checkpoint | Any,
    arch: str = "auto",
    dtype: Dtype | None = None,
    context: int | None = None,
    workers: int | None = None,
    *,
    timeout: float | None = None,
    progress: Progress = silent,
) -> CompiledModel:
    """Compile a model and load it on the device that `arch` names.

    `model` is a Hugging Face directory, a .gguf file, an open `Checkpoint`, or a `transformers`
    model in memory. `arch` is "auto" (the GPU if there is one, else the CPU), "host" (the CPU),
    "cuda" (the GPU), or the architecture to print for, such as "sm_90". `dtype` is the storage type
    of the matrices, by default the checkpoint's; `context` the number of positions; `workers` the
    number of thread blocks or threads, by default one for each multiprocessor or core (on a
    GPU up to 3 % fewer, where they share the work more evenly). `timeout`
    (seconds) bounds each wait inside a launch; `progress` shows long steps. Raises AmkError where
    anything does not fit.
    """
    checkpoint = _open(model)
    if not checkpoint.tensors():
        raise AmkError(f"{checkpoint.name} holds no weights, only a config: it cannot run")
    choice = choose_device(arch, workers)
    module = import_model(checkpoint, dtype=dtype, context=context)
    choice.lower(module, progress=progress)
    with progress("printing the program"):
        program = emit_program(module, choice.target)
    device = choice.load(program, module, checkpoint, progress)
    return CompiledModel(checkpoint, program, device, timeout or TIMEOUT_SECONDS[device.name])


def _open(model: Any) -> Checkpoint:
    if isinstance(model, Checkpoint):
        return model
    if isinstance(model, str | Path):
        return open_checkpoint(model)
    if hasattr(model, "state_dict") and hasattr(model, "config"):
        from amk.frontend.transformers_adapter import checkpoint_from_transformers

        return checkpoint_from_transformers(model)
    raise AmkError(f"cannot compile a {type(model).__name__}: give a path or a transformers model")
