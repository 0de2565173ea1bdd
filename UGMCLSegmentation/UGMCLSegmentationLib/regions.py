"""Where the model is unsure: connected regions of high uncertainty, the worst first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from UGMCLSegmentationLib import geometry

_LEVEL = 0.5  # of the normalized entropy; half of the largest value where nothing reaches it
_LEAST = 0.05  # below that nothing is worth a look
_SMALLEST = 5  # voxels
_MOST = 30  # regions


@dataclass(frozen=True)
class Region:
    """A region: its most uncertain voxel (i, j, k), size and mean uncertainty."""

    ijk: tuple[int, int, int]
    milliliters: float
    mean: float


def find(uncertaintyNode) -> list[Region]:
    """The regions of an uncertainty volume, by the sum of their voxels."""
    import SimpleITK as sitk  # here: it costs a quarter of a second

    array = slicer.util.arrayFromVolume(uncertaintyNode)
    peak = float(array.max())
    if peak < _LEAST:
        return []
    mask = array >= min(_LEVEL, peak / 2)
    spans = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        spans.append(slice(int(used[0]), int(used[-1]) + 1))
    cut = tuple(spans)
    components = sitk.ConnectedComponent(sitk.GetImageFromArray(mask[cut].astype(np.uint8)))
    statistics = sitk.LabelIntensityStatisticsImageFilter()
    statistics.Execute(components, sitk.GetImageFromArray(np.ascontiguousarray(array[cut])))
    voxel = float(np.prod(uncertaintyNode.GetSpacing())) / 1000.0
    found = []
    for label in statistics.GetLabels():
        count = statistics.GetNumberOfPixels(label)
        if count < _SMALLEST:
            continue
        i, j, k = statistics.GetMaximumIndex(label)
        ijk = (i + cut[2].start, j + cut[1].start, k + cut[0].start)
        mean = statistics.GetMean(label)
        found.append((mean * count, Region(ijk, count * voxel, mean)))
    found.sort(key=lambda pair: (-pair[0], pair[1].ijk))
    return [region for _sum, region in found[:_MOST]]


def jump(uncertaintyNode, region: Region) -> tuple[float, float, float]:
    """Center all slice views on the region; returns the place in world coordinates."""
    local = geometry.ijkToRas(uncertaintyNode) @ np.array([*region.ijk, 1.0])
    toWorld = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        uncertaintyNode.GetParentTransformNode(), None, toWorld
    )
    place = toWorld.TransformPoint(local[:3].tolist())
    slicer.vtkMRMLSliceNode.JumpAllSlices(
        slicer.mrmlScene, *place, slicer.vtkMRMLSliceNode.CenteredJumpSlice
    )
    return place
