"""The cases of a training: volumes of the scene, and files beside it, with the role of each.

The volumes themselves keep the user's choices (as attributes and references). So Slicer saves them
with the scene and drops them with a removed volume.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.scene import channels, corrections, results, volumes
from UGMCLSegmentationLib.scene.results import ACCEPTED, LABEL
from UGMCLSegmentationLib.scene.volumes import images, segmentationsOf

LABELED, UNLABELED, HOLDOUT, IGNORE = "labeled", "unlabeled", "holdout", "ignore"
_FORMER_ROLES = {"labelled": LABELED, "unlabelled": UNLABELED}  # as scenes up to 0.1 have them
ROLES = (LABELED, UNLABELED, HOLDOUT, IGNORE)
_ROLE = "UGMCLSegmentation.CaseRole"
_EMPTY = "UGMCLSegmentation.CaseIsEmpty"
_EXCLUDED = "UGMCLSegmentation.CaseExcluded"  # JSON: segments that are not used
_RANK = "UGMCLSegmentation.CaseRank"  # JSON: the result of a ranking


@dataclass(frozen=True)
class Rank:
    """A model's uncertainty about a volume, 0 to 1, and the Dice that it predicts for itself."""

    uncertainty: float
    predictedDice: float | None
    model: str

    @property
    def order(self) -> tuple[float, float]:
        """The key to sort by, the case to correct first lowest."""
        dice = self.predictedDice if self.predictedDice is not None else 0.0
        return dice, -self.uncertainty


@dataclass(frozen=True)
class Case:
    """A volume of the scene, or the file `image`, and what it is used for.

    `isEmpty` means that the user labeled it as a volume without any of the structures. `problem`
    is why it cannot be used, `notices` are changes that will be made to it. If a case has several
    images, `channelNodes` are their volumes, None for a missing one, or `further` the files after
    the first.
    """

    name: str
    role: str
    volumeNode: Any = None
    segmentationNode: Any = None
    excluded: frozenset[str] = frozenset()
    image: str = ""
    label: str = ""
    isEmpty: bool = False
    rank: Rank | None = None
    problem: str = ""
    notices: tuple[str, ...] = ()
    channelNodes: tuple = ()
    further: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[str, ...]:
        """The files of the images; none of a volume of the scene."""
        return (self.image, *self.further) if self.image else ()

    @property
    def imageNodes(self) -> tuple:
        """The volumes of the images, in the order of the channels."""
        return self.channelNodes or (self.volumeNode,)

    @property
    def key(self) -> str:
        return self.volumeNode.GetID() if self.volumeNode is not None else self.image

    @property
    def needsLabel(self) -> bool:
        return self.role in (LABELED, HOLDOUT)


def roleText(role: str) -> str:
    return {
        LABELED: _("Labeled"),
        UNLABELED: _("Unlabeled"),
        HOLDOUT: _("Hold-out"),
        IGNORE: _("Ignore"),
    }[role]


def read(
    volumeNode, isEdited: Callable[[Any], bool], names: Sequence[str] = ("image",)
) -> Case:
    """The case of a volume, or that it leads if a case has an image for each of the `names`;
    `isEdited` returns whether the user changed a result."""
    found = channels.volumesOf(volumeNode, names)
    drawnOn = [node for node in found if node not in (None, volumeNode)]
    isEmpty = volumeNode.GetAttribute(_EMPTY) == "1"
    segmentationNode = None if isEmpty else labelOf(volumeNode, isEdited, drawnOn)
    role = volumeNode.GetAttribute(_ROLE)
    role = _FORMER_ROLES.get(role, role)
    if role not in ROLES:
        role = LABELED if segmentationNode is not None or isEmpty else UNLABELED
    problem = ""
    try:
        if len(names) > 1:
            channels.check(volumeNode, names)
        volumes.check(volumeNode)
    except PanelError as error:
        problem = str(error)
    return Case(
        name=volumeNode.GetName(),
        role=role,
        volumeNode=volumeNode,
        segmentationNode=segmentationNode,
        excluded=frozenset(results.fromJson(volumeNode.GetAttribute(_EXCLUDED), list)),
        isEmpty=isEmpty,
        rank=rankOf(volumeNode),
        problem=problem if role != IGNORE else "",
        channelNodes=tuple(found) if len(names) > 1 else (),
    )


def labelOf(volumeNode, isEdited: Callable[[Any], bool], others: Sequence = ()):
    """The segmentation that labels the volume: the chosen one, else the newest that was drawn on
    it or on the `others` of its case. The module's own results count once they are accepted or
    edited."""
    chosen = volumeNode.GetNodeReference(LABEL)
    if chosen is not None:
        return chosen
    drawn = (node for v in (*others, volumeNode) for node in segmentationsOf(v))
    found = [node for node in drawn if _counts(node, isEdited)]
    return found[-1] if found else None


def _counts(segmentationNode, isEdited: Callable[[Any], bool]) -> bool:
    if segmentationNode.GetAttribute(results.ROLE) != results.SEGMENTATION:
        return True
    return segmentationNode.GetAttribute(ACCEPTED) == "1" or isEdited(segmentationNode)


def setRole(volumeNode, role: str) -> None:
    volumeNode.SetAttribute(_ROLE, role)


def setLabel(volumeNode, segmentationNode, isEmpty: bool = False) -> None:
    """Choose the segmentation that labels the volume; with None, `labelOf` finds one, unless
    `isEmpty`: the volume shows none of the structures."""
    if isEmpty:
        volumeNode.SetAttribute(_EMPTY, "1")
    else:
        volumeNode.RemoveAttribute(_EMPTY)
    volumeNode.SetNodeReferenceID(LABEL, segmentationNode.GetID() if segmentationNode else None)
    volumeNode.RemoveAttribute(_EXCLUDED)


def setExcluded(volumeNode, segmentIds: set[str]) -> None:
    """Do not use these segments of the volume's label."""
    volumeNode.SetAttribute(_EXCLUDED, json.dumps(sorted(segmentIds)))


def accept(volumeNode, segmentationNode) -> None:
    """Use the result, which the user confirmed, as the label of the volume, and keep with it how
    it was corrected."""
    corrections.finish(segmentationNode)
    segmentationNode.SetAttribute(ACCEPTED, "1")
    setLabel(volumeNode, segmentationNode)
    setRole(volumeNode, LABELED)
    volumeNode.RemoveAttribute(_RANK)


def setRank(volumeNode, rank: Rank) -> None:
    content = [rank.uncertainty, rank.predictedDice, rank.model]
    volumeNode.SetAttribute(_RANK, json.dumps(content))


def rankOf(volumeNode) -> Rank | None:
    content = results.fromJson(volumeNode.GetAttribute(_RANK), list)
    return Rank(*content) if len(content) == 3 else None


def segmentable(names: Sequence[str] = ("image",)) -> list:
    """The volumes that a batch segments, one for each case of these channels: all but those that
    the user ignores."""
    leads = channels.leads(images(), names)
    return [node for node in leads if node.GetAttribute(_ROLE) != IGNORE]
