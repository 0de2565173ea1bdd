"""From a volume to the input of a network of nnU-Net, as nnU-Net itself prepares it.

    volume → region of interest → what is not 0 → normalized → model's spacing, by splines

The axes stay those of the file. Sources: `DefaultPreprocessor` and `resample_data_or_seg` of
nnunetv2 2.8 (Isensee et al., "nnU-Net", Nature Methods 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .components import bounding_box
from .preprocessing import (
    Normalization,
    Normalizations,
    Prepared,
    interpolation,
    model_shape,
    refuse_constant,
    region_of,
)
from .volume import Volume

if TYPE_CHECKING:
    from torch import Tensor

_ANISOTROPIC = 3.0  # ratio of the spacings from which slices are resampled separately


def prepare(
    volumes: Sequence[Volume],
    spacing: Sequence[float],
    normalization: Normalizations,
    roi: Sequence[float] | None = None,
) -> Prepared:
    """Prepare one volume for each input channel for a model of nnU-Net; ``spacing`` is by the axes
    of the file. Arguments and errors as of `preprocessing.prepare`."""
    import torch

    grid, box = region_of(volumes, roi)
    arrays = [np.array(v.array[box], np.float32, copy=True) for v in volumes]
    known = np.logical_or.reduce([a != 0 for a in arrays])
    if not known.any():
        refuse_constant()
    inner = bounding_box(known)
    box = tuple(
        slice(o.start + i.start, o.start + i.stop) for o, i in zip(box, inner, strict=True)
    )
    each = normalization
    if isinstance(each, Normalization):
        each = (each,) * len(arrays)
    if any(own.kind == "z-score-nonzero" for own in each):
        known = _filled(known[inner])
    size = model_shape([s.stop - s.start for s in inner], grid.spacing, spacing)
    prepared = [
        resample(_normalized(a[inner], own, known), size, grid.spacing, spacing)
        for a, own in zip(arrays, each, strict=True)
    ]
    true = tuple(
        float((s.stop - s.start) * mm / m)
        for s, mm, m in zip(inner, grid.spacing, size, strict=True)
    )
    image = torch.from_numpy(np.stack(prepared))
    shape = [s.stop - s.start for s in inner]
    back = _way_back(size, shape, _thick(spacing, grid.spacing))
    return Prepared(image, true, grid, box, (0, 1, 2), (False,) * 3, back)


def _way_back(
    size: Sequence[int], shape: Sequence[int], thick: int | None
) -> tuple[Tensor, Tensor, Tensor] | None:
    """`Prepared.weights`: the nearest slice is taken along a ``thick`` axis."""
    import torch

    if thick is None:
        return None
    weights = [interpolation(old, new) for old, new in zip(size, shape, strict=True)]
    weights[thick] = torch.eye(size[thick])[_nearest(size[thick], shape[thick])]
    return tuple(weights)


def _nearest(old: int, new: int) -> np.ndarray:
    """Which of ``old`` voxels of an axis each of ``new`` ones lies in, faces aligned."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def _filled(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_fill_holes

    return binary_fill_holes(mask)


def _normalized(array: np.ndarray, own: Normalization, known: np.ndarray) -> np.ndarray:
    """``array`` normalized; z-scores of all its voxels, or (nonzero) of the ``known`` ones, others
    staying as they are."""
    if own.kind not in ("z-score", "z-score-nonzero"):
        return own(array)
    where = known if own.kind == "z-score-nonzero" else np.ones(array.shape, bool)
    values = array[where]
    array[where] = (values - values.mean()) / max(values.std(), 1e-8)
    return array


def resample(
    array: np.ndarray,
    shape: Sequence[int],
    spacing: Sequence[float],
    wanted: Sequence[float],
) -> np.ndarray:
    """(I, J, K) to ``shape`` by cubic splines, faces aligned, within its own range. Where one axis
    is much coarser than another, in ``spacing`` (mm) or the ``wanted`` one, slices are resampled
    separately, and along that axis the nearest one is taken."""
    if array.shape == tuple(shape):
        return array
    thick = _thick(spacing, wanted)
    if thick is None:
        return _spline(array, shape)
    flat = [n for axis, n in enumerate(shape) if axis != thick]
    planes = (array.take(n, thick) for n in range(array.shape[thick]))
    found = np.stack([_spline(plane, flat) for plane in planes], thick)
    return found.take(_nearest(array.shape[thick], shape[thick]), thick)


def _thick(*spacings: Sequence[float]) -> int | None:
    """The axis of thick slices in the first of the spacings that has one, None without one."""
    for spacing in spacings:
        most = max(spacing)
        if most / min(spacing) > _ANISOTROPIC and list(spacing).count(most) == 1:
            return list(spacing).index(most)
    return None


def _spline(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """`skimage.transform.resize` of order 3 with the edge continued."""
    from scipy import ndimage

    if array.shape == tuple(shape):
        return array
    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    found = ndimage.zoom(
        array.astype(np.float64), factors, order=3, mode="nearest", grid_mode=True
    )
    return np.clip(found, array.min(), array.max()).astype(np.float32)
