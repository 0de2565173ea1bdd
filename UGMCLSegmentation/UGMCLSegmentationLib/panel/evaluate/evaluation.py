"""Evaluation of a result against a reference: measures of each structure, and the errors."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ugmcl_core.models.card import ClassInfo
from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel.improve.cases import structures
from UGMCLSegmentationLib.scene import (
    labelmaps,
    resultNodes,
    results,
    subjectHierarchy,
    taggedNodes,
    volumes,
)
from UGMCLSegmentationLib.worker.run import Task
from UGMCLSegmentationLib.worker.worker import Event

STRUCTURE = "Structure"
MEASURES = {"Dice": "dice", "Jaccard": "jaccard", "ASD (mm)": "asd_mm", "95HD (mm)": "hd95_mm"}
_KIND = "evaluation"  # of the table node
_ERRORS = "errors"  # of the overlay
_COMPARED = ("UGMCLSegmentation.Result", "UGMCLSegmentation.Reference")  # what it was made from
_SEGMENTS = ((1, (0.95, 0.55, 0.1)), (2, (0.1, 0.45, 0.95)), (3, (0.8, 0.2, 0.8)))


@dataclass(frozen=True)
class Evaluation:
    """The names of the two segmentations, and a row for each structure with the keys STRUCTURE and
    MEASURES, the same in every language; a measure that is not defined is None."""

    result: str
    reference: str
    rows: list[dict[str, Any]]


class EvaluateTask(Task):
    """Raises PanelError where the two have no structure in common or no volume between them."""

    def __init__(self, resultNode, referenceNode) -> None:
        if resultNode is None or referenceNode is None or resultNode is referenceNode:
            raise PanelError(_("Choose a result and another segmentation to compare it with."))
        self._result = resultNode
        self._reference = referenceNode
        self._volume = _volumeOf(resultNode) or _volumeOf(referenceNode)
        if self._volume is None:
            raise PanelError(_("The volume that was segmented is not in the scene any more."))
        volumes.check(self._volume)
        self._classes, self._found = _classesOf(resultNode)
        self._truth = _matched(referenceNode, self._classes)
        common = set(self._truth.values())
        self._classes = [info for info in self._classes if info.value in common]
        if not self._classes:
            raise PanelError(
                _("{a} and {b} have no structure in common: give their segments the same names.")
                .format(a=resultNode.GetName(), b=referenceNode.GetName())
            )  # fmt: skip

    def occupation(self) -> str:
        return _("An evaluation is running.")

    def write(self, folder: Path) -> Iterator[None]:
        common = {info.value for info in self._classes}
        found = {i: value for i, value in self._found.items() if value in common}
        for node, values, name in (
            (self._result, found, "prediction"),
            (self._reference, self._truth, "reference"),
        ):
            yield from labelmaps.write(folder / f"{name}.nrrd", node, values, self._volume)

    def request(self, folder: Path) -> dict[str, Any]:
        return {
            "command": "evaluate",
            "prediction": str(folder / "prediction.nrrd"),
            "reference": str(folder / "reference.nrrd"),
            "values": [info.value for info in self._classes],
            "errors": str(folder / "errors.nrrd"),
        }

    def names(self, folder: Path) -> dict[str, str]:
        return {
            str(folder / "prediction.nrrd"): self._result.GetName(),
            str(folder / "reference.nrrd"): self._reference.GetName(),
        }

    def read(self, event: Event, folder: Path) -> Generator[None, None, Evaluation]:
        """Shows the errors in the scene."""
        part = volumes.fullBox(self._volume)
        voxels = yield from resultNodes.readLabels(folder / "errors.nrrd", self._volume, part)
        labelmap = resultNodes.labelmap(voxels, part, self._volume)
        yield
        resultNodes.requireSource(self._volume)
        _showErrors(labelmap, self._volume, (self._result, self._reference))
        rows = rowsOf(event["classes"], self._classes)
        return Evaluation(self._result.GetName(), self._reference.GetName(), rows)


def rowsOf(measured: Sequence[dict], classes: Sequence[ClassInfo]) -> list[dict[str, Any]]:
    """The rows of an Evaluation, from the worker's."""
    names = {info.value: info.name for info in classes}
    return [
        {STRUCTURE: names[row["value"]]}
        | {key: _number(row[field]) for key, field in MEASURES.items()}
        for row in measured
    ]


def overlay():
    """The segmentation that shows where result and reference differ, or None."""
    return taggedNodes.find("vtkMRMLSegmentationNode", results.OVERLAY, _ERRORS)


def compared() -> tuple:
    """The result and the reference that the overlay was made from, None for one that is gone;
    nothing if there is no overlay, or one of them has changed since."""
    node = overlay()
    found = tuple(node.GetNodeReference(role) for role in _COMPARED) if node is not None else ()
    return found if any(found) else ()


def markOutdated() -> None:
    """What was compared has changed: the numbers and the overlay are not of what is there now."""
    node = overlay()
    for role in _COMPARED if node is not None else ():
        node.SetNodeReferenceID(role, None)
    node, mark = table(), _("(before a change)")
    if node is not None and not node.GetName().endswith(mark):
        node.SetName(f"{node.GetName()} {mark}")


def table():
    """The node with the measures, or None."""
    return taggedNodes.find("vtkMRMLTableNode", results.ROLE, _KIND)


def fillTable(evaluation: Evaluation):
    """Show the measures in the scene's table node for them; returns the node."""
    name = _("{result} against {reference}").format(
        result=evaluation.result, reference=evaluation.reference
    )
    titles = (_("Structure"), _("Dice"), _("Jaccard"), _("ASD (mm)"), _("95HD (mm)"))
    texts = [
        [row[STRUCTURE], *("–" if row[k] is None else f"{row[k]:.3f}" for k in MEASURES)]
        for row in evaluation.rows
    ]
    return taggedNodes.fillTable(_KIND, name, titles, texts)


def _volumeOf(segmentationNode):
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return results.sourceOf(segmentationNode) or segmentationNode.GetNodeReference(role)


def _classesOf(segmentationNode) -> tuple[list[ClassInfo], dict[str, int]]:
    """A class for each segment, and its label by the segment's identifier."""
    classes, values = [], {}
    for value, (key, segment) in enumerate(results.segmentsOf(segmentationNode), start=1):
        terminology = structures.terminologyOf(segment)
        classes.append(ClassInfo(value, segment.GetName(), segment.GetColor(), terminology))
        values[key] = value
    return classes, values


def _matched(segmentationNode, classes: list[ClassInfo]) -> dict[str, int]:
    """The label of each segment that is one of the classes; two single segments always match."""
    segments = results.segmentsOf(segmentationNode)
    matches = {key: structures.matching(segment, classes) for key, segment in segments}
    values = {key: match.value for key, match in matches.items() if match is not None}
    if not values and len(segments) == len(classes) == 1:
        values[segments[0][0]] = classes[0].value
    return values


def _showErrors(labelmap, volumeNode, pair: Sequence) -> None:
    node = taggedNodes.findOrAdd("vtkMRMLSegmentationNode", results.OVERLAY, _ERRORS)
    node.CreateDefaultDisplayNodes()
    node.SetName(_("{volume} errors").format(volume=volumeNode.GetName()))
    for role, compared in zip(_COMPARED, pair, strict=True):
        node.SetNodeReferenceID(role, compared.GetID())
    subjectHierarchy.place(node, volumeNode)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    names = (_("Only in the result"), _("Only in the reference"), _("Different structures"))
    segmentation = node.GetSegmentation()
    segmentation.RemoveAllSegments()
    segmentation.SetSourceRepresentationName(results.LABELMAP)
    for name, (value, color) in zip(names, _SEGMENTS, strict=True):
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.SetColor(*color)
        segment.AddRepresentation(results.LABELMAP, labelmap)
        segment.SetLabelValue(value)
        segmentation.AddSegment(segment, f"error_{value}")
    display = node.GetDisplayNode()
    display.SetVisibility3D(False)
    display.SetOpacity2DFill(0.6)


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
