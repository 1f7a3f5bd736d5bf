"""Whether a compiled model may be timed at all: its logits beside those of a float32 reference."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from amk.errors import AmkError
from amk.frontend.checkpoint import Checkpoint

if TYPE_CHECKING:
    from amk.bench.subject import Subject
    from amk.bench.torch_llama import TorchLlama

F32_ERROR = 1e-5
"""Relative L2 error of logits that a float32 program may have."""
BF16_ERROR = 1.5e-2
"""The same for bf16, where there is no torch to tell what its own bf16 forward pass has."""
_SHORT = {"torch": 32, "interpreter": 3}
"""Tokens of the check at the start of a sequence."""
_ROWS = 16
"""Rows of logits that are compared at the end of a long prompt."""


@dataclass(frozen=True)
class Check:
    """One comparison of logits."""

    positions: tuple[int, int]
    """The first position compared, and the one after the last."""
    reference: str
    error: float
    """Relative L2 distance from the reference."""
    allowed: float
    wrong: int
    """Greedy tokens that differ although the reference's margin exceeds the error."""
    repeatable: bool
    """Whether two runs gave the same bits."""

    @property
    def good(self) -> bool:
        """Whether all of it holds; an error that is no number does not."""
        return self.error <= self.allowed and self.wrong == 0 and self.repeatable

    def record(self) -> dict[str, Any]:
        """What a report keeps."""
        return {**asdict(self), "good": self.good}

    def __str__(self) -> str:
        first, last = self.positions
        return (
            f"logits at positions {first} to {last - 1}: relative error {self.error:.2e}"
            f" of {self.reference} (allowed {self.allowed:.2e}), {self.wrong} wrong tokens,"
            f" two runs {'equal' if self.repeatable else 'DIFFERENT'} in every bit"
        )


def load_torch_model(subject: Subject, checkpoint: Checkpoint) -> TorchLlama | str:
    """The model in torch on the device of the subject, or why there is none, in words."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    import torch

    device = subject.device.name
    if device == "cuda" and not torch.cuda.is_available():
        return "this torch has no CUDA"
    from amk.bench.torch_llama import TorchLlama

    model = TorchLlama(checkpoint, subject.model.dtype, device)
    subject.free_unused()
    return model


def random_tokens(vocabulary: int, count: int) -> list[int]:
    """A prompt without meaning, always the same."""
    return np.random.default_rng(0).integers(0, vocabulary, count).tolist()


def check_short(subject: Subject, checkpoint: Checkpoint, torch_model: TorchLlama | str) -> Check:
    """Compare the logits of a short sequence."""
    by_torch = not isinstance(torch_model, str)
    count = min(_SHORT["torch" if by_torch else "interpreter"], subject.model.context)
    ids = random_tokens(subject.config.vocabulary, count)
    return _check(subject, checkpoint, torch_model, ids, 0)


def check_long(
    subject: Subject, checkpoint: Checkpoint, torch_model: TorchLlama | str, context: int
) -> Check:
    """Run a prompt of `context` tokens through the model; compare the logits at its end."""
    if isinstance(torch_model, str):
        raise AmkError(f"checking at long contexts needs torch: {torch_model}")
    ids = random_tokens(subject.config.vocabulary, context)
    return _check(subject, checkpoint, torch_model, ids, max(0, context - _ROWS))


def _check(
    subject: Subject,
    checkpoint: Checkpoint,
    torch_model: TorchLlama | str,
    ids: Sequence[int],
    first: int,
) -> Check:
    ours, again = (subject.model.logits(ids, first) for _ in range(2))
    allowed = F32_ERROR if subject.model.dtype == "f32" else BF16_ERROR
    if isinstance(torch_model, str):
        reference = "the float32 interpreter"
        expected = _interpreted(subject, checkpoint, ids)[first:]
    else:
        import torch

        reference = "torch in float32"
        expected = torch_model.logits(ids, first, torch.float32)
        if subject.model.dtype == "bf16":
            # As close as a usual bf16 forward pass is.
            allowed = _error(torch_model.logits(ids, first, torch.bfloat16), expected)
    return Check(
        positions=(first, len(ids)),
        reference=reference,
        error=_error(ours, expected),
        allowed=allowed,
        wrong=_wrong(ours, expected),
        repeatable=bool((ours.view(np.uint32) == again.view(np.uint32)).all()),
    )


def _interpreted(subject: Subject, checkpoint: Checkpoint, ids: Sequence[int]) -> np.ndarray:
    from amk.frontend.import_model import import_model
    from amk.interpreters.nn import NNRunner

    dtype = "bf16" if subject.model.dtype == "bf16" else "f32"
    module = import_model(checkpoint, dtype=dtype, context=subject.model.context)
    return NNRunner(module, checkpoint.read).logits(ids)


def _error(logits: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(logits - expected) / np.linalg.norm(expected))


def _wrong(logits: np.ndarray, expected: np.ndarray) -> int:
    second, best = np.partition(expected, -2, axis=1)[:, -2:].T
    error = np.abs(logits - expected).max(axis=1)
    differ = logits.argmax(axis=1) != expected.argmax(axis=1)
    # Two logits may change places by twice the error of one.
    return int((differ & ~(best - second <= 2 * error)).sum())
