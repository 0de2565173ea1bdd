"""How a result looks: overlays in the slice views, color legends, the surface in 3D.

The source is the background, and the picture of each overlay an additional layer. The volume of
the first overlay is the foreground, not visible: Slicer's data probe shows its values, and it
hosts the legends.
"""

from __future__ import annotations

from collections.abc import Sequence

import slicer

from UGMCLSegmentationLib.panel.display import coloredSurface, legends, pictures, surfaces
from UGMCLSegmentationLib.scene import overlays, results


def apply(segmentationNode, parameters) -> None:
    """Show the segmentation and its overlays as the parameters define. Overlays only appear over
    the volume that they belong to. The surface in 3D has the colors of the surface error if that
    is shown."""
    source = results.sourceOf(segmentationNode)
    _applySegmentation(segmentationNode, parameters)
    applySurface(segmentationNode, parameters)
    shown = []
    label = _label(segmentationNode, parameters)
    for overlay in overlays.OVERLAYS if source is not None else ():
        volume = results.volumeOf(overlay, source, label, segmentationNode)
        if volume is not None and getattr(parameters, overlay.shownParameter):
            shown.append((overlay, volume))
    layers = [
        (pictures.of(volume, overlay), getattr(parameters, overlay.opacityParameter))
        for overlay, volume in shown
    ]
    first = shown[0][1] if shown else None
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        isOver = source is not None and composite.GetBackgroundVolumeID() == source.GetID()
        _setLayers(composite, *((first, layers) if isOver else (None, [])))
    pictures.emptyOthers([picture for picture, _opacity in layers])
    legends.apply(shown if parameters.showLegends else [])


def applySurface(segmentationNode, parameters, isEdited: bool = False) -> None:
    """Show the surface in 3D if the parameters say so: the plain one without a surface error, and
    while it is being edited. That one is not made during an edit, whose first events come before
    its voxels are whole."""
    isShown = segmentationNode is not None and parameters.showSurface
    error = None
    if isShown:
        if not isEdited:
            surfaces.make(segmentationNode)
        source = results.sourceOf(segmentationNode)
        if source is not None and parameters.showSurfaceError and not isEdited:
            error = results.surfaceErrorOf(source, segmentationNode)
    if error is not None:
        coloredSurface.show(segmentationNode, error, parameters.showLegends)
    else:
        coloredSurface.hide()
    if segmentationNode is not None:
        segmentationNode.GetDisplayNode().SetVisibility3D(isShown and error is None)


def clear() -> None:
    """Remove the overlays from the views, for example while the user edits the segmentation;
    `apply` shows them again."""
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        _setLayers(composite, None, [])
    pictures.emptyOthers([])
    legends.apply([])


def showAlone(segmentationNode) -> None:
    """Put the segmented volume behind its result, and hide all other results."""
    _showSource(segmentationNode)
    for other in results.find(results.SEGMENTATION):
        if other is not segmentationNode and other.GetDisplayNode() is not None:
            other.GetDisplayNode().SetVisibility(False)


def _showSource(segmentationNode) -> None:
    source = results.sourceOf(segmentationNode)
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    if source is None or all(c.GetBackgroundVolumeID() == source.GetID() for c in composites):
        return
    hasViews = slicer.app.layoutManager() is not None
    slicer.util.setSliceViewerLayers(
        background=source, fit=hasViews, rotateToVolumePlane=hasViews
    )


def _label(segmentationNode, parameters) -> int:
    """The selected class, or the first one if the result has no such class."""
    values = [info["value"] for info in results.summary(segmentationNode).get("classes", [])]
    if parameters.shownClass in values or not values:
        return parameters.shownClass
    return values[0]


def _applySegmentation(segmentationNode, parameters) -> None:
    if segmentationNode is None:
        return
    segmentationNode.CreateDefaultDisplayNodes()
    node = segmentationNode.GetDisplayNode()
    modified = node.StartModify()
    node.SetVisibility2D(parameters.showSegmentation)
    node.SetVisibility(parameters.showSegmentation or parameters.showSurface)
    node.SetOpacity2DFill(parameters.segmentationOpacity)
    node.SetPreferredDisplayRepresentationName2D(results.LABELMAP)
    node.EndModify(modified)


def _setLayers(composite, first, layers: Sequence[tuple]) -> None:
    """Show these (picture, opacity), from the bottom to the top, as additional layers, over the
    volume of the first. Volumes that others put there stay, except in the foreground if it is
    needed."""
    former = slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID() or "")
    if first is not None:
        composite.SetForegroundVolumeID(first.GetID())
        composite.SetForegroundOpacity(0.0)
    elif results.isResultVolume(former):
        composite.SetForegroundVolumeID(None)
    _setAdditionalLayers(composite, layers)


def _setAdditionalLayers(composite, layers: Sequence[tuple]) -> None:
    first = slicer.vtkMRMLSliceCompositeNode.LayerLabel + 1
    numbers = range(first, first + composite.GetNumberOfAdditionalLayers())
    ours = [n for n in numbers if _isOurs(composite.GetNthLayerVolume(n))]
    for number in reversed(ours[len(layers) :]):  # removing a layer shifts the following ones
        composite.SetNthLayerVolumeID(number, None)
    end = first + composite.GetNumberOfAdditionalLayers()
    free = range(end, end + len(layers))
    for number, (volume, opacity) in zip([*ours[: len(layers)], *free], layers, strict=False):
        composite.SetNthLayerVolumeID(number, volume.GetID())
        composite.SetNthLayerOpacity(number, opacity)


def _isOurs(volumeNode) -> bool:
    """An overlay, its picture, or what is left of one in a loaded scene."""
    if volumeNode is None or pictures.isPicture(volumeNode):
        return True
    return results.isResultVolume(volumeNode)
