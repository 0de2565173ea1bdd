"""The surface of a segmentation, and whether making it would take long.

Slicer does not respond while it makes a surface. It takes 3 to 4 µs for each face between a voxel
inside and one outside: 0.1 s for an atrium, a minute for noise.
"""

from __future__ import annotations

import numpy as np
import slicer

from UGMCLSegmentationLib.scene import arrays
from UGMCLSegmentationLib.scene.results import LABELMAP

MOST_FACES = 200_000  # limit for automatic creation: three times an atrium of the finest scans
_MOST_VOXELS = 8_000_000  # to count the faces from


def isMade(segmentationNode) -> bool:
    name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    return segmentationNode.GetSegmentation().ContainsRepresentation(name)


def make(segmentationNode) -> None:
    if segmentationNode.GetSegmentation().GetNumberOfSegments():
        segmentationNode.CreateClosedSurfaceRepresentation()


def faces(segmentationNode) -> int:
    """The approximate number of faces between the voxels of segments and other voxels."""
    segmentation = segmentationNode.GetSegmentation()
    count = 0
    for layer in range(segmentation.GetNumberOfLayers(LABELMAP)):
        image = segmentation.GetLayerDataObject(layer, LABELMAP)
        scalars = image.GetPointData().GetScalars() if image is not None else None
        if scalars is not None and scalars.GetNumberOfTuples():
            count += _facesOf(arrays.voxels(image))
    return count


def _facesOf(labels: np.ndarray) -> int:
    """The faces in a k, j, i array surrounded by background, estimated from every n-th slice of a
    large one."""
    step = -(-labels.size // _MOST_VOXELS)
    slices = labels[::step]
    count = sum(np.count_nonzero(side) for side in (labels[0], labels[-1]))
    count += step * np.count_nonzero(labels[:-1:step] != labels[1::step])
    for axis in (1, 2):
        rows = slices.swapaxes(0, axis)
        count += step * np.count_nonzero(rows[:-1] != rows[1:])
        count += step * sum(np.count_nonzero(side) for side in (rows[0], rows[-1]))
    return int(count)
