"""Pass pipelines from command lines: flags in order, `-p` strings, and passes that are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass, get_pass_option_infos
from xdsl.utils.arg_spec import ArgSpec, parse_pipeline, parse_spec
from xdsl.utils.exceptions import ArgSpecParseError

from amk.cli.common import did_you_mean
from amk.errors import AmkError
from amk.ir.levels import Level, level_of
from amk.ir.location import location_of
from amk.passes import PassEntry, consumed_level, lowering_path


@dataclass(frozen=True)
class CommandLine:
    """A command line, taken apart."""

    specs: tuple[ArgSpec, ...]
    """The passes with their options, in order."""
    arguments: tuple[str, ...]
    """Everything else, in order."""


def take_passes(argv: Sequence[str], passes: Mapping[str, PassEntry]) -> CommandLine:
    """Take `--NAME`, `--NAME="key=value ..."` and `-p PIPELINE` out of `argv`, in their order.

    This happens before argparse sees the arguments, since an option with an optional value would
    swallow the file name that follows it.
    """
    specs: list[ArgSpec] = []
    rest: list[str] = []
    position = 0
    while position < len(argv):
        argument = argv[position]
        position += 1
        if argument == "--":
            rest.extend(argv[position - 1 :])
            break
        name, has_options, options = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name in passes:
            specs.append(_spec_of_flag(name, options if has_options else ""))
        elif argument in ("-p", "--passes"):
            if position == len(argv):
                raise AmkError(
                    f"{argument} needs a pipeline, such as {argument} 'canonicalize,cse'"
                )
            specs.extend(_specs_of_pipeline(argv[position], passes))
            position += 1
        elif argument.startswith("--passes="):
            specs.extend(_specs_of_pipeline(options, passes))
        else:
            rest.append(argument)
    return CommandLine(tuple(specs), tuple(rest))


def _spec_of_flag(name: str, options: str) -> ArgSpec:
    text = " ".join(options.removeprefix("{").removesuffix("}").split())
    try:
        return parse_spec(f"{name}{{{text}}}") if text else ArgSpec(name, {})
    except ArgSpecParseError as error:
        example = f'--{name}="key=value key=value"'
        raise AmkError(f"cannot read the options '{options}'; write {example}") from error


def _specs_of_pipeline(text: str, passes: Mapping[str, PassEntry]) -> list[ArgSpec]:
    try:
        specs = list(parse_pipeline(text))
    except ArgSpecParseError as error:
        example = "-p 'first{key=value key=value},second'"
        raise AmkError(f"cannot read the pipeline '{text}'; write {example}") from error
    for spec in specs:
        if spec.name not in passes:
            raise AmkError(f"unknown pass '{spec.name}'{did_you_mean(spec.name, passes)}")
    return specs


def build_pass(entry: PassEntry, spec: ArgSpec) -> ModulePass:
    """The pass with its options; one that is unknown, missing or of a wrong type is an error."""
    try:
        pass_class = entry()
    except ImportError as error:
        raise AmkError(f"pass '{entry.name}' cannot be loaded: {error}") from error
    infos = {info.name: info for info in get_pass_option_infos(pass_class)}
    given = spec.normalize_parameter_names()
    for option in given.parameters:
        if option not in infos:
            known = ", ".join(infos) or "none"
            hint = did_you_mean(option, infos) or f"; its options are: {known}"
            raise AmkError(f"--{entry.name} has no option '{option}'{hint}")
    try:
        return pass_class.from_spec(spec)
    except ValueError as error:
        types = ", ".join(f"{info.name} ({info.expected_type})" for info in infos.values())
        raise AmkError(f"--{entry.name}: {error}; its options are: {types}") from error


def missing_pass(
    step: ModulePass, module: ModuleOp, passes: Mapping[str, PassEntry]
) -> PassEntry | None:
    """The one pass that must run before `step`, or None if `module` is already at the right level.

    An AmkError names the passes to run where several are missing, and says so if none helps.
    """
    wanted = consumed_level(type(step))
    if wanted is None:
        return None
    level = level_of(module)
    if level is wanted:
        return None
    path = None if level is None else lowering_path(level, wanted, dict(passes))
    if path is not None and len(path) == 1:
        return path[0]
    message = wrong_level(f"--{step.name}", level, wanted, path)
    raise AmkError(message, location=location_of(module))


def wrong_level(
    tool: str, level: Level | None, wanted: Level, path: Sequence[PassEntry] | None
) -> str:
    """One line: `tool` takes `wanted`, but the module is at `level`; the passes to run first."""
    if level is None:
        return f"{tool} takes {wanted.value} IR, but the module holds no nn, tile or task operation"
    text = f"{tool} takes {wanted.value} IR, but the module is {level.value} IR"
    if path is None:
        return f"{text}: no pass leads back from {level.value} to {wanted.value}"
    return f"{text}: run amk-opt {' '.join(f'--{entry.name}' for entry in path)} first"
