"""The surface of a result in the colors of its surface error, in place of the plain one.

It is a model that only serves the display: it is not saved, and the user does not see it in lists.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util import numpy_support

from UGMCLSegmentationLib.panel.display import legends
from UGMCLSegmentationLib.scene import (
    arrays,
    corrections,
    overlays,
    results,
    taggedNodes,
    volumes,
)

_KIND = "surface"  # value of results.OVERLAY
_UNKNOWN = (0.62, 0.62, 0.62, 1.0)  # edited since the run, or where its error does not reach


def show(segmentationNode, errorNode, hasLegend: bool) -> None:
    """Color the segments that are visible in 3D by the error at their surface."""
    surface = _merged(segmentationNode)
    values = _errors(surface, errorNode, corrections.changes(segmentationNode) or ())
    surface.GetPointData().SetScalars(values)
    node = taggedNodes.findOrAdd(
        "vtkMRMLModelNode", results.OVERLAY, _KIND, _("Surface error in 3D")
    )
    node.SetSaveWithScene(False)
    node.SetHideFromEditors(True)
    node.SetAndObserveTransformNodeID(segmentationNode.GetTransformNodeID())
    node.SetAndObservePolyData(surface)
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    overlay = overlays.of(overlays.SURFACE_ERROR)
    table = overlays.colorTable(overlay)
    table.GetLookupTable().SetNanColor(*_UNKNOWN)
    modified = display.StartModify()
    display.SetVisibility2D(False)
    display.SetActiveScalar(values.GetName(), vtk.vtkAssignAttribute.POINT_DATA)
    display.SetAndObserveColorNodeID(table.GetID())
    display.SetScalarRangeFlag(slicer.vtkMRMLDisplayNode.UseManualScalarRange)
    display.SetScalarRange(*overlay.range)
    display.SetScalarVisibility(True)
    display.SetVisibility(True)
    display.EndModify(modified)
    legends.applyToSurface(node, overlay, hasLegend)


def hide() -> None:
    node = find()
    if node is not None:
        slicer.mrmlScene.RemoveNode(node)


def find():
    """The model, or None."""
    return taggedNodes.find("vtkMRMLModelNode", results.OVERLAY, _KIND)


def _merged(segmentationNode):
    """One surface of all segments that are visible, in the coordinates of the node."""
    display = segmentationNode.GetDisplayNode()
    merge = vtk.vtkAppendPolyData()
    for identifier, _segment in results.segmentsOf(segmentationNode):
        part = vtk.vtkPolyData()
        if display.GetSegmentVisibility(identifier):
            segmentationNode.GetClosedSurfaceRepresentation(identifier, part)
        merge.AddInputData(part)
    merge.Update()
    surface = vtk.vtkPolyData()
    surface.ShallowCopy(merge.GetOutput())
    return surface


def _errors(surface, errorNode, edited: Sequence[corrections.Mask]):
    """The error at each point of the surface: the greatest of the eight voxels around it, since
    the error is 0 beside the band; NaN where all are 0, or where one was edited: the error is that
    of the run's surface."""
    count = surface.GetNumberOfPoints()
    found = np.full(count, np.nan, np.float32)
    if count:
        points = numpy_support.vtk_to_numpy(surface.GetPoints().GetData())
        toVoxels = np.linalg.inv(volumes.ijkToRas(errorNode))
        ijk = points @ toVoxels[:3, :3].T + toVoxels[:3, 3]
        array = arrays.voxels(errorNode.GetImageData())  # k, j, i
        most = np.array(array.shape[::-1]) - 1
        greatest, isEdited = np.zeros(count, np.float32), np.zeros(count, bool)
        for corner in np.ndindex(2, 2, 2):
            i, j, k = np.clip(np.floor(ijk).astype(int) + corner, 0, most).T
            np.maximum(greatest, array[k, j, i], out=greatest)
            for mask in edited:
                isEdited |= _within(mask, np.stack((k, j, i)))
        found = np.where((greatest > 0) & ~isEdited, greatest, found)
    values = numpy_support.numpy_to_vtk(found, deep=True)
    values.SetName("SurfaceError")
    return values


def _within(mask: corrections.Mask, voxels: np.ndarray) -> np.ndarray:
    """Which of the voxels (3, n; k, j, i) the mask holds."""
    inside = voxels - np.reshape(mask.start, (3, 1))
    size = np.reshape(mask.voxels.shape, (3, 1))
    found = ((inside >= 0) & (inside < size)).all(axis=0)
    found[found] = mask.voxels[tuple(inside[:, found])]
    return found
