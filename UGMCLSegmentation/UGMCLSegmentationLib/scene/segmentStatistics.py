"""What is known of the segments of a result: volumes, doubtful surface, predicted Dice."""

from __future__ import annotations

import numpy as np
from slicer.i18n import tr as _

from ugmcl_core.inference.settings import UNSURE_MM
from UGMCLSegmentationLib.scene import arrays, labelmaps, results


def lines(segmentationNode) -> list[str]:
    """One line for each class, from the segments as they are now; none for a removed segment; and
    the predicted Dice. What the model said about its own result is left out of the line of an
    edited segment, and the Dice once any was edited."""
    found, isEdited = [], False
    for info in results.summary(segmentationNode).get("classes", []):
        segment = _segmentOf(segmentationNode, info["value"])
        if segment is None:
            continue
        volume, former = _milliliters(segment), info["volume_ml"] or 0.0
        text = _("{name}: {volume:.1f} mL").format(name=segment.GetName(), volume=volume)
        isSame = abs(volume - former) <= 0.05 + 1e-3 * former
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
    if found and dice and not isEdited:
        text = _("Predicted Dice: {dice:.2f} (95 % interval {low:.2f} to {high:.2f})")
        found.append(text.format(dice=dice[0], low=dice[1], high=dice[2]))
    return found


def _segmentOf(segmentationNode, value: int):
    """The segment of a class, found by its tag: the user may have renamed it."""
    found = (segment for _identifier, segment in results.segmentsOf(segmentationNode))
    return next((segment for segment in found if results.classOf(segment) == str(value)), None)


def _milliliters(segment) -> float:
    labelmap = labelmaps.image(segment)
    if labelmap is None:
        return 0.0
    count = np.count_nonzero(arrays.voxels(labelmap) == segment.GetLabelValue())
    return float(count * np.prod(labelmap.GetSpacing()) / 1000.0)
