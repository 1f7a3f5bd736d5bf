"""Hypothesis strategies of small programs that shrink to few tasks with few conditions."""

from __future__ import annotations

from hypothesis import strategies as st
from program import Access, Buffer, Program, Task

SHAPES = [(1,), (2,), (3,), (2, 2)]


@st.composite
def buffers(draw: st.DrawFn) -> Buffer:
    """A plain or packet buffer; sometimes in an arena that all share."""
    shape = draw(st.sampled_from(SHAPES))
    if draw(st.booleans()):
        return Buffer(shape[:1], packet=True, uses=draw(st.integers(1, 2)))
    kind = draw(st.sampled_from(["scratch", "state", "output", "input", "constant"]))
    made = Buffer(shape, kind, draw(st.integers(1, 2)), initial=draw(st.booleans()))
    if draw(st.booleans()):
        made.arena, made.offset = "page", draw(st.integers(0, 3))
    return made


@st.composite
def accesses(draw: st.DrawFn, program: Program) -> Access:
    """An access to a box, now and then one element too large, or one that depends on a scalar."""
    number = draw(st.integers(0, len(program.buffers) - 1))
    buffer = program.buffers[number]
    lo, hi = [], []
    for extent in buffer.shape:
        first = draw(st.integers(0, extent - 1))
        lo.append(first)
        hi.append(draw(st.integers(first, extent)))
    made = Access(number, draw(st.booleans()), tuple(lo), tuple(hi))
    if buffer.packet:
        made.use = draw(st.integers(0, buffer.uses - 1))
    names = ["iter", *(name for name, *_ in program.scalars)]
    change = draw(st.sampled_from(["none", "none", "guard", "moving", "outside"]))
    name, by = draw(st.sampled_from(names)), draw(st.integers(1, 3))
    if change == "guard":
        made.guard = f"({name} + {draw(st.integers(0, 1))}) % {by}"
    elif change == "moving":
        by = min(by, buffer.shape[0])
        made.lo = (f"{name} % {by}", *made.lo[1:])
        made.hi = (f"{name} % {by} + 1", *made.hi[1:])
    elif change == "outside" and draw(st.integers(0, 9)) == 9:
        made.hi = (buffer.shape[0] + 1, *made.hi[1:])
    return made


QUEUES = st.one_of(st.integers(0, 2), st.none())


@st.composite
def linked(draw: st.DrawFn) -> Program:
    """Tasks with links from earlier to later ones, by packets or counters, that share a buffer.

    Mostly free of deadlock: what is in question is whether the links order the accesses and make
    them visible, and whether iterations are held together.
    """
    iterations = draw(st.sampled_from([1, 1, 2, None]))
    size = 6 if iterations == 1 else 4
    tasks = [Task(queue) for queue in draw(st.lists(QUEUES, min_size=2, max_size=size))]
    number = st.integers(0, len(tasks) - 1)
    kinds = st.sampled_from(["packet", "counter", "common"])
    links = draw(st.lists(st.tuples(number, number, kinds), min_size=1, max_size=5))
    shared = Buffer((2,), draw(st.sampled_from(["scratch", "state"])), initial=draw(st.booleans()))
    slots, counters, common = 0, 1, 0
    for one, two, kind in links:
        source, target = tasks[min(one, two)], tasks[max(one, two)]
        if source is target:
            continue
        if kind == "packet":
            source.accesses.append(Access(1, True, (slots,), (slots + 1,), 0, 0))
            target.accesses.append(Access(1, False, (slots,), (slots + 1,), 0, 0))
            slots += 1
        elif kind == "counter":
            source.signals.append((counters, 1))
            target.waits.append((counters, 1))
            counters += 1
        else:
            # One counter for several links: a wait may be met by the signal of another one.
            source.signals.append((0, 1))
            common += 1
            target.waits.append((0, draw(st.integers(1, common))))
    boxes = st.sampled_from([(0, 2), (0, 1), (1, 2)])
    for at, write, (low, high) in draw(
        st.lists(st.tuples(number, st.booleans(), boxes), min_size=2, max_size=4)
    ):
        tasks[at].accesses.append(Access(0, write, (low,), (high,)))
    program = Program(tasks, [shared, Buffer((max(slots, 1),), packet=True)], counters)
    program.iterations = iterations
    if iterations != 1 and draw(st.integers(0, 3)):
        for task in tasks:
            task.signals.append((counters, 1))
            task.waits.append((counters, 0))
        program.counters += 1
    return program


@st.composite
def loose(draw: st.DrawFn, tasks: int = 7) -> Program:
    """Anything, of at most `tasks` tasks on three workers, but never malformed."""
    program = Program([], [], draw(st.integers(0, 2)), draw(st.sampled_from([1, 2, None])))
    program.buffers = draw(st.lists(buffers(), min_size=1, max_size=2))
    if draw(st.booleans()):
        program.scalars = [("p", 0, draw(st.integers(1, 3)), draw(st.integers(0, 1)))]
    size = tasks if program.iterations == 1 else tasks - 3
    for queue in draw(st.lists(QUEUES, min_size=2, max_size=size)):
        task = Task(queue)
        if program.counters:
            counter = st.integers(0, program.counters - 1)
            task.signals = draw(st.lists(st.tuples(counter, st.integers(1, 2)), max_size=2))
            task.waits = draw(st.lists(st.tuples(counter, st.integers(-2, 4)), max_size=2))
        task.accesses = draw(st.lists(accesses(program), max_size=3))
        program.tasks.append(task)
    _make_sense(program, draw(st.integers(0, 9)) == 9)
    return program


def programs() -> st.SearchStrategy[Program]:
    """Programs of both kinds."""
    return st.one_of(linked(), loose())


def _make_sense(program: Program, lonely: bool) -> None:
    """Waits ask for no more than is signalled, and a use of a packet buffer has one writer.

    Packets that nobody writes are read only if `lonely`.
    """
    totals = [0] * program.counters
    for task in program.tasks:
        for counter, amount in task.signals:
            totals[counter] += amount
    written: set[tuple[int, int]] = set()
    for task in program.tasks:
        task.waits = [(counter, min(need, totals[counter])) for counter, need in task.waits]
        for access in list(task.accesses):
            key = access.buffer, access.use
            if access.write and access.use >= 0 and key in written:
                access.write = False
            elif access.write:
                written.add(key)
    for task in program.tasks if not lonely else ():
        task.accesses = [
            a for a in task.accesses if a.use < 0 or a.write or (a.buffer, a.use) in written
        ]
