"""The color scales of the overlays, on the right side of one slice view: three times the same
would fill small views with text."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.scene import results

_HOSTED = "UGMCLSegmentation.HostedLegend"


def apply(enabled: bool, distance, uncertainty) -> None:
    """Show the legends of the two overlays that are shown (None where one is not)."""
    logic = slicer.modules.colors.logic()
    both = distance is not None and uncertainty is not None
    for node in results.find(results.DISTANCE) + results.find(results.UNCERTAINTY):
        # the second overlay is in an additional layer, see _hosted
        isWanted = enabled and (node is distance or (node is uncertainty and not both))
        legend = logic.GetColorLegendDisplayNode(node)
        if legend is None and isWanted:
            legend = logic.AddDefaultColorLegendDisplayNode(node)
            _style(legend, node is distance)
        if legend is not None:
            legend.SetVisibility(isWanted)
            _restrict(legend)
        if node.GetAttribute(results.ROLE) == results.DISTANCE:
            _showHosted(node, uncertainty if enabled and both and node is distance else None)


def follow() -> None:
    """Move the legends to a view of the layout, which has just changed."""
    logic = slicer.modules.colors.logic()
    for node in results.find(results.DISTANCE) + results.find(results.UNCERTAINTY):
        for legend in (logic.GetColorLegendDisplayNode(node), _hosted(node)):
            if legend is not None:
                _restrict(legend)


def _restrict(legend) -> None:
    """Show the legend in the first slice view of the layout only."""
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    shown = [view for view in views if view.IsMappedInLayout()] or views
    if shown and tuple(legend.GetViewNodeIDs()) != (shown[0].GetID(),):
        legend.SetViewNodeIDs([shown[0].GetID()])


def _showHosted(distance, uncertainty) -> None:
    legend = _hosted(distance)
    if legend is None and uncertainty is not None:
        legend = _addHosted(distance, uncertainty)
    if legend is not None:
        legend.SetVisibility(uncertainty is not None)
        _restrict(legend)


def _hosted(distance):
    for index in range(distance.GetNumberOfDisplayNodes()):
        node = distance.GetNthDisplayNode(index)
        if node is not None and node.GetAttribute(_HOSTED):
            return node if node.IsA("vtkMRMLColorLegendDisplayNode") else None
    return None


def _addHosted(distance, uncertainty):
    """Slicer draws no legend for a volume in an additional layer.

    So the distance volume, which is the foreground then, gets a second legend with the colors of
    the uncertainty; for them it needs a display node, which shows nothing by itself.
    """
    colors = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    colors.AutoWindowLevelOff()
    colors.AutoThresholdOff()
    colors.SetAndObserveColorNodeID(uncertainty.GetDisplayNode().GetColorNodeID())
    colors.SetWindowLevelMinMax(0.0, 1.0)
    legend = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorLegendDisplayNode")
    legend.SetAttribute(_HOSTED, "1")
    legend.SetAndObservePrimaryDisplayNode(colors)
    distance.AddAndObserveDisplayNodeID(colors.GetID())
    distance.AddAndObserveDisplayNodeID(legend.GetID())
    _style(legend, isDistance=False)
    return legend


def _style(legend, isDistance: bool) -> None:
    legend.SetTitleText(_("Distance (mm)") if isDistance else _("Uncertainty"))
    legend.SetLabelFormat("%.0f" if isDistance else "%.2f")
    legend.SetNumberOfLabels(5)
    legend.SetSize(0.09, 0.28)
    legend.SetPosition(0.96, 0.87 if isDistance else 0.04)
    for text, size in ((legend.GetTitleTextProperty(), 14), (legend.GetLabelTextProperty(), 12)):
        text.SetFontFamilyToArial()
        text.SetFontSize(size)
