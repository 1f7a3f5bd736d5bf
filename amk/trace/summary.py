"""Where the time of a token goes, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from amk.trace.hops import hop_times
from amk.trace.timeline import Timeline


@dataclass(frozen=True)
class PhaseTime:
    """A family of tasks; times are microseconds a token, on the average over all warps."""

    name: str
    tasks: int
    """Of one token, on all workers."""
    total: float
    packets: float
    """Waiting for packets."""
    weights: float
    """Waiting for weights: the ring was empty."""
    hop: float | None
    """Microseconds from the end of the last task that writes what a task waits for to its arrival,
    the median; None where no task waits."""
    path: float
    """From the last end of whatever ended before to the end of the last worker, in microseconds a
    token: over all families this adds up to the time of a token."""
    rate: float | None
    """GB/s of weights that the copy warps of all workers asked for meanwhile; None where no copies
    are recorded."""
    late: float
    """Microseconds that the last worker ends behind the mean, on the average over the layers."""
    skew: float
    """Microseconds from the end of the first worker to the end of the last, on the average over
    the layers."""
    last: int
    """The worker that most often ended last."""


def phase_times(timeline: Timeline) -> Iterator[PhaseTime]:
    """The families in the order of the schedule."""
    waits, layout = timeline.waits, timeline.layout
    warps = layout.workers * layout.warps * layout.tokens
    hops = hop_times(timeline)
    ends = list(_ends(timeline))
    paths = _paths(timeline, ends)
    rates = _rates(timeline, paths)
    for number, origin in enumerate(timeline.table.origins):
        mine = (waits.task == number) & (timeline.phases == number)[:, None, None, :]
        if not mine.any():
            continue
        layers = [end for end in ends if end.phase == number]
        yield PhaseTime(
            name=origin.name,
            tasks=int((timeline.phases == number).sum()),
            total=float(waits.end[mine].sum()) / warps / 1e3,
            packets=float(waits.packets[mine].sum()) / warps / 1e3,
            weights=float(waits.weights[mine].sum()) / warps / 1e3,
            hop=float(np.median(hops[number])) / 1e3 if number in hops else None,
            path=sum(end - begin for begin, end in paths[number]) / layout.tokens / 1e3,
            rate=rates.get(number),
            late=float(np.mean([end.last - end.mean for end in layers])) / 1e3,
            skew=float(np.mean([end.last - end.first for end in layers])) / 1e3,
            last=int(np.bincount([end.worker for end in layers]).argmax()),
        )


@dataclass(frozen=True)
class _End:
    """When the workers ended a family in one layer of one token, in nanoseconds."""

    phase: int
    first: int
    mean: float
    last: int
    worker: int
    """The last one."""


def _ends(timeline: Timeline) -> Iterator[_End]:
    waits = timeline.waits
    ends = (waits.begin + waits.end).max(axis=1)  # of a task: the end of its last warp
    for number in range(len(timeline.table.origins)):
        for layer in np.unique(timeline.layers[timeline.phases == number]):
            workers, places = np.nonzero((timeline.phases == number) & (timeline.layers == layer))
            for token in range(timeline.layout.tokens):
                mine = ends[workers, token, places]
                by_worker = np.zeros(timeline.layout.workers, np.int64)
                np.maximum.at(by_worker, workers, mine)
                there = by_worker[by_worker > 0]
                last = int(by_worker.argmax())
                yield _End(
                    number, int(there.min()), float(there.mean()), int(by_worker[last]), last
                )


def _paths(timeline: Timeline, ends: Iterable[_End]) -> dict[int, list[tuple[int, int]]]:
    """By family, from the last end before to its own in each layer and token, in nanoseconds."""
    paths: dict[int, list[tuple[int, int]]] = {}
    before = timeline.start
    for end in sorted(ends, key=lambda end: end.last):
        paths.setdefault(end.phase, []).append((before, end.last))
        before = end.last
    return paths


def _rates(timeline: Timeline, paths: Mapping[int, list[tuple[int, int]]]) -> dict[int, float]:
    """By family, bytes of weights a nanosecond that were asked for within its paths."""
    at, sizes = timeline.waits.copied_at, timeline.waits.copied_bytes
    if not len(at):
        return {}
    order = np.argsort(at)
    before = np.concatenate([[0], np.cumsum(sizes[order])])  # bytes before each copy
    rates: dict[int, float] = {}
    for phase, intervals in paths.items():
        found = np.searchsorted(at[order], np.array(intervals))
        length = sum(end - begin for begin, end in intervals)
        rates[phase] = float(np.diff(before[found]).sum()) / max(1, length)
    return rates


def summary(timeline: Timeline, traced_us: float, normal_us: float) -> str:
    """A table of the phases, then the ring.

    `traced_us` and `normal_us` are the times per token of the instrumented and the normal program.
    """
    phases = list(phase_times(timeline))
    token = timeline.nanoseconds / 1e3
    known = sum(phase.total for phase in phases)
    lines = [
        f"{traced_us:.1f} us a token with the instruments, {normal_us:.1f} without",
        f"{timeline.layout.workers} workers, {timeline.layout.warps} warps each; microseconds of a"
        f" warp a token, of {token:.1f}:",
        "",
        f"{'phase':16}{'tasks':>7}{'total':>9}{'packets':>9}{'weights':>9}{'rest':>9}{'part':>7}"
        f"{'hop':>8}{'path':>9}{'GB/s':>8}{'late':>8}{'skew':>8}{'last worker':>13}",
    ]
    for phase in phases:
        rest = phase.total - phase.packets - phase.weights
        hop = "-" if phase.hop is None else f"{phase.hop:.2f}"
        rate = "-" if phase.rate is None else f"{phase.rate:.0f}"
        lines.append(
            f"{phase.name[:15]:16}{phase.tasks:7}{phase.total:9.1f}{phase.packets:9.1f}"
            f"{phase.weights:9.1f}{rest:9.1f}{phase.total / token:7.1%}{hop:>8}{phase.path:9.1f}"
            f"{rate:>8}{phase.late:8.2f}{phase.skew:8.2f}{phase.last:13}"
        )
    packets = sum(phase.packets for phase in phases)
    weights = sum(phase.weights for phase in phases)
    tasks = sum(phase.tasks for phase in phases)
    lines += [
        f"{'all':16}{tasks:7}{known:9.1f}{packets:9.1f}{weights:9.1f}"
        f"{known - packets - weights:9.1f}{known / token:7.1%}",
        f"{'between tasks':16}{'':7}{max(0.0, token - known):9.1f}",
        "",
        f"ring empty (consumers wait for weights): {weights:.1f} us a token",
    ]
    if timeline.layout.warps > 1:
        full, window = (
            float(values.mean()) / 1e3
            for values in (timeline.waits.ring_full, timeline.waits.window)
        )
        lines.append(
            f"ring full (producers wait for consumers): {full:.1f} us a token;"
            f" copies in flight at their limit: {window:.1f} us"
        )
    return "\n".join(lines) + "\n"
