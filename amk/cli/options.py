"""Options that several subcommands of `amk` have."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from amk.errors import AmkError

if TYPE_CHECKING:
    from amk.runtime.build import PassOptions


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise the error instead of printing the usage and leaving with status 2."""
        raise AmkError(f"{message} (see {self.prog} --help)")


def add_model(parser: argparse.ArgumentParser) -> None:
    """MODEL, --dtype and --context."""
    parser.add_argument("model", metavar="MODEL", help="Hugging Face directory or .gguf file")
    parser.add_argument(
        "--dtype",
        choices=("f32", "bf16"),
        help="storage type of the matrices (default: the checkpoint's)",
    )
    parser.add_argument(
        "--context", type=positive, metavar="N", help="positions of a sequence (default: 2048)"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device, --arch and --workers."""
    parser.add_argument(
        "--device",
        choices=("auto", "cuda", "cpu"),
        default="auto",
        help="where to run (default: the GPU if there is one)",
    )
    parser.add_argument(
        "--arch", metavar="ARCH", help="architecture to print for, e.g. sm_80 (default: the GPU's)"
    )
    add_workers(parser)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """--workers."""
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="thread blocks or threads (default: one for each multiprocessor or core)",
    )


def add_passes(parser: argparse.ArgumentParser) -> None:
    """--lower-to-tiles and --lower-to-tasks."""
    for name in ("lower-to-tiles", "lower-to-tasks"):
        parser.add_argument(
            f"--{name}",
            default="",
            metavar='"KEY=VALUE …"',
            help=f"options of the pass (see amk-opt --{name} --help)",
        )


def passes_of(arguments: argparse.Namespace) -> PassOptions:
    """What --lower-to-tiles and --lower-to-tasks say."""
    from amk.runtime.build import PassOptions

    return PassOptions(tiles=arguments.lower_to_tiles, tasks=arguments.lower_to_tasks)


def target_of(arguments: argparse.Namespace) -> str:
    """The `arch` of `amk.compile` that --device and --arch ask for."""
    if arguments.device == "cpu":
        if arguments.arch is not None:
            raise AmkError("--arch is for a GPU: leave it out with --device=cpu")
        return "host"
    if arguments.arch is not None:
        return arguments.arch
    return arguments.device


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 on")
    return number
