"""Index boxes and matrices of volumes; arrays from MRML are k, j, i, indices here i, j, k."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError

_TOLERANCE = 1e-4  # voxels: a face that touches a voxel's border does not include the voxel


@dataclass(frozen=True)
class Box:
    """Voxels `start` up to, but not including, `stop` (i, j, k)."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """To cut the box out of a k, j, i array."""
        i, j, k = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return k, j, i

    def matrix(self, ijkToRas: np.ndarray) -> np.ndarray:
        """The IJK to RAS matrix of the cut-out volume."""
        result = np.array(ijkToRas, float)
        result[:3, 3] = (ijkToRas @ np.array([*self.start, 1.0]))[:3]
        return result


def ijkToRas(volumeNode) -> np.ndarray:
    """Of the volume itself: parent transforms are not included."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def dimensions(volumeNode) -> tuple[int, int, int]:
    """Voxels along i, j, k; zeros without image data."""
    image = volumeNode.GetImageData()
    return tuple(image.GetDimensions()) if image else (0, 0, 0)


def fullBox(volumeNode) -> Box:
    return Box((0, 0, 0), dimensions(volumeNode))


def roiBox(roiNode, volumeNode) -> Box:
    """The smallest index box of `volumeNode` that contains the ROI, however it is rotated.

    A voxel belongs to it as soon as the ROI reaches into the voxel's cell.
    """
    if min(roiNode.GetSize()) <= 0:
        raise PanelError(_("The region is empty: place it in the views or choose Whole volume."))
    objectToWorld = slicer.util.arrayFromVTKMatrix(roiNode.GetObjectToWorldMatrix())
    half = np.array(roiNode.GetSize()) / 2.0
    signs = np.array(list(itertools.product((-1, 1), repeat=3)), float)
    corners = np.c_[signs * half, np.ones(8)] @ objectToWorld.T
    toVolume = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        None, volumeNode.GetParentTransformNode(), toVolume
    )
    local = np.array([[*toVolume.TransformPoint(c[:3]), 1.0] for c in corners])
    indices = (local @ np.linalg.inv(ijkToRas(volumeNode)).T)[:, :3]
    size = np.array(dimensions(volumeNode))
    start = np.floor(indices.min(0) + 0.5 + _TOLERANCE).astype(int)
    stop = np.ceil(indices.max(0) + 0.5 - _TOLERANCE).astype(int)
    start, stop = np.maximum(start, 0), np.minimum(stop, size)
    if not np.isfinite(indices).all() or (stop <= start).any():
        raise PanelError(
            _("The region lies outside the volume: move it, or choose Whole volume instead.")
        )
    return Box(tuple(int(v) for v in start), tuple(int(v) for v in stop))
