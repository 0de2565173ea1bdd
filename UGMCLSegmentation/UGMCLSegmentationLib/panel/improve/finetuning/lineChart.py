"""A chart of curves as SVG, for the page of a report, which nothing in Slicer can draw."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 18, 12, 44  # margins around the curves
_COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")
_GRAY = "#666"


def svg(curves: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str) -> str:
    """A figure of each curve of at least two points with its name, and axes with these titles, the
    one across from 0; "" without any. Points that are not finite are left out."""
    shown = {name: [p for p in points if math.isfinite(p[1])] for name, points in curves.items()}
    shown = {name: points for name, points in shown.items() if len(points) > 1}
    if not shown:
        return ""
    xs, ys = zip(*(point for points in shown.values() for point in points), strict=True)
    last = max(xs)
    rows = ticks(min(ys), max(ys))
    low, high = rows[0], rows[-1]
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + wide * value / last

    def y(value: float) -> float:
        return _TOP + tall * (1 - (value - low) / (high - low))

    parts = [
        f"<line x1='{_LEFT}' x2='{_WIDTH - _RIGHT}' y1='{y(v):.1f}' y2='{y(v):.1f}' "
        f"stroke='#ddd'/>{_label(_LEFT - 6, y(v) + 4, f'{v:g}', 'end')}"
        for v in rows
    ]
    parts += [
        _label(x(v), _HEIGHT - _BOTTOM + 16, f"{v:g}")
        for v in ticks(0, last)
        if v <= last
    ]
    parts.append(_label(_LEFT + wide / 2, _HEIGHT - 6, across))
    parts.append(
        f"<g transform='translate(12 {_TOP + tall / 2:.0f}) rotate(-90)'>{_label(0, 0, up)}</g>"
    )
    colors = {name: _COLORS[n % len(_COLORS)] for n, name in enumerate(shown)}
    for name, points in shown.items():
        place = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        parts.append(
            f"<polyline fill='none' stroke='{colors[name]}' stroke-width='1.5' points='{place}'/>"
        )
    legend = "".join(
        f"<span style='color:{color}'>&#9644;</span> {html.escape(name)} &ensp;"
        for name, color in colors.items()
    )
    return (
        f"<figure><svg viewBox='0 0 {_WIDTH} {_HEIGHT}' font-size='12' fill='{_GRAY}'>"
        f"{''.join(parts)}</svg><figcaption>{legend}</figcaption></figure>"
    )


def ticks(low: float, high: float) -> list[float]:
    """A few round numbers, evenly spread, the first at most ``low`` and the last at least
    ``high``."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= span / 4)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [n * step for n in range(first, last + 1)]


def _label(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{html.escape(text)}</text>"
