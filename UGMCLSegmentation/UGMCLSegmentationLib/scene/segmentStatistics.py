"""What is known of the segments of a result: volumes, doubtful surface, predicted Dice."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from ugmcl_core.inference.settings import UNSURE_MM
from UGMCLSegmentationLib.scene import (
    corrections,
    labelmaps,
    results,
    subjectHierarchy,
    taggedNodes,
)

_KIND = "results"  # value of results.ROLE of the table
_SAME = 0.05  # mL by which the volume of a structure that nobody edited may differ


def lines(segmentationNode) -> list[str]:
    """One line for each class, from the segments as they are now; none for a removed segment; and
    the predicted Dice, unless nothing was found. What the model said about its own result is left
    out of the line of an edited segment, and the Dice once any was edited."""
    found, isFound = [], False
    rows, isEdited = _rows(segmentationNode)
    for segment, info, volume, isSame in rows:
        former = info["volume_ml"] or 0.0
        if not volume and not former:  # an interval or an error of nothing would only confuse
            found.append(_("{name}: not found").format(name=segment.GetName()))
            continue
        isFound = True
        text = _("{name}: {volume:.1f} mL").format(name=segment.GetName(), volume=volume)
        if isSame and info.get("volume_interval_ml"):
            low, high = info["volume_interval_ml"]
            text += _(" (95 % interval {low:.1f} to {high:.1f})").format(low=low, high=high)
        if not isSame:
            text += _(", {volume:.1f} mL before it was changed").format(volume=former)
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

    The interval is left empty once the structure was edited, and the predicted Dice, which is of
    the whole result, once any was.
    """
    rows = []
    for node in results.find(results.SEGMENTATION):
        sourceNode = results.sourceOf(node)
        if sourceNode is None:
            continue
        names = (subjectHierarchy.studyName(sourceNode), sourceNode.GetName(), node.GetName())
        dice = results.summary(node).get("predicted_dice")
        found, isEdited = _rows(node)
        expected = f"{dice[0]:.3f}" if dice and not isEdited else ""
        for segment, info, volume, isSame in found:
            interval = info.get("volume_interval_ml") if isSame else None
            low, high = (f"{end:.2f}" for end in interval) if interval else ("", "")
            rows.append([*names, segment.GetName(), f"{volume:.2f}", low, high, expected])
    if not rows:
        return None
    titles = [_("Study"), _("Volume"), _("Result"), _("Structure"), _("mL"), _("mL, lower"),
              _("mL, upper"), _("Predicted Dice")]  # fmt: skip
    return taggedNodes.fillTable(_KIND, _("All results"), titles, sorted(rows))


def shownTable():
    """The node that `table` filled, or None."""
    return taggedNodes.find("vtkMRMLTableNode", results.ROLE, _KIND)


def markOutdated() -> None:
    """A result has changed since the table was filled."""
    node = shownTable()
    if node is not None:
        node.SetName(_("All results (before a change)"))


def _rows(segmentationNode) -> tuple[list[tuple], bool]:
    """Of each class that still has a segment: this, what the run found, the volume now in mL, and
    whether it is as the run left it; and whether any class is not."""
    rows, isEdited = [], False
    edited = corrections.editedSegments(segmentationNode) if segmentationNode is not None else ()
    for info in results.summary(segmentationNode).get("classes", []):
        former = info["volume_ml"] or 0.0
        identifier, segment = _segmentOf(segmentationNode, info["value"])
        if segment is None:
            isEdited = isEdited or former > 0.0
            continue
        volume = _milliliters(segment)
        isSame = identifier not in edited and abs(volume - former) <= _SAME + 1e-3 * former
        isEdited = isEdited or not isSame
        rows.append((segment, info, volume, isSame))
    return rows, isEdited


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
    """Identifier and segment of a class, found by its tag: the user may have renamed it. None
    twice without one."""
    found = results.segmentsOf(segmentationNode)
    return next((row for row in found if results.classOf(row[1]) == str(value)), (None, None))


def _milliliters(segment) -> float:
    return labelmaps.voxelVolume(segment) / 1000.0
