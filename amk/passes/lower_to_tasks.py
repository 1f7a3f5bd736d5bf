"""`lower-to-tasks`: from phases over tiles to families of tasks on persistent workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, MemRefType, ModuleOp, StringAttr, i64
from xdsl.ir import Attribute, Block, Region
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from amk.dialects import task, tile
from amk.dialects.access import Access, AccessAttr, Argument, Dim, ExprAttr
from amk.dialects.memory import element_bytes, in_space, is_packet, space_of
from amk.errors import AmkError
from amk.ir.levels import Level
from amk.ir.location import inherit_location, location_of
from amk.passes.placement import INSTANCE, Balance, Placement, worker_counts
from amk.schedule.expr import Expr


@dataclass
class BufferPlan:
    """What becomes of a buffer of the program."""

    op: tile.BufferOp
    type: MemRefType
    uses: Expr | None = None
    """Packets: writes so far in program order, in terms of the repeat's index."""

    @property
    def name(self) -> str:
        return self.op.sym_name.data

    @property
    def placement(self) -> str:
        return self.op.placement.data if self.op.placement else ""


class Kernels:
    """The kernels of a module, each retyped for the memory that its first user binds to it.

    Another user that binds other memory gets a copy.
    """

    def __init__(self, module: ModuleOp) -> None:
        kernels = [op for op in module.body.block.ops if isinstance(op, tile.KernelOp)]
        self._originals = {op.sym_name.data: (op, op.clone()) for op in kernels}
        self._names = set(self._originals)
        self._retyped: dict[tuple[str, tuple[Attribute, ...]], str] = {}

    def parameter_types(self, phase: tile.PhaseOp) -> list[Attribute]:
        """The types of the parameters of the kernel as the program has them."""
        if phase.kernel_name not in self._originals:
            raise AmkError(
                f"lower-to-tasks: there is no tile.kernel @{phase.kernel_name}",
                location=location_of(phase),
            )
        return [a.type for a in self._originals[phase.kernel_name][1].body.block.args]

    def retyped(self, name: str, types: Sequence[Attribute]) -> str:
        """The name of a copy of kernel `name`, or of itself, with parameters of these types."""
        key = name, tuple(types)
        if key not in self._retyped:
            original, untouched = self._originals[name]
            kernel = original
            if any(used == name for used, _ in self._retyped):
                kernel = untouched.clone()
                kernel.properties["sym_name"] = StringAttr(self._unique(name))
                block = original.parent_block()
                assert block is not None
                block.insert_op_after(kernel, original)
            for parameter, type_ in zip(list(kernel.body.block.args), types, strict=True):
                Rewriter.replace_value_with_new_type(parameter, type_)
            self._retyped[key] = kernel.sym_name.data
        return self._retyped[key]

    def _unique(self, name: str) -> str:
        number = 2
        while f"{name}_{number}" in self._names:
            number += 1
        self._names.add(f"{name}_{number}")
        return f"{name}_{number}"


class Lowering:
    """Lowers one `tile.program`."""

    def __init__(
        self, module: ModuleOp, program: tile.ProgramOp, workers: int, *, even: bool
    ) -> None:
        self.program = program
        self.kernels = Kernels(module)
        self.buffers = {
            op.sym_name.data: op for op in program.body.block.ops if isinstance(op, tile.BufferOp)
        }
        self.phases = [op for op in program.walk() if isinstance(op, tile.PhaseOp)]
        self.replicated = {op for op in self.phases if self._touches(op, "replicated", "out")}
        self.workers = min(workers, self._shared_tiles())
        if even:
            counts = worker_counts(self.workers)
            self.workers = min(counts, key=lambda count: (self._place(count)[1].cost, -count))
        self.placements, _ = self._place(self.workers)
        self.plans = {name: self._plan(op) for name, op in self.buffers.items()}

    # ---- analysis --------------------------------------------------------------------------

    def _accesses(self, phase: tile.PhaseOp) -> Iterator[Access]:
        for argument in phase.args:
            if isinstance(argument, AccessAttr):
                if argument.data.buffer not in self.buffers:
                    raise AmkError(
                        f"lower-to-tasks: there is no buffer @{argument.data.buffer}",
                        location=location_of(phase),
                    )
                yield argument.data

    def _touches(self, phase: tile.PhaseOp, placement: str, mode: str = "") -> bool:
        return any(
            self._placement_of(access) == placement and (not mode or access.mode == mode)
            for access in self._accesses(phase)
        )

    def _placement_of(self, access: Access) -> str:
        op = self.buffers[access.buffer]
        return op.placement.data if op.placement else ""

    def _shared_tiles(self) -> int:
        """The most tiles of a phase whose results all others wait for.

        With so many workers or fewer, every worker takes part in that phase. That is what tells the
        others, without a barrier, that it has read everything of the iteration before.
        """
        return max(
            (
                phase.tiles.value.data
                for phase in self.phases
                if phase.rows is not None and not self._touches(phase, "reduced")
            ),
            default=1,
        )

    def _place(self, workers: int) -> tuple[dict[tile.PhaseOp, Placement], Balance]:
        """First what must stay with its owner, then the rest, largest streams first."""
        balance = Balance(workers)
        result: dict[tile.PhaseOp, Placement] = {}
        movable: list[tuple[int, tile.PhaseOp, Placement]] = []
        owned_tiles: dict[str, int] = {}
        for phase in self.phases:
            tiles = phase.tiles.value.data
            weight = self._tile_bytes(phase)
            if phase in self.replicated:
                result[phase] = Placement(workers, workers, workers)
                continue
            if phase.rows is None:
                result[phase] = Placement(tiles, tiles, workers)
                continue
            placement = Placement(tiles, min(tiles, workers), workers)
            owned = [a for a in self._accesses(phase) if self._placement_of(a) == "owned"]
            for access in owned:
                if owned_tiles.setdefault(access.buffer, tiles) != tiles:
                    raise AmkError(
                        f"lower-to-tasks: @{access.buffer} is owned by tiles of different sizes",
                        location=location_of(phase),
                    )
            if owned:
                balance.add(placement, weight)
                result[phase] = placement
            else:
                movable.append((weight * tiles, phase, placement))
        for _, phase, placement in sorted(movable, key=lambda m: -m[0]):
            result[phase] = balance.place(placement, self._tile_bytes(phase))
        return result, balance

    def _tile_bytes(self, phase: tile.PhaseOp) -> int:
        """Streamed bytes of one tile over a whole iteration."""
        total = 0
        for access in self._accesses(phase):
            type_ = self.buffers[access.buffer].type
            if space_of(type_) == "stream":
                elements = 1
                for size in type_.get_shape():
                    elements *= size
                total += elements * element_bytes(type_) // phase.tiles.value.data
        return total

    def _plan(self, op: tile.BufferOp) -> BufferPlan:
        placement = op.placement.data if op.placement else ""
        type_, name = op.type, op.sym_name.data
        shape = list(type_.get_shape())
        if placement == "owned":
            rows = max(
                (p.most_tiles * tile.ROWS_PER_TILE for q, p in self.placements.items()
                 if any(a.buffer == name for a in self._accesses(q))),
                default=shape[0],
            )  # fmt: skip
            shape = [self.workers, rows]
        elif placement == "replicated":
            shape = [self.workers, *shape]
        if placement in ("owned", "replicated"):
            return BufferPlan(op, in_space(MemRefType(type_.element_type, shape), "shared"))
        if op.kind.data == "output" and is_packet(type_):
            return BufferPlan(op, type_, Expr.const(0))
        if op.kind.data != "scratch":
            return BufferPlan(op, type_)
        if placement == "reduced":
            shape = [max(p.instances for q, p in self.placements.items() if self._writes(q, name))]
        packet = in_space(MemRefType(type_.element_type, shape), "packet")
        return BufferPlan(op, packet, Expr.const(0))

    def _writes(self, phase: tile.PhaseOp, buffer: str) -> bool:
        return any(a.buffer == buffer and a.writes for a in self._accesses(phase))

    # ---- rewriting -------------------------------------------------------------------------

    def run(self) -> task.ScheduleOp:
        body = Block()
        families = Block()
        self._block(self.program.body.block, families)
        context = self.program.context.value.data
        body.add_op(task.ScalarOp("pos", 0, context, 1))
        for plan in self.plans.values():
            body.add_op(self._buffer(plan))
        for op in list(families.ops):
            op.detach()
            body.add_op(op)
        return task.ScheduleOp(
            self.program.sym_name.data,
            self.workers,
            Region(body),
            context=self.program.context,
            eos=self.program.eos,
            vocab=self.program.vocab,
        )

    def _buffer(self, plan: BufferPlan) -> task.BufferOp:
        op = plan.op
        uses = plan.uses.value if plan.uses is not None else None
        return task.BufferOp(
            plan.name,
            op.kind.data,
            plan.type,
            source=op.source.root_reference.data if op.source else None,
            uses=None if uses is None else max(uses, 1),
            initial=op.kind.data == "state",
        )

    def _block(self, block: Block, into: Block) -> None:
        for op in block.ops:
            if isinstance(op, tile.PhaseOp):
                into.add_op(self._phase(op))
            elif isinstance(op, tile.RepeatOp):
                into.add_op(self._repeat(op))

    def _repeat(self, op: tile.RepeatOp) -> task.RepeatOp:
        """Number the uses of packets: those before the repeat, and so many in each round."""
        rounds = {
            name: sum(self._writes(p, name) for p in op.walk() if isinstance(p, tile.PhaseOp))
            for name in self.plans
        }
        before: dict[str, Expr] = {}
        index = Expr.var(op.index.data)
        for name, plan in self.plans.items():
            if plan.uses is not None:
                before[name] = plan.uses
                plan.uses = plan.uses + index * rounds[name]
        body = Block()
        self._block(op.body.block, body)
        for name, uses in before.items():
            self.plans[name].uses = uses + op.count.value.data * rounds[name]
        return task.RepeatOp(op.index.data, op.count.value.data, Region(body))

    def _phase(self, phase: tile.PhaseOp) -> task.FamilyOp:
        placement = self.placements[phase]
        arguments: list[Argument] = []
        types = self.kernels.parameter_types(phase)
        for number, argument in enumerate(phase.args):
            if isinstance(argument, ExprAttr):
                arguments.append(ExprAttr(self._at_first_tile(argument.data, placement)))
                continue
            access = self._access(argument.data, phase, placement)
            arguments.append(AccessAttr(access))
            type_ = types[number]
            assert isinstance(type_, MemRefType)
            types[number] = self._parameter_type(type_, access)
        kernel = self.kernels.retyped(phase.kernel_name, types)
        for name in {a.buffer for a in self._accesses(phase) if a.writes}:
            plan = self.plans[name]
            if plan.uses is not None:
                plan.uses = plan.uses + 1
        name = phase.sym_name.data
        family = task.FamilyOp(name, kernel, placement.instances, placement.worker, arguments)
        inherit_location(phase, [family])
        return family

    def _at_first_tile(self, expr: Expr, placement: Placement) -> Expr:
        return expr.substitute({tile.PhaseOp.INDEX: placement.first_tile})

    def _access(self, access: Access, phase: tile.PhaseOp, placement: Placement) -> Access:
        plan = self.plans[access.buffer]
        dims = tuple(self._dim(dim, phase, placement) for dim in access.dims)
        guard = access.guard
        if guard is not None:
            guard = self._at_first_tile(guard, placement)
        if plan.placement == "owned":
            rows = dims[0].end - dims[0].lo
            dims = (Dim(placement.worker), Dim(Expr.const(0), rows))
        elif plan.placement == "replicated":
            dims = (Dim(placement.worker), *dims)
        elif plan.placement == "reduced":
            instance, count = Expr.var(INSTANCE), plan.type.get_shape()[-1]
            dims = (
                (Dim(instance, instance + 1),)
                if access.writes
                else (Dim(Expr.const(0), Expr.const(count)),)
            )
        use = None
        if plan.uses is not None:
            use = plan.uses if access.writes else plan.uses - 1
            if use == Expr.const(-1):
                raise AmkError(
                    f"lower-to-tasks: @{access.buffer} is read before anything writes it",
                    location=location_of(phase),
                )
        return replace(access, dims=dims, guard=guard, use=use)

    def _dim(self, dim: Dim, phase: tile.PhaseOp, placement: Placement) -> Dim:
        """The dimension for all tiles of an instance: from its first tile to its last."""
        lo = self._at_first_tile(dim.lo, placement)
        if dim.hi is None:
            return Dim(lo)
        last = placement.last_tile if phase.rows is not None else placement.first_tile
        return Dim(lo, dim.hi.substitute({tile.PhaseOp.INDEX: last}))

    def _parameter_type(self, type_: MemRefType, access: Access) -> MemRefType:
        """The parameter's type with the memory space, and for candidates the size, of the plan."""
        plan = self.plans[access.buffer]
        shape = list(type_.get_shape())
        if plan.placement == "reduced" and access.reads:
            shape = [plan.type.get_shape()[-1]]
        return in_space(MemRefType(type_.element_type, shape), space_of(plan.type))


@dataclass(frozen=True)
class LowerToTasksPass(ModulePass):
    """Deal the tiles of each phase to persistent workers and connect them by packets.

    Before: one `tile.program`. After: one `task.schedule` whose families run the same kernels.
    Neighbouring tiles of a phase become one task; what tiles exchange travels in packets; what one
    owner keeps stays in its shared memory; remainders are rotated so that every worker streams
    equally much. Guarantee: the schedule computes what the program computes, and `verify-schedule`
    accepts it.

    Options: `workers`, the number of persistent workers (one thread block each); a model whose
    largest phase within a layer has fewer tiles gets that many. `even`: up to 3 % fewer,
    where the tiles are then dealt more evenly (`Balance.cost`). `ring` and `window`: those of
    the schedule, for a printer that would choose others.
    """

    name = "lower-to-tasks"
    consumes: ClassVar = Level.TILE
    produces: ClassVar = Level.TASK

    workers: int = 132
    even: bool = False
    ring: int | None = None
    window: int | None = None

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if self.workers < 1:
            raise AmkError(f"lower-to-tasks: workers must be positive, got {self.workers}")
        programs = [p for p in op.body.block.ops if isinstance(p, tile.ProgramOp)]
        if len(programs) != 1:
            raise AmkError(f"lower-to-tasks needs one tile.program, the module has {len(programs)}")
        program = programs[0]
        schedule = Lowering(op, program, self.workers, even=self.even).run()
        for name, size in (("ring", self.ring), ("window", self.window)):
            if size is not None and size < 1:
                raise AmkError(f"lower-to-tasks: {name} must be positive, got {size}")
            if size is not None:
                schedule.properties[name] = IntegerAttr(size, i64)
        op.body.block.insert_op_before(schedule, program)
        program.detach()
        program.erase()
