"""Which segments are which class of the model: by terminology and name, or as the user chose."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import vtk
from slicer.i18n import tr as _

from ugmcl_core.errors import InputError
from ugmcl_core.models.card import ClassInfo, Terminology
from ugmcl_core.models.class_matching import UNTYPED_CODES, match_class, name_key
from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel.improve.cases.cases import Case
from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.scene import results
from UGMCLSegmentationLib.scene.labelmaps import IGNORE_VALUE

UNUSED, NEW, UNKNOWN = "unused", "new", "unknown"  # targets besides the values of classes
IGNORE_TAG = "UGMCLSegmentation.NotAnnotated"  # of a segment, with any name
_IGNORE_NAMES = ("ignore", "ignored", "not annotated", "unannotated", "unlabeled", "unlabelled")


@dataclass(frozen=True)
class Structure:
    """The segments of one name in all cases, and their `target`: a class's value as text, NEW,
    UNKNOWN (not annotated) or UNUSED."""

    key: str
    name: str
    color: tuple[float, float, float]
    terminology: Terminology | None
    count: int
    target: str
    isChosen: bool


def modelClasses(model: str) -> list[ClassInfo]:
    """The classes of a model, by its name or folder; none for "" or if there is no such model."""
    if not model:
        return []
    named = {found.name: found for found in models.find()}
    try:
        card = (named.get(model) or models.read(model)).card
    except (InputError, OSError):
        return []  # the worker reports why when it uses the model
    return list(card.classes)


def toText(targets: Mapping[str, str]) -> str:
    """The user's choices by key, as the parameter node stores them."""
    return json.dumps(dict(targets))


def fromText(text: str) -> dict[str, str]:
    return {str(key): str(value) for key, value in results.fromJson(text, dict).items()}


def segments(case: Case) -> list[tuple[str, Any]]:
    """The segments of a case's label that are used, with their identifiers."""
    if case.segmentationNode is None:
        return []
    found = results.segmentsOf(case.segmentationNode)
    return [pair for pair in found if pair[0] not in case.excluded]


def find(
    cases: Iterable[Case], classes: list[ClassInfo], chosen: Mapping[str, str]
) -> list[Structure]:
    """The structures in the labels of the cases; `chosen` holds what the user set by key."""
    found: dict[str, Structure] = {}
    for case in cases:
        if not case.needsLabel:
            continue
        for _identifier, segment in segments(case):
            key = name_key(segment.GetName())
            known = found.get(key)
            if known is not None:
                found[key] = replace(known, count=known.count + 1)
                continue
            terminology = terminologyOf(segment)
            target = chosen.get(key, "")
            isChosen = target in (UNUSED, NEW, UNKNOWN, *(str(c.value) for c in classes))
            if not isChosen:
                target = _automatic(segment, key, classes)
            found[key] = Structure(
                key, segment.GetName(), segment.GetColor(), terminology, 1, target, isChosen
            )
    return list(found.values())


def allClasses(structures: Iterable[Structure], classes: list[ClassInfo]) -> list[ClassInfo]:
    """The model's classes and, after them, the new ones. Raises PanelError for too many."""
    result = list(classes)
    for structure in structures:
        if structure.target == NEW:
            value = max((c.value for c in result), default=0) + 1
            result.append(ClassInfo(value, structure.name, structure.color, structure.terminology))
    if result and result[-1].value >= IGNORE_VALUE:
        raise PanelError(_("There are too many structures: at most 254 can be learned."))
    return result


def values(
    case: Case, structures: Iterable[Structure], classes: list[ClassInfo]
) -> dict[str, int]:
    """The label of each used segment of the case, by identifier, in the order of the segments."""
    labels: dict[str, int] = {}
    new = [s.key for s in structures if s.target == NEW]
    byKey = {s.key: s for s in structures}
    for identifier, segment in segments(case):
        structure = byKey.get(name_key(segment.GetName()))
        if structure is None or structure.target == UNUSED:
            continue
        if structure.target == UNKNOWN:
            labels[identifier] = IGNORE_VALUE
        elif structure.target == NEW:
            count = len(classes) - len(new)
            labels[identifier] = classes[count + new.index(structure.key)].value
        else:
            labels[identifier] = int(structure.target)
    return labels


def terminologyOf(segment) -> Terminology | None:
    """The type of the segment's terminology entry; None without one and for Slicer's default."""
    text = vtk.reference("")
    segment.GetTag(segment.GetTerminologyEntryTagName(), text)
    parts = str(text).split("~")
    entry = parts[2].split("^") if len(parts) > 2 else []
    if len(entry) != 3 or not all(entry) or entry[1] in UNTYPED_CODES:
        return None
    return Terminology(*entry)


def _automatic(segment, key: str, classes: list[ClassInfo]) -> str:
    tag = vtk.reference("")
    if key in _IGNORE_NAMES or segment.GetTag(IGNORE_TAG, tag):
        return UNKNOWN
    match = matching(segment, classes)
    if match is not None:
        return str(match.value)
    return UNUSED if classes else NEW


def matching(segment, classes: Sequence[ClassInfo]) -> ClassInfo | None:
    """The class that a segment is; see ugmcl_core.models.class_matching."""
    return match_class(segment.GetName(), terminologyOf(segment), classes)
