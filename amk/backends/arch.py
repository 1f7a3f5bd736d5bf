"""What differs between targets, as data: the printer has no `if arch ==`."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
PRODUCERS = 4
"""Copy warps of a block. Two copy large stages as fast, but stages below 2 KiB take four."""


_BUSY_SECONDS = 28 * KIB * 132 / 3350e9
"""How much a memory must have in flight to be busy, in seconds of its bandwidth, as on an H100."""


def window_bytes(bandwidth: float, workers: int) -> int:
    """Bytes in flight that each of `workers` needs at least, for a memory of `bandwidth` GB/s.

    With less, memory is not busy all the time. Packets stand in line behind more.
    """
    return round(bandwidth * 1e9 * _BUSY_SECONDS / workers)


@dataclass(frozen=True)
class Arch:
    """A target of the printer.

    `device` names the device text (`amk.backends.device.device_text`), `nvcc` the `-arch` value.
    `shared_bytes` is what one block can have, `producers` the copy warps beside the eight consumer
    warps, `workers` the multiprocessors of the common card (a default, the real number is read from
    the device), `bandwidth` its memory bandwidth in GB/s by its datasheet.
    """

    name: str
    device: str
    nvcc: str
    shared_bytes: int
    producers: int
    workers: int
    bandwidth: float
    registers: int = 65536
    """Registers of one multiprocessor."""
    packing: str = "interleaved"
    """How streamed weights are packed, see `amk.backends.program.StreamLayout`."""

    @property
    def is_gpu(self) -> bool:
        return self.device != "host"

    @property
    def threads(self) -> int:
        """Threads of one block: eight consumer warps and the producers."""
        return 32 * (8 + self.producers)


def _gpu(
    capability: str, device: str, shared_kib: int, workers: int, bandwidth: float, suffix: str = ""
) -> Arch:
    name = f"sm_{capability}"
    return Arch(name, device, name + suffix, shared_kib * KIB, PRODUCERS, workers, bandwidth)


ARCHS: dict[str, Arch] = {
    arch.name: arch
    for arch in (
        _gpu("80", "sm_80", 163, 108, 1555),
        _gpu("86", "sm_80", 99, 84, 936),
        _gpu("87", "sm_80", 163, 16, 204),
        _gpu("89", "sm_80", 99, 128, 1008),
        _gpu("90", "sm_90", 227, 132, 3350, "a"),
        _gpu("100", "sm_90", 227, 148, 8000, "a"),
        _gpu("120", "sm_120", 99, 170, 1792, "a"),
        _gpu("121", "sm_120", 99, 48, 273, "a"),
    )
}
"""GPU architectures by name. Copies are 16-byte `cp.async` below 9.0, bulk copies from there on."""

HOST = Arch("host", "host", "", 256 * KIB, 0, 4, 0.0, packing="blocks")
"""The C++ target: one thread for each worker."""


def arch_of(name: str) -> Arch:
    """The target of this name; KeyError if there is none."""
    return HOST if name == HOST.name else ARCHS[name]
