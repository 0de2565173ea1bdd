"""Segments as label values on the grid of a volume, in small steps."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ugmcl_core.data.limits import GRID_TOLERANCE
from UGMCLSegmentationLib.errors import PanelError, explaining
from UGMCLSegmentationLib.scene import arrays, nrrd, volumes
from UGMCLSegmentationLib.scene.results import LABELMAP

IGNORE_VALUE = 255  # label of voxels that nobody annotated
_DRAWN = ("Closed surface", "Planar contour")  # of files such as STL and RTSTRUCT


def image(segment) -> Any:
    """The labelmap of a segment, or None if it has none or an empty one."""
    labelmap = segment.GetRepresentation(LABELMAP)
    if labelmap is None or labelmap.GetPointData().GetScalars() is None:
        return None
    extent = labelmap.GetExtent()
    return labelmap if all(extent[2 * a] <= extent[2 * a + 1] for a in range(3)) else None


def isSurface(segment) -> bool:
    """Whether the segment is a surface or contours without a labelmap."""
    hasOther = any(segment.GetRepresentation(name) is not None for name in _DRAWN)
    return hasOther and segment.GetRepresentation(LABELMAP) is None


def isEmpty(segment) -> bool:
    if isSurface(segment):
        return False
    labelmap = image(segment)
    return labelmap is None or not (arrays.voxels(labelmap) == segment.GetLabelValue()).any()


def voxelVolume(segment) -> float:
    """The volume of a segment's labelmap in mm3."""
    labelmap = image(segment)
    if labelmap is None:
        return 0.0
    count = np.count_nonzero(arrays.voxels(labelmap) == segment.GetLabelValue())
    return float(count * np.prod(labelmap.GetSpacing()))


def overlapping(segments: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Pairs of segments, the smaller one first, that share voxels. Only those in different layers
    can; layers of different geometry are left out."""
    found = []
    for one, other in itertools.combinations(segments, 2):
        first, second = image(one), image(other)
        if first is None or second is None or first is second or not _isAligned(first, second):
            continue
        if (_within(first, second) == one.GetLabelValue())[
            _within(second, first) == other.GetLabelValue()
        ].any():
            found.append(tuple(sorted((one, other), key=voxelVolume)))
    return found


def _isAligned(first, second) -> bool:
    """Whether two labelmaps have the same voxels, apart from their extents."""
    matrices = (slicer.util.arrayFromVTKMatrix(_imageToWorld(m)) for m in (first, second))
    return bool(np.allclose(*matrices))


def _within(labelmap, other) -> np.ndarray:
    """The voxels (k, j, i) of a labelmap in the extent that it shares with another one."""
    own, theirs = labelmap.GetExtent(), other.GetExtent()
    parts = []
    for axis in (2, 1, 0):
        low = max(own[2 * axis], theirs[2 * axis])
        high = min(own[2 * axis + 1], theirs[2 * axis + 1])
        parts.append(slice(low - own[2 * axis], max(low, high + 1) - own[2 * axis]))
    return arrays.voxels(labelmap)[tuple(parts)]


def toLabelmap(labelmap, segmentationNode, volumeNode) -> np.ndarray:
    """The matrix from voxels of the volume to voxels of the labelmap's array (i, j, k), parent
    transforms included. Raises PanelError for non-linear ones."""
    ours = slicer.util.arrayFromVTKMatrix(_imageToWorld(labelmap))
    i0, _i1, j0, _j1, k0, _k1 = labelmap.GetExtent()
    shift = np.eye(4)
    shift[:3, 3] = (-i0, -j0, -k0)
    between = vtk.vtkMatrix4x4()
    source, target = volumeNode.GetParentTransformNode(), segmentationNode.GetParentTransformNode()
    if source is not target and not slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(
        source, target, between
    ):
        raise PanelError(
            _("{name} is under a non-linear transform: harden it first (Data module).").format(
                name=segmentationNode.GetName()
            )
        )
    world = slicer.util.arrayFromVTKMatrix(between)
    return shift @ np.linalg.inv(ours) @ world @ volumes.ijkToRas(volumeNode)


def isSameGrid(matrix: np.ndarray, size: tuple[int, int, int]) -> bool:
    """Whether voxels coincide with voxels, so that resampling is unnecessary."""
    offset = np.round(matrix[:3, 3])
    corners = _corners(size)
    moved = corners @ matrix.T
    return bool(np.abs(moved[:, :3] - corners[:, :3] - offset).max() < GRID_TOLERANCE)


def overlaps(matrix: np.ndarray, size: tuple[int, int, int], shape: tuple[int, ...]) -> bool:
    """Whether any voxel of a volume of `size` (i, j, k) can meet an array of `shape` (k, j, i)."""
    places = (_corners(size) @ matrix.T)[:, :3]
    limits = np.array(shape[::-1]) - 0.5
    return bool((places.max(0) > -0.5).all() and (places.min(0) < limits).all())


def build(
    segmentationNode, values: Mapping[str, int], volumeNode
) -> Generator[None, None, np.ndarray]:
    """A generator that returns the k, j, i label array of the volume.

    `values` are the labels by segment identifier. Where segments overlap, the smaller one wins, as
    it would be lost otherwise; the largest value, of voxels that nobody annotated, only fills what
    no other segment holds.
    Raises PanelError if nothing of them lies in the volume.
    """
    segmentation = segmentationNode.GetSegmentation()
    if any(isSurface(segmentation.GetSegment(identifier)) for identifier in values):
        _makeLabelmaps(segmentationNode, volumeNode)
        yield
    size = volumes.dimensions(volumeNode)
    result = np.zeros(size[::-1], np.uint8)
    sizes = {identifier: voxelVolume(segmentation.GetSegment(identifier)) for identifier in values}
    order = sorted(values, key=lambda i: (values[i] == IGNORE_VALUE, sizes[i]), reverse=True)
    isFilled = False
    for identifier in order:
        segment = segmentation.GetSegment(identifier)
        labelmap = image(segment)
        if labelmap is None:
            continue
        matrix = toLabelmap(labelmap, segmentationNode, volumeNode)
        source, label = arrays.voxels(labelmap), segment.GetLabelValue()
        for part in nrrd.slabs(result.shape, 16):  # bytes of the indices of one voxel
            mask = _cut(source, label, matrix, part, size)
            if mask is not None:
                result[part][mask] = values[identifier]
                isFilled = isFilled or bool(mask.any())
            yield
    if not isFilled:
        text = _("{label} has no voxel inside {volume}: choose a segmentation of this volume.")
        raise PanelError(
            text.format(label=segmentationNode.GetName(), volume=volumeNode.GetName())
        )
    return result


def _makeLabelmaps(segmentationNode, volumeNode) -> None:
    """Make labelmaps from surfaces, as the Segment Editor does. The surfaces stay."""
    role = segmentationNode.GetReferenceImageGeometryReferenceRole()
    if segmentationNode.GetNodeReference(role) is None:
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    if not segmentationNode.CreateBinaryLabelmapRepresentation():
        raise PanelError(
            _("{name} cannot be converted to a binary labelmap: do so in Segmentations.").format(
                name=segmentationNode.GetName()
            )
        )


def write(path: Path, segmentationNode, values: Mapping[str, int], volumeNode) -> Iterator[None]:
    """Write the label array as NRRD on the volume's grid. Raises PanelError."""
    array = yield from build(segmentationNode, values, volumeNode)
    yield from _write(path, array, volumeNode)


def writeEmpty(path: Path, volumeNode) -> Iterator[None]:
    """Write a label array without any label on the volume's grid. Raises PanelError."""
    yield from _write(path, np.zeros(volumes.dimensions(volumeNode)[::-1], np.uint8), volumeNode)


def _write(path: Path, array: np.ndarray, volumeNode) -> Iterator[None]:
    text = _("The labels of {name} cannot be written: {why}.")
    with explaining(text, name=volumeNode.GetName()):
        yield from nrrd.write(path, array, volumes.ijkToRas(volumeNode))


def _cut(source, label: int, matrix, part: slice, size) -> np.ndarray | None:
    """Where the slab `part` of the volume lies in the segment, nearest voxel; None for nowhere."""
    if isSameGrid(matrix, size):
        return _shifted(source, label, np.round(matrix[:3, 3]).astype(int), part, size)
    k, j, i = np.meshgrid(
        np.arange(part.start, part.stop), np.arange(size[1]), np.arange(size[0]),
        indexing="ij", sparse=True,
    )  # fmt: skip
    inside, indices = True, []
    for axis in range(3):
        place = matrix[axis, 0] * i + matrix[axis, 1] * j + matrix[axis, 2] * k + matrix[axis, 3]
        index = np.floor(place + 0.5).astype(np.int32)
        limit = source.shape[2 - axis]
        inside = inside & (index >= 0) & (index < limit)
        indices.append(np.clip(index, 0, limit - 1))
    if not inside.any():
        return None
    return inside & (source[indices[2], indices[1], indices[0]] == label)


def _shifted(source, label: int, offset, part: slice, size) -> np.ndarray | None:
    """The same for grids that differ by whole voxels only: no index is computed."""
    limits = (*size[:2], part.stop)
    starts = (0, 0, part.start)
    low = [max(s, -int(o)) for s, o in zip(starts, offset, strict=True)]
    high = [
        min(limit, n - int(o))
        for limit, n, o in zip(limits, source.shape[::-1], offset, strict=True)
    ]
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return None
    mask = np.zeros((part.stop - part.start, size[1], size[0]), bool)
    here = (slice(low[2] - part.start, high[2] - part.start), slice(low[1], high[1]),
            slice(low[0], high[0]))  # fmt: skip
    there = tuple(slice(low[a] + int(offset[a]), high[a] + int(offset[a])) for a in (2, 1, 0))
    mask[here] = source[there] == label
    return mask


def _corners(size: tuple[int, int, int]) -> np.ndarray:
    spans = [(0, n - 1) for n in size]
    return np.array([[*corner, 1.0] for corner in itertools.product(*spans)])


def _imageToWorld(labelmap) -> vtk.vtkMatrix4x4:
    matrix = vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(matrix)
    return matrix
