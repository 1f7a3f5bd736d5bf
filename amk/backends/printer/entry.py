"""Prints the entry point of a program: its parameters, and how they fill `struct Buffers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from amk.backends.arch import Arch
from amk.backends.printer.bindings import ENTRY_NAMES, Buffer
from amk.backends.printer.text import Writer, spell
from amk.backends.program import ELEMENT_BYTES, Program
from amk.errors import AmkError
from amk.ir.location import location_of

ARENA = "arena "
"""In front of the name of an arena, which is one argument for all its buffers."""


@dataclass(frozen=True)
class Entry:
    """Types and names of the parameters, and the values of the members of `Buffers`, in order."""

    parameters: Sequence[tuple[str, str]]
    members: Sequence[str]

    def print(self, writer: Writer, arch: Arch) -> None:
        """The entry point for a target."""
        if arch.is_gpu:
            self._cuda(writer, arch)
        else:
            self._host(writer)

    def _cuda(self, writer: Writer, arch: Arch) -> None:
        head = f'extern "C" __global__ void __launch_bounds__({arch.threads}, 1) {Program.ENTRY}('
        writer.line(head)
        for type_, name in self.parameters:
            writer.line(f"    {type_} {name},")
        with writer.block("    const amk::Launch* launch, amk::Status* status)"):
            self._buffers(writer)
            writer.line("amk::run<Private, compute, stream>(b, launch, status);")

    def _host(self, writer: Writer) -> None:
        head = (
            f'extern "C" int {Program.ENTRY}(void** arguments, const amk::Launch* launch, '
            f"amk::Status* status)"
        )
        with writer.block(head):
            for number, (type_, name) in enumerate(self.parameters):
                writer.line(f"const auto {name} = static_cast<{type_}>(arguments[{number}]);")
            self._buffers(writer)
            workers = "amk::config::kWorkers"
            writer.line(f"amk::run_host<Private, compute>({workers}, b, launch, status);")
            writer.line("return static_cast<int>(status->code);")

    def _buffers(self, writer: Writer) -> None:
        with writer.block("const Buffers b =", "};"):
            for value in self.members:
                writer.line(f"{value},")


def entry_of(arguments: Sequence[Buffer], others: Sequence[tuple[str, str]]) -> Entry:
    """The entry for buffers, and for `others`: pointers with types and names that come last."""
    used = {*ENTRY_NAMES, *(name for _, name in others), *(b.spelling for b in arguments)}
    arenas: dict[str, str] = {}
    for name in arena_bytes(arguments):
        arenas[name] = spell(f"arena_{name}", used)
        used.add(arenas[name])
    parameters = [(b.pointer_type, b.spelling) for b in arguments if b.op.arena is None]
    parameters += [("unsigned char*", name) for name in arenas.values()]
    members = [
        b.spelling
        if b.op.arena is None
        else f"reinterpret_cast<{b.pointer_type}>({arenas[b.op.arena.data]} + {_offset(b)})"
        for b in arguments
    ]
    return Entry([*parameters, *others], [*members, *(name for _, name in others)])


def arena_bytes(arguments: Sequence[Buffer]) -> Mapping[str, int]:
    """The size of each arena, in whole words; AmkError where a buffer cannot lie where it is."""
    sizes: dict[str, int] = {}
    for buffer in arguments:
        if buffer.op.arena is None:
            continue
        item, offset = ELEMENT_BYTES[buffer.element], _offset(buffer)
        if buffer.is_packet or offset % item:
            what = "packets" if buffer.is_packet else f"elements of {item} bytes"
            raise AmkError(
                f"@{buffer.name}: {what} cannot start at byte {offset} of an arena",
                location=location_of(buffer.op),
            )
        name, end = buffer.op.arena.data, -(-(offset + buffer.size * item) // 4) * 4
        sizes[name] = max(sizes.get(name, 0), end)
    return sizes


def _offset(buffer: Buffer) -> int:
    return buffer.op.offset.value.data if buffer.op.offset else 0
