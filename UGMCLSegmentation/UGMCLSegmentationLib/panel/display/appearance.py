"""What is seen: overlays in the slice views, color legends, the surface in 3D.

The source is the background, the first overlay the foreground, the second an additional layer.
"""

from __future__ import annotations

import slicer

from UGMCLSegmentationLib.panel.display import legends, surfaces
from UGMCLSegmentationLib.scene import results


def apply(segmentationNode, parameters) -> None:
    """Show the results around `segmentationNode` as the panel's toggles say, overlays only over
    the volume that they are of."""
    source = results.sourceOf(segmentationNode)
    distance = uncertainty = None
    if source is not None:
        label = _label(segmentationNode, parameters)
        distance = results.distanceOf(source, label, segmentationNode)
        uncertainty = results.uncertaintyOf(source, segmentationNode)
    _applySegmentation(segmentationNode, parameters)
    shown = []
    if parameters.showDistance and distance is not None:
        shown.append((distance, parameters.distanceOpacity))
    if parameters.showUncertainty and uncertainty is not None:
        shown.append((uncertainty, parameters.uncertaintyOpacity))
    foreground, layer = (*shown, (None, 0.0), (None, 0.0))[:2]
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        isOver = source is not None and composite.GetBackgroundVolumeID() == source.GetID()
        _setForeground(composite, *(foreground if isOver else (None, 0.0)))
        _setLayer(composite, *(layer if isOver else (None, 0.0)))
    legends.apply(
        parameters.showLegends,
        distance if parameters.showDistance else None,
        uncertainty if parameters.showUncertainty else None,
    )


def clear() -> None:
    """Take the overlays away, such as for somebody who draws; `apply` shows them again."""
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        _setForeground(composite, None, 0.0)
        _setLayer(composite, None, 0.0)
    legends.apply(False, None, None)


def showAlone(segmentationNode) -> None:
    """Put the segmented volume behind its result, and hide the results that it replaces."""
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
    """The chosen class, or the first when it is none of this result's."""
    values = [info["value"] for info in results.summary(segmentationNode).get("classes", [])]
    if parameters.shownClass in values or not values:
        return parameters.shownClass
    return values[0]


def _applySegmentation(segmentationNode, parameters) -> None:
    if segmentationNode is None:
        return
    segmentationNode.CreateDefaultDisplayNodes()
    node = segmentationNode.GetDisplayNode()
    if parameters.showSurface:
        surfaces.make(segmentationNode)
    modified = node.StartModify()
    node.SetVisibility2D(parameters.showSegmentation)
    node.SetVisibility3D(parameters.showSurface)
    node.SetVisibility(parameters.showSegmentation or parameters.showSurface)
    node.SetOpacity2DFill(parameters.segmentationOpacity)
    node.SetPreferredDisplayRepresentationName2D("Binary labelmap")
    node.EndModify(modified)


def _setForeground(composite, volumeNode, opacity: float) -> None:
    former = slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID() or "")
    if volumeNode is not None:
        composite.SetForegroundVolumeID(volumeNode.GetID())
        composite.SetForegroundOpacity(opacity)
    elif results.isResultVolume(former):
        composite.SetForegroundVolumeID(None)


def _setLayer(composite, volumeNode, opacity: float) -> None:
    """Show the volume in one additional layer, after those that others may have made."""
    first = slicer.vtkMRMLSliceCompositeNode.LayerLabel + 1
    end = first + composite.GetNumberOfAdditionalLayers()
    volumes = {number: composite.GetNthLayerVolume(number) for number in range(first, end)}
    ours = [number for number, node in volumes.items() if results.isResultVolume(node)]
    if volumeNode is None:
        for index in reversed(ours):  # taking a layer away moves the following ones
            composite.SetNthLayerVolumeID(index, None)
        return
    index = ours[0] if ours else end
    composite.SetNthLayerVolumeID(index, volumeNode.GetID())
    composite.SetNthLayerOpacity(index, opacity)
