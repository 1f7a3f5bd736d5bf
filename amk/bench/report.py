"""What a benchmark found: rows, a table in Markdown, and a JSON document."""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amk.bench.stats import Times

if TYPE_CHECKING:
    from amk.bench.correctness import Check
    from amk.bench.subject import Subject

_PACKAGES = ("amk", "torch", "transformers", "cupy-cuda13x", "cupy-cuda12x", "numpy", "xdsl")


@dataclass(frozen=True)
class Row:
    """What was measured at one context."""

    context: int
    tokens: int
    """Positions of a long launch, which ends at `context`."""
    read_bytes: float
    """Weights, and the keys and values of a token in the middle of the launch."""
    ceiling_us: float
    """The time in which the ring without consumers streams that many bytes."""
    amk: Times
    launch: Times
    """Launches of one token, one right behind the other."""
    others: dict[str, Times] = field(default_factory=dict)

    @property
    def fraction(self) -> float:
        """The ceiling's part of AMK's time."""
        return self.ceiling_us / self.amk.median

    @property
    def best_other(self) -> tuple[str, Times] | None:
        """The fastest alternative."""
        return min(self.others.items(), key=lambda item: item[1].median, default=None)

    def record(self) -> dict[str, Any]:
        """As the JSON document has it."""
        return {
            "context": self.context,
            "tokens_a_launch": self.tokens,
            "read_bytes": round(self.read_bytes),
            "ceiling_us": round(self.ceiling_us, 3),
            "fraction": round(self.fraction, 5),
            "amk": self.amk.record(),
            "launches_of_one_token": self.launch.record(),
            "alternatives": {name: times.record() for name, times in self.others.items()},
        }

    def __str__(self) -> str:
        return (
            f"context {self.context}: AMK {self.amk} us a token; ceiling {self.ceiling_us:.1f},"
            f" {self.fraction:.1%}; launches of one token {self.launch}"
        )


@dataclass
class Report:
    """Everything about one run."""

    model: str
    subject: dict[str, Any]
    copy_gb_s: float
    stream: Times
    stream_bytes: int
    checks: list[Check]
    rows: list[Row] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def stream_gb_s(self) -> float:
        """Bandwidth of the ring without consumers."""
        return self.stream_bytes / self.stream.median / 1e3

    def record(self) -> dict[str, Any]:
        """As the JSON document has it."""
        return {
            "model": self.model,
            **self.subject,
            "environment": environment(),
            "copy_gb_s": round(self.copy_gb_s, 1),
            "stream": {**self.stream.record(), "gb_s": round(self.stream_gb_s, 1)},
            "checks": [check.record() for check in self.checks],
            "rows": [row.record() for row in self.rows],
            "skipped": self.skipped,
        }

    def table(self) -> str:
        """The rows in Markdown; times are medians in microseconds a token."""
        names = list(dict.fromkeys(name for row in self.rows for name in row.others))
        head = ["context", "ceiling", "AMK", "fraction", "one-token launches", *names, "faster"]
        lines = [head, ["---"] * len(head)]
        for row in self.rows:
            best = row.best_other
            others = [
                f"{row.others[name].median:.0f}" if name in row.others else "-" for name in names
            ]
            faster = f"{best[1].median / row.amk.median:.2f}x" if best else "-"
            lines.append(
                [
                    str(row.context),
                    f"{row.ceiling_us:.1f}",
                    f"{row.amk.median:.1f}",
                    f"{row.fraction:.1%}",
                    f"{row.launch.median:.1f}",
                    *others,
                    faster,
                ]
            )
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def describe(subject: Subject) -> dict[str, Any]:
    """What was compiled, and for what."""
    program = subject.device.program
    return {
        "device": device_name(subject.device.name),
        "target": program.target,
        "dtype": subject.model.dtype,
        "workers": program.workers,
        "options": asdict(subject.options),
        "capacity": program.context,
        "stream_bytes": program.stream_bytes,
        "kv_bytes_a_position": subject.kv_bytes,
        "shared_bytes": program.shared_bytes,
        "config": dict(program.config),
        "source_sha256": hashlib.sha256(program.source.encode()).hexdigest(),
        "verified": True,
        "seconds": {label: round(seconds, 2) for label, seconds in subject.seconds.items()},
        "memory_bytes": sum(info.nbytes for info in program.buffers),
        "loading_peak_bytes": subject.loading_peak_bytes,
    }


def device_name(device: str) -> str:
    """The GPU as its driver calls it, or the processor."""
    if device == "cuda":
        from amk.runtime.toolchain import read_gpus

        return read_gpus()[0][0].name
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def environment() -> dict[str, str]:
    """Versions, and the time."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if importlib.util.find_spec("cupy") is not None:
        import cupy  # pyright: ignore[reportMissingImports]

        found["cuda_driver_api"] = str(cupy.cuda.runtime.driverGetVersion())
    found["time"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return found
