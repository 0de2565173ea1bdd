"""The volumes that are the channels of one case: as the user chose them, else by the study or the
patient that they are in, and by their names.

A case of several images is known by its first volume, the lead. All volumes of a case keep the
user's choices as references, so that it is the same case whichever is selected; Slicer saves them
with the scene.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.scene import labelmaps, subjectHierarchy, volumes

_CHOSEN = "UGMCLSegmentation.Channel."  # and the channel's name: the reference to its volume


def parse(text: str) -> tuple[str, ...]:
    """The names that a user wrote, separated by commas, each once."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def volumesOf(volumeNode, names: Sequence[str]) -> list:
    """The volume of each channel of a volume's case, None where there is none. For one image a
    case that is the volume itself."""
    if len(names) < 2:
        return [volumeNode]
    beside = _beside(volumeNode, names)
    found = []
    for name in names:
        fitting = [node for node in beside if channelIn(node.GetName(), names) == name]
        chosen = volumeNode.GetNodeReference(_CHOSEN + name)
        found.append(chosen or (fitting[0] if len(fitting) == 1 else None))
    saysNothing = channelIn(volumeNode.GetName(), names) is None
    if saysNothing and volumeNode not in found and None in found:
        found[found.index(None)] = volumeNode
    return found


def leads(volumeNodes: Sequence, names: Sequence[str]) -> list:
    """One volume for each case that the volumes belong to: its first one. Volumes of a patient
    whose case is complete without them, such as other sequences, are not cases."""
    if len(names) < 2:
        return list(volumeNodes)
    first: dict[str, object] = {}
    taken: set[str] = set()
    for node in volumeNodes:
        lead = next((n for n in volumesOf(node, names) if n is not None), node)
        first.setdefault(lead.GetID(), lead)
    for lead in first.values():
        if lead.GetID() not in taken:
            others = (n for n in volumesOf(lead, names) if n is not None and n is not lead)
            taken |= {n.GetID() for n in others}
    found = [lead for identifier, lead in first.items() if identifier not in taken]
    whole = [set(_caseName(n.GetName(), names)) for n in found if None not in volumesOf(n, names)]
    return [lead for lead in found if not _isOther(lead, names, whole)]


def _isOther(volumeNode, names: Sequence[str], whole: Sequence[set[str]]) -> bool:
    """Whether a volume whose name says no channel has a name of one of the `whole` cases, and more
    words."""
    words = set(_words(volumeNode.GetName()))
    saysNothing = channelIn(volumeNode.GetName(), names) is None
    return saysNothing and any(case and case < words for case in whole)


def choose(volumeNode, names: Sequence[str], name: str, chosenNode) -> None:
    """Use a volume for the channel `name` of the case that `volumeNode` belongs to; with None,
    `volumesOf` finds one. A volume that it replaces stays in the case if it is found with it,
    though in no channel, so that it is not a case of its own."""
    before = volumesOf(volumeNode, names)
    after = [chosenNode if n == name else v for n, v in zip(names, before, strict=True)]
    nodes = {node.GetID(): node for node in (volumeNode, *before, *after) if node is not None}
    own = {volumeNode.GetID(), *(n.GetID() for n in (*_beside(volumeNode, names), *after) if n)}
    for identifier, node in nodes.items():
        isInside = identifier in own
        for channel, member in zip(names, after, strict=True):
            chosen = member.GetID() if isInside and member is not None else None
            node.SetNodeReferenceID(_CHOSEN + channel, chosen)


def check(volumeNode, names: Sequence[str]) -> list:
    """`volumesOf`; raises PanelError if one is missing, cannot be used, or lies elsewhere than the
    first one."""
    found = volumesOf(volumeNode, names)
    missing = [name for name, node in zip(names, found, strict=True) if node is None]
    if missing:
        raise PanelError(
            _("{name} has no volume for {channels}: load it, or choose one in the table of "
              "channels.").format(name=volumeNode.GetName(), channels=", ".join(missing))
        )  # fmt: skip
    for node in found:
        volumes.check(node)
    for number, node in enumerate(found):
        if node in found[:number]:
            raise PanelError(
                _("{name} is used for two channels: choose another volume for one of them.")
                .format(name=node.GetName())
            )  # fmt: skip
        _checkGrid(found[0], node)
    return found


def _checkGrid(first, other) -> None:
    """The worker checks the same, but it could not name the volumes."""
    size = volumes.dimensions(first)
    matrix = np.linalg.inv(volumes.ijkToRas(other)) @ volumes.ijkToRas(first)
    isSame = labelmaps.isSameGrid(matrix, size) and not np.round(matrix[:3, 3]).any()
    if not isSame or volumes.dimensions(other) != size:
        raise PanelError(
            _("{name} is on a different grid than {first}: resample it first (module Resample "
              "Scalar/Vector/DWI Volume).").format(name=other.GetName(), first=first.GetName())
        )  # fmt: skip
    if other.GetTransformNodeID() != first.GetTransformNodeID():
        raise PanelError(
            _("{name} is under another transform than {first}: harden the transforms first (Data "
              "module).").format(name=other.GetName(), first=first.GetName())
        )  # fmt: skip


def channelIn(text: str, names: Sequence[str]) -> str | None:
    """The channel that the name of a volume contains as a word, None for none or several."""
    words = _words(text)
    found = [name for name in names if _words(name) and _has(words, _words(name))]
    return found[0] if len(found) == 1 else None


def _beside(volumeNode, names: Sequence[str]) -> list:
    """The volumes of the same study, else patient, else of the same name but for the channel."""
    images = volumes.images()
    for item in subjectHierarchy.ancestors(volumeNode):
        items = set(subjectHierarchy.beneath(item))
        tree = subjectHierarchy.tree()
        inside = [node for node in images if tree.GetItemByDataNode(node) in items]
        if len(inside) > 1:
            return inside
    case = _caseName(volumeNode.GetName(), names)
    same = [node for node in images if _caseName(node.GetName(), names) == case]
    return same if volumeNode in same else [volumeNode, *same]


def _caseName(text: str, names: Sequence[str]) -> tuple[str, ...]:
    """The words of a volume's name without the channel."""
    words, channel = _words(text), channelIn(text, names)
    if channel is None:
        return tuple(words)
    own = _words(channel)
    start = next(n for n in range(len(words)) if words[n : n + len(own)] == own)
    return tuple(words[:start] + words[start + len(own) :])


def _has(words: list[str], own: list[str]) -> bool:
    return any(words[n : n + len(own)] == own for n in range(len(words)))


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", text.casefold()) if word]


def paths(first: Path, count: int) -> tuple[str, ...]:
    """The files of ``count`` channels; the first has the name of a single image's file."""
    more = (first.with_name(f"{first.stem}-{n}{first.suffix}") for n in range(1, count))
    return (str(first), *map(str, more))


def candidates() -> list:
    """The volumes that may be a channel, by name."""
    return sorted(volumes.images(), key=lambda node: node.GetName().casefold())


def nodeOf(identifier: str):
    return slicer.mrmlScene.GetNodeByID(identifier) if identifier else None
