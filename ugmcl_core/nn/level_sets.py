"""The transform between masks and level sets: T(y), Eq. 1, and its inverse T⁻¹(z), Eq. 5."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def signed_distance(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Signed Euclidean distance in mm to the boundary of ``mask`` (I, J, K); negative inside.

    The boundary lies between voxels: φ = ½ (D(mask) - D(complement)) with D the signed Maurer map
    of each, so the voxels beside it are at ± half a voxel and ``φ < 0`` is the mask exactly. A
    mask without boundary gives -inf (full) or +inf (empty) everywhere. Returns float32.
    """
    import SimpleITK as sitk

    mask = mask > 0
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    if mask.all():
        return np.full(mask.shape, -np.inf, np.float32)
    # as it lies in memory, which differs between files and arrays made here
    order = sorted(range(3), key=lambda axis: -mask.strides[axis])
    mask = mask.transpose(order)
    image = sitk.GetImageFromArray(mask.view(np.uint8))
    image.SetSpacing([float(spacing[axis]) for axis in reversed(order)])

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
    return of_mask.transpose([order.index(axis) for axis in range(3)])


def published_distance(distance: np.ndarray) -> np.ndarray:
    """T(y) as published: inside and outside each divided by their maximum over the volume.

    ``distance`` is the signed distance of `signed_distance`; an absent class gives +1.
    """
    if not np.isfinite(distance).all():
        return np.sign(distance).astype(np.float32)
    inside, outside = -distance.min(), distance.max()
    return np.where(distance < 0, distance / inside, distance / outside).astype(np.float32)


def truncated_distance(distance: np.ndarray, scale: float) -> np.ndarray:
    """T(y) with a known unit: clamp(φ / scale, -1, 1), ``scale`` in mm. The default here."""
    return np.clip(distance / scale, -1.0, 1.0).astype(np.float32, copy=False)


def to_mask(level_set: torch.Tensor, sharpness: float) -> torch.Tensor:
    """T⁻¹(z) = sigmoid(-k z), Eq. 5 (the paper prints it without the minus that Eq. 1 needs).

    ``sharpness`` is k: 1500 for the published normalization; for the truncated one give k per mm
    times the scale. Computed in float32, since it saturates in half precision.
    """
    return (-sharpness * level_set.float()).sigmoid()
