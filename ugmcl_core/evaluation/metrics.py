"""How good a segmentation is: Dice, Jaccard, ASD and 95HD, and how good its SDF and uncertainty.

ASD and 95HD follow the definitions that the field's papers use (those of MedPy): the surface of a
mask is its voxels that have a neighbor by face outside it, and beyond the volume's edge is
outside; ASD is the mean distance from the prediction's surface voxels to the reference's surface;
95HD is the 95th percentile of both directions' distances together. A measure that does not exist
is NaN, never 0 and never left out silently: `summary` counts them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..data.components import bounding_box
from ..inference.settings import BAND_MM

Spacing = tuple[float, float, float]
VOXELS: Spacing = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Scores:
    """The measures of one structure in one case; distances in voxels and in mm."""

    dice: float
    jaccard: float
    asd: float
    hd95: float
    asd_mm: float
    hd95_mm: float


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation over `count` cases; `missing` had no value (NaN)."""

    mean: float
    sd: float
    count: int
    missing: int


def score(prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> Scores:
    """All measures of `prediction` against `reference`, masks (I, J, K); `spacing` in mm.

    Dice and Jaccard are 0 when one mask is empty and NaN when both are; the distances are NaN
    when either is.
    """
    a, b = _cropped(prediction, reference)
    to_reference, to_prediction = surface_distances(a, b, VOXELS)
    voxels = _distances(to_reference, to_prediction)
    if len(set(spacing)) > 1:
        mm = _distances(*surface_distances(a, b, spacing))
    else:
        mm = tuple(d * spacing[0] for d in voxels)
    return Scores(dice(a, b), jaccard(a, b), *voxels, *mm)


def dice(prediction: np.ndarray, reference: np.ndarray) -> float:
    """2 |A ∩ B| / (|A| + |B|)."""
    both, total = _counts(prediction, reference)
    return 2.0 * both / total if total else math.nan


def jaccard(prediction: np.ndarray, reference: np.ndarray) -> float:
    """|A ∩ B| / |A ∪ B|."""
    both, total = _counts(prediction, reference)
    return both / (total - both) if total else math.nan


def surface_distances(
    prediction: np.ndarray, reference: np.ndarray, spacing: Spacing
) -> tuple[np.ndarray, np.ndarray]:
    """Distances of the prediction's surface voxels to the reference's surface, and back.

    Both are empty when one mask is.
    """
    from scipy import ndimage

    a, b = _cropped(prediction, reference)
    if not a.any() or not b.any():
        return np.empty(0), np.empty(0)
    surface_a, surface_b = (mask ^ ndimage.binary_erosion(mask) for mask in (a, b))
    to_b = ndimage.distance_transform_edt(~surface_b, sampling=spacing)
    to_a = ndimage.distance_transform_edt(~surface_a, sampling=spacing)
    return to_b[surface_a], to_a[surface_b]


def sdf_error(
    sdf: np.ndarray,
    mask: np.ndarray,
    spacing: Spacing,
    band_mm: float = BAND_MM,
    scale_mm: float | None = None,
) -> float:
    """Mean absolute error in mm of a signed distance (mm, negative inside) near the surface.

    The true distance is that of `mask`, and counts where it is at most `band_mm`; it is clamped
    to ± `scale_mm` when `sdf` is. NaN for a mask without surface.
    """
    from ..nn.level_sets import signed_distance

    truth = signed_distance(mask, spacing, 2 * band_mm)
    band = np.abs(truth) <= band_mm
    if not band.any():
        return math.nan
    expected = truth[band] if scale_mm is None else np.clip(truth[band], -scale_mm, scale_mm)
    return float(np.abs(sdf[band].astype(np.float64) - expected).mean())


def error_auroc(
    uncertainty: np.ndarray,
    labels: np.ndarray,
    reference: np.ndarray,
    spacing: Spacing,
    band_mm: float = BAND_MM,
) -> float:
    """How well `uncertainty` ranks the wrong voxels (labels ≠ reference) above the right ones.

    Counted within `band_mm` of the reference's surface; far from it every voxel is easy, and the
    number would be too good. NaN without such a band, or when all of it is right or wrong.
    """
    from ..nn.level_sets import signed_distance

    band = np.zeros(reference.shape, bool)
    for value in np.unique(reference):
        if value != 0:
            distance = signed_distance(reference == value, spacing, 2 * band_mm)
            band |= np.abs(distance) <= band_mm
    return auroc(uncertainty[band], labels[band] != reference[band])


def auroc(scores: np.ndarray, positives: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counted half; NaN if undefined."""
    positives = np.asarray(positives, bool).ravel()
    count = int(positives.sum())
    others = positives.size - count
    if count == 0 or others == 0:
        return math.nan
    rank_sum = _ranks(np.asarray(scores).ravel())[positives].sum()
    return float((rank_sum - count * (count + 1) / 2) / (count * others))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation, pairs with NaN left out; NaN below 2 pairs or for a constant series."""
    a, b = np.asarray(a, float).ravel(), np.asarray(b, float).ravel()
    known = np.isfinite(a) & np.isfinite(b)
    x, y = _ranks(a[known]), _ranks(b[known])
    if x.size < 2:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale else math.nan


def summary(rows: Iterable[Mapping[str, float]]) -> dict[str, Summary]:
    """Mean ± sd of each measure over cases (rows by name of measure), NaN left out and counted."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: _summary([row.get(name, math.nan) for row in rows]) for name in names}


def known_mean(values: Iterable[float]) -> float:
    """Mean of those that exist, NaN if none does."""
    known = [v for v in values if not math.isnan(v)]
    return float(np.mean(known)) if known else math.nan


def _summary(values: list[float]) -> Summary:
    known = np.array([v for v in values if not math.isnan(v)], float)
    mean = float(known.mean()) if known.size else math.nan
    sd = float(known.std(ddof=1)) if known.size > 1 else math.nan
    return Summary(mean, sd, known.size, len(values) - known.size)


def _distances(to_reference: np.ndarray, to_prediction: np.ndarray) -> tuple[float, float]:
    """ASD and 95HD."""
    if not to_reference.size:
        return math.nan, math.nan
    both = np.concatenate([to_reference, to_prediction])
    return float(to_reference.mean()), float(np.percentile(both, 95))


def _counts(prediction: np.ndarray, reference: np.ndarray) -> tuple[int, int]:
    a, b = np.asarray(prediction) != 0, np.asarray(reference) != 0
    return int(np.count_nonzero(a & b)), int(np.count_nonzero(a) + np.count_nonzero(b))


def _cropped(prediction: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both masks cut to the box that holds both: what is beyond changes no measure.

    Beyond the box's edge there is only background, which is also what erosion assumes there.
    """
    a, b = np.asarray(prediction) != 0, np.asarray(reference) != 0
    if a.shape != b.shape:
        raise ValueError(f"masks of different shapes: {a.shape} and {b.shape}")
    box = bounding_box(a | b)
    return a[box], b[box]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, the mean rank for ties."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place.ravel()]
