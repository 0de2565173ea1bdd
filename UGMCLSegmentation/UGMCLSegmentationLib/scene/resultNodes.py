"""Turns the files of the worker into nodes of the scene, in small steps."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.scene import (
    arrays,
    corrections,
    nrrd,
    overlays,
    results,
    subjectHierarchy,
    volumes,
)
from UGMCLSegmentationLib.scene.overlays import Overlay
from UGMCLSegmentationLib.scene.results import LABELMAP

_KEPT = ("model", "device", "passes", "seconds", "advice", "predicted_dice")  # of a result


def build(
    result: dict[str, Any], sourceNode, part: volumes.Box, segmentationNode=None
) -> Generator[None, None, Any]:
    """Make or update the nodes of `sourceNode`'s results; returns the segmentation node.

    `segmentationNode` is updated unless it was edited, accepted or chosen as a label; without one,
    or then, a new one is made.
    All files are read before the scene is touched, so that a result is whole or not there.
    """
    labels = yield from readLabels(Path(result["labels"]), sourceNode, part)
    read = []
    for overlay, info, path in _files(result):
        outside = overlay.outside * overlay.scale(result)
        voxels = yield from _readImage(path, sourceNode, part, outside)
        read.append((overlay, info, voxels))

    image = labelmap(labels, part, sourceNode)
    yield
    mark = yield from results.fingerprint(
        results.Content(_segmentId(info), info["name"], image, info["value"])
        for info in result["classes"]
    )
    if isInScene(segmentationNode) and (yield from results.isEdited(segmentationNode)):
        segmentationNode = None  # never change the user's work
    requireSource(sourceNode)
    if not isInScene(segmentationNode) or results.isKept(segmentationNode):
        segmentationNode = None
    # no yield from here to the end: all nodes change together, and so does the mark
    segmentationNode = _updateSegmentation(segmentationNode, result, sourceNode, image)
    stale = [
        node
        for overlay in overlays.OVERLAYS
        for node in results.find(overlay.role, sourceNode, segmentationNode)
    ]
    for overlay, info, voxels in read:
        label = info.get("value")
        node = results.volumeOf(overlay, sourceNode, label, segmentationNode)
        name = overlay.nodeName.format(volume=sourceNode.GetName())
        if info and len(result["classes"]) > 1:
            name += " " + info["name"]
        node = _updateVolume(node, name, overlay.role, segmentationNode, voxels, label)
        overlays.setUp(node, overlay, overlay.scale(result))
        stale = [other for other in stale if other is not node]
    for node in stale:  # of an earlier run without a counterpart in this one
        slicer.mrmlScene.RemoveNode(node)
    segmentationNode.SetAttribute(results.FINGERPRINT, mark)
    corrections.begin(segmentationNode)
    return segmentationNode


def _files(result: dict[str, Any]) -> Iterator[tuple[Overlay, dict[str, Any], Path]]:
    """The overlays in a result of the worker, each with its class ({} for all classes) and file.
    A model without a distance head or a run without passes lacks some."""
    for overlay in overlays.OVERLAYS:
        for info in result["classes"] if overlay.isPerClass else [{}]:
            source = info if overlay.isPerClass else result
            if path := source.get(overlay.field):
                yield overlay, info, Path(path)


def isInScene(node) -> bool:
    return node is not None and node.GetScene() is slicer.mrmlScene


def requireSource(sourceNode) -> None:
    """Raise PanelError if the volume can no longer have results. Call it right before changing the
    scene, which then keeps its earlier results."""
    if not isInScene(sourceNode):
        raise PanelError(_("The volume was removed from the scene; its result was dropped."))
    try:
        volumes.refuseNonLinear(sourceNode)
    except PanelError as error:
        text = _("{why} The result of this run was dropped.")
        raise PanelError(text.format(why=error)) from None


def _header(path: Path, sourceNode, part: volumes.Box) -> nrrd.Header:
    """The file's header, after a check that its grid is that of the volume's part."""
    header = nrrd.readHeader(path)
    expected = part.matrix(volumes.ijkToRas(sourceNode))
    shape = tuple(s.stop - s.start for s in part.slices)
    gap = np.abs(header.ijkToRas - expected).max()
    if header.shape != shape or gap > 1e-2 * max(1.0, min(sourceNode.GetSpacing())):
        raise PanelError(
            _("The result is not on the grid of {name}; was it changed during the run?").format(
                name=sourceNode.GetName()
            )
        )
    return header


def readLabels(path: Path, sourceNode, part: volumes.Box) -> Generator[None, None, np.ndarray]:
    """A generator that returns the labels in a file on the grid of the volume's part."""
    header = _header(path, sourceNode, part)
    labels = np.empty(header.shape, header.dtype.newbyteorder("="))
    yield from nrrd.read(path, header, labels)
    return labels


def _readImage(
    path: Path, sourceNode, part: volumes.Box, outside: float
) -> Generator[None, None, vtk.vtkImageData]:
    """The file as float voxels of the whole volume, `outside` where it has none."""
    header = _header(path, sourceNode, part)
    image = vtk.vtkImageData()
    image.SetDimensions(*volumes.dimensions(sourceNode))
    image.AllocateScalars(vtk.VTK_FLOAT, 1)
    array = arrays.voxels(image)
    if part != volumes.fullBox(sourceNode):
        for slab in nrrd.slabs(array.shape, array.itemsize):
            array[slab] = outside
            yield
    yield from nrrd.read(path, header, array[part.slices])
    return image


def _updateVolume(node, name, role, segmentationNode, image, label: int | None = None):
    sourceNode = results.sourceOf(segmentationNode)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass(
            "vtkMRMLScalarVolumeNode", slicer.mrmlScene.GenerateUniqueName(name)
        )
        overlays.create(node)
        subjectHierarchy.place(node, sourceNode)
    results.mark(node, role, sourceNode, label)
    node.SetNodeReferenceID(results.RESULT, segmentationNode.GetID())
    matrix = vtk.vtkMatrix4x4()
    sourceNode.GetIJKToRASMatrix(matrix)
    node.SetIJKToRASMatrix(matrix)
    node.SetAndObserveTransformNodeID(sourceNode.GetTransformNodeID())
    node.SetAndObserveImageData(image)
    return node


def _updateSegmentation(node, result, sourceNode, labelmap):
    if node is None:
        name = _("{volume} segmentation").format(volume=sourceNode.GetName())
        node = slicer.mrmlScene.AddNewNodeByClass(
            "vtkMRMLSegmentationNode", slicer.mrmlScene.GenerateUniqueName(name)
        )
        node.CreateDefaultDisplayNodes()
        subjectHierarchy.place(node, sourceNode)
    results.mark(node, results.SEGMENTATION, sourceNode)
    # the reference geometry is expressed in the node's space, so the transform comes first
    node.SetAndObserveTransformNodeID(sourceNode.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(sourceNode)

    segmentation = node.GetSegmentation()
    kept = _chosenColors(node)
    modified = node.StartModify()
    segmentation.RemoveAllSegments()
    segmentation.SetSourceRepresentationName(LABELMAP)
    for info in result["classes"]:
        segment = slicer.vtkSegment()
        segment.SetName(info["name"])
        segmentId = _segmentId(info)
        segment.SetColor(*kept.get((segmentId, info["name"]), info["color"]))
        segment.SetTag(results.CLASS, str(info["value"]))
        if terminology := _terminology(info.get("terminology")):
            segment.SetTag(segment.GetTerminologyEntryTagName(), terminology)
        segment.AddRepresentation(LABELMAP, labelmap)
        segment.SetLabelValue(info["value"])
        segmentation.AddSegment(segment, segmentId)
    node.EndModify(modified)
    node.SetAttribute(results.SUMMARY, json.dumps(_summary(result)))
    return node


def _chosenColors(segmentationNode) -> dict[tuple[str, str], tuple[float, ...]]:
    """The colors that the user changed, by the segment's identifier and name."""
    classes = results.summary(segmentationNode).get("classes", [])
    given = {_segmentId(info): info.get("color") for info in classes}
    chosen = {}
    for key, segment in results.segmentsOf(segmentationNode):
        color = segment.GetColor()
        if given.get(key) is None or np.abs(np.subtract(color, given[key])).max() > 1e-3:
            chosen[key, segment.GetName()] = color
    return chosen


def _segmentId(info: dict[str, Any]) -> str:
    return f"class_{info['value']}"


def labelmap(labels: np.ndarray, part: volumes.Box, sourceNode):
    """One labelmap that all segments share, cut to the box that holds any label."""
    image = slicer.vtkOrientedImageData()
    isByte = labels.dtype.itemsize == 1
    kind = vtk.VTK_UNSIGNED_CHAR if isByte else vtk.VTK_UNSIGNED_SHORT
    cut = arrays.tightBox(labels)
    if cut is None:
        image.AllocateScalars(kind, 1)  # VTK makes no surface of voxels without an integer type
        return image
    (k0, k1), (j0, j1), (i0, i1) = (
        (s.start + p.start, s.stop + p.start - 1) for s, p in zip(cut, part.slices, strict=True)
    )
    image.SetExtent(i0, i1, j0, j1, k0, k1)
    image.AllocateScalars(kind, 1)
    arrays.voxels(image)[:] = labels[cut]
    matrix = vtk.vtkMatrix4x4()
    sourceNode.GetIJKToRASMatrix(matrix)
    image.SetGeometryFromImageToWorldMatrix(matrix)
    return image


def _terminology(entry: dict[str, str] | None) -> str:
    """The entry as Slicer serializes it, "" without one."""
    if not entry:
        return ""
    kind = "~".join(
        (
            "Segmentation category and type - 3D Slicer General Anatomy list",
            "SCT^123037004^Anatomical Structure",
            "^".join((entry["scheme"], entry["code"], entry["meaning"])),
            "^^",  # no modifier
        )
    )
    return kind + "~Anatomic codes - DICOM master list~^^~^^"


def _summary(result: dict[str, Any]) -> dict[str, Any]:
    """The part of the worker's result that stays in the scene."""
    keys = ("value", "name", "color", "volume_ml", "volume_interval_ml", "mean_uncertainty",
            "unsure_surface")  # fmt: skip
    return {
        "classes": [{k: info.get(k) for k in keys} for info in result["classes"]],
        "scale": result["sdf_scale_mm"],
        **{k: result.get(k) for k in _KEPT},
    }
