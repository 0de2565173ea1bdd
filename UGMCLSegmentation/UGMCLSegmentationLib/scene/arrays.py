"""Arrays of voxels, in the order k, j, i."""

from __future__ import annotations

import numpy as np
from vtk.util.numpy_support import vtk_to_numpy


def voxels(image) -> np.ndarray:
    """The voxels of a vtkImageData, which owns them."""
    scalars = image.GetPointData().GetScalars()
    return vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])


def tightBox(array: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The smallest box around the voxels that are not 0; None if all are."""
    others = ((1, 2), (0, 2), (0, 1))
    used = [np.flatnonzero(array.any(axis=axes)) for axes in others]
    if not used[0].size:
        return None
    k, j, i = (slice(int(u[0]), int(u[-1]) + 1) for u in used)
    return k, j, i
