"""Writes an experiment's report: its table, its figure and the records behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import require
from ..files import write_text
from ..training.profiles import Profile
from . import curves, pictures, records, tables
from .paper import Experiment, Row
from .planning import Planned
from .results import Results, gather
from .running import Workplace

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check(experiment: Experiment) -> None:
    """Raise InputError if a package is missing that the experiment's figure needs."""
    if experiment.form != "table":
        require("matplotlib", "for figures")
    if experiment.form == "surfaces":
        require("vtk", "for surfaces", "vtkmodules.vtkCommonCore")


def render(
    experiment: Experiment,
    rows: Sequence[Row],
    planned: Sequence[Planned],
    place: Workplace,
    profile: Profile,
    protocol: str,
    target: Path,
    shown: Sequence[str] = (),
) -> list[Path]:
    """Write NAME-PROFILE-ITERATIONS-CASES.md, for a figure also .png and .svg, and the records it
    was made from into ``target``; returns the first ones.

    ``shown`` are the cases of pictures. Raises InputError for cases that were not scored.
    """
    results = gather(place, rows, planned)
    stem = f"{experiment.name}-{profile.name}-{profile.iterations}-{place.scoring.key}"
    text = tables.render(experiment, results, place, protocol)
    written = []
    if results.present and experiment.form != "table":
        figure, caption = _figure(experiment, results, place, protocol, shown)
        written = curves.save(figure, target, stem)
        head, rest = text.split("\n\n", 1)
        text = f"{head}\n\n![{experiment.title}]({stem}.png)\n\n{caption}\n\n{rest}"
    table = target / f"{stem}.md"
    write_text(table, text, make_parents=True)
    for result in results.present:
        for record in result.records.values():
            records.write(target / "records", record, f"{record['training']}.json")
    return [table, *written]


def _figure(
    experiment: Experiment, results: Results, place: Workplace, protocol: str, shown: Sequence[str]
) -> tuple[Figure, str]:
    """The figure and what stands below it in the text."""
    count = f"{len(results.cases)} {place.scoring.cases} cases"
    about = f"{protocol} {count}."
    draw = {
        "labels": curves.against_labels,
        "thresholds": curves.against_threshold,
        "few-labels": curves.against_few_labels,
    }
    if experiment.form in draw:
        seeds = max(len(r.scored) for r in results.present)
        bars = "seeds and cases" if seeds > 1 else "cases"
        text = f"{about} Bars: 95 % interval by Student's t over {bars}."
        return draw[experiment.form](results, text), "Bars: 95 % intervals, see below."
    chosen = pictures.choose(results, shown)
    scenes = pictures.scenes(results, place, chosen)
    caption = "Cases, from the top: " + "; ".join(
        name + (f" ({why})" if why else "") for name, why in chosen.items()
    )
    if experiment.form == "slices":
        text = "The axial slice with the most of the reference; numbers: Dice of the whole case."
        return pictures.slices(scenes, f"{about} {text}"), f"{caption}. {text}"
    text = "Surfaces from behind and above, smoothed for display; numbers: Dice."
    return pictures.surface_figure(scenes, f"{about} {text}"), f"{caption}. {text}"
