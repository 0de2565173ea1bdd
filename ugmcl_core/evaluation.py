"""Predictions on disk against references on disk: which belong together, and their measures."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from . import metrics, volume
from .errors import InputError
from .outputs import LABELS, SDF, UNCERTAINTY, source_of

MEASURES = tuple(f.name for f in fields(metrics.Scores))


@dataclass(frozen=True)
class Case:
    """The files of one case; `sdf` may hold one file per class, `uncertainty` may be absent."""

    name: str
    prediction: Path
    reference: Path
    sdf: tuple[Path, ...]
    uncertainty: Path | None


@dataclass(frozen=True)
class Structure:
    """The measures of one label value in one case; the SDF's are NaN without an SDF file."""

    value: int
    scores: metrics.Scores
    sdf_dice: float = math.nan
    sdf_mae_mm: float = math.nan

    def row(self) -> dict[str, float]:
        """The measures by name."""
        return {**asdict(self.scores), "sdf_dice": self.sdf_dice, "sdf_mae_mm": self.sdf_mae_mm}


@dataclass(frozen=True)
class CaseResult:
    """The measures of one case; the uncertainty's are NaN without an uncertainty file."""

    name: str
    structures: tuple[Structure, ...]
    auroc: float = math.nan
    uncertainty: float = math.nan

    @property
    def dice(self) -> float:
        """Mean Dice over the structures, NaN if there is none."""
        values = [s.scores.dice for s in self.structures]
        return float(np.mean(values)) if values else math.nan


def find_cases(
    predictions: Path, references: Path, names: Collection[str] | None = None
) -> tuple[list[Case], list[str]]:
    """Pair predictions (STEM_labels or STEM) with references (STEM), both image files.

    Returns the cases, sorted by name, and the names among `names` that lack one of the two; with
    `names` None, every case that has both, and the references without prediction. Raises
    InputError if nothing can be compared.
    """
    made = volume.by_stem(predictions)
    found = volume.by_stem(references)
    wanted = {stem: path for stem, path in found.items() if source_of(stem) not in found}
    labels = {
        stem: made[stem + LABELS] if stem + LABELS in made else made[stem]
        for stem in wanted
        if stem + LABELS in made or stem in made
    }
    cases = []
    for stem in sorted(labels if names is None else set(labels) & set(names)):
        mine = [p for s, p in sorted(made.items()) if source_of(s) == stem]
        sdf = tuple(p for p in mine if volume.stem(p).startswith(stem + SDF))
        cases.append(Case(stem, labels[stem], wanted[stem], sdf, made.get(stem + UNCERTAINTY)))
    if not cases:
        raise InputError(
            f"nothing to compare: no prediction in {predictions} is named like a reference in "
            f"{references} (STEM_labels.nrrd or STEM.nrrd for STEM.nrrd)"
        )
    return cases, sorted(set(wanted if names is None else names) - set(labels))


def evaluate(case: Case) -> CaseResult:
    """Measure one case; raises InputError if its files cannot be compared."""
    prediction = volume.read_labels(case.prediction)
    reference = volume.read_labels(case.reference)
    if not prediction.grid.same_as(reference.grid):
        raise InputError(
            f"{case.prediction}: lies on another grid than {case.reference}; "
            "resample one onto the other"
        )
    spacing = reference.grid.spacing
    values = set(np.unique(prediction.array)) | set(np.unique(reference.array))
    sdf = _sdf_by_value(case, values - {0})
    structures = []
    for value in sorted(int(v) for v in values - {0}):
        truth = reference.array == value
        scores = metrics.score(prediction.array == value, truth, spacing)
        extra = _sdf_measures(sdf[value], truth, reference.grid) if value in sdf else ()
        structures.append(Structure(value, scores, *extra))
    if case.uncertainty is None:
        return CaseResult(case.name, tuple(structures))
    unsure = _on_grid(case.uncertainty, reference.grid)
    quality = metrics.error_auroc(unsure, prediction.array, reference.array, spacing)
    level = metrics.surface_uncertainty(unsure, prediction.array > 0, spacing)
    return CaseResult(case.name, tuple(structures), quality, level)


def _sdf_by_value(case: Case, values: set[int]) -> dict[int, Path]:
    """SDF files by label value: from their header, or the only file for the only value."""
    found = {}
    for path in case.sdf:
        noted = volume.read_notes(path).get("ugmcl_class_value", "")
        if noted.isdigit():
            found[int(noted)] = path
        elif len(case.sdf) == 1 and len(values) == 1:
            found[int(next(iter(values)))] = path
    return found


def _sdf_measures(path: Path, truth: np.ndarray, grid: volume.Grid) -> tuple[float, float]:
    sdf = _on_grid(path, grid)
    noted = volume.read_notes(path).get("ugmcl_scale_mm")
    scale = float(noted) if noted else None
    error = metrics.sdf_error(sdf, truth, grid.spacing, scale_mm=scale)
    return metrics.dice(sdf < 0, truth), error


def _on_grid(path: Path, grid: volume.Grid) -> np.ndarray:
    found = volume.read(path)
    if not found.grid.same_as(grid):
        raise InputError(f"{path}: lies on another grid than the reference")
    return found.array


def rows(results: list[CaseResult]) -> list[dict[str, Any]]:
    """One row per case and label that occurs in any case: its name, label and all measures.

    A label that a case lacks, in prediction and reference, has NaN there.
    """
    labels = sorted({s.value for r in results for s in r.structures})
    nothing = Structure(0, metrics.Scores(*[math.nan] * len(MEASURES))).row()
    table = []
    for result in results:
        present = {s.value: s.row() for s in result.structures}
        extra = {"auroc": result.auroc, "uncertainty": result.uncertainty}
        for label in labels or [1]:
            row = present.get(label, nothing)
            table.append({"case": result.name, "label": label, **row, **extra})
    return table


def totals(results: list[CaseResult]) -> dict[str, Any]:
    """`summary`: by label and measure mean, sd, count, missing; `spearman`: of case uncertainty
    with case Dice (negative when the model is unsure where it is worse)."""
    table = rows(results)
    labels = sorted({row["label"] for row in table})
    found: dict[int, dict[str, dict[str, float]]] = {}
    for label in labels:
        measures = [
            {k: v for k, v in row.items() if k not in ("case", "label")}
            for row in table
            if row["label"] == label
        ]
        found[label] = {k: asdict(v) for k, v in metrics.summary(measures).items()}
    unsure = np.array([r.uncertainty for r in results])
    return {
        "summary": found,
        "spearman": metrics.spearman(unsure, np.array([r.dice for r in results])),
    }
