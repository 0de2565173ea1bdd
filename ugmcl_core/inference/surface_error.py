"""How far a predicted surface may be off, in mm, at each of its points.

The entropy of Eq. 3 is near its maximum on every predicted surface, by definition, and so does not
show where the surface is wrong. Its width does: where the samples (Monte Carlo passes, mirrored
views) put the surface in different places, probabilities rise slowly across it. Along the normal
n of a surface at 0, whose true place has the distribution function that the samples' mean
probability p describes, the expected offset is

    E|n| = ∫ min(p, 1 - p) dn,

and so per area of the surface, within a reach of 4 mm that covers the normal as well as the
neighboring points,

    r = G * min(p, 1 - p) / G * a,

with G a Gaussian and a the area of the surface in a voxel, all in mm. Uncertainty that extends
beyond G counts less, so r is too small where it approaches the reach.

Samples do not show where all of them are wrong. Where a model tends to err, as at the ends of
vessels that readers cut off at different lengths, is known from the scans that it was calibrated
on: r is multiplied by `place_factor`, a function of the place in the structure's own frame.
`Calibration` turns this still overconfident estimate into the bound below which nine of ten points
lie.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..data.components import bounding_box
from ..models.card import PLACES, Calibration
from ..nn.level_sets import signed_distance
from .settings import BAND_MM

REACH_MM = 4.0
"""The standard deviation of G. On ten scans the AUROC for points that are off by more than 3 mm
was best from 3 to 5 mm (Testing/benchmarks/accuracy/surface_error.py)."""
_OTHERS_MM = 10.0
_THIN_MM2 = 1e-4  # per mm³: where there is so little surface, there is none
_FARTHEST = 3.0  # places beyond this many standard deviations were never seen


def expected_offset(
    probability: np.ndarray,
    mask: np.ndarray,
    spacing: tuple[float, float, float],
    weights: Sequence[float] = (0.0,) * PLACES,
) -> np.ndarray:
    """r in mm (I, J, K) float32 of a structure's mean ``probability`` and its predicted ``mask``,
    both (I, J, K), at ``spacing`` mm, with the ``weights`` of its `place_factor`; right on the
    surface and continued from there to the nearest voxels. 0 everywhere where the mask has no
    surface."""
    from scipy import ndimage

    surface = surface_voxels(mask)
    result = np.zeros(mask.shape, np.float32)
    if not surface.any():
        return result
    margin = [math.ceil((3.0 * REACH_MM + BAND_MM) / s) for s in spacing]
    where = bounding_box(mask, margin)
    inside, p = mask[where].astype(np.float32), probability[where].astype(np.float32)
    reach = [REACH_MM / s for s in spacing]
    doubt = ndimage.gaussian_filter(np.minimum(p, 1.0 - p), reach, truncate=3.0)
    area = ndimage.gaussian_filter(_area(inside, spacing), reach, truncate=3.0)
    offset = doubt / np.maximum(area, _THIN_MM2)
    if any(weights):
        points = surface[where]
        offset[points] *= place_factor(places(points, spacing), weights)
    nearest = ndimage.distance_transform_edt(
        ~surface[where], sampling=spacing, return_distances=False, return_indices=True
    )
    result[where] = offset[tuple(nearest)]
    return result


def places(surface: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """The places of the N voxels of a ``surface`` (I, J, K) in its own frame: by axis, the
    distance to their mean in their standard deviations, at most 3; (3, N)."""
    at = np.argwhere(surface) * spacing
    found = (at - at.mean(axis=0)) / np.maximum(at.std(axis=0), spacing)
    return found.clip(-_FARTHEST, _FARTHEST).astype(np.float32).T


def place_terms(place: np.ndarray) -> np.ndarray:
    """x, y, z, xx - 1, xy, xz, yy - 1, yz and zz - 1 of `places` (3, N): (9, N), each about 0 on
    average over a surface."""
    x, y, z = place
    return np.stack([x, y, z, x * x - 1, x * y, x * z, y * y - 1, y * z, z * z - 1])


def place_factor(place: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """How many times as much the model errs at `places` (3, N): the exponential of their
    `place_terms` times the ``weights``; (N,)."""
    return np.exp(np.tensordot(np.asarray(weights, np.float32), place_terms(place), axes=1))


def surface_voxels(mask: np.ndarray) -> np.ndarray:
    """The voxels of ``mask`` (I, J, K) that have a neighbor outside, across a face; the edge of
    the volume is not a surface."""
    from scipy import ndimage

    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def bound(offset: np.ndarray, calibration: Calibration) -> np.ndarray:
    """The error in mm below which nine of ten points with this `expected_offset` lie."""
    return calibration.factor * offset**calibration.exponent


def near_surface(
    mask: np.ndarray, spacing: tuple[float, float, float], band_mm: float = BAND_MM
) -> tuple[tuple[slice, ...], np.ndarray]:
    """A box around the predicted ``mask`` (I, J, K) that reaches ``band_mm`` beyond it, and the
    distance of its voxels to the surface in mm; infinite without a surface."""
    where = bounding_box(mask, [1 + math.ceil(band_mm / s) for s in spacing])
    return where, np.abs(signed_distance(mask[where], spacing))


def within_reach_only(
    probability: np.ndarray, mask: np.ndarray, spacing: tuple[float, float, float]
) -> np.ndarray:
    """A structure's ``probability`` (I, J, K), with 0 where the predicted ``mask`` (I, J, K) does
    not reach at ``spacing`` mm, more than 10 mm from its surface: what is seen there is another
    structure, and says nothing of this one."""
    result = np.zeros_like(probability)
    if mask.any():
        where, distance = near_surface(mask, spacing, _OTHERS_MM)
        reachable = mask[where] | (distance <= _OTHERS_MM)
        result[where] = np.where(reachable, probability[where], np.float32(0.0))
    return result


def band(
    error: np.ndarray, mask: np.ndarray, distance: np.ndarray, band_mm: float = BAND_MM
) -> np.ndarray:
    """``error`` where the true surface may be: on the surface of ``mask`` and as far from it as
    the error says, ``band_mm`` at most; 0 elsewhere. ``distance`` is that to the surface, all
    (I, J, K)."""
    possible = (distance <= np.minimum(error, band_mm)) | surface_voxels(mask)
    return np.where(possible, error, np.float32(0.0))


def _area(inside: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """The area of a mask's surface in mm² per mm³: the length of the gradient of its smoothed
    indicator ``inside``, whose integral across a flat surface is 1."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(inside, 0.8)
    squares = (np.gradient(smooth, s, axis=a) ** 2
               for a, s in enumerate(spacing) if smooth.shape[a] > 1)  # fmt: skip
    return np.sqrt(sum(squares, np.zeros_like(smooth)))
