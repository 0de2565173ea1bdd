"""The transform between masks and level sets: T(y), Eq. 1, and its inverse T⁻¹(z), Eq. 5."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_KEPT = 4.0  # times the scale


def signed_distance(
    mask: np.ndarray, spacing: tuple[float, float, float], reach: float = np.inf
) -> np.ndarray:
    """Signed Euclidean distance in mm to the boundary of ``mask`` (I, J, K); negative inside.

    The boundary lies between voxels: φ = ½ (D(mask) - D(complement)) with D the signed Maurer map
    of each, so the voxels beside it are at ± half a voxel and ``φ < 0`` is the mask exactly. A
    mask without boundary gives -inf (full) or +inf (empty) everywhere. With a ``reach`` in mm, φ
    is clipped there and computed only around the mask, which is quick for a small one in a large
    volume. Returns float32.
    """
    mask = mask > 0
    if not mask.any() or mask.all():
        return np.full(mask.shape, -reach if mask.any() else reach, np.float32)
    # in memory order, which differs between arrays from files and those made here
    order = sorted(range(3), key=lambda axis: -mask.strides[axis])
    back = [order.index(axis) for axis in range(3)]
    mask, steps = mask.transpose(order), [float(spacing[axis]) for axis in order]
    if np.isinf(reach):
        return _distance(mask, steps).transpose(back)
    box = _surroundings(mask, [math.ceil(reach / step) + 1 for step in steps])
    distance = np.full(mask.shape, reach, np.float32)
    np.clip(_distance(mask[box], steps), -reach, reach, out=distance[box])
    return distance.transpose(back)


def _surroundings(mask: np.ndarray, margin: list[int]) -> tuple[slice, ...]:
    """The box around a mask that is not empty, and ``margin`` voxels by axis."""
    from scipy import ndimage

    (box,) = ndimage.find_objects(mask.view(np.uint8))
    return tuple(
        slice(max(0, side.start - more), side.stop + more)
        for side, more in zip(box, margin, strict=True)
    )


def _distance(mask: np.ndarray, spacing: list[float]) -> np.ndarray:
    """`signed_distance` of a mask that has a boundary."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(mask.view(np.uint8))
    image.SetSpacing(spacing[::-1])

    def shell_distance(background: int) -> np.ndarray:
        """Distance of each voxel to the mask's shell (0), or to the complement's (1)."""
        squared = sitk.SignedMaurerDistanceMap(
            image,
            insideIsPositive=False,
            squaredDistance=True,  # signed; NumPy takes the root faster
            useImageSpacing=True,
            backgroundValue=background,
        )
        distance = np.abs(sitk.GetArrayViewFromImage(squared))
        return np.sqrt(distance, out=distance)

    # ITK's own threads leave a fifth of two cores idle, so both maps at once
    with ThreadPoolExecutor(2) as pool:
        of_mask, of_complement = pool.map(shell_distance, (0, 1))
    of_mask += of_complement
    of_mask *= np.float32(0.5) - mask  # half of it, negative inside
    return of_mask


def reach_of(sdf: str, scale: float) -> float:
    """How far in mm `distance_to_store` needs φ."""
    return np.inf if sdf == "published" else _KEPT * scale


def distance_to_store(distance: np.ndarray, sdf: str, scale: float) -> np.ndarray:
    """What a case stores of φ, the result of `signed_distance` in mm, for `level_set`.

    ``truncated``: φ itself, clipped at 4 ``scale`` mm, so that a magnified patch is still right.
    ``published``: φ divided by its maximum over the volume, inside and outside apart, which no
    patch could know; +1 for an absent class.
    """
    if sdf != "published":
        reach = reach_of(sdf, scale)
        return np.clip(distance, -reach, reach)
    if not np.isfinite(distance).all():
        return np.sign(distance).astype(np.float32)
    inside, outside = -distance.min(), distance.max()
    return np.where(distance < 0, distance / inside, distance / outside).astype(np.float32)


def level_set(stored: torch.Tensor, sdf: str, scale: float, zoom: float = 1.0) -> torch.Tensor:
    """T(y), Eq. 1: the level set of each class, -1 inside to 1 outside, 0 on the boundary.

    ``stored`` is what `distance_to_store` made, cut to a patch that is magnified by ``zoom``.
    ``truncated`` gives clamp(φ zoom / scale, -1, 1), which has a known unit; ``published`` is the
    paper's, normalized over the volume.
    """
    if sdf == "truncated":  # magnified structures lie further apart
        stored = stored * zoom / scale
    return stored.clamp(-1.0, 1.0)


def to_mask(level_set: torch.Tensor, sharpness: float) -> torch.Tensor:
    """T⁻¹(z) = sigmoid(-k z), Eq. 5 (the paper prints it without the minus that Eq. 1 needs).

    ``sharpness`` is k: 1500 for the published normalization; for the truncated one give k per mm
    times the scale. Computed in float32, since it saturates in half precision.
    """
    return (-sharpness * level_set.float()).sigmoid()
