"""What a `tile.program` computes: its phases in order, each for all of its tiles.

Buffers are numpy arrays in storage type; a kernel sees views of the regions that its phase binds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import EllipsisType

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from amk.dialects import tile
from amk.dialects.access import Access, AccessAttr, Argument
from amk.errors import AmkError
from amk.interpreters.kernel import Kernels
from amk.interpreters.memory import (
    Box,
    Constants,
    View,
    constant_array,
    poison,
    storage_of,
)
from amk.ir.location import location_of
from amk.schedule.expr import Expr

POSITION = "pos"
"""The variable that stands for the position of the token."""
OWN_CHOICE = -1
"""An element of @forced: feed what the step before chose."""


@dataclass
class TileState:
    """The memory of one sequence: caches and the current token, by buffer name.

    `length` counts the positions that ran; `stopped` tells what the last step decided.
    """

    buffers: dict[str, np.ndarray] = field(default_factory=dict)
    length: int = 0
    stopped: bool = False


class TileRunner:
    """Runs the `tile.program` of a module step by step.

    `merge_rows` runs the tiles of a phase with `rows` as one instance, which is what
    lower-to-tasks does for one worker; without it every tile runs alone. Raises AmkError where the
    module holds no single program, or a constant does not fit its buffer.
    """

    def __init__(self, module: ModuleOp, constants: Constants, *, merge_rows: bool = True) -> None:
        self.program = find_program(module)
        self.merge_rows = merge_rows
        self.kernels = Kernels(module)
        self.context = self.program.context.value.data
        self.vocabulary = self.program.vocab.value.data
        self._declared = {
            op.sym_name.data: op
            for op in self.program.body.block.ops
            if isinstance(op, tile.BufferOp)
        }
        self._constants = {
            name: constant_array(op.source.root_reference.data, op.type, constants)
            for name, op in self._declared.items()
            if op.source is not None
        }
        self._counts = self._reduced_counts()

    def new_state(self) -> TileState:
        """Empty caches, for a new sequence."""
        state = TileState()
        for name, op in self._declared.items():
            if op.source is None:
                state.buffers[name] = np.zeros(op.type.get_shape(), storage_of(op.type))
        return state

    def step(self, state: TileState, token: int | None, position: int) -> tuple[np.ndarray, int]:
        """Runs `token` (None: the choice of the step before) at `position`.

        Returns (logits [vocabulary], the next token).
        """
        self._check_step(state, token, position)
        buffers = {**state.buffers, **self._constants}
        for name, op in self._declared.items():
            if op.kind.data == "scratch":
                poison(buffers[name])
        buffers["forced"][...] = OWN_CHOICE
        buffers["forced"][position] = OWN_CHOICE if token is None else token
        state.stopped = False
        self._run(self.program.body.block.ops, state, buffers, {POSITION: position})
        state.length = position + 1
        logits = buffers["logits"]
        return (
            logits[position % len(logits), : self.vocabulary].copy(),
            int(buffers["tokens"][position]),
        )

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """Logits [len(tokens), vocabulary] after each of `tokens`, in a new sequence."""
        state = self.new_state()
        return np.stack([self.step(state, token, at)[0] for at, token in enumerate(tokens)])

    def generate(self, tokens: Sequence[int], max_new_tokens: int) -> list[int]:
        """The greedy continuation of `tokens`: up to and including an eos token, if one comes."""
        state = self.new_state()
        following = -1
        for position, token in enumerate(tokens):
            _, following = self.step(state, token, position)
        new = [following]
        while len(new) < max_new_tokens and not state.stopped and state.length < self.context:
            _, following = self.step(state, None, state.length)
            new.append(following)
        return new[:max_new_tokens]

    def _check_step(self, state: TileState, token: int | None, position: int) -> None:
        if token is not None and not 0 <= token < self.vocabulary:
            raise AmkError(f"token {token} is outside 0..{self.vocabulary - 1}")
        if not 0 <= position < self.context:
            raise AmkError(f"position {position} is outside the context of {self.context}")
        if position > state.length:
            raise AmkError(f"position {position} cannot run: only {state.length} ran before it")

    # ---- phases ----------------------------------------------------------------------------

    def _run(
        self,
        ops: Iterable[Operation],
        state: TileState,
        buffers: Mapping[str, np.ndarray],
        values: Mapping[str, int],
    ) -> None:
        for op in ops:
            if isinstance(op, tile.RepeatOp):
                for index in range(op.count.value.data):
                    inner = {**values, op.index.data: index}
                    self._run(op.body.block.ops, state, buffers, inner)
            elif isinstance(op, tile.PhaseOp):
                self._phase(op, state, buffers, values)

    def _phase(
        self,
        phase: tile.PhaseOp,
        state: TileState,
        buffers: Mapping[str, np.ndarray],
        values: Mapping[str, int],
    ) -> None:
        for instance, (first, last) in enumerate(self._instances(phase)):
            arguments = [
                self._bind(phase, a, buffers, values, (first, last), instance) for a in phase.args
            ]
            decision = self.kernels.run(phase.kernel_name, arguments)
            state.stopped = state.stopped or bool(decision)

    def _instances(self, phase: tile.PhaseOp) -> list[tuple[int, int]]:
        """First and last tile of each instance of the kernel."""
        tiles = phase.tiles.value.data
        if phase.rows is not None and self.merge_rows:
            return [(0, tiles - 1)]
        return [(t, t) for t in range(tiles)]

    def _reduced_counts(self) -> dict[str, int]:
        """Elements of each reduced buffer: one for each instance of the phase that writes it."""
        counts: dict[str, int] = {}
        for phase in self.program.walk():
            if not isinstance(phase, tile.PhaseOp):
                continue
            for argument in phase.args:
                if isinstance(argument, AccessAttr) and argument.data.writes:
                    name = argument.data.buffer
                    if self._placement(name) == "reduced":
                        counts[name] = len(self._instances(phase))
        return counts

    def _placement(self, name: str) -> str:
        op = self._declared.get(name)
        return op.placement.data if op is not None and op.placement is not None else ""

    def _bind(
        self,
        phase: tile.PhaseOp,
        argument: Argument,
        buffers: Mapping[str, np.ndarray],
        values: Mapping[str, int],
        tiles: tuple[int, int],
        instance: int,
    ) -> View | int:
        first = {**values, tile.PhaseOp.INDEX: tiles[0]}
        last = {**values, tile.PhaseOp.INDEX: tiles[1]}
        if not isinstance(argument, AccessAttr):
            return self._value(phase, argument.data, first)
        access = argument.data
        if access.buffer not in buffers:
            raise AmkError(f"there is no buffer @{access.buffer}", location=location_of(phase))
        if access.guard is not None and self._value(phase, access.guard, first) != 0:
            return View(access.buffer, None)
        array = buffers[access.buffer]
        if access.buffer in self._counts:
            count = self._counts[access.buffer]
            own = slice(instance, instance + 1) if access.writes else slice(0, count)
            return View(access.buffer, array[own])
        box = self._box(phase, access, first, last)
        check_box(array.shape, box, access, location_of(phase))
        return View(access.buffer, array[box])

    def _box(
        self,
        phase: tile.PhaseOp,
        access: Access,
        first: Mapping[str, int],
        last: Mapping[str, int],
    ) -> Box:
        box: list[slice | int | EllipsisType] = []
        for dim in access.dims:
            lo = self._value(phase, dim.lo, first)
            box.append(lo if dim.hi is None else slice(lo, self._value(phase, dim.hi, last)))
        return (*box, ...)

    @staticmethod
    def _value(phase: tile.PhaseOp, expr: Expr, values: Mapping[str, int]) -> int:
        missing = expr.variables - values.keys()
        if missing:
            raise AmkError(
                f"@{phase.sym_name.data}: '{expr}' uses {', '.join(sorted(missing))}, which is no "
                "index or scalar here",
                location=location_of(phase),
            )
        return int(expr.evaluate(values))


def check_box(shape: Sequence[int], box: Box, access: Access, location: str | None) -> None:
    """Raise AmkError where a region does not fit into its buffer."""
    parts = [part for part in box if not isinstance(part, EllipsisType)]
    if len(parts) != len(shape):
        raise AmkError(
            f"an access of @{access.buffer} has {len(parts)} dimensions, the buffer {len(shape)}",
            location=location,
        )
    for part, size in zip(parts, shape, strict=True):
        lo, hi = (part.start, part.stop) if isinstance(part, slice) else (part, part + 1)
        if not 0 <= lo <= hi <= size:
            raise AmkError(
                f"the region {lo} : {hi} of @{access.buffer} is outside of 0 : {size}",
                location=location,
            )


def find_program(module: ModuleOp) -> tile.ProgramOp:
    """The only `tile.program` of `module`; AmkError if there is none, or more than one."""
    programs = [op for op in module.body.block.ops if isinstance(op, tile.ProgramOp)]
    if len(programs) != 1:
        raise AmkError(f"expected one tile.program in the module, found {len(programs)}")
    return programs[0]


def run_step(
    module: ModuleOp, constants: Constants, state: TileState, token: int | None, position: int
) -> tuple[np.ndarray, int]:
    """One step as TileRunner.step, for a single use; an empty `state` is filled."""
    runner = TileRunner(module, constants)
    if not state.buffers:
        state.buffers = runner.new_state().buffers
    return runner.step(state, token, position)
