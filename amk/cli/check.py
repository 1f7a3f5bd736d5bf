"""Compare a compiled model with Hugging Face: logits, greedy tokens and perplexity over a text."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amk.cli.options import add_device, add_model, positive, target_of
from amk.errors import AmkError

if TYPE_CHECKING:
    import numpy as np

    from amk.frontend.checkpoint import Checkpoint

SUMMARY = "compare a compiled model with Hugging Face"
PERPLEXITY_TOLERANCE = 1e-6
"""Relative difference of perplexity that a float32 program may have."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_model(parser)
    parser.add_argument("--text", required=True, metavar="FILE", help="text to predict")
    parser.add_argument(
        "--tokens",
        type=positive,
        default=512,
        metavar="N",
        help="tokens of the text to use (default: 512)",
    )
    add_device(parser)


@dataclass
class Score:
    """How close logits are to those of the reference, and how well they predict the text."""

    squared_error: float = 0.0
    squared_norm: float = 0.0
    tokens: int = 0
    equal: int = 0
    wrong: int = 0
    """Greedy tokens that differ although the reference's margin exceeds the error."""
    loss: float = 0.0
    predicted: int = 0

    @property
    def error(self) -> float:
        """Relative L2 distance of the logits."""
        return (self.squared_error / self.squared_norm) ** 0.5

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log likelihood of the text."""
        import math

        return math.exp(self.loss / max(1, self.predicted))

    def add(
        self, logits: np.ndarray, reference: np.ndarray, ids: Sequence[int], error: np.ndarray
    ) -> None:
        """Take in the logits [n, vocabulary] after each of `ids`.

        `error` [n] is the error of a logit below which the two largest may change places.
        """
        import numpy as np

        for i, (ours, wanted) in enumerate(zip(logits, reference, strict=True)):
            difference = ours.astype(np.float64) - wanted
            self.squared_error += float(difference @ difference)
            self.squared_norm += float(np.square(wanted, dtype=np.float64).sum())
            second, first = np.partition(wanted, -2)[-2:]
            same = ours.argmax() == wanted.argmax()
            self.equal += bool(same)
            self.wrong += bool(not same and first - second > error[i])
            if i + 1 < len(ids):
                top = float(ours.max())
                total = np.exp(ours.astype(np.float64) - top).sum()
                self.loss += top + float(np.log(total)) - float(ours[ids[i + 1]])
                self.predicted += 1
        self.tokens += len(logits)


def run(arguments: argparse.Namespace) -> int:
    """Print a table and a verdict; status 1 if the model is not as close as it must be."""
    import numpy as np

    from amk.cli.common import read_input
    from amk.cli.huggingface import load_reference, require_huggingface, round_matrices
    from amk.cli.progress import show_progress
    from amk.frontend.checkpoint import open_checkpoint

    require_huggingface()
    text, _ = read_input(arguments.text)
    checkpoint = open_checkpoint(arguments.model)
    ids = checkpoint.tokenizer().encode(text)[: arguments.tokens]
    if len(ids) < 2:
        raise AmkError(f"'{arguments.text}' has {len(ids)} tokens: at least 2 are needed")
    windows, dtype = _run_amk(arguments, checkpoint, ids)
    with show_progress("loading the Hugging Face model"):
        reference = load_reference(arguments.model, checkpoint)
        if dtype == "bf16":
            round_matrices(reference)
    ours, exact, rounded = Score(), Score(), Score()
    for window, logits in windows:
        wanted = _hugging_face(reference, window)
        if dtype == "bf16":
            # What bfloat16 costs is measured on Hugging Face's own bfloat16 forward pass.
            theirs = _hugging_face(_in_bf16(reference), window)
            error = np.abs(theirs - wanted).max(axis=1)
            rounded.add(theirs, wanted, window, error)
        else:
            error = np.abs(logits - wanted).max(axis=1)
        ours.add(logits, wanted, window, error)
        exact.add(wanted, wanted, window, error)
    return _report(dtype, ours, exact, rounded)


def _run_amk(
    arguments: argparse.Namespace, checkpoint: Checkpoint, ids: Sequence[int]
) -> tuple[list[tuple[Sequence[int], np.ndarray]], str]:
    """The logits of each window of the text, and the storage type of the matrices."""
    from amk.cli.progress import show_progress
    from amk.runtime.model import compile

    with compile(
        checkpoint,
        target_of(arguments),
        arguments.dtype,
        arguments.context,
        arguments.workers,
        progress=show_progress,
    ) as model:
        with show_progress("running the compiled model") as advance:
            windows: list[tuple[Sequence[int], np.ndarray]] = []
            for window in _windows(ids, model.context):
                windows.append((window, model.logits(window)))
                advance(sum(len(done) for done, _ in windows) / len(ids))
        return windows, model.dtype


def _windows(ids: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), length):
        yield ids[start : start + length]


def _hugging_face(model: Any, window: Sequence[int]) -> np.ndarray:
    from amk.cli.huggingface import teacher_forced_logits
    from amk.cli.progress import show_progress

    with show_progress("running the Hugging Face model"):
        return teacher_forced_logits(model, window)


def _in_bf16(reference: Any) -> Any:
    import copy

    import torch

    return copy.deepcopy(reference).to(torch.bfloat16)


def _report(dtype: str, ours: Score, exact: Score, rounded: Score) -> int:
    """Print the table; the exit status."""
    rows = [(f"AMK {dtype}", ours), ("Hugging Face float32", exact)]
    if dtype == "bf16":
        rows.append(("Hugging Face bf16", rounded))
    print(f"{'':22}{'relative error':>16}{'greedy tokens':>16}{'perplexity':>14}")
    for name, score in rows:
        equal = f"{score.equal}/{score.tokens}"
        print(f"{name:22}{score.error:16.3e}{equal:>16}{score.perplexity:14.6f}")
    if dtype == "bf16":
        good = ours.error <= rounded.error and ours.wrong == 0
    else:
        drift = abs(ours.perplexity / exact.perplexity - 1)
        good = ours.wrong == 0 and drift <= PERPLEXITY_TOLERANCE
    print(
        f"check: verdict={'ok' if good else 'failed'} dtype={dtype}"
        f" tokens_equal={ours.equal}/{ours.tokens} wrong={ours.wrong}"
        f" relative_error={ours.error:.3e} perplexity={ours.perplexity:.6f}"
    )
    return 0 if good else 1
