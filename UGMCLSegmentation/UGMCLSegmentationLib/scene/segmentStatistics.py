"""What is known of the segments of a result: volumes, doubtful surface, predicted Dice."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from ugmcl_core.inference.settings import UNSURE_MM
from UGMCLSegmentationLib.scene import (
    labelmaps,
    results,
    subjectHierarchy,
    taggedNodes,
)

_SAME = 0.05  # mL by which the volume of a structure that nobody edited may differ


def lines(segmentationNode) -> list[str]:
    """One line for each class, from the segments as they are now; none for a removed segment; and
    the predicted Dice, unless nothing was found. What the model said about its own result is left
    out of the line of an edited segment, and the Dice once any was edited."""
    found, isEdited, isFound = [], False, False
    for info in results.summary(segmentationNode).get("classes", []):
        segment = _segmentOf(segmentationNode, info["value"])
        if segment is None:
            continue
        volume, former = _milliliters(segment), info["volume_ml"] or 0.0
        if not volume and not former:  # an interval or an error of nothing would only confuse
            found.append(_("{name}: not found").format(name=segment.GetName()))
            continue
        isFound = True
        text = _("{name}: {volume:.1f} mL").format(name=segment.GetName(), volume=volume)
        isSame = abs(volume - former) <= _SAME + 1e-3 * former
        if isSame and info.get("volume_interval_ml"):
            low, high = info["volume_interval_ml"]
            text += _(" (95 % interval {low:.1f} to {high:.1f})").format(low=low, high=high)
        if not isSame:
            text += _(", {volume:.1f} mL before it was changed").format(volume=former)
            isEdited = True
        elif info.get("unsure_surface") is not None:
            doubt = _(", {percent:.0f} % of the surface may be off by more than {limit:g} mm")
            text += doubt.format(percent=100 * info["unsure_surface"], limit=UNSURE_MM)
        elif info.get("mean_uncertainty") is not None:
            text += _(", mean uncertainty {value:.2f}").format(value=info["mean_uncertainty"])
        found.append(text)
    dice = results.summary(segmentationNode).get("predicted_dice")
    if isFound and dice and not isEdited:
        text = _("Predicted Dice: {dice:.2f} (95 % interval {low:.2f} to {high:.2f})")
        found.append(text.format(dice=dice[0], low=dice[1], high=dice[2]))
    return found


def table():
    """Fill the scene's table of all results, sorted by study and volume, as for several
    timepoints: a row for each structure, with its volume now; None without results.

    The interval and the predicted Dice are left empty once the structure was edited.
    """
    rows = []
    for node in results.find(results.SEGMENTATION):
        sourceNode = results.sourceOf(node)
        if sourceNode is None:
            continue
        study, dice = subjectHierarchy.studyName(sourceNode), results.summary(node)
        for info in dice.get("classes", []):
            segment = _segmentOf(node, info["value"])
            if segment is not None:
                rows.append([study, sourceNode.GetName(), node.GetName(), segment.GetName(),
                             *_numbers(segment, info, dice.get("predicted_dice"))])  # fmt: skip
    if not rows:
        return None
    titles = [_("Study"), _("Volume"), _("Result"), _("Structure"), _("mL"), _("mL, lower"),
              _("mL, upper"), _("Predicted Dice")]  # fmt: skip
    return taggedNodes.fillTable("results", _("All results"), titles, sorted(rows))


def _numbers(segment, info: dict[str, Any], dice: list[float] | None) -> list[str]:
    volume = _milliliters(segment)
    low, high = info.get("volume_interval_ml") or (None, None)
    if abs(volume - (info["volume_ml"] or 0.0)) > _SAME + 1e-3 * volume or low is None:
        return [f"{volume:.2f}", "", "", ""]
    expected = f"{dice[0]:.3f}" if dice else ""
    return [f"{volume:.2f}", f"{low:.2f}", f"{high:.2f}", expected]


def show(tableNode) -> None:
    """Show a table, in a layout with a table view."""
    manager = slicer.app.layoutManager()
    manager.setLayout(slicer.modules.tables.logic().GetLayoutWithTable(manager.layout))
    application = slicer.app.applicationLogic()
    application.GetSelectionNode().SetActiveTableID(tableNode.GetID())
    application.PropagateTableSelection()


def openModule(segmentationNode) -> None:
    """Open the result in Slicer's Segment Statistics, with the volume for its intensities."""
    slicer.util.selectModule("SegmentStatistics")
    widget = slicer.modules.segmentstatistics.widgetRepresentation().self()
    widget.segmentationSelector.setCurrentNode(segmentationNode)
    widget.scalarSelector.setCurrentNode(results.sourceOf(segmentationNode))


def _segmentOf(segmentationNode, value: int):
    """The segment of a class, found by its tag: the user may have renamed it."""
    found = (segment for _identifier, segment in results.segmentsOf(segmentationNode))
    return next((segment for segment in found if results.classOf(segment) == str(value)), None)


def _milliliters(segment) -> float:
    return labelmaps.voxelVolume(segment) / 1000.0
