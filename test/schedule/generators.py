"""Seeded random programs over every class of fault and of unusual but safe schedule."""

from __future__ import annotations

import random
from copy import deepcopy
from itertools import pairwise

from program import Access, Buffer, Program, Task

KINDS = ["scratch", "scratch", "state", "state", "output", "input", "constant"]


def soup(rng: random.Random) -> Program:
    """Anything: tasks with random waits, signals and accesses."""
    queues = rng.randint(1, 4)
    iterations = rng.choice([1, 1, 1, 2, 3, None])
    count = rng.randint(2, 9 if iterations == 1 else 5)
    buffers = [_buffer(rng) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.25:
        _share(rng, buffers)
    counters = rng.randint(0, 3)
    scalars = [("p", 0, rng.randint(1, 4), rng.choice([0, 1, 1]))] if rng.random() < 0.3 else []
    tasks = [Task(None if rng.random() < 0.1 else rng.randrange(queues)) for _ in range(count)]
    program = Program(tasks, buffers, counters, iterations, scalars)
    totals = [0] * counters
    for task in tasks:
        for counter in range(counters):
            if rng.random() < 0.35:
                amount = rng.choice([1, 1, 1, 2, 3])
                task.signals.append((counter, amount))
                totals[counter] += amount
    for task in tasks:
        for counter in range(counters):
            if rng.random() < 0.35 and totals[counter]:
                low = -totals[counter] if iterations != 1 else 1
                task.waits.append((counter, rng.randint(low, totals[counter])))
        for number, buffer in enumerate(buffers):
            for _ in range(rng.choice([0, 0, 1, 1, 2])):
                task.accesses.append(_access(rng, program, number, buffer))
    for number, buffer in enumerate(buffers):
        if buffer.packet:
            _single_writers(rng, program, number)
    if rng.random() < 0.3:
        _back_pressure(rng, program)
    return program


def _buffer(rng: random.Random) -> Buffer:
    if rng.random() < 0.35:
        return Buffer((rng.randint(1, 3),), packet=True, uses=rng.randint(1, 2))
    shape = rng.choice([(1,), (2,), (4,), (2, 2), (3, 2)])
    kind = rng.choice(KINDS)
    return Buffer(shape, kind, rng.choice([1, 1, 2]), initial=rng.random() < 0.4)


def _share(rng: random.Random, buffers: list[Buffer]) -> None:
    for buffer in buffers:
        if not buffer.packet:
            buffer.arena, buffer.offset = "page", rng.randint(0, 3)


def _access(rng: random.Random, program: Program, number: int, buffer: Buffer) -> Access:
    write = rng.random() < (0.1 if buffer.kind in ("input", "constant") else 0.45)
    if buffer.packet:
        write = False
    lo, hi = [], []
    for extent in buffer.shape:
        a, b = sorted((rng.randint(0, extent), rng.randint(0, extent)))
        if a == b and rng.random() < 0.9:
            a, b = 0, extent
        if rng.random() < 0.01:
            b += 1
        lo.append(a)
        hi.append(b)
    guard: int | str = 0
    if program.scalars or (program.iterations != 1 and rng.random() < 0.3):
        name = rng.choice(["p", "iter"]) if program.scalars else "iter"
        roll = rng.random()
        if roll < 0.25:
            guard = f"({name} + {rng.randint(0, 2)}) % {rng.randint(2, 3)}"
        elif roll < 0.5:
            extent = buffer.shape[0]
            by = rng.randint(1, extent)
            lo[0], hi[0] = f"{name} % {by}", f"{name} % {by} + 1"
        elif roll < 0.6 and (name == "p" or program.iterations is not None):
            lo[0], hi[0] = 0, f"({name} + {rng.randint(0, 1)}) // 2"
    use = rng.randrange(buffer.uses) if buffer.packet else -1
    return Access(number, write, tuple(lo), tuple(hi), guard, use)


def _single_writers(rng: random.Random, program: Program, number: int) -> None:
    """Gives most uses of a packet buffer writers that do not overlap."""
    buffer = program.buffers[number]
    for use in range(buffer.uses):
        cuts = sorted({0, buffer.shape[0], rng.randint(0, buffer.shape[0])})
        for low, high in pairwise(cuts):
            if rng.random() < 0.95:
                task = rng.choice(program.tasks)
                task.accesses.append(Access(number, True, (low,), (high,), 0, use))
        if rng.random() < 0.03:
            rng.choice(program.tasks).accesses.append(Access(number, True, (0,), (1,), 0, use))


def _back_pressure(rng: random.Random, program: Program) -> None:
    """Every task signals one more counter, and every task waits for earlier iterations of it."""
    counter = program.counters
    program.counters += 1
    lag = rng.choice([0, 0, -1]) * len(program.tasks)
    for task in program.tasks:
        task.signals.append((counter, 1))
        if rng.random() < 0.9:
            task.waits.append((counter, lag))


def pipeline(rng: random.Random) -> Program:
    """A chain of stages over workers with double buffering, by counters or packets."""
    stages = rng.randint(2, 4)
    workers = rng.randint(2, 4)
    packets = rng.random() < 0.5
    iterations = rng.choice([1, 2, None, None])
    kind = rng.choice(["scratch", "state"])
    buffers = [
        Buffer((2,), packet=True, uses=1) if packets else Buffer((2,), kind) for _ in range(stages)
    ]
    tasks: list[Task] = []
    for stage in range(stages):
        parts = 2 if rng.random() < 0.5 else 1
        for part in range(parts):
            task = Task(rng.randrange(workers))
            low, high = (part, part + 1) if parts == 2 else (0, 2)
            use = 0 if packets else -1
            if stage:
                task.accesses.append(Access(stage - 1, False, (0,), (2,), 0, use))
                if not packets:
                    task.waits.append((stage - 1, 2))
            task.accesses.append(Access(stage, True, (low,), (high,), 0, use))
            task.signals.append((stage, 2 // parts))
            if iterations != 1:
                task.waits.append((min(stage + 1, stages - 1), 0 if rng.random() < 0.9 else -2))
            tasks.append(task)
    program = Program(tasks, buffers, stages, iterations)
    if rng.random() < 0.4:
        own = len(buffers)
        program.buffers.append(Buffer((2,), "state", initial=True))
        task = rng.choice(tasks)
        task.accesses += [Access(own, False, (0,), (2,)), Access(own, True, (0,), (2,))]
    return program


def split_phases(rng: random.Random) -> Program:
    """Phases in which every worker reads everything and writes its part, like a lowered layer."""
    workers = rng.randint(2, 3)
    phases = rng.randint(2, 3)
    packets = rng.random() < 0.6
    iterations = rng.choice([1, 2, None])
    buffers = [Buffer((workers,), "scratch", packet=packets) for _ in range(phases)]
    if packets and rng.random() < 0.5:
        buffers = [Buffer((workers,), packet=True, uses=phases)]
    token = len(buffers)
    buffers.append(Buffer((workers,), "state", initial=True))
    tasks: list[Task] = []
    for phase in range(phases):
        for worker in range(workers):
            task = Task(worker)
            own = ((worker,), (worker + 1,))
            target = phase if len(buffers) > phases else 0
            use = (phase if target == 0 and len(buffers) <= phases else 0) if packets else -1
            source_use = use - 1 if len(buffers) <= phases and packets else use
            source = target - 1 if len(buffers) > phases else 0
            if phase == 0:
                task.accesses.append(Access(token, False, *own))
            else:
                task.accesses.append(Access(source, False, (0,), (workers,), 0, source_use))
                if not packets:
                    task.waits.append((phase - 1, workers))
            if not packets and phase == 0 and iterations != 1:
                task.waits.append((phases - 1, 0))
            task.accesses.append(Access(target, True, *own, 0, use))
            task.signals.append((phase, 1))
            if phase == phases - 1:
                task.accesses.append(Access(token, True, *own))
            tasks.append(task)
    return Program(tasks, buffers, phases, iterations)


def cache(rng: random.Random) -> Program:
    """Rows of a cache, written at `p` and read up to it, split over owners by residue."""
    splits = rng.randint(1, 2)
    capacity = rng.randint(1, 6)
    rows = -(-capacity // splits)
    off = rng.choice([0, 0, 0, 1])
    buffers = [Buffer((splits, rows), "state", initial=rng.random() < 0.8)]
    tasks: list[Task] = []
    packets = rng.random() < 0.5
    if packets:
        buffers.append(Buffer((1,), packet=True))
        tasks.append(Task(0, accesses=[Access(1, True, (0,), (1,), 0, 0)]))
    for split in range(splits):
        guard = f"(p - {split}) % {splits}"
        accesses = [
            Access(
                0, False, (split, 0), (split + 1, f"(p + {splits - 1 - split + off}) // {splits}")
            ),
            Access(0, True, (split, f"p // {splits}"), (split + 1, f"p // {splits} + 1"), guard),
        ]
        if packets:
            accesses.append(Access(1, False, (0,), (1,), guard, 0))
        task = Task(split if rng.random() < 0.8 else 3, accesses=accesses, signals=[(0, 1)])
        tasks.append(task)
        if rng.random() < 0.3:
            reader = Task(split, accesses=[deepcopy(accesses[0])], signals=[(0, 1)])
            tasks.append(reader)
    total = sum(len(t.signals) for t in tasks)
    if rng.random() < 0.7:
        for task in tasks:
            task.waits.append((0, 0 if task.signals else -total * rng.randint(0, 1)))
    return Program(tasks, buffers, 1, rng.choice([1, 2, None]), [("p", 0, capacity, 1)])


def probe(rng: random.Random) -> Program:
    """Free of deadlock by construction, with one pair of accesses that may or may not be ordered.

    Waits ask for part of what earlier tasks signal, so tasks synchronise with some of several
    suppliers; packets order without making anything visible.
    """
    iterations = rng.choice([1, 1, 1, 2, None])
    count = rng.randint(3, 12 if iterations == 1 else 6)
    queues = rng.randint(2, 5)
    counters = rng.randint(1, 4)
    tasks = [Task(None if rng.random() < 0.2 else rng.randrange(queues)) for _ in range(count)]
    program = Program(tasks, [Buffer((2,), rng.choice(["state", "scratch"]), initial=True)],
                      counters, iterations, workers=5)  # fmt: skip
    if program.buffers[0].kind == "scratch" and iterations != 1:
        program.buffers[0].kind = "state"
    signalled = [0] * counters
    packets: list[tuple[int, int]] = []
    for number, task in enumerate(tasks):
        for counter in range(counters):
            if signalled[counter] and rng.random() < 0.4:
                task.waits.append((counter, rng.randint(1, signalled[counter])))
            elif iterations != 1 and rng.random() < 0.3:
                task.waits.append((counter, rng.choice([0, 0, -1])))
            if rng.random() < 0.5:
                amount = rng.choice([1, 1, 2, 3])
                task.signals.append((counter, amount))
                signalled[counter] += amount
        if number and rng.random() < 0.25:
            packets.append((rng.randrange(number), number))
    for slot, (writer, reader) in enumerate(packets):
        tasks[writer].accesses.append(Access(1, True, (slot,), (slot + 1,), 0, 0))
        tasks[reader].accesses.append(Access(1, False, (slot,), (slot + 1,), 0, 0))
    if packets:
        program.buffers.append(Buffer((len(packets),), packet=True))
    if rng.random() < 0.5 and iterations != 1:
        _back_pressure(rng, program)
    first, second = sorted(rng.sample(range(count), 2))
    if rng.random() < 0.2:
        first, second = second, first
    write = rng.choice([(True, False), (True, False), (True, True), (False, True)])
    for task, mode in zip((first, second), write, strict=True):
        tasks[task].accesses.append(Access(0, mode, (0,), (1 if rng.random() < 0.8 else 2,)))
    return program


def mutate(rng: random.Random, program: Program) -> Program:
    """One change: a wait, signal, access, place, kind or threshold."""
    program = deepcopy(program)
    task = rng.choice(program.tasks)
    roll = rng.randrange(9)
    if roll == 0 and task.waits:
        task.waits.pop(rng.randrange(len(task.waits)))
    elif roll == 1 and task.signals:
        task.signals.pop(rng.randrange(len(task.signals)))
    elif roll == 2 and task.waits:
        at = rng.randrange(len(task.waits))
        counter, threshold = task.waits[at]
        task.waits[at] = (counter, threshold + rng.choice([-2, -1, 1]))
    elif roll == 3:
        task.queue = rng.randrange(4)
    elif roll == 4:
        other = rng.choice(program.tasks)
        one, two = program.tasks.index(task), program.tasks.index(other)
        program.tasks[one], program.tasks[two] = other, task
    elif roll == 5 and task.accesses:
        task.accesses.pop(rng.randrange(len(task.accesses)))
    elif roll == 6 and task.accesses:
        access = rng.choice(task.accesses)
        if isinstance(access.hi[0], int):
            access.hi = (access.hi[0] + rng.choice([-1, 1]), *access.hi[1:])
    elif roll == 7:
        buffer = rng.choice(program.buffers)
        buffer.kind = rng.choice(KINDS)
        buffer.initial = rng.random() < 0.5
    elif task.accesses:
        access = rng.choice(task.accesses)
        if access.use >= 0:
            access.use = rng.randrange(program.buffers[access.buffer].uses)
        else:
            access.write = not access.write
    return program


def program(seed: int) -> Program:
    """The program of a seed."""
    rng = random.Random(seed)
    maker = rng.choice([soup, soup, pipeline, split_phases, cache, probe, probe])
    made = maker(rng)
    for _ in range(rng.choice([0, 0, 1, 1, 2]) if maker is not probe else 0):
        made = mutate(rng, made)
    return made
