"""Many printed programs in one executable: they share the device layer and a driver.

Compiling is what takes time, so schedules are tested by the hundred in one translation unit.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from amk.backends import emit_program
from amk.backends.device import device_text
from amk.backends.program import Program
from amk.interpreters.memory import poison
from amk.interpreters.packets import PacketBuffer
from amk.interpreters.task import TaskMachine
from amk.ir.expand import schedule_of
from amk.runtime.abi import StatusValues
from amk.runtime.host import FLAGS
from amk.runtime.toolchain import find_cxx

DRIVER = Path(__file__).parent / "driver.h"
PLAIN = ("-O2",)
THREAD = ("-O1", "-g0", "-fsanitize=thread", "-static-libtsan")
ADDRESS = ("-O1", "-g0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
ENVIRONMENT = {
    # Every race counts, however alike: all programs run through the same few functions.
    "TSAN_OPTIONS": "suppress_equal_stacks=0 suppress_equal_addresses=0 report_bugs=1 "
    "exitcode=0 log_path=/dev/null symbolize=0",
    "PATH": "/usr/bin:/bin",
}
_STATUS = struct.Struct("8I3i")
_DELAY = "if (dice < 8)"
_STRESS = "void stress() {"
_BEGIN = "void sync() {"


@dataclass(frozen=True)
class Result:
    """What the last launch of a job left."""

    status: StatusValues
    reports: int
    """Of ThreadSanitizer."""
    overwrites: int
    """Of those, how many are of a write after a read."""
    different: int
    """1 if the last launch left other memory than the first one."""
    memory: tuple[bytes, ...]


@dataclass(frozen=True)
class Job:
    """Launches of one program of a batch."""

    program: int
    memory: Sequence[bytes]
    steps: int = 1
    position: int = 0
    launches: int = 1
    """Each begins with the same memory."""
    parts: int = 1
    """Launches that follow one another in the place of each, `steps` further every time."""
    calm: bool = False
    """Without the random delays of its batch."""
    timeout_ms: int = 20_000
    held: Sequence[tuple[int, int]] = ()
    """Up to two tasks (number in the table of the schedule, iteration) that begin late."""


def _body(program: Program, number: int) -> str:
    """A program without the device layer, in a namespace of its own."""
    marker = f'extern "C" int {Program.ENTRY}('
    head, tail = program.source.split("// What stays with a worker.")
    assert marker in tail
    assert "namespace amk" in head
    tail = tail.replace(marker, "int entry(").replace("amk::config::kWorkers", str(program.workers))
    return f"namespace program_{number} {{\n{tail}}}\n"


def _device(stress: bool, strong: bool, delays: int) -> str:
    """The device layer; with many delays, with packets that release and acquire."""
    text = device_text("host", table=True, stress=stress)
    assert _BEGIN in text
    text = text.replace(_BEGIN, f"{_BEGIN} hold(task, iteration);")
    if stress:
        assert _DELAY in text
        assert _STRESS in text
        text = text.replace(_DELAY, f"if (dice < {delays})")
        text = text.replace(_STRESS, f"{_STRESS} if (calm()) return;")
    if strong:
        start, end = text.index("void store_packet("), text.index("AMK_DEVICE void send(")
        packets = text[start:end]
        for access, order in (("store(v", "release"), ("load(", "acquire")):
            assert access in packets
            comma = ", " if "(v" in access else ""
            packets = packets.replace(
                f".{access}{comma}std::memory_order_relaxed",
                f".{access}{comma}std::memory_order_{order}",
            )
        text = text[:start] + packets + text[end:]
    return text


class Batch:
    """Programs that were compiled together."""

    def __init__(
        self,
        modules: Sequence[ModuleOp],
        flags: Sequence[str],
        folder: Path,
        *,
        stress: bool = False,
        strong: bool = False,
        delays: int = 512,
    ) -> None:
        """With `stress`, threads are delayed often; with `strong`, packets release and acquire.

        Of 4096 looks at a packet or counter, `delays` are late.
        """
        self.programs = [emit_program(module, "host") for module in modules]
        count = len(self.programs)
        config = {**self.programs[0].config, "kStressSeed": 1}
        constants = "".join(f"constexpr int {k} = {v};\n" for k, v in config.items())
        entries = ", ".join(f"{{program_{n}::entry}}" for n in range(count))
        source = "\n".join(
            [
                f"namespace amk::config {{\n{constants}}}",
                "namespace amk { void hold(int task, int iteration); bool calm(); }",
                _device(stress, strong, delays),
                *(_body(program, n) for n, program in enumerate(self.programs)),
                DRIVER.read_text(),
                f"const Program kPrograms[] = {{{entries}}};",
            ]
        )
        compiler = find_cxx()
        assert compiler is not None
        self.file = Path(tempfile.mkdtemp(dir=folder)) / "batch"
        common = [f for f in FLAGS if f not in ("-O3", "-shared", "-fPIC", "-march=native")]
        command = [str(compiler), *common, *flags, "-x", "c++", "-", "-o", str(self.file)]
        built = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr[:4000]

    def run(self, jobs: Sequence[Job], timeout: float = 300) -> list[Result]:
        """The results of jobs, which run one after the other in one process."""
        request = b"".join(_request(job) for job in jobs)
        command = ["setarch", "-R", str(self.file)]  # ThreadSanitizer wants fixed addresses
        ran = subprocess.run(
            command, input=request, capture_output=True, timeout=timeout, check=False,
            env=ENVIRONMENT,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr.decode()[-4000:]
        results: list[Result] = []
        at = 0
        for job in jobs:
            *status, reports, overwrites, different = _STATUS.unpack_from(ran.stdout, at)
            at += _STATUS.size
            memory: list[bytes] = []
            for given in job.memory:
                memory.append(ran.stdout[at : at + len(given)])
                at += len(given)
            results.append(
                Result(StatusValues(*status), reports, overwrites, different, tuple(memory))
            )
        assert at == len(ran.stdout)
        return results


def _request(job: Job) -> bytes:
    held = [*job.held, (-1, 0), (-1, 0)][:2]
    head = struct.pack(
        "13q", job.program, job.launches, job.parts, job.position, job.steps, 0, job.timeout_ms,
        job.calm, len(job.memory), *held[0], *held[1],
    )  # fmt: skip
    return head + b"".join(struct.pack("q", len(data)) + data for data in job.memory)


class Case:
    """A schedule with what the interpreter computes, over memory that a seed fills."""

    def __init__(self, module: ModuleOp, steps: int, start: int | None, seed: int = 0) -> None:
        """`start` is the first value of the run-time scalar, if there is one."""
        self.module, self.steps, self.start = module, steps, start
        self.machine = TaskMachine(module)
        self._fill(np.random.default_rng(seed))
        self.given = self.images()

    def _fill(self, rng: np.random.Generator) -> None:
        for op in self.machine._declared.values():
            name = op.sym_name.data
            if name in self.machine.packets:
                continue
            array = self.machine.array(name)
            if op.initial is not None or op.kind.data in ("input", "constant"):
                raw = rng.integers(0, 256, array.nbytes, dtype=np.uint8)
                array[...] = raw.view(array.dtype).reshape(array.shape)
        for op in self.machine._declared.values():
            name = op.sym_name.data
            if (
                op.kind.data == "scratch"
                and op.initial is None
                and name not in self.machine.packets
            ):
                poison(self.machine.array(name))

    def images(self) -> list[bytes]:
        """The memory of the interpreter as the arguments of the printed program."""
        machine = self.machine
        arenas: dict[str, np.ndarray] = {}
        images: list[bytes] = []
        for name, op in machine._declared.items():
            if name in machine.packets:
                images.append(_packets(machine.packets[name]))
            elif op.arena is None:
                images.append(machine.array(name).tobytes())
            else:
                data = np.frombuffer(machine.array(name).tobytes(), np.uint8)
                offset = op.offset.value.data if op.offset else 0
                end = -(-(offset + len(data)) // 4) * 4
                arena = arenas.setdefault(op.arena.data, np.zeros(0, np.uint8))
                if len(arena) < end:
                    arena = np.concatenate([arena, np.zeros(end - len(arena), np.uint8)])
                    arenas[op.arena.data] = arena
                arena[offset : offset + len(data)] = data
        counters = len(schedule_counters(self.module))
        return [*images, *(arena.tobytes() for arena in arenas.values()), *[bytes(4)] * counters]

    def expected(self) -> list[bytes]:
        """The memory after a launch of the interpreter, counters left out."""
        scalars = {scalar.name: self.start or 0 for scalar in self.machine.table.scalars}
        for _ in self.machine.launch(scalars, self.steps):
            pass
        counters = len(schedule_counters(self.module))
        return self.images()[: len(self.given) - counters]

    def job(self, program: int, **more: Any) -> Job:
        """A job for this schedule; `held` are tasks of its table."""
        order = np.argsort(self.machine.table.task_queue, kind="stable").tolist()
        held = [(order.index(task), iteration) for task, iteration in more.pop("held", ())]
        return Job(program, self.given, self.steps, self.start or 0, held=held, **more)


def _packets(buffer: PacketBuffer) -> bytes:
    """Packets as 64-bit words: one for each element, or for each pair of two bytes."""
    per_packet = 4 // buffer.payload.itemsize
    payload = np.pad(buffer.payload.reshape(-1), (0, -buffer.payload.size % per_packet))
    epoch = buffer.epoch.reshape(-1)[::per_packet].astype(np.uint64)
    words = payload.view(np.uint32).astype(np.uint64) | epoch << np.uint64(32)
    return np.where(epoch > 0, words, 0).astype(np.uint64).tobytes()


def schedule_counters(module: ModuleOp) -> list[str]:
    """The counters of the schedule, in order."""
    from amk.dialects import task

    ops = schedule_of(module).body.block.ops
    return [op.sym_name.data for op in ops if isinstance(op, task.CounterOp)]
