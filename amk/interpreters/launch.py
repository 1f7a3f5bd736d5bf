"""The order in which a launch of the `task` interpreter runs its tasks.

Every queue is an agent that runs its tasks in order, iteration after iteration, as far ahead of the
others as the conditions of its tasks allow. An agent that has to wait is woken by what it waits
for; when all that are left wait, the schedule is deadlocked.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amk.errors import AmkError
from amk.schedule.table import ITERATION

if TYPE_CHECKING:
    from amk.interpreters.task import Effects, TaskMachine

_TOLD = 4
"""Stuck tasks that an error lists."""


@dataclass(frozen=True)
class Blocked:
    """Why a task cannot run: `what` wakes it (a buffer, a counter number, an iteration)."""

    what: str | int | tuple[str, int]
    text: str


@dataclass
class Agent:
    """A queue in a launch."""

    queue: int
    tasks: list[int]
    at: int = 0
    iteration: int = 0
    done: bool = False
    decision: bool | None = None
    """What this queue decided in this iteration about going on."""
    started: Effects | None = None
    blocked: Blocked | None = None
    scheduled: bool = field(default=True)
    """Whether it is among the agents that may be able to run."""

    @property
    def task(self) -> int:
        return self.tasks[self.at]


class Launch:
    """One launch; `run` runs it to its end."""

    def __init__(self, machine: TaskMachine, scalars: Mapping[str, int], steps: int | None) -> None:
        """`scalars` gives every run-time scalar its value in the first iteration."""
        self.machine = machine
        self.steps = self._limit(scalars, steps)
        self.start_values = dict(scalars)
        self.begun = 0
        """Iterations that some agent has begun."""
        table = machine.table
        self.counters = [0] * len(table.counters)
        tasks: dict[int, list[int]] = {}
        for number, queue in enumerate(table.task_queue.tolist()):
            tasks.setdefault(queue, []).append(number)
        self.agents = [Agent(queue, mine, done=self.steps == 0) for queue, mine in tasks.items()]
        self._waiting: dict[object, list[Agent]] = {}
        self._has_decisions = any(machine.decides(t) for mine in tasks.values() for t in mine)
        self._decisions: dict[int, bool] = {}
        self._values: dict[int, dict[str, int]] = {}

    def _limit(self, scalars: Mapping[str, int], steps: int | None) -> int:
        """Iterations at most; AmkError where nothing bounds them."""
        table = self.machine.table
        limits = [n for n in (steps, table.iterations) if n is not None]
        for scalar in table.scalars:
            if scalar.name not in scalars:
                raise AmkError(f"a launch needs a value for the run-time scalar @{scalar.name}")
            value = scalars[scalar.name]
            if not scalar.lo <= value < scalar.hi:
                raise AmkError(
                    f"@{scalar.name} = {value} is outside of its range {scalar.lo} to {scalar.hi}"
                )
            if scalar.step > 0:
                limits.append((scalar.hi - 1 - value) // scalar.step + 1)
            elif scalar.step < 0:
                limits.append((value - scalar.lo) // -scalar.step + 1)
        if not limits:
            raise AmkError("nothing ends this schedule: give the number of steps")
        return min(limits)

    # ---- order -----------------------------------------------------------------------------

    def run(self) -> Iterator[str]:
        """Run to the end; yields the names of the host's buffers that were written."""
        seed = self.machine.seed
        yield from self._in_turn() if seed is None else self._in_random_order(seed)
        stuck = [agent for agent in self.agents if not agent.done]
        if stuck:
            raise self._deadlock(stuck)

    def _in_turn(self) -> Iterator[str]:
        """Each agent runs until it has to wait, then the next one."""
        ready = deque(self.agents)
        while ready:
            agent = ready.popleft()
            agent.scheduled = False
            woken: list[Agent] = []
            while self._advance(agent, woken):
                if agent.started is not None:
                    yield from self._started(agent, woken)
                    self._finish(agent, woken)
            ready.extend(woken)

    def _in_random_order(self, seed: int) -> Iterator[str]:
        """Agents take turns by chance: evenly, in runs, or with lasting preferences."""
        choose = random.Random(f"{seed} {self.machine.launches}")
        staying = choose.choice([0.0, 0.5, 0.9, 0.99])
        unfair = choose.choice([0.0, 0.9])
        lingering = choose.choice([0.0, 0.3, 0.9])
        rank = {id(agent): choose.random() for agent in self.agents}
        ready = list(self.agents)
        current: Agent | None = None
        while ready:
            if current is None or not current.scheduled or choose.random() >= staying:
                current = choose.choice(ready)
                other = choose.choice(ready)
                if choose.random() < unfair and rank[id(other)] > rank[id(current)]:
                    current = other
            woken: list[Agent] = []
            if current.started is not None:
                self._finish(current, woken)
            elif not self._advance(current, woken):
                current.scheduled = False
                ready.remove(current)
            if current.started is not None:
                yield from self._started(current, woken)
                if choose.random() >= lingering:
                    self._finish(current, woken)
            ready.extend(woken)

    # ---- agents ----------------------------------------------------------------------------

    def values(self, iteration: int) -> dict[str, int]:
        """The run-time scalars and `iter` in an iteration."""
        known = self._values.get(iteration)
        if known is None:
            known = {
                scalar.name: self.start_values[scalar.name] + iteration * scalar.step
                for scalar in self.machine.table.scalars
            }
            known[ITERATION] = iteration
            self._values[iteration] = known
        return known

    def _advance(self, agent: Agent, woken: list[Agent]) -> bool:
        """Start the next task of an agent, or begin its next iteration; False if it has to wait."""
        if agent.done:
            return False
        if agent.at == len(agent.tasks):
            return self._next_iteration(agent)
        self.begun = max(self.begun, agent.iteration + 1)
        agent.blocked = self._missing(agent)
        if agent.blocked is not None:
            self._waiting.setdefault(agent.blocked.what, []).append(agent)
            return False
        iteration = agent.iteration
        agent.started = self.machine.start(agent.task, iteration, self.values(iteration))
        if agent.started.decision is not None:
            self._decide(agent, agent.started.decision, woken)
        return True

    def _missing(self, agent: Agent) -> Blocked | None:
        machine, iteration = self.machine, agent.iteration
        for counter, threshold in machine.waits.get(agent.task, ()):
            needed = iteration * int(machine.totals[counter]) + threshold
            if self.counters[counter] < needed:
                name = machine.table.counters[counter].name
                return Blocked(counter, f"@{name} >= {needed}, which is {self.counters[counter]}")
        return machine.missing_packets(agent.task, iteration, self.values(iteration))

    def _next_iteration(self, agent: Agent) -> bool:
        ends = agent.decision
        if self._has_decisions and ends is None:
            ends = self._decisions.get(agent.iteration)
            if ends is None:
                what = ("decision", agent.iteration)
                agent.blocked = Blocked(what, "the decision whether to stop")
                self._waiting.setdefault(what, []).append(agent)
                return False
        agent.at, agent.decision = 0, None
        agent.iteration += 1
        agent.done = bool(ends) or agent.iteration >= self.steps
        return not agent.done

    def _decide(self, agent: Agent, decision: bool, woken: list[Agent]) -> None:
        agent.decision = bool(agent.decision) or decision
        known = self._decisions.setdefault(agent.iteration, decision)
        if known != decision:
            text = self.machine.task_text(agent.task, agent.iteration)
            raise AmkError(f"{text} does not decide as another task did whether to stop")
        self._wake(("decision", agent.iteration), woken)

    def _started(self, agent: Agent, woken: list[Agent]) -> Iterator[str]:
        """Wake who waits for packets that were sent."""
        assert agent.started is not None
        for name in sorted(agent.started.sent):
            self._wake(name, woken)
            if name in self.machine.host_packets:
                yield name

    def _finish(self, agent: Agent, woken: list[Agent]) -> None:
        assert agent.started is not None
        self.machine.finish(agent.started)
        for counter, amount in self.machine.signals.get(agent.task, ()):
            self.counters[counter] += amount
            self._wake(counter, woken)
        agent.started = None
        agent.at += 1

    def _wake(self, what: object, woken: list[Agent]) -> None:
        for agent in self._waiting.pop(what, ()):
            agent.blocked = None
            agent.scheduled = True
            woken.append(agent)

    def _deadlock(self, stuck: list[Agent]) -> AmkError:
        lines: list[str] = []
        for agent in stuck[:_TOLD]:
            reason = agent.blocked.text if agent.blocked is not None else "nothing"
            if agent.at < len(agent.tasks):
                who = self.machine.task_text(agent.task, agent.iteration)
            else:
                who = f"{self.machine.table.queues[agent.queue]} after iteration {agent.iteration}"
            lines.append(f"{who} waits for {reason}")
        more = f"; and {len(stuck) - _TOLD} more" if len(stuck) > _TOLD else ""
        first = stuck[0]
        location = None
        if first.at < len(first.tasks):
            location = self.machine.table.task_location(first.task) or None
        return AmkError(f"deadlock: {'; '.join(lines)}{more}", location=location)
