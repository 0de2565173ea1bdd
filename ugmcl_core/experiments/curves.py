"""Curves: Dice against the labels (Figure 4, few labels) and the uncertainty threshold (Figure
3)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import whole_file
from . import statistics
from .paper import ALL_LABELS
from .results import Result, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colors, which nearly everybody can distinguish
COLORS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
MARKERS = "osD^vP"


def against_labels(results: Results, about: str) -> Figure:
    """Figure 4: Dice at each share of labeled cases, a line for each method."""
    axis = "labeled cases (% of the paper's 80)"
    return _curves(results, about, axis, "Dice against the number of labels")


def against_few_labels(results: Results, about: str) -> Figure:
    """Dice at each small number of labeled cases, a line for each method, and the bound with all
    labels as a level line with its interval."""
    title = "What unlabeled volumes bring with few labels"
    figure = _curves(results, about, "labeled cases", title, at=math.log2)
    (axes,) = figure.axes
    bound = results.named(ALL_LABELS)
    if bound is not None:
        values = bound.values(results.cases)
        low, high = statistics.interval(bound.independent(results.cases))
        axes.axhspan(100 * low, 100 * high, color="0.93", zorder=0)
        axes.axhline(
            100 * statistics.mean(values), color="0.4", linestyle="--", linewidth=1.2, zorder=0.5,
            label=f"{ALL_LABELS} ({bound.labeled[0]})",
        )  # fmt: skip
        _legend(axes)
    return figure


def against_threshold(results: Results, about: str) -> Figure:
    """Figure 3: Dice at each uncertainty threshold, fixed, and ramped from there to 1."""
    axis = "threshold, or where its ramp starts (of the largest uncertainty)"
    return _curves(results, about, axis, "Dice against the uncertainty threshold")


def save(figure: Figure, target: Path, stem: str) -> list[Path]:
    """STEM.png and STEM.svg in ``target``; InputError if they cannot be written."""
    from matplotlib import rc_context

    paths = []
    for suffix in ("png", "svg"):
        path = target / f"{stem}.{suffix}"
        # without a date and random names, so that the same results give the same file
        dated = {"Date": None} if suffix == "svg" else {}
        with whole_file(path, make_parents=True) as partial, rc_context({"svg.hashsalt": stem}):
            figure.savefig(partial, format=suffix, dpi=200, metadata=dated)
        paths.append(path)
    return paths


def _curves(
    results: Results, about: str, axis: str, title: str, at: Callable[[float], float] = float
) -> Figure:
    """A line for each series of rows that have an x, which is shown at ``at(x)``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    series: dict[str, list[Result]] = {}
    for result in results.present:
        if result.row.x:
            series.setdefault(result.row.series, []).append(result)
    xs = sorted({r.row.x for r in results.rows if r.row.x})
    places = [at(x) for x in xs]
    step = min((b - a for a, b in itertools.pairwise(places)), default=1.0)
    for number, (name, members) in enumerate(series.items()):
        members = sorted(members, key=lambda r: r.row.x)
        # side by side, so that the intervals do not hide each other
        shift = 0.06 * step * (number - (len(series) - 1) / 2)
        _line(axes, results, members, name, number, [at(r.row.x) + shift for r in members])
    axes.set_xticks(places, [f"{x:g}" for x in xs])
    axes.set_xlim(places[0] - 0.3 * step, places[-1] + 0.3 * step)
    axes.set_xlabel(axis)
    axes.set_ylabel("Dice (%)")
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=26)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _legend(axes)
    figure.supxlabel(about, fontsize=7, color="0.35")
    return figure


def _legend(axes: Axes) -> None:
    axes.legend(
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=len(axes.get_legend_handles_labels()[0]),
        fontsize=9,
        borderaxespad=0.2,
    )


def _line(
    axes: Axes,
    results: Results,
    members: list[Result],
    name: str,
    number: int,
    places: list[float],
) -> None:
    values = [r.values(results.cases) for r in members]
    means = [100 * statistics.mean(v) for v in values]
    ends = [statistics.interval(r.independent(results.cases)) for r in members]
    below = [m - 100 * low for m, (low, _) in zip(means, ends, strict=True)]
    above = [100 * high - m for m, (_, high) in zip(means, ends, strict=True)]
    color = COLORS[number % len(COLORS)]
    axes.errorbar(
        places,
        means,
        yerr=[below, above],
        label=name,
        color=color,
        marker=MARKERS[number % len(MARKERS)],
        markersize=5,
        linewidth=1.6,
        elinewidth=0.8,
        capsize=2,
    )
