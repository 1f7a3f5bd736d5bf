"""Ground truth: every interleaving of a small schedule, judged by the definitions.

Nothing here is shared with the verifier.  A state is the set of task instances that have run; all
states that can be reached are visited, for every legal start of the run-time scalars.

* q must precede b iff no reachable state has b but not q.
* q is visible to b iff no execution runs b without q in its past.  An execution chooses, for each
  wait, suppliers that ran before and reach the count; the past is closed under queue order and
  these choices.  Having less in one's past never hurts, so each task takes q into its past only if
  it cannot run otherwise at that moment; every moment is tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

from program import Access, Buffer, Program

KINDS = [
    "malformed", "resource", "out-of-bounds", "constant-write", "deadlock", "unbounded-skew",
    "race", "undefined-read",
]  # fmt: skip


class TooBig(Exception):
    """The program has more states than the explorer visits."""


Byte = tuple[object, int]


@dataclass
class Touch:
    """One access of one instance: its bytes, and for packets the slots (element, use)."""

    instance: int
    access: Access
    elements: list[tuple[int, ...]]
    bytes: frozenset[Byte]


@dataclass
class Instance:
    iteration: int
    task: int
    queue: int
    previous: int = -1
    waits: list[tuple[int, int]] = field(default_factory=list)
    packets: int | None = 0
    touches: list[Touch] = field(default_factory=list)


def judge(program: Program, max_skew: int, limit: int = 20000) -> str:
    """The kind of the verdict on `program`, "" if it is sound; raises `TooBig`."""
    if _malformed(program):
        return "malformed"
    kinds = set()
    for values in _starts(program):
        kinds.add(_Launch(program, values, max_skew, limit).kind())
    return min((k for k in kinds if k), key=KINDS.index, default="")


def _malformed(program: Program) -> bool:
    totals = [0] * program.counters
    for task in program.tasks:
        for counter, amount in task.signals:
            totals[counter] += amount
            if amount < 1:
                return True
    for task in program.tasks:
        if any(threshold > totals[counter] for counter, threshold in task.waits):
            return True
        for access in task.accesses:
            buffer = program.buffers[access.buffer]
            if len(access.lo) != len(buffer.shape):
                return True
            if buffer.packet != (access.use >= 0) or access.use >= max(buffer.uses, 1):
                return True
            pairs = list(zip(access.lo, access.hi, strict=True))
            if any(isinstance(a, int) and isinstance(b, int) and a > b for a, b in pairs):
                return True
            if buffer.shared and not _own(task.queue, *pairs[0]):
                return True
    return False


def _own(worker: int | None, lo: int | str, hi: int | str) -> bool:
    """Whether rows `lo` to `hi` of shared memory are those of a task's own worker."""
    if worker is None or isinstance(lo, str) or isinstance(hi, str):
        return False
    return worker <= lo and hi <= worker + 1


def _starts(program: Program) -> Iterator[dict[str, int]]:
    ranges = [range(lo, hi) for _, lo, hi, _ in program.scalars]
    for values in product(*ranges):
        yield {s[0]: v for s, v in zip(program.scalars, values, strict=True)}


def _length(program: Program, values: dict[str, int], at_most: int) -> tuple[int, bool]:
    """How many iterations to unroll, and whether the launch may go on after them."""
    length = at_most if program.iterations is None else min(program.iterations, at_most)
    more = program.iterations is None or program.iterations > at_most
    for name, lo, hi, step in program.scalars:
        room = 0
        while room < at_most + 1 and lo <= values[name] + step * room < hi:
            room += 1
        if room <= length:
            length, more = room, False
    return length, more


class _Launch:
    def __init__(self, program: Program, values: dict[str, int], max_skew: int, limit: int):
        self.program = program
        self.limit = limit
        self.max_skew = max_skew
        self.length, self.more = _length(program, values, 2 * max_skew + 4)
        self.values = values
        self.instances: list[Instance] = []
        self.amounts: dict[int, list[tuple[int, int]]] = {}
        self._unroll()
        self.not_before: list[int] = [0] * len(self.instances)
        """For each instance b the set of instances that some state with b lacks."""
        self.moves: dict[int, list[int]] = {}
        """What can run next in a state, for the states seen so far."""

    def at(self, iteration: int) -> dict[str, int]:
        steps = {s[0]: s[3] for s in self.program.scalars}
        values = {n: v + steps[n] * iteration for n, v in self.values.items()}
        return values | {"iter": iteration}

    def _unroll(self) -> None:
        program = self.program
        totals = [0] * program.counters
        for task in program.tasks:
            for counter, amount in task.signals:
                totals[counter] += amount
        last: dict[int, int] = {}
        queues: dict[int, int] = {}
        for iteration in range(self.length):
            values = self.at(iteration)
            for number, task in enumerate(program.tasks):
                queue = task.queue if task.queue is not None else 1000 + number
                me = len(self.instances)
                made = Instance(iteration, number, queue, last.get(queue, -1))
                last[queue] = me
                queues[queue] = queues.get(queue, 0) | 1 << me
                made.waits = [(c, iteration * totals[c] + t) for c, t in task.waits]
                for counter, amount in task.signals:
                    self.amounts.setdefault(counter, []).append((1 << me, amount))
                for access in task.accesses:
                    if _value(task.guard, values) == 0 and _value(access.guard, values) == 0:
                        made.touches.append(self._touch(me, access, values))
                self.instances.append(made)
        self.queues = list(queues.values())
        """The instances of each queue, which run in the order of their numbers."""

    def _touch(self, me: int, access: Access, values: dict[str, int]) -> Touch:
        buffer = self.program.buffers[access.buffer]
        sides = [
            range(_value(a, values), _value(b, values))
            for a, b in zip(access.lo, access.hi, strict=True)
        ]
        elements = list(product(*sides))
        found = set()
        for element in elements:
            found |= self._bytes(access.buffer, buffer, element)
        return Touch(me, access, elements, frozenset(found))

    def _bytes(self, number: int, buffer: Buffer, element: tuple[int, ...]) -> set[Byte]:
        index = 0
        for at, extent in zip(element, buffer.shape, strict=True):
            index = index * extent + at
        space: object = buffer.arena if buffer.arena is not None else number
        base = buffer.offset if buffer.arena is not None else 0
        return {(space, base + index * buffer.item + i) for i in range(buffer.item)}

    def kind(self) -> str:
        """The first kind of error that applies to this launch."""
        checks = (
            ("malformed", self._written_twice), ("out-of-bounds", self._outside),
            ("constant-write", self._constant_write), ("deadlock", self._stuck),
            ("unbounded-skew", self._runs_free), ("race", self._races),
            ("undefined-read", self._undefined),
        )  # fmt: skip
        for kind, check in checks:
            if check():
                return kind
        return ""

    def _packet_writers(self) -> dict[tuple[int, tuple[int, ...], int, int], list[int]]:
        writers: dict[tuple[int, tuple[int, ...], int, int], list[int]] = {}
        for instance in self.instances:
            for touch in instance.touches:
                if touch.access.use >= 0 and touch.access.write:
                    for element in touch.elements:
                        key = (touch.access.buffer, element, touch.access.use, instance.iteration)
                        writers.setdefault(key, []).append(touch.instance)
        return writers

    def _written_twice(self) -> bool:
        self.writers = self._packet_writers()
        return any(len(found) > 1 for found in self.writers.values())

    def _outside(self) -> bool:
        return any(
            not all(0 <= i < n for i, n in zip(e, self._shape(t), strict=True))
            for instance in self.instances
            for t in instance.touches
            for e in t.elements
        )

    def _shape(self, touch: Touch) -> tuple[int, ...]:
        return self.program.buffers[touch.access.buffer].shape

    def _constant_write(self) -> bool:
        fixed: set[Byte] = set()
        for number, buffer in enumerate(self.program.buffers):
            if buffer.kind in ("input", "constant"):
                for element in product(*(range(n) for n in buffer.shape)):
                    fixed |= self._bytes(number, buffer, element)
        return any(t.access.write and t.bytes & fixed for i in self.instances for t in i.touches)

    def _stuck(self) -> bool:
        for instance in self.instances:
            for touch in instance.touches:
                if touch.access.use < 0 or touch.access.write:
                    continue
                for element in touch.elements:
                    key = (touch.access.buffer, element, touch.access.use, instance.iteration)
                    writer = self.writers.get(key)
                    if writer is None or instance.packets is None:
                        instance.packets = None
                    else:
                        instance.packets |= 1 << writer[0]
        full = (1 << len(self.instances)) - 1
        # A launch may end after any iteration: none comes after it to help.
        tasks = len(self.program.tasks)
        lasts = range(tasks, len(self.instances) + 1, tasks) if tasks else [0]
        seen = {0}
        stack = [0]
        while stack:
            done = stack.pop()
            moves = self._enabled(done)
            if any(self._ends_early(done, moves, last) for last in lasts):
                return True
            for number in moves:
                self.not_before[number] |= full & ~done & ~(1 << number)
                after = done | 1 << number
                if after not in seen:
                    if len(seen) > self.limit:
                        raise TooBig
                    seen.add(after)
                    stack.append(after)
        return False

    def _ends_early(self, done: int, moves: list[int], last: int) -> bool:
        """Whether a launch of the first `last` instances is stuck in a state."""
        whole = (1 << last) - 1
        return done | whole == whole and done != whole and all(move >= last for move in moves)

    def _enabled(self, done: int) -> list[int]:
        """The instances that can run next: at most the first of each queue that has not run."""
        if done in self.moves:
            return self.moves[done]
        result = []
        for queue in self.queues:
            rest = queue & ~done
            if not rest:
                continue
            number = (rest & -rest).bit_length() - 1
            packets = self.instances[number].packets
            if packets is None or packets & ~done:
                continue
            if self._met(number, done):
                result.append(number)
        self.moves[done] = result
        return result

    def _met(self, number: int, ran: int) -> bool:
        """Whether the waits of an instance are met by what `ran`."""
        for counter, need in self.instances[number].waits:
            for mask, amount in self.amounts.get(counter, ()):
                if need <= 0:
                    break
                if ran & mask:
                    need -= amount
            if need > 0:
                return False
        return True

    def precedes(self, first: int, second: int) -> bool:
        """Whether `first` must precede `second`."""
        return not self.not_before[second] >> first & 1

    def _runs_free(self) -> bool:
        for second, instance in enumerate(self.instances):
            for first, other in enumerate(self.instances):
                left = self.length - other.iteration
                if not self.more and left <= self.max_skew + 2:
                    continue
                ahead = instance.iteration - other.iteration
                if ahead > self.max_skew and not self.precedes(first, second):
                    return True
        return False

    def _races(self) -> bool:
        touches = [t for i in self.instances for t in i.touches]
        suspects: dict[int, set[int]] = {}
        for number, one in enumerate(touches):
            for two in touches[number + 1 :]:
                if one.instance == two.instance or not (one.access.write or two.access.write):
                    continue
                if one.access.use >= 0 or two.access.use >= 0 or not one.bytes & two.bytes:
                    continue
                if self.precedes(two.instance, one.instance):
                    first, second = two, one
                elif self.precedes(one.instance, two.instance):
                    first, second = one, two
                else:
                    return True
                if first.access.write:
                    suspects.setdefault(first.instance, set()).add(second.instance)
        return self._packet_race(suspects) or any(
            self._escapes(first, seconds) for first, seconds in suspects.items()
        )

    def _packet_race(self, suspects: dict[int, set[int]]) -> bool:
        """Lost packets; adds to `suspects` the overwrites that must see the write before."""
        readers: dict[tuple[int, tuple[int, ...], int, int], list[int]] = {}
        for instance in self.instances:
            for touch in instance.touches:
                if touch.access.use >= 0 and not touch.access.write:
                    for element in touch.elements:
                        key = (touch.access.buffer, element, touch.access.use, instance.iteration)
                        readers.setdefault(key, []).append(touch.instance)
        slots: dict[tuple[int, tuple[int, ...]], list[tuple[int, list[int]]]] = {}
        for key, writer in self.writers.items():
            slots.setdefault(key[:2], []).append((writer[0], readers.get(key, [])))
        for writes in slots.values():
            for place, (one, polled) in enumerate(writes):
                if polled and any(w == one for w, _ in writes[place + 1 :]):
                    return True
                after = [w for w, _ in writes if w != one and self.precedes(one, w)]
                before = [w for w, _ in writes if w != one and self.precedes(w, one)]
                same = [w for w, _ in writes if w == one]
                if len(after) + len(before) + len(same) != len(writes):
                    return True
                if any(r != w and not self.precedes(r, w) for r in polled for w in after):
                    return True
                for w in after:
                    between = any(x in after and self.precedes(x, w) for x in after if x != w)
                    if not between and not polled:
                        suspects.setdefault(one, set()).add(w)
        return False

    def _escapes(self, without: int, targets: set[int]) -> bool:
        """Whether a target can run with `without` not in its past."""
        seen = {(0, 0)}
        stack = [(0, 0)]
        wanted = sum(1 << target for target in targets)
        while stack:
            done, marked = stack.pop()
            for number in self._enabled(done):
                clean = number != without and self._clean(number, done, marked)
                if clean and number in targets:
                    return True
                state = (done | 1 << number, marked if clean else marked | 1 << number)
                if state not in seen and wanted & ~state[0]:
                    if len(seen) > self.limit:
                        raise TooBig
                    seen.add(state)
                    stack.append(state)
        return False

    def _clean(self, number: int, done: int, marked: int) -> bool:
        previous = self.instances[number].previous
        if previous >= 0 and marked >> previous & 1:
            return False
        return not marked or self._met(number, done & ~marked)

    def _undefined(self) -> bool:
        initial: set[Byte] = set()
        for number, buffer in enumerate(self.program.buffers):
            if buffer.initial or buffer.kind in ("input", "constant"):
                for element in product(*(range(n) for n in buffer.shape)):
                    initial |= self._bytes(number, buffer, element)
        for instance in self.instances:
            for touch in instance.touches:
                if touch.access.write or touch.access.use >= 0:
                    continue
                kind = self.program.buffers[touch.access.buffer].kind
                if kind in ("input", "constant"):
                    continue
                known: set[Byte] = set()
                if kind != "scratch" or instance.iteration == 0:
                    known |= initial
                for other in self.instances:
                    if kind == "scratch" and other.iteration != instance.iteration:
                        continue
                    for t in other.touches:
                        if (
                            t.access.write
                            and t.access.use < 0
                            and t.instance != touch.instance
                            and self.precedes(t.instance, touch.instance)
                        ):
                            known |= t.bytes
                if touch.bytes - known:
                    return True
        return False


def _value(bound: int | str, values: dict[str, int]) -> int:
    return bound if isinstance(bound, int) else eval(bound, {}, dict(values))
