"""Checks of labeled cases: what is missing, and what will be changed to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from slicer.i18n import tr as _

from ugmcl_core.models.card import ClassInfo
from ugmcl_core.models.class_matching import name_key
from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel.improve.cases import structures
from UGMCLSegmentationLib.panel.improve.cases.cases import HOLDOUT, LABELED, UNLABELED, Case
from UGMCLSegmentationLib.scene import labelmaps, volumes


def check(
    case: Case,
    found: Sequence[structures.Structure],
    classes: Sequence[ClassInfo] = (),
) -> Case:
    """The case with its problem and notices filled in; `found` are the structures of all cases,
    `classes` the base's."""
    if case.problem or not case.needsLabel or case.volumeNode is None:
        return case
    if case.isEmpty:
        text = _("{name}: the model learns that none of the structures is there.")
        return replace(case, notices=(text.format(name=case.name),))
    try:
        return replace(case, notices=tuple(_notices(case, found, classes)))
    except PanelError as error:
        return replace(case, problem=str(error))


def _notices(
    case: Case, found: Sequence[structures.Structure], classes: Sequence[ClassInfo]
) -> list[str]:
    """Raises PanelError if the case cannot be used."""
    if case.segmentationNode is None:
        raise PanelError(
            _("{name}: choose the segmentation that labels it.").format(name=case.name)
        )
    targets = {s.key: s.target for s in found}
    used, drawn, empty, notices = [], set(), [], []
    for _identifier, segment in structures.segments(case):
        target = targets.get(name_key(segment.GetName()), structures.UNUSED)
        if target == structures.UNUSED:
            continue
        if labelmaps.isEmpty(segment):
            empty.append(segment.GetName())
        else:
            used.append(segment)
            drawn.add(target)
    if not used and empty:
        raise PanelError(
            _(
                "{name}: empty segments ({segments}): draw them, choose another label, or choose "
                "that nothing is there."
            ).format(name=case.name, segments=", ".join(empty))
        )
    if not used:
        raise PanelError(
            _("{name}: no segment is used: see Structures below.").format(name=case.name)
        )
    if empty:
        text = _("{name}: {segments} is empty.")
        notices.append(text.format(name=case.name, segments=", ".join(empty)))
    for smaller, larger in labelmaps.overlapping(used):
        text = _("{name}: {smaller} overlaps {larger}; the voxels of both count as {smaller}.")
        notices.append(
            text.format(name=case.name, smaller=smaller.GetName(), larger=larger.GetName())
        )
    notices += _gridNotices(case, used)
    absent = [info.name for info in classes if str(info.value) not in drawn]
    if absent:  # the model learns that they are absent
        text = _("{name}: without {names}, which is learned as not being there.")
        notices.append(text.format(name=case.name, names=", ".join(absent)))
    return notices


def _gridNotices(case: Case, used: Sequence) -> list[str]:
    size = volumes.dimensions(case.volumeNode)
    isResampled, isInside = False, False
    for segment in used:
        if labelmaps.isSurface(segment):
            isResampled = isInside = True  # known once it is a labelmap
            continue
        labelmap = labelmaps.image(segment)
        matrix = labelmaps.toLabelmap(labelmap, case.segmentationNode, case.volumeNode)
        isInside |= labelmaps.overlaps(matrix, size, labelmap.GetDimensions()[::-1])
        isResampled |= not labelmaps.isSameGrid(matrix, size)
    if not isInside:
        raise PanelError(
            _("{name}: {label} lies outside of the volume.").format(
                name=case.name, label=case.segmentationNode.GetName()
            )
        )
    if isResampled:
        text = _("{name}: {label} has another geometry and will be resampled.")
        return [text.format(name=case.name, label=case.segmentationNode.GetName())]
    return []


def readiness(cases: Sequence[Case]) -> str:
    """Why the cases cannot be used for training, "" if they can."""
    for case in cases:
        if case.problem:
            return case.problem
    if not any(case.role == LABELED and not case.isEmpty for case in cases):
        return _("Mark at least one case as Labeled: one with a segmentation of the structure.")
    return ""


def summary(cases: Sequence[Case]) -> str:
    counts = {role: sum(c.role == role for c in cases) for role in (LABELED, UNLABELED, HOLDOUT)}
    return _("{labeled} labeled, {unlabeled} unlabeled, {holdout} hold-out").format(**counts)
