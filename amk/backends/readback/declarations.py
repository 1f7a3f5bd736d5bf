"""Constants, types and the entry point of a printed program against the schedule and the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from amk.backends.arch import Arch
from amk.backends.device import CONFIG_KEYS, SLICES, shared_bytes
from amk.backends.program import STEP_BYTES, Program
from amk.backends.readback import syntax
from amk.backends.readback.expected import BufferFacts, Expected
from amk.backends.readback.memory import Names
from amk.backends.readback.mismatch import fail, require
from amk.interpreters.numerics import chunk_bounds

COUNTER = "uint32_t*"
LAUNCH = (("const amk::Launch*", "launch"), ("amk::Status*", "status"))
BUFFERS = syntax.Parameter(0, 0, "const Buffers&", "b")


def check_constants(
    unit: syntax.Unit, expected: Expected, arch: Arch, chosen: Mapping[str, int]
) -> None:
    """The constants are those of the device layer, with values that fit schedule and target.

    `chosen` is what the resources of the schedule come to on this target: the sizes that are
    large enough for its tasks.
    """
    if not unit.constants:
        fail(unit.functions[0], "the program declares no constants")
    found = {constant.name: constant for constant in unit.constants}
    first = unit.constants[0]
    right = [constant.name for constant in unit.constants] == list(CONFIG_KEYS)
    require(right, first, f"the constants are {', '.join(CONFIG_KEYS)}, in this order")
    for name, constant in found.items():
        unused = name == "kWorkers"
        require(constant.unused == unused, constant, "[[maybe_unused]] belongs to kWorkers alone")
        wanted = chosen[name]
        require(constant.value == wanted, constant, f"{name} is {wanted} for this schedule")
    values = {name: constant.value for name, constant in found.items()}
    require(values["kWorkers"] == expected.workers, first, "another number of workers")
    require(values["kSlices"] == SLICES, first, f"a product has {SLICES} slices")
    _check_ring(values, first)
    stage = _largest_chunk(expected)
    fits = values["kSlotBytes"] >= stage and values["kSlotBytes"] % STEP_BYTES == 0
    require(fits, first, f"a slot of the ring holds whole steps, at least {stage} bytes")
    private = _private_bytes(expected)
    require(values["kPrivateBytes"] >= private, first, f"a worker keeps {private} bytes")
    needed = shared_bytes(values)
    fits = needed <= arch.shared_bytes
    require(fits, first, f"a block needs {needed} bytes of shared memory, of {arch.shared_bytes}")


def _check_ring(values: Mapping[str, int], node: syntax.Node) -> None:
    """A slot belongs to one consumer and one producer; the window is part of the ring."""
    slots, producers = values["kSlots"], values["kProducers"]
    window, wide, paused = (values[k] for k in ("kWindow", "kWideWindow", "kPausedWindow"))
    whole = producers > 0 and slots % SLICES == 0 and SLICES % producers == 0
    whole = whole and 0 < window <= wide <= slots and 0 <= paused <= wide
    require(whole, node, "the ring does not add up")


def _largest_chunk(expected: Expected) -> int:
    """Bytes of the largest stage of weights that one copy brings."""
    largest = 0
    for buffer in expected.buffers.values():
        if buffer.space == "stream":
            bounds = chunk_bounds(buffer.shape[-1], str(buffer.op.type.element_type))
            largest = max(largest, *(b - a for a, b in pairwise(bounds)))
    return largest * STEP_BYTES


def _private_bytes(expected: Expected) -> int:
    shared = [b for b in expected.buffers.values() if b.space == "shared"]
    return sum(4 * _row(buffer) for buffer in shared)


def _row(buffer: BufferFacts) -> int:
    """Elements of one worker's row of a shared buffer."""
    return buffer.size // buffer.shape[0]


def pointer_type(buffer: BufferFacts) -> str:
    """How the program holds a buffer."""
    if buffer.packet:
        return "uint64_t*"
    if buffer.space == "stream":
        return "const unsigned char*"
    const = "const " if buffer.op.kind.data in ("constant", "input") else ""
    return f"{const}{buffer.element}*"


def read_types(unit: syntax.Unit, expected: Expected) -> Names:
    """What the members of Private and Buffers stand for: the buffers and counters, in order."""
    structs = {struct.name: struct for struct in unit.structs}
    right = [struct.name for struct in unit.structs] == ["Private", "Buffers"]
    require(right, unit.structs[0], "the types are Private and Buffers")
    shared = [b for b in expected.buffers.values() if b.space == "shared"]
    others = [b for b in expected.buffers.values() if b.space != "shared"]
    private = _members(
        structs["Private"], [(b.element, _row(b)) for b in shared] or [("int", None)]
    )
    nothing = bool(shared) or private == ["unused"]
    require(nothing, structs["Private"], "a worker keeps nothing but 'unused'")
    pointers = [(pointer_type(b), None) for b in others]
    pointers += [(COUNTER, None)] * len(expected.counters)
    members = _members(structs["Buffers"], pointers)
    return Names(
        buffers=dict(zip(members, others, strict=False)),
        counters=dict(zip(members[len(others) :], expected.counters, strict=True)),
        private=dict(zip(private, shared, strict=False)),
    )


def _members(struct: syntax.Struct, types: Sequence[tuple[str, int | None]]) -> list[str]:
    names = [field.name for field in struct.fields]
    require(len(names) == len(types), struct, f"{struct.name} has {len(types)} members")
    for field, (type_, extent) in zip(struct.fields, types, strict=True):
        right = field.type == type_ and field.extent == extent
        shown = type_ if extent is None else f"{type_}, an array of {extent}"
        require(right, field, f"the type of '{field.name}' is {shown}")
        require(names.count(field.name) == 1, field, f"'{field.name}' is declared twice")
    return names


# ---- functions -----------------------------------------------------------------------------------


def check_functions(unit: syntax.Unit, arch: Arch, names: Names) -> tuple[syntax.Function, ...]:
    """The compute and the stream program, after the entry point has been found to run them."""
    right = [f.name for f in unit.functions] == ["compute", "stream", Program.ENTRY]
    require(right, unit.functions[0], f"the functions are compute, stream, {Program.ENTRY}")
    compute, stream, entry = unit.functions
    for function, agent in ((compute, "amk::Worker&"), (stream, "amk::Producer&")):
        parameters = (syntax.Parameter(0, 0, agent, "w"), BUFFERS)
        right = function.qualifiers == "AMK_DEVICE" and function.parameters == parameters
        require(right, function, f"expected AMK_DEVICE void ({agent} w, const Buffers& b)")
    _check_entry(entry, arch, names, unit.structs[1])
    return compute, stream


def _check_entry(entry: syntax.Function, arch: Arch, names: Names, struct: syntax.Struct) -> None:
    """The entry point takes the members of Buffers in their order and runs both programs."""
    qualifiers = f'extern "C" __global__ __launch_bounds__({arch.threads}, 1)'
    require(entry.qualifiers == qualifiers, entry, f"expected {qualifiers}")
    members = [(field.type, field.name) for field in struct.fields]
    placed = {name: b for name, b in names.buffers.items() if b.op.arena is not None}
    arenas = list(dict.fromkeys(b.op.arena.data for b in placed.values() if b.op.arena))
    own = [(type_, name) for type_, name in members if name not in names.counters | placed.keys()]
    counters = [(type_, name) for type_, name in members if name in names.counters]
    found = [(p.type, p.name) for p in entry.parameters]
    begin, end = len(own), len(own) + len(arenas)
    spelled = [name or "" for _, name in found[begin:end]]
    wanted = [*own, *(("unsigned char*", name) for name in spelled), *counters, *LAUNCH]
    require(found == wanted, entry, "the parameters are the members of Buffers")
    taken = [name for _, name in found] + ["b"]
    require(len(set(taken)) == len(taken), entry, "two parameters have one name")
    at = dict(zip(arenas, spelled, strict=True))
    require(len(entry.body) == 2, entry, "the entry point fills Buffers and calls amk::run")
    buffers, call = entry.body
    values = tuple(
        _placed(type_, placed[name], at) if name in placed else syntax.Name(0, 0, name)
        for type_, name in members
    )
    right = buffers == syntax.Aggregate(0, 0, "const Buffers", "b", values)
    require(right, buffers, "Buffers takes the parameters in their order")
    run = syntax.Call(
        0,
        0,
        syntax.Template(0, 0, "amk::run", ("Private", "compute", "stream")),
        tuple(syntax.Name(0, 0, name) for name in ("b", "launch", "status")),
    )
    require(call == syntax.Evaluation(0, 0, run), call, "expected amk::run of both programs")


def _placed(type_: str, buffer: BufferFacts, arenas: Mapping[str, str]) -> syntax.Call:
    """`reinterpret_cast<type>(arena + offset)`: a buffer where the IR puts it in its arena."""
    assert buffer.op.arena is not None
    offset = buffer.op.offset.value.data if buffer.op.offset else 0
    place = syntax.Binary(
        0,
        0,
        "+",
        syntax.Name(0, 0, arenas[buffer.op.arena.data]),
        syntax.Number(0, 0, str(offset)),
    )
    return syntax.Call(0, 0, syntax.Template(0, 0, "reinterpret_cast", (type_,)), (place,))


def loop_of(function: syntax.Function) -> tuple[syntax.Statement, ...]:
    """The body of `while (w.next()) { … }`, which is all that a program consists of."""
    match function.body:
        case [
            syntax.While(
                condition=syntax.Call(
                    function=syntax.Member(object=syntax.Name(text="w"), name="next"),
                    arguments=(),
                ),
                body=body,
            )
        ]:
            return body
        case _:
            return fail(function, f"{function.name} is a loop over iterations")
