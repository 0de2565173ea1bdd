"""The color legends of the overlays, and that of the surface in 3D. Those of the overlays are in
one slice view only: three small views would be full of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import slicer

from UGMCLSegmentationLib.scene import results
from UGMCLSegmentationLib.scene.overlays import Overlay

_HOSTED = "UGMCLSegmentation.HostedLegend"  # attribute: the role of its overlay
_TOP, _STEP = 0.87, 0.415  # position of the first legend, and down to the next


def apply(shown: Sequence[tuple[Overlay, object]]) -> None:
    """Show the legends of these overlays and their volumes, from the bottom layer to the top one.

    Slicer draws no legend for a volume in an additional layer. So the bottom volume, which is the
    foreground, hosts the legends of the others.
    """
    logic = slicer.modules.colors.logic()
    host = shown[0][1] if shown else None
    places = {overlay.role: _TOP - _STEP * n for n, (overlay, _node) in enumerate(shown)}
    for overlay, node in results.overlayVolumes():
        legend = logic.GetColorLegendDisplayNode(node)
        if legend is None and node is host:
            legend = logic.AddDefaultColorLegendDisplayNode(node)
            _style(legend, overlay)
        if legend is not None:
            _show(legend, node is host, places.get(overlay.role))
        hosted = {legend.GetAttribute(_HOSTED): legend for legend in _hostedBy(node)}
        for other, volume in shown[1:] if node is host else ():
            colors = volume.GetDisplayNode()
            legend = hosted.pop(other.role, None) or _addHosted(node, other, colors)
            _copyColors(colors, legend.GetPrimaryDisplayNode())
            _show(legend, True, places[other.role])
        for legend in hosted.values():
            _show(legend, False)


def applyToSurface(modelNode, overlay: Overlay, isShown: bool) -> None:
    """Show the legend of the surface, which has the colors of this overlay, in the 3D views."""
    logic = slicer.modules.colors.logic()
    legend = logic.GetColorLegendDisplayNode(modelNode)
    if legend is None and isShown:
        legend = logic.AddDefaultColorLegendDisplayNode(modelNode)
        legend.SetSaveWithScene(False)
        legend.SetPosition(0.96, _TOP)
        _style(legend, overlay)
    if legend is not None:
        legend.SetVisibility(isShown)


def follow() -> None:
    """Move the legends to a view of the layout, which has just changed."""
    logic = slicer.modules.colors.logic()
    for _overlay, node in results.overlayVolumes():
        for legend in (logic.GetColorLegendDisplayNode(node), *_hostedBy(node)):
            if legend is not None:
                _restrict(legend)


def _show(legend, isShown: bool, height: float | None = None) -> None:
    legend.SetVisibility(isShown)
    if height is not None:
        legend.SetPosition(0.96, height)
    _restrict(legend)


def _restrict(legend) -> None:
    """Show the legend in the first slice view of the layout only."""
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    shown = [view for view in views if view.IsMappedInLayout()] or views
    if shown and tuple(legend.GetViewNodeIDs()) != (shown[0].GetID(),):
        legend.SetViewNodeIDs([shown[0].GetID()])


def _hostedBy(volume) -> Iterator:
    for index in range(volume.GetNumberOfDisplayNodes()):
        node = volume.GetNthDisplayNode(index)
        if node is not None and node.GetAttribute(_HOSTED):
            yield node


def _addHosted(host, overlay: Overlay, source):
    """The legend needs a display node with the colors of the overlay's own, `source`, which shows
    nothing by itself. Views draw the legend as soon as it is added, so the colors come first."""
    colors = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    colors.AutoWindowLevelOff()
    colors.AutoThresholdOff()
    _copyColors(source, colors)
    legend = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorLegendDisplayNode")
    legend.SetAttribute(_HOSTED, overlay.role)
    legend.SetAndObservePrimaryDisplayNode(colors)
    host.AddAndObserveDisplayNodeID(colors.GetID())
    host.AddAndObserveDisplayNodeID(legend.GetID())
    _style(legend, overlay)
    return legend


def _copyColors(source, target) -> None:
    target.SetAndObserveColorNodeID(source.GetColorNodeID())
    target.SetWindowLevelMinMax(source.GetWindowLevelMin(), source.GetWindowLevelMax())


def _style(legend, overlay: Overlay) -> None:
    legend.SetTitleText(overlay.legendTitle)
    legend.SetLabelFormat(overlay.labelFormat)
    legend.SetNumberOfLabels(5)
    legend.SetSize(0.07, 0.22)  # which the size of the text follows, whatever the font's is
    for text, size in ((legend.GetTitleTextProperty(), 14), (legend.GetLabelTextProperty(), 12)):
        text.SetFontFamilyToArial()
        text.SetFontSize(size)
