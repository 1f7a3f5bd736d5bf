"""The passes of AMK, by name.

A pass may declare the level that it takes and the level that it leaves behind, as class variables
`consumes` and `produces` of type `Level`; the drivers check the first and use both to name, or
insert, the pass that is missing.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module

from xdsl.passes import ModulePass

from amk.ir.levels import Level


@dataclass(frozen=True)
class PassEntry:
    """A pass that is imported when it is first needed; calling the entry gives the pass class."""

    name: str
    module: str
    class_name: str
    summary: str = ""
    """One line for `--help`; by default the first line of the docstring of the class."""

    def __call__(self) -> type[ModulePass]:
        """The pass class."""
        return getattr(import_module(self.module), self.class_name)

    def describe(self) -> str:
        """One line that says what the pass does."""
        if self.summary:
            return self.summary
        return next(iter((inspect.getdoc(self()) or "").strip().splitlines()), "")


_PASSES = (
    PassEntry("lower-to-tiles", "amk.passes.lower_to_tiles", "LowerToTilesPass"),
    PassEntry("lower-to-tasks", "amk.passes.lower_to_tasks", "LowerToTasksPass"),
    PassEntry("verify-schedule", "amk.passes.verify_schedule", "VerifySchedulePass"),
    PassEntry(
        "canonicalize",
        "xdsl.transforms.canonicalize",
        "CanonicalizePass",
        "Apply all canonicalization patterns and remove dead code.",
    ),
    PassEntry(
        "cse",
        "xdsl.transforms.common_subexpression_elimination",
        "CommonSubexpressionElimination",
        "Replace an operation that repeats an earlier one by its result.",
    ),
)


def all_passes() -> dict[str, PassEntry]:
    """Every pass by name, in the order in which `--help` lists them."""
    return {entry.name: entry for entry in _PASSES}


def consumed_level(pass_class: type[ModulePass]) -> Level | None:
    """The level that the pass takes, or None if it takes any."""
    return getattr(pass_class, "consumes", None)


def produced_level(pass_class: type[ModulePass]) -> Level | None:
    """The level of the module after the pass, or None if the pass keeps it."""
    return getattr(pass_class, "produces", None)


def lowering_path(
    source: Level, target: Level, passes: dict[str, PassEntry] | None = None
) -> list[PassEntry] | None:
    """The shortest sequence of passes from level `source` to `target`; None without one."""
    available = all_passes() if passes is None else passes
    steps: dict[Level, list[tuple[Level, PassEntry]]] = {}
    for entry in available.values():
        try:
            pass_class = entry()
        except ImportError:
            continue  # needs a package that is not installed: no path leads through it
        consumes, produces = consumed_level(pass_class), produced_level(pass_class)
        if consumes is not None and produces is not None and consumes is not produces:
            steps.setdefault(consumes, []).append((produces, entry))
    paths: dict[Level, list[PassEntry]] = {source: []}
    frontier = [source]
    while frontier:
        level = frontier.pop(0)
        for following, entry in steps.get(level, []):
            if following not in paths:
                paths[following] = [*paths[level], entry]
                frontier.append(following)
    return paths.get(target)
