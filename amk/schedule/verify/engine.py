"""The examination of one case: deadlock, skew, race and definedness in this order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from amk.schedule.table import ScheduleTable
from amk.schedule.verify import defined, explain
from amk.schedule.verify.agents import free_queue
from amk.schedule.verify.cases import Case, concrete, reach
from amk.schedule.verify.far import distance
from amk.schedule.verify.flow import Body, Flow, greedy, unroll
from amk.schedule.verify.links import Accesses, Links, Sweep, packet_links, plain_links, sweep
from amk.schedule.verify.memory import Boxes, Memory, cut
from amk.schedule.verify.order import LISTED, Outcome, analyse
from amk.schedule.verify.packets import Packets, resolve
from amk.schedule.verify.report import KINDS, Finding, TooLargeError
from amk.schedule.verify.scalars import ENDLESS, cycle
from amk.schedule.verify.visibility import escape

TRIED = 10
"""At most this many pairs of an outline are tried for a race in every state."""

MEMORY = 2 << 30
"""Bytes that unrolled iterations may take; what needs more is not decided (`TooLargeError`)."""

EXPLAINED = 4
"""The bytes of at most this many undefined reads of a case are looked for."""

MAX_CYCLE = 4096
"""Longer cycles of expressions are not searched for an agent that runs free."""

ATTEMPTS = 3
"""Iterations that are unrolled at first; enough for a skew of 1."""


@dataclass
class Result:
    """What one case shows: its findings, and the bound on the skew (-1: none needed).

    `decided` is False if the outline of all states neither proves nor refutes; `runs` and `bounded`
    say that it proves freedom of deadlock and a bound on the skew.
    """

    findings: list[Finding] = field(default_factory=list)
    skew: int = -1
    decided: bool = True
    runs: bool = False
    bounded: bool = False


class TooFarError(TooLargeError):
    """Accesses of a case may meet more iterations apart than fit into memory."""

    def __init__(self, case: Case, skew: int, span: int, most: int) -> None:
        super().__init__(
            f"accesses that only packets order may meet {span} iterations apart; there is no race "
            f"within {most}, and no more fit into memory"
        )
        self.case, self.skew = case, skew


@dataclass(frozen=True, eq=False)
class Window:
    """Some iterations of a case: boxes, memory, packets, and a run order of each iteration."""

    boxes: list[Boxes]
    memory: Memory
    packets: list[Packets]
    rounds: list[np.ndarray]

    def first(self, count: int) -> Window:
        """The first `count` iterations."""
        memory = Memory(
            self.memory.classes[:count], self.memory.cells, self.memory.n_cells, self.memory.initial
        )
        return Window(self.boxes[:count], memory, self.packets[:count], self.rounds[:count])


class Examiner:
    """Examines cases of one table; `max_skew` None: any bound on the skew will do.

    `most` iterations are unrolled at most, so that they fit into `memory` bytes.
    """

    def __init__(
        self,
        table: ScheduleTable,
        max_skew: int | None,
        memory: int = MEMORY,
        every: bool = False,
    ) -> None:
        """With `every`, all races and undefined reads of all cases are found."""
        self.table = table
        self.all_errors = every
        self.body = Body.of(table)
        self.max_skew = max_skew
        self.most = max(ATTEMPTS, memory // _bytes(table))
        self.longest = 0
        self.share = 1

    def every(self, cases: Callable[[int], Iterable[Case]], known: Result) -> Result:
        """Examines all cases; `cases(n)` lists those that n iterations can tell apart.

        `known` is what the outline showed.  A kind is reported only if no case has an earlier kind.
        """
        for case in () if known.runs else cases(1):
            found = self._window(case, 1)[1]
            if found:
                return Result(found)
        length = ATTEMPTS
        while True:
            self.longest = 0
            every = list(cases(length))
            self.share = len(every)
            result = self._every_conflict(every, known.bounded)
            if self.longest <= length:
                return result
            length = self.longest

    def _every_conflict(self, cases: Iterable[Case], bounded: bool) -> Result:
        worst = Result()
        too_far: list[TooFarError] = []
        for case in cases:
            if self.all_errors:
                worst.findings += self.conflicts(case).findings
                continue
            if worst.findings and worst.findings[0].kind == "race":
                result = Result(self._unrolled(case)[2])
            else:
                try:
                    result = self.conflicts(case)
                except TooFarError as error:
                    too_far.append(error)
                    continue
            worst.skew = max(worst.skew, result.skew)
            kinds = [KINDS.index(r.findings[0].kind) for r in (worst, result) if r.findings]
            if result.findings and kinds[-1] < min(kinds[:-1], default=len(KINDS)):
                worst.findings = result.findings
            kind = worst.findings[0].kind if worst.findings else ""
            if kind == "unbounded-skew" or (kind == "race" and bounded):
                return worst
        if too_far and all(f.kind == "undefined-read" for f in worst.findings):
            worst.findings = self._near_race(too_far)
        return worst

    @cached_property
    def _apart(self) -> int:
        """From how many iterations on no two queues touch the same bytes of memory that moves; more
        than `most` if no window shows it."""
        try:
            return distance(self.table, self.most) or self.most + 1
        except TooLargeError:
            return self.most + 1

    def _near_race(self, too_far: Sequence[TooFarError]) -> list[Finding]:
        """A race of cases that reach further than memory does, within what fits into it.

        Raises `TooFarError` if there is none.
        """
        length, longest = ATTEMPTS, self.longest
        while length < self.most:
            length = min(self.most, 2 * length)
            for error in too_far:
                window, _ = self._window(error.case, min(length, error.case.remaining))
                near = length - error.skew
                if window is None or near < 1:
                    continue
                result = self._judge(error.case, window, near, error.skew)
                if result is not None and result.findings and result.findings[0].kind == "race":
                    self.longest = longest
                    return result.findings
        raise too_far[0]

    def conflicts(self, case: Case) -> Result:
        """Skew, races and undefined reads of a case in which every iteration runs."""
        if case.constant:
            return self._constant(case)
        window, skew, found = self._unrolled(case)
        if found:
            return Result(found)
        length = len(window.boxes)
        if skew < 0:
            return self._judge(case, window, length, skew) or Result()
        span = min(case.remaining, skew + 2 + reach(self.table, case.remaining))
        needed = min(case.remaining, span + skew)
        if needed > max(self.most, length):
            near = min(case.remaining, skew + 1 + self._apart)
            needed = min(case.remaining, near + skew)
            if needed > max(self.most, length):
                raise TooFarError(case, skew, span, self.most)
            span = near
        if needed > length:
            window, found = self._window(case, needed)
            if window is None:
                return Result(found)
        return self._judge(case, window, span, skew) or Result()

    def _constant(self, case: Case) -> Result:
        length = min(case.remaining, ATTEMPTS)
        while True:
            window, found = self._window(case, length)
            if window is None:
                return Result(found, decided=bool(found))
            result = self._judge(case, window, min(2, length), None)
            if result is not None:
                return result
            length = self._longer(length, case.remaining)

    def _longer(self, length: int, remaining: int) -> int:
        limit = self.most if self.max_skew is None else self.max_skew + 2
        return min(remaining, limit, 2 * length)

    def _accepts(self, skew: int | None) -> bool:
        return skew is not None and (self.max_skew is None or skew <= self.max_skew)

    def _unrolled(self, case: Case) -> tuple[Window, int, list[Finding]]:
        """Enough iterations to know the skew: the window, the skew (-1: all of them), findings."""
        length = min(case.remaining, ATTEMPTS)
        while True:
            window, found = self._window(case, length)
            if window is None:
                return _NOTHING, -1, found
            flow, level = self._flow(case, window)
            outcome = analyse(flow, level, [], False)
            if outcome.skew is not None and self._accepts(outcome.skew):
                return window, outcome.skew, []
            if length == case.remaining:
                return window, -1, []
            free = self._free(case, window, flow, outcome)
            if free is not None:
                return window, -1, [free]
            length = self._longer(length, case.remaining)

    def _free(self, case: Case, window: Window, flow: Flow, outcome: Outcome) -> Finding | None:
        """An agent that nothing holds back, or none that so many iterations show to be held."""
        length = len(window.boxes)
        if self.max_skew is not None:
            short = length < self.max_skew + 2
            return None if short else explain.runaway(self.table, case, outcome.runaway, length)
        if length <= ATTEMPTS:
            queues = free_queue(self.body, self._recurring(case, window), not case.exact)
            if queues is not None and case.remaining >= ENDLESS:
                return explain.free(self.table, case, flow, *queues)
            if queues is not None and case.remaining * self.share > self.most:
                return explain.runaway(self.table, case, outcome.runaway, length)
        if length < self.most:
            return None
        return explain.runaway(self.table, case, outcome.runaway, length)

    def _recurring(self, case: Case, window: Window) -> list[Packets]:
        """The packets of iterations that come again and again."""
        if case.fixed is not None:
            return window.packets[:1]
        first = ENDLESS if case.remaining >= ENDLESS else 0
        found: list[Packets] = []
        for iteration in range(first, first + min(cycle(self.table), case.remaining, MAX_CYCLE)):
            boxes = case.boxes(iteration)
            memory = cut(self.table, [boxes])
            found.append(resolve(self.table, boxes, memory.classes[0], memory.cells))
        return found

    def _window(self, case: Case, length: int) -> tuple[Window | None, list[Finding]]:
        self.longest = max(self.longest, length)
        boxes = [case.boxes(e) for e in range(length)]
        memory = cut(self.table, boxes)
        packets: list[Packets] = []
        rounds: list[np.ndarray] = []
        for iteration in range(length):
            if iteration and boxes[iteration] is boxes[0]:
                packets.append(packets[0])
                rounds.append(rounds[0])
                continue
            classes = memory.classes[iteration]
            found = resolve(self.table, boxes[iteration], classes, memory.cells)
            flow = unroll(self.body, [found], False)
            level = greedy(flow)
            if (level < 0).any():
                return None, self._stuck(case, flow, level, found)
            packets.append(found)
            rounds.append(level)
        return Window(boxes, memory, packets, rounds), []

    def _stuck(self, case: Case, flow: Flow, level: np.ndarray, packets: Packets) -> list[Finding]:
        """The deadlock; nothing if an outline does not show it for every state."""
        if not case.exact:
            least = replace(packets, complete=packets.covered)
            flow = unroll(self.body, [least], True)
            level = greedy(flow)
            if (level >= 0).all():
                return []
            boxes = concrete(self.table, case.start)
            memory = cut(self.table, [boxes])
            packets = resolve(self.table, boxes, memory.classes[0], memory.cells)
            flow = unroll(self.body, [packets], False)
            level = greedy(flow)
        return [explain.deadlock(self.table, case, flow, level, packets)]

    def _flow(self, case: Case, window: Window) -> tuple[Flow, np.ndarray]:
        flow = unroll(self.body, window.packets, not case.exact)
        tallest = max(int(r.max(initial=0)) for r in window.rounds) + 1
        level = np.concatenate([r + e * tallest for e, r in enumerate(window.rounds)])
        return flow, np.unique(level, return_inverse=True)[1].reshape(-1)

    def _links(self, window: Window) -> tuple[list[Links], Sweep]:
        order = [np.empty(self.table.n_tasks, np.int64) for _ in window.rounds]
        for rank, rounds in zip(order, window.rounds, strict=True):
            rank[np.argsort(rounds, kind="stable")] = np.arange(len(rank))
        accesses = Accesses.of(self.table, window.boxes, window.memory, order)
        swept = sweep(accesses.take(~accesses.packet), window.memory)
        packets = packet_links(self.table, accesses.take(accesses.packet), window.memory)
        return [plain_links(self.table, swept), packets], swept

    def _judge(self, case: Case, window: Window, span: int, skew: int | None) -> Result | None:
        """Races and undefined reads over the first `span` iterations.

        `skew` None: find it; the result is None if the window is too short for that.
        """
        flow, level = self._flow(case, window)
        links, swept = self._links(window.first(span))
        outcome = analyse(flow, level, links, True)
        bound = outcome.skew if skew is None else skew
        length = len(window.boxes)
        if skew is None and not self._accepts(bound):
            if length < case.remaining:
                return self._unbounded(case, window, flow, level, outcome)
            bound = None
        result = Result([], -1 if bound is None else bound, True, True, True)
        if case.exact:
            result.findings = self._races(case, flow, outcome)
        elif outcome.unordered or outcome.unproved:
            result.findings = self._sure_races(case, window, outcome)
            result.decided = bool(result.findings)
        if not result.findings and result.decided:
            self._undefined(case, window, swept, result)
        elif self.all_errors and case.exact:
            result.findings += self._surely_undefined(case, window, swept, flow)
        return result

    def _unbounded(
        self, case: Case, window: Window, flow: Flow, level: np.ndarray, outcome: Outcome
    ) -> Result | None:
        """An agent that runs free, None if it takes more iterations to tell; of an outline, only
        if it does so in every state."""
        found = self._free(case, window, flow, outcome)
        if found is None:
            return None
        if not case.exact:
            held = unroll(self.body, window.packets, False)
            if self.max_skew is not None:
                outcome = analyse(held, level, [], False)
                surely = not self._accepts(outcome.skew)
            else:
                surely = free_queue(self.body, window.packets[:1], False) is not None
            if not surely:
                return Result(decided=False, runs=True)
        return Result([found])

    def _undefined(self, case: Case, window: Window, swept: Sweep, result: Result) -> None:
        bad = defined.undefined(self.table, swept, window.memory, case.at_start)
        if bad and not case.exact:
            surely = defined.undefined(self.table, swept, window.memory, case.at_start, True)
            certain = self._certain(case)
            bad = [(row, when) for row, when in surely if row in certain]
            result.decided = bool(bad)
        result.findings = self._unread(case, window, bad)

    def _unread(self, case: Case, window: Window, bad: list[tuple[int, int]]) -> list[Finding]:
        """Findings for undefined reads, the first few with their bytes."""
        nothing = np.zeros((0, 2), np.int64)
        return [
            explain.undefined(self.table, case, row, when, window.rounds)
            if number < EXPLAINED
            else explain.undefined_bytes(self.table, case, row, nothing)
            for number, (row, when) in enumerate(bad)
        ]

    def _surely_undefined(
        self, case: Case, window: Window, swept: Sweep, flow: Flow
    ) -> list[Finding]:
        """Undefined reads beside races: no write of these bytes may come before the read."""
        bad = defined.undefined(self.table, swept, window.memory, case.at_start)
        found = [
            (row, when)
            for row, when in bad[:TRIED]
            if explain.precedes_all_writes(self.table, case, flow, row, when)
        ]
        return self._unread(case, window, found)

    def _certain(self, case: Case) -> set[int]:
        boxes = case.boxes(0)
        return set(boxes.rows[boxes.certain].tolist())

    def _sure_races(self, case: Case, window: Window, outcome: Outcome) -> list[Finding]:
        """Races of an outline that every state has: between certain accesses, under all conditions
        that any state has."""
        flow = unroll(self.body, window.packets, False)
        certain = self._certain(case)
        pairs = [*outcome.unordered[:TRIED], *outcome.unproved[:TRIED]]
        for pair in pairs:
            if not certain.issuperset((pair.first_access, pair.second_access)):
                continue
            if greedy(flow, np.array([pair.first]))[pair.second] >= 0:
                if greedy(flow, np.array([pair.second]))[pair.first] >= 0:
                    return [explain.race(self.table, case, flow, pair)]
            elif pair in outcome.unproved and self.table.access_use[pair.first_access] < 0:
                # A packet may be overwritten unseen where a guarded reader has polled it: cases.
                run = escape(flow, pair.first, pair.second)
                if run is not None:
                    return [explain.unseen(self.table, case, flow, pair, run)]
        return []

    def _races(self, case: Case, flow: Flow, outcome: Outcome) -> list[Finding]:
        found = [explain.race(self.table, case, flow, pair) for pair in outcome.unordered]
        known: dict[tuple[int, int], list[int] | None] = {}
        for pair in outcome.unproved:
            key = (pair.first, pair.second)
            if key not in known:
                known[key] = escape(flow, *key)
            run = known[key]
            if run is not None:
                found.append(explain.unseen(self.table, case, flow, pair, run))
            if len(found) >= LISTED:
                break
        return found


def _bytes(table: ScheduleTable) -> int:
    """About what an unrolled iteration takes: index arrays of its parts."""
    parts = 10 * table.n_tasks + 16 * len(table.access_task)
    return 8 * (parts + 6 * (len(table.wait_task) + len(table.signal_task)) + 1)


_NOTHING = Window([], Memory([], None, 0, np.zeros(0, bool)), [], [])  # type: ignore[arg-type]
