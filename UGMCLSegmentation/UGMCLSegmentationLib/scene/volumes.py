"""Volumes of the scene: checks, regions, and the file that the worker reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ugmcl_core.data.limits import MOST_SKEW, SPACING_LIMITS_MM
from UGMCLSegmentationLib.errors import PanelError, explaining
from UGMCLSegmentationLib.scene import nrrd, results


def check(volumeNode) -> None:
    """Raise PanelError if the volume cannot be segmented. Takes no time.

    What takes a look at every voxel (constant, NaN, infinite) is the worker's to find.
    """
    if volumeNode is None:
        raise PanelError(_("Select a volume first."))
    name = volumeNode.GetName()
    if results.isResultVolume(volumeNode):
        raise PanelError(
            _("{name} is a result, not a scan: select the volume that it was made from. To "
              "segment it anyway, clone it first (Data module).").format(name=name)
        )  # fmt: skip
    image = volumeNode.GetImageData()
    if image is None or min(dimensions(volumeNode)) < 1:
        raise PanelError(_("{name} is empty: load its image first.").format(name=name))
    if image.GetNumberOfScalarComponents() != 1:
        raise PanelError(
            _("{name} has {n} components per voxel: select a scalar volume.").format(
                name=name, n=image.GetNumberOfScalarComponents()
            )
        )
    if min(dimensions(volumeNode)) < 2:
        raise PanelError(_("{name} is a single slice: select a 3D volume.").format(name=name))
    _checkAxes(volumeNode)
    refuseNonLinear(volumeNode)


def refuseNonLinear(node) -> None:
    """Raise PanelError if the volume or region is under a non-linear transform."""
    transform = node.GetParentTransformNode()
    if transform is not None and not transform.IsTransformToWorldLinear():
        raise PanelError(
            _("{name} is under a non-linear transform: harden it first (Data module).").format(
                name=node.GetName()
            )
        )


def _checkAxes(volumeNode) -> None:
    """Raise PanelError unless the spacing is that of an image and the axes are at right angles.

    The worker checks the same, but it knows files only and could not name the volume.
    """
    name = volumeNode.GetName()
    axes = ijkToRas(volumeNode)[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    smallest, largest = SPACING_LIMITS_MM
    if not all(smallest <= size <= largest for size in spacing):  # NaN is neither
        raise PanelError(
            _("{name} has an impossible voxel spacing, {spacing} mm: correct it in the Volumes "
              "module.").format(name=name, spacing=" × ".join(f"{size:g}" for size in spacing))
        )  # fmt: skip
    axes = axes / spacing
    if np.abs(axes.T @ axes - np.eye(3)).max() > MOST_SKEW:
        raise PanelError(
            _("The axes of {name} are not at right angles (sheared): resample it onto a regular "
              "grid first (module Resample Scalar/Vector/DWI Volume).").format(name=name)
        )  # fmt: skip


def box(volumeNode, roiNode) -> Box:
    """The part of the volume that the worker gets. Raises PanelError if there is none."""
    if roiNode is None:
        return fullBox(volumeNode)
    refuseNonLinear(roiNode)
    return roiBox(roiNode, volumeNode)


def write(volumeNode, part: Box, path: Path) -> Iterator[None]:
    """Write the part as NRRD in the volume's own space, without its parent transforms."""
    array = slicer.util.arrayFromVolume(volumeNode)[part.slices]
    with explaining(_("The temporary volume cannot be written: {why}.")):
        yield from nrrd.write(path, array, part.matrix(ijkToRas(volumeNode)))


def fitRegion(roiNode, volumeNode) -> None:
    """Fit a new region to the whole volume, for the user to shrink."""
    bounds = [0.0] * 6
    volumeNode.GetRASBounds(bounds)
    roiNode.CreateDefaultDisplayNodes()
    roiNode.SetCenterWorld([(bounds[n] + bounds[n + 1]) / 2 for n in (0, 2, 4)])
    roiNode.SetSizeWorld([bounds[n + 1] - bounds[n] for n in (0, 2, 4)])


_TOLERANCE = 1e-4  # voxels: a face that touches a voxel's border does not include the voxel


@dataclass(frozen=True)
class Box:
    """Voxels `start` up to, but not including, `stop` (i, j, k)."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The slices that cut the box out of a k, j, i array."""
        i, j, k = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return k, j, i

    def matrix(self, ijkToRas: np.ndarray) -> np.ndarray:
        """The IJK to RAS matrix of the cut-out volume."""
        result = np.array(ijkToRas, float)
        result[:3, 3] = (ijkToRas @ np.array([*self.start, 1.0]))[:3]
        return result


def ijkToRas(volumeNode) -> np.ndarray:
    """The matrix of the volume itself, without parent transforms."""
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


def images() -> list:
    """The volumes of the scene that may be cases: images, without results of this module."""
    return [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetAttribute(results.ROLE)
        and not node.GetHideFromEditors()
    ]


def segmentationsOf(volumeNode) -> list:
    """The segmentations whose reference is this volume."""
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        if node.GetNodeReference(role) is volumeNode and not node.GetAttribute(results.OVERLAY)
    ]
