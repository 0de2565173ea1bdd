"""A result against a reference: measures for each structure, and where the two differ."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel.improve.cases import structures
from UGMCLSegmentationLib.scene import labelmaps, resultNodes, results, subjectHierarchy, volumes
from UGMCLSegmentationLib.worker.run import Task
from UGMCLSegmentationLib.worker.worker import Event

COLUMNS = ("dice", "jaccard", "asd_mm", "hd95_mm")
_KIND = "evaluation"  # of the table node
_ERRORS = "errors"  # of the overlay
_SEGMENTS = ((1, (0.95, 0.55, 0.1)), (2, (0.1, 0.45, 0.95)), (3, (0.8, 0.2, 0.8)))


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

    def read(self, event: Event, folder: Path) -> Generator[None, None, Any]:
        """Returns the table node."""
        part = volumes.fullBox(self._volume)
        voxels = yield from resultNodes.readLabels(folder / "errors.nrrd", self._volume, part)
        labelmap = resultNodes.labelmap(voxels, part, self._volume)
        yield
        resultNodes.requireSource(self._volume)
        _showErrors(labelmap, self._volume)
        return _fillTable(event["classes"], self._classes, self._result, self._reference)


def overlay():
    """The segmentation that shows where result and reference differ, or None."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node.GetAttribute(results.OVERLAY) == _ERRORS:
            return node
    return None


def table():
    """The node with the measures, or None."""
    for node in slicer.util.getNodesByClass("vtkMRMLTableNode"):
        if node.GetAttribute(results.ROLE) == _KIND:
            return node
    return None


def _volumeOf(segmentationNode):
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return results.sourceOf(segmentationNode) or segmentationNode.GetNodeReference(role)


def _classesOf(segmentationNode) -> tuple[list[structures.ClassSpec], dict[str, int]]:
    """A class for each segment, and its label by the segment's identifier."""
    segmentation = segmentationNode.GetSegmentation()
    classes, values = [], {}
    for index in range(segmentation.GetNumberOfSegments()):
        segment, value = segmentation.GetNthSegment(index), index + 1
        terminology = structures.terminologyOf(segment)
        classes.append(
            structures.ClassSpec(value, segment.GetName(), segment.GetColor(), terminology)
        )
        values[segmentation.GetNthSegmentID(index)] = value
    return classes, values


def _matched(segmentationNode, classes: list[structures.ClassSpec]) -> dict[str, int]:
    """The label of each segment that is one of the classes; two lone segments are one anyway."""
    segmentation = segmentationNode.GetSegmentation()
    values = {}
    for index in range(segmentation.GetNumberOfSegments()):
        target = structures.matching(segmentation.GetNthSegment(index), classes)
        if target is not None:
            values[segmentation.GetNthSegmentID(index)] = target
    if not values and segmentation.GetNumberOfSegments() == len(classes) == 1:
        values[segmentation.GetNthSegmentID(0)] = classes[0].value
    return values


def _showErrors(labelmap, volumeNode) -> None:
    node = overlay()
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        node.SetAttribute(results.OVERLAY, _ERRORS)
        node.CreateDefaultDisplayNodes()
    node.SetName(_("{volume} errors").format(volume=volumeNode.GetName()))
    subjectHierarchy.place(node, volumeNode)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    names = (_("Only in the result"), _("Only in the reference"), _("Different structures"))
    segmentation = node.GetSegmentation()
    segmentation.RemoveAllSegments()
    segmentation.SetSourceRepresentationName(labelmaps.LABELMAP)
    for name, (value, color) in zip(names, _SEGMENTS, strict=True):
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.SetColor(*color)
        segment.AddRepresentation(labelmaps.LABELMAP, labelmap)
        segment.SetLabelValue(value)
        segmentation.AddSegment(segment, f"error_{value}")
    display = node.GetDisplayNode()
    display.SetVisibility3D(False)
    display.SetOpacity2DFill(0.6)


def _fillTable(rows, classes: list[structures.ClassSpec], resultNode, referenceNode):
    node = table()
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
        node.SetAttribute(results.ROLE, _KIND)
    node.SetName(
        _("{result} against {reference}").format(
            result=resultNode.GetName(), reference=referenceNode.GetName()
        )
    )
    names = {info.value: info.name for info in classes}
    titles = (_("Structure"), _("Dice"), _("Jaccard"), _("ASD (mm)"), _("95HD (mm)"))
    texts = [[names.get(row["value"], str(row["value"])), *map(_number, (row[c] for c in COLUMNS))]
             for row in rows]  # fmt: skip
    data = vtk.vtkTable()
    for index, title in enumerate(titles):
        column = vtk.vtkStringArray()
        column.SetName(title)
        for row in texts:
            column.InsertNextValue(row[index])
        data.AddColumn(column)
    node.SetAndObserveTable(data)
    node.SetUseColumnTitleAsColumnHeader(True)
    return node


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"
