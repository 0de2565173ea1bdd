"""Predictions on disk against references on disk: which belong together, and their measures."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..data import guarded, volume
from ..data.limits import GRID_TOLERANCE
from ..data.pairing import LABELS, SDF, UNCERTAINTY, by_stem, image_files, not_images, source_of
from ..data.pairing import stem as stem_of
from ..errors import InputError
from ..inference.surface_uncertainty import surface_uncertainty
from . import metrics

MEASURES = tuple(f.name for f in fields(metrics.Scores))


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case to evaluate; `sdf` may hold one file per class, `uncertainty` may be
    absent."""

    name: str
    prediction: Path
    reference: Path
    sdf: tuple[Path, ...]
    uncertainty: Path | None


@dataclass(frozen=True)
class StructureResult:
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
    """The measures of one case; the uncertainty's are NaN without an uncertainty file. ``values``
    are the labels of the prediction and of the reference."""

    name: str
    structures: tuple[StructureResult, ...]
    auroc: float = math.nan
    uncertainty: float = math.nan
    values: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())

    @property
    def dice(self) -> float:
        """Mean Dice over the structures, NaN if there is none."""
        values = [s.scores.dice for s in self.structures]
        return float(np.mean(values)) if values else math.nan


def find_cases(
    predictions: Path, references: Path, names: Collection[str] | None = None
) -> tuple[list[CaseFiles], list[str]]:
    """Pair predictions (STEM_labels or STEM) with references (STEM), both image files.

    Returns the cases, sorted by name, and the names among `names` that lack one of the two; with
    `names` None, every case that has both, and the references without prediction. Raises
    InputError if nothing can be compared.
    """
    made = by_stem(predictions)
    found = by_stem(references)
    wanted = {stem: path for stem, path in found.items() if source_of(stem) not in found}
    labels = {
        stem: made[stem + LABELS] if stem + LABELS in made else made[stem]
        for stem in wanted
        if stem + LABELS in made or stem in made
    }
    cases = []
    for stem in sorted(labels if names is None else set(labels) & set(names)):
        mine = [p for s, p in sorted(made.items()) if source_of(s) == stem]
        sdf = tuple(p for p in mine if stem_of(p).startswith(stem + SDF))
        unsure = made.get(stem + UNCERTAINTY)
        cases.append(CaseFiles(stem, labels[stem], wanted[stem], sdf, unsure))
    if not cases:
        raise InputError(
            f"nothing to compare: no prediction in {predictions} is named like a reference in "
            f"{references}; name them STEM_labels.nrrd or STEM.nrrd for STEM.nrrd"
        )
    return cases, sorted(set(wanted if names is None else names) - set(labels))


def left_over(predictions: Path, references: Path) -> list[str]:
    """A line on the predictions that have no reference, and on what in the two folders is no
    label map, which `find_cases` leaves out."""
    lines = [line for folder in (predictions, references) for line in not_images(folder)]
    known = by_stem(references)
    stems = {source_of(stem) or stem for stem in by_stem(predictions)}
    if lonely := sorted(stem for stem in stems if stem not in known):
        shown = ", ".join(lonely[:3]) + (f" and {len(lonely) - 3} more" if lonely[3:] else "")
        lines.append(f"{predictions}: no reference for {shown}; left out")
    return lines


def pair_of_files(prediction: Path, reference: Path) -> CaseFiles:
    """The case of two label maps, with the outputs of `ugmcl segment` beside the prediction;
    raises InputError unless both are files."""
    for path in (prediction, reference):
        if not path.is_file():
            raise InputError(f"{path}: is not a file; compare two files or two folders")
    stem = source_of(stem_of(prediction)) or stem_of(prediction)
    beside = {stem_of(p): p for p in image_files(prediction.parent)}
    mine = [p for s, p in sorted(beside.items()) if s.startswith(stem + SDF)]
    sdf = tuple(p for p in mine if source_of(stem_of(p)) == stem)
    unsure = beside.get(stem + UNCERTAINTY)
    return CaseFiles(stem_of(reference), prediction, reference, sdf, unsure)


def check_target(target: Path, *inputs: Path) -> None:
    """Raise InputError if writing ``target`` would overwrite one of the files compared."""
    for path in inputs:
        if target.exists() and path.exists() and target.samefile(path):
            raise InputError(
                f"{target} is one of the files to compare; choose another output file"
            )


@dataclass(frozen=True)
class LabelMapComparison:
    """Two label maps compared: the measures of each structure, and the map of `error_map`."""

    structures: tuple[StructureResult, ...]
    errors: volume.Volume


def compare(
    prediction: Path, reference: Path, values: Collection[int] | None = None
) -> LabelMapComparison:
    """Compare two files, the label ``values`` or all that occur; raises InputError."""
    found, truth = _pair(prediction, reference)
    if values is None:
        held = _labels(found.array), _labels(truth.array)
        check_common([held], str(prediction))
        values = held[0] | held[1]
    structures = []
    for value in sorted(values):
        mine, true = found.array == value, truth.array == value
        structures.append(StructureResult(value, metrics.score(mine, true, truth.grid.spacing)))
    errors = error_map(found.array, truth.array, values)
    return LabelMapComparison(tuple(structures), volume.Volume(errors, truth.grid))


def _labels(array: np.ndarray) -> frozenset[int]:
    """The values in a label map but 0."""
    return frozenset(int(v) for v in np.unique(array)) - {0}


def check_common(held: Sequence[tuple[frozenset[int], frozenset[int]]], where: str) -> str:
    """Raise InputError if no label of the predictions occurs in the references: the two use
    different numbers for the same structures, and every measure would be 0. A notice if both have
    labels that the other has not, so that this may be so for some of them, else ""."""
    ours = frozenset[int]().union(*(a for a, _ in held))
    theirs = frozenset[int]().union(*(b for _, b in held))
    a, b = (", ".join(map(str, sorted(own)[:5])) for own in (ours - theirs, theirs - ours))
    if a and b and not ours & theirs:
        raise InputError(
            f"{where}: no label in common: {a} in the predictions, {b} in the references; give "
            "both the same values"
        )
    return a and b and (
        f"{a} occurs only in the predictions and {b} only in the references; if they mean the "
        "same, give both the same values"
    )


def error_map(
    prediction: np.ndarray, reference: np.ndarray, values: Collection[int]
) -> np.ndarray:
    """Where label maps (I, J, K) differ in ``values``, uint8: 1 where only the prediction holds a
    structure, 2 where only the reference does, 3 where they hold different ones."""
    a, b = (np.where(np.isin(array, list(values)), array, 0) for array in (prediction, reference))
    errors = np.where(a != 0, np.where(b != 0, 3, 1), 2).astype(np.uint8)
    errors[a == b] = 0
    return errors


def _pair(prediction: Path, reference: Path) -> tuple[volume.Volume, volume.Volume]:
    """Two label maps on one grid; raises InputError."""
    found, truth = guarded.read_labels(prediction), guarded.read_labels(reference)
    if not found.grid.same_as(truth.grid, GRID_TOLERANCE):
        raise InputError(
            f"{prediction}: is on a different grid than {reference}; resample one onto the other"
        )
    return found, truth


def evaluate(case: CaseFiles) -> CaseResult:
    """Measure one case; raises InputError if its files cannot be compared."""
    prediction, reference = _pair(case.prediction, case.reference)
    spacing = reference.grid.spacing
    held = _labels(prediction.array), _labels(reference.array)
    values = held[0] | held[1]
    sdf = _sdf_by_value(case, set(values))
    structures = []
    for value in sorted(values):
        truth = reference.array == value
        scores = metrics.score(prediction.array == value, truth, spacing)
        extra = _sdf_measures(sdf[value], truth, reference.grid) if value in sdf else ()
        structures.append(StructureResult(value, scores, *extra))
    if case.uncertainty is None:
        return CaseResult(case.name, tuple(structures), values=held)
    unsure = _on_grid(case.uncertainty, reference.grid)
    quality = metrics.error_auroc(unsure, prediction.array, reference.array, spacing)
    level = surface_uncertainty(unsure, prediction.array > 0, spacing)
    return CaseResult(case.name, tuple(structures), quality, level, held)


def _sdf_by_value(case: CaseFiles, values: set[int]) -> dict[int, Path]:
    """SDF files by label value: from their header, or the only file for the only value."""
    found = {}
    for path in case.sdf:
        noted = guarded.read_notes(path).get("ugmcl_class_value", "")
        if noted.isdigit():
            found[int(noted)] = path
        elif len(case.sdf) == 1 and len(values) == 1:
            found[int(next(iter(values)))] = path
    return found


def _sdf_measures(path: Path, truth: np.ndarray, grid: volume.Grid) -> tuple[float, float]:
    sdf = _on_grid(path, grid)
    noted = guarded.read_notes(path).get("ugmcl_scale_mm")
    scale = float(noted) if noted else None
    error = metrics.sdf_error(sdf, truth, grid.spacing, scale_mm=scale)
    return metrics.dice(sdf < 0, truth), error


def _on_grid(path: Path, grid: volume.Grid) -> np.ndarray:
    found = guarded.read(path)
    if not found.grid.same_as(grid, GRID_TOLERANCE):
        raise InputError(f"{path}: is on a different grid than the reference; resample it")
    return found.array


def rows(results: list[CaseResult]) -> list[dict[str, Any]]:
    """One row per case and label that occurs in any case: its name, label and all measures.

    A label that a case lacks, in prediction and reference, has NaN there.
    """
    labels = sorted({s.value for r in results for s in r.structures})
    nothing = StructureResult(0, metrics.Scores(*[math.nan] * len(MEASURES))).row()
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
