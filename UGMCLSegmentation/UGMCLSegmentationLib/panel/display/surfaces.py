"""The surface of a segmentation, and whether making it would keep the user waiting.

Slicer makes a surface in one step, during which nothing else happens. It takes 3 to 4 µs for each
face between a voxel inside and one outside: 0.1 s for an atrium, a minute for noise.
"""

from __future__ import annotations

import numpy as np
import slicer
from vtk.util.numpy_support import vtk_to_numpy

from UGMCLSegmentationLib.scene.results import LABELMAP

MOST_FACES = 200_000  # of what is made unasked: three times an atrium of the finest scans
_MOST_VOXELS = 8_000_000  # that are looked at


def isMade(segmentationNode) -> bool:
    name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    return segmentationNode.GetSegmentation().ContainsRepresentation(name)


def make(segmentationNode) -> None:
    if segmentationNode.GetSegmentation().GetNumberOfSegments():
        segmentationNode.CreateClosedSurfaceRepresentation()


def faces(segmentationNode) -> int:
    """About how many faces the voxels of all segments have to others."""
    segmentation = segmentationNode.GetSegmentation()
    count = 0
    for layer in range(segmentation.GetNumberOfLayers(LABELMAP)):
        image = segmentation.GetLayerDataObject(layer, LABELMAP)
        scalars = image.GetPointData().GetScalars() if image is not None else None
        if scalars is not None and scalars.GetNumberOfTuples():
            count += _facesOf(vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1]))
    return count


def _facesOf(labels: np.ndarray) -> int:
    """Of a k, j, i array, whose outside is background; from every n-th slice of a large one."""
    step = -(-labels.size // _MOST_VOXELS)
    slices = labels[::step]
    count = sum(np.count_nonzero(side) for side in (labels[0], labels[-1]))
    count += step * np.count_nonzero(labels[:-1:step] != labels[1::step])
    for axis in (1, 2):
        rows = slices.swapaxes(0, axis)
        count += step * np.count_nonzero(rows[:-1] != rows[1:])
        count += step * sum(np.count_nonzero(side) for side in (rows[0], rows[-1]))
    return int(count)
