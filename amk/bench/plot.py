"""A plot of time per token over context, as SVG without libraries."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from xml.sax.saxutils import escape

Point = tuple[float, float]
"""A context and microseconds a token."""

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 250, 40, 50
_COLOURS = ("#0b6", "#06c", "#c50", "#808", "#a80", "#088", "#555")


def svg_plot(title: str, lines: Mapping[str, Sequence[Point]], dashed: Iterable[str] = ()) -> str:
    """An SVG document: contexts logarithmic from left to right, times linear from 0 up."""
    points = [point for line in lines.values() for point in line]
    contexts = sorted({context for context, _ in points})
    top = _round_up(max(us for _, us in points))
    low, high = math.log2(contexts[0]), math.log2(contexts[-1])

    def x_of(context: float) -> float:
        part = (math.log2(context) - low) / (high - low) if high > low else 0.5
        return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)

    def y_of(us: float) -> float:
        return _HEIGHT - _BOTTOM - us / top * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 22, title, size=15),
        _text(_LEFT, _HEIGHT - 10, "context (positions), us a token"),
    ]
    for step in range(5):
        us = top * step / 4
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y_of(us):.1f}" y2="{y_of(us):.1f}"'
            ' stroke="#ddd"/>'
        )
        parts.append(_text(_LEFT - 8, y_of(us) + 4, f"{us:g}", anchor="end"))
    for context in contexts:
        parts.append(_text(x_of(context), _HEIGHT - _BOTTOM + 18, f"{context:g}", anchor="middle"))
    broken = set(dashed)
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x_of(context):.1f},{y_of(us):.1f}" for context, us in sorted(line))
        style = ' stroke-dasharray="6 4"' if name in broken else ""
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{style}/>'
        )
        for context, us in line:
            parts.append(
                f'<circle cx="{x_of(context):.1f}" cy="{y_of(us):.1f}" r="3" fill="{colour}"/>'
            )
        y = _TOP + 18 * number
        parts.append(
            f'<rect x="{_WIDTH - _RIGHT + 20}" y="{y}" width="12" height="4" fill="{colour}"/>'
        )
        parts.append(_text(_WIDTH - _RIGHT + 38, y + 6, name))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(text)}</text>"
    )


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 4, 6, 8, 10) if power * step >= value)
