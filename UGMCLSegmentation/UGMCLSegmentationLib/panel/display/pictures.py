"""Colored copies of the overlays for the slice views, whose opacity rises with the value.

Slicer shows a voxel of a scalar volume or does not: it takes any alpha of a color table but 0 for
1. Volumes of RGBA voxels are blended as they are. A picture only serves the display: it is not
saved, the user does not see it in lists, and it covers the visible voxels alone. There is one for
each overlay, empty while that is not shown: nodes that come and go would disturb whoever follows
the scene. To color very many voxels would keep Slicer from answering: such a volume is shown as it
is. A scan of any usual size is not one: the band of a surface is a small part of it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk

from UGMCLSegmentationLib.scene import arrays, overlays, results, volumes
from UGMCLSegmentationLib.scene.overlays import Overlay

_PREFIX = "picture of "  # of the value of results.OVERLAY, before the role
_STATE = "UGMCLSegmentation.Pictured"  # attribute: see `_state`
MOST = 4_000_000  # voxels of a picture, which take less than 0.1 s
MOST_SEARCHED = 100_000_000  # voxels of a volume, whose visible ones are found in that time


def of(volumeNode, overlay: Overlay):
    """The picture of an overlay, which shows this volume of it; the volume itself if the picture
    would be very large, or empty."""
    if volumeNode.GetImageData().GetNumberOfPoints() > MOST_SEARCHED:
        return volumeNode
    made = _find(overlay) or _add(overlay)
    state = _state(volumeNode)
    if made.GetAttribute(_STATE) != state:
        _fill(made, volumeNode, overlay)
        made.SetAttribute(_STATE, state)
    made.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    return made if made.GetImageData() is not None else volumeNode


def isPicture(node) -> bool:
    return node is not None and (node.GetAttribute(results.OVERLAY) or "").startswith(_PREFIX)


def emptyOthers(shown: Collection) -> None:
    """Free the memory of all pictures but these."""
    for overlay in overlays.OVERLAYS:
        node = _find(overlay)
        if node is not None and node not in shown:
            node.SetAttribute(_STATE, None)
            node.SetAndObserveImageData(None)


def _find(overlay: Overlay):
    nodes = slicer.util.getNodesByClass("vtkMRMLVectorVolumeNode")
    value = _PREFIX + overlay.role
    return next((n for n in nodes if n.GetAttribute(results.OVERLAY) == value), None)


def _add(overlay: Overlay):
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLVectorVolumeNode")
    node.UnRegister(None)
    node.SetName(_("{overlay} in slices").format(overlay=overlay.title))
    node.SetAttribute(results.OVERLAY, _PREFIX + overlay.role)
    node.SetSaveWithScene(False)
    node.SetHideFromEditors(True)  # before it is added, so that the hierarchy does not show it
    node = slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, 255.0)
    return node


def _state(volumeNode) -> str:
    """A text that changes with the voxels, their display and their position."""
    display = volumeNode.GetDisplayNode()
    shown = (volumeNode.GetID(), volumeNode.GetImageData().GetMTime(),
             display.GetWindowLevelMin(), display.GetWindowLevelMax(),
             display.GetLowerThreshold(), display.GetUpperThreshold(),
             volumes.ijkToRas(volumeNode).tolist())  # fmt: skip
    return str(shown)


def _fill(node, volumeNode, overlay: Overlay) -> None:
    """The visible voxels of the volume in the overlay's colors, none if they are too many."""
    display = volumeNode.GetDisplayNode()
    array = arrays.voxels(volumeNode.GetImageData())  # k, j, i
    visible = array >= display.GetLowerThreshold()
    visible &= array <= display.GetUpperThreshold()
    box = arrays.tightBox(visible)
    if box is None or array[box].size > MOST:
        node.SetAndObserveImageData(None)
        return
    low, high = display.GetWindowLevelMin(), display.GetWindowLevelMax()
    colors = overlays.rgba(overlay).view(np.uint32).ravel()  # a voxel in one piece: 4 times faster
    most = len(colors) - 1
    rows = np.clip((array[box] - low) * (most / (high - low)), 0, most).astype(np.uint8)
    voxels = colors.take(rows)
    voxels *= visible[box]
    image = vtk.vtkImageData()
    image.SetDimensions(rows.shape[::-1])
    bytes_ = voxels.view(np.uint8).reshape(-1, 4)
    image.GetPointData().SetScalars(numpy_to_vtk(bytes_, deep=True))
    corner = tuple(part.start for part in reversed(box))
    matrix = volumes.Box(corner, corner).matrix(volumes.ijkToRas(volumeNode))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveImageData(image)
