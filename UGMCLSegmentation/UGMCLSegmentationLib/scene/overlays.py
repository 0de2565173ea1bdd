"""The overlays of a result: the table of them, and how their volumes are displayed.

A new overlay needs a field in the worker's result, a row in OVERLAYS, and a check box and a slider
in Display.ui. See docs/developers.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
from slicer.i18n import tr as _

DISTANCE, UNCERTAINTY, SURFACE_ERROR = "distance", "uncertainty", "surfaceError"  # roles
_COLORS = 256  # of a color table


@dataclass(frozen=True)
class Overlay:
    """A scalar volume that a run makes beside the segmentation.

    `range`, `threshold` and `outside` are multiples of the result's `scaleField` if it is set.
    """

    role: str  # attribute of its nodes; also names its parameters and widgets
    field: str  # of the worker's result, or of each class in it: the path of the file
    isPerClass: bool
    title: str
    unit: str  # "" without one
    nodeName: str  # pattern of the names of its nodes
    labelFormat: str  # of the numbers in its legend
    colors: tuple[tuple[float, tuple[float, float, float]], ...]  # value 0 to 1 -> RGB
    opacities: tuple[tuple[float, float], ...]  # value 0 to 1 -> part of the layer's opacity
    range: tuple[float, float]  # of the color scale
    threshold: tuple[float, float]  # values outside these two are transparent
    outside: float  # the value of voxels that the worker did not process
    opacity: float  # the initial one
    isShown: bool  # at first
    scaleField: str = ""
    shortcut: str = ""  # key that toggles it

    @property
    def shownParameter(self) -> str:
        return f"show{self._capitalized}"

    @property
    def opacityParameter(self) -> str:
        return f"{self.role}Opacity"

    @property
    def checkBox(self) -> str:
        return f"show{self._capitalized}CheckBox"

    @property
    def colorTableTag(self) -> str:
        return f"UGMCL{self._capitalized}"

    @property
    def legendTitle(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def scale(self, result: dict) -> float:
        """The factor of `range`, `threshold` and `outside` for a result of the worker."""
        return float(result[self.scaleField]) if self.scaleField else 1.0

    @property
    def _capitalized(self) -> str:
        return self.role[0].upper() + self.role[1:]


# from the bottom layer to the top one
OVERLAYS: tuple[Overlay, ...] = (
    Overlay(
        role=DISTANCE,
        field="sdf",
        isPerClass=True,
        title=_("Distance"),
        unit="mm",
        nodeName=_("{volume} distance"),
        labelFormat="%.0f",
        colors=(  # a diverging scale whose middle, the surface, is light: blue inside, red outside
            (0.00, (0.05, 0.19, 0.47)),
            (0.25, (0.15, 0.46, 0.74)),
            (0.42, (0.55, 0.78, 0.91)),
            (0.50, (0.98, 0.98, 0.96)),
            (0.58, (0.98, 0.74, 0.55)),
            (0.75, (0.84, 0.36, 0.24)),
            (1.00, (0.45, 0.06, 0.10)),
        ),
        opacities=((0.0, 1.0), (0.5, 0.15), (1.0, 1.0)),  # the anatomy at the surface is visible
        range=(-1.0, 1.0),
        threshold=(-2.0, 0.98),  # voxels at the largest distance outside are transparent
        outside=1.0,
        opacity=0.45,
        isShown=False,
        scaleField="sdf_scale_mm",
        shortcut="Alt+2",
    ),
    Overlay(
        role=UNCERTAINTY,
        field="uncertainty",
        isPerClass=False,
        title=_("Uncertainty"),
        unit="",
        nodeName=_("{volume} uncertainty"),
        labelFormat="%.2f",
        colors=(  # a sequential scale, dark to bright
            (0.00, (0.13, 0.03, 0.26)),
            (0.25, (0.42, 0.09, 0.43)),
            (0.50, (0.74, 0.21, 0.33)),
            (0.75, (0.95, 0.48, 0.10)),
            (1.00, (0.99, 0.96, 0.55)),
        ),
        opacities=((0.0, 0.0), (1.0, 1.0)),
        range=(0.0, 1.0),
        threshold=(0.1, 2.0),  # voxels of nearly no uncertainty are transparent
        outside=0.0,
        opacity=0.7,
        isShown=False,
        shortcut="Alt+3",
    ),
    Overlay(
        role=SURFACE_ERROR,
        field="surface_error",
        isPerClass=False,
        title=_("Surface error"),
        unit="mm",
        nodeName=_("{volume} surface error"),
        labelFormat="%.0f",
        colors=(  # from what needs no check to what does
            (0.00, (0.16, 0.62, 0.56)),
            (0.30, (0.45, 0.78, 0.42)),
            (0.50, (0.98, 0.85, 0.25)),
            (0.75, (0.96, 0.49, 0.13)),
            (1.00, (0.80, 0.07, 0.14)),
        ),
        opacities=((0.0, 0.25), (0.75, 1.0)),
        range=(0.0, 4.0),  # 2 mm, from where a spot is worth a look, is yellow
        threshold=(0.01, 1000.0),  # 0: the surface cannot be there
        outside=0.0,
        opacity=0.75,
        isShown=True,
        shortcut="Alt+4",
    ),
)


def of(role: str) -> Overlay:
    return next(overlay for overlay in OVERLAYS if overlay.role == role)


def colorTable(overlay: Overlay):
    """The color table node. It is a singleton, so a loaded scene does not add a second one."""
    tag = overlay.colorTableTag
    node = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLColorTableNode")
    if node is None:
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLColorTableNode")
        node.UnRegister(None)
        node.SetName(overlay.title)
        node.SetSingletonTag(tag)
        node.SetHideFromEditors(False)
        node = slicer.mrmlScene.AddNode(node)
    if node.GetNumberOfColors() != _COLORS:  # new, or saved without its file
        _fill(node, overlay.colors)
    return node


def _fill(node, points) -> None:
    rgb = _interpolated(points)
    node.SetTypeToUser()
    node.SetAttribute("Category", "UGMCL")
    node.SetNumberOfColors(_COLORS)
    for index, color in enumerate(rgb.tolist()):
        node.SetColor(index, f"{index}", *color, 1.0)
    node.GetLookupTable().SetTableRange(0, _COLORS - 1)


def _interpolated(points) -> np.ndarray:
    """(256, channels) of (value, channels) pairs."""
    values = np.linspace(0.0, 1.0, _COLORS)
    positions = [p for p, _content in points]
    channels = np.array([np.atleast_1d(content) for _p, content in points])
    return np.stack([np.interp(values, positions, c) for c in channels.T], axis=1)


def rgba(overlay: Overlay) -> np.ndarray:
    """The colors of an overlay with the opacities of its values, (256, 4) uint8."""
    both = np.hstack([_interpolated(overlay.colors), _interpolated(overlay.opacities)])
    return np.rint(255.0 * both).astype(np.uint8)


def create(volumeNode) -> None:
    """Give a new volume its display before its voxels, so that Slicer computes no histogram."""
    volumeNode.CreateDefaultDisplayNodes()
    node = volumeNode.GetDisplayNode()
    node.AutoWindowLevelOff()
    node.AutoThresholdOff()


def setUp(volumeNode, overlay: Overlay, scale: float) -> None:
    """Give the volume its colors, their range and its transparent values."""
    node = volumeNode.GetDisplayNode()
    node.SetAndObserveColorNodeID(colorTable(overlay).GetID())
    node.SetWindowLevelMinMax(*(scale * value for value in overlay.range))
    node.SetThreshold(*(scale * value for value in overlay.threshold))
    node.ApplyThresholdOn()


def restoreColors(volumeNode, overlay: Overlay) -> None:
    """After a scene was loaded: a color table that was saved without its file is empty."""
    node = volumeNode.GetDisplayNode()
    if node is not None:
        table = colorTable(overlay)
        if node.GetColorNode() is None:
            node.SetAndObserveColorNodeID(table.GetID())
