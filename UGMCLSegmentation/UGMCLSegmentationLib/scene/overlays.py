"""The color tables of the overlays, made once per scene and saved with it."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.scene import overlays, results

# value from 0 to 1 -> red, green, blue: a diverging scale whose middle, the surface, is light
_DISTANCE = (
    (0.00, (0.05, 0.19, 0.47)),
    (0.25, (0.15, 0.46, 0.74)),
    (0.42, (0.55, 0.78, 0.91)),
    (0.50, (0.98, 0.98, 0.96)),
    (0.58, (0.98, 0.74, 0.55)),
    (0.75, (0.84, 0.36, 0.24)),
    (1.00, (0.45, 0.06, 0.10)),
)
# a sequential scale, dark to bright
_UNCERTAINTY = (
    (0.00, (0.13, 0.03, 0.26)),
    (0.25, (0.42, 0.09, 0.43)),
    (0.50, (0.74, 0.21, 0.33)),
    (0.75, (0.95, 0.48, 0.10)),
    (1.00, (0.99, 0.96, 0.55)),
)
_COLORS = 256


def distanceColors():
    """The node of the diverging scale, centered on 0."""
    return _node("UGMCLDistance", _("Signed distance"), _DISTANCE)


def uncertaintyColors():
    return _node("UGMCLUncertainty", _("Uncertainty"), _UNCERTAINTY)


def _node(tag: str, name: str, points):
    """A singleton, so that loading a saved scene brings no second one."""
    node = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLColorTableNode")
    if node is None:
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLColorTableNode")
        node.UnRegister(None)
        node.SetName(name)
        node.SetSingletonTag(tag)
        node.SetHideFromEditors(False)
        node = slicer.mrmlScene.AddNode(node)
    if node.GetNumberOfColors() != _COLORS:  # new, or saved without its file
        _fill(node, points)
    return node


def _fill(node, points) -> None:
    positions = [p for p, _color in points]
    channels = np.array([rgb for _place, rgb in points])
    node.SetTypeToUser()
    node.SetAttribute("Category", "UGMCL")
    node.SetNumberOfColors(_COLORS)
    for index in range(_COLORS):
        place = index / (_COLORS - 1)
        rgb = [float(np.interp(place, positions, channels[:, c])) for c in range(3)]
        node.SetColor(index, f"{index}", *rgb, 1.0)
    node.GetLookupTable().SetTableRange(0, _COLORS - 1)


def create(volumeNode) -> None:
    """Give a new volume its display before its voxels, so that no histogram is taken."""
    volumeNode.CreateDefaultDisplayNodes()
    node = volumeNode.GetDisplayNode()
    node.AutoWindowLevelOff()
    node.AutoThresholdOff()


def setUpDistance(volumeNode, scale: float) -> None:
    """Blue inside, red outside; what is a whole `scale` outside is transparent."""
    node = volumeNode.GetDisplayNode()
    node.SetAndObserveColorNodeID(overlays.distanceColors().GetID())
    node.SetWindowLevelMinMax(-scale, scale)
    node.SetThreshold(-2.0 * scale, 0.98 * scale)
    node.ApplyThresholdOn()


def setUpUncertainty(volumeNode) -> None:
    """From 0 to 1; what is as good as certain is transparent."""
    node = volumeNode.GetDisplayNode()
    node.SetAndObserveColorNodeID(overlays.uncertaintyColors().GetID())
    node.SetWindowLevelMinMax(0.0, 1.0)
    node.SetThreshold(0.1, 2.0)
    node.ApplyThresholdOn()


def restoreColors(volumeNode) -> None:
    """After a scene was loaded: a color table that was saved without its file is empty."""
    node = volumeNode.GetDisplayNode()
    if node is None:
        return
    isDistance = volumeNode.GetAttribute(results.ROLE) == results.DISTANCE
    table = overlays.distanceColors() if isDistance else overlays.uncertaintyColors()
    if node.GetColorNode() is None:
        node.SetAndObserveColorNodeID(table.GetID())
