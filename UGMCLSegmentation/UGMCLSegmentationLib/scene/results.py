"""The results of runs as nodes of the scene: how to find them, and what they store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from UGMCLSegmentationLib.scene import arrays, overlays
from UGMCLSegmentationLib.scene.overlays import Overlay

ROLE = "UGMCLSegmentation.Role"  # attribute: SEGMENTATION or the role of an overlay
CLASS = "UGMCLSegmentation.Class"  # attribute of a volume, tag of a segment: its label
SUMMARY = "UGMCLSegmentation.Summary"  # attribute: JSON, see `summary`
FINGERPRINT = "UGMCLSegmentation.Fingerprint"  # attribute: the segments after the run
OVERLAY = "UGMCLSegmentation.Overlay"  # attribute of nodes that only serve the display
SOURCE = "UGMCLSegmentation.Source"  # node reference: the volume that was segmented
RESULT = "UGMCLSegmentation.Result"  # node reference of a volume: its segmentation
# Node reference of a result to itself: an import that renumbers the nodes renumbers it too, and
# a clone has that of its original, or none.
NODE = "UGMCLSegmentation.Node"
CHECKED = "UGMCLSegmentation.CheckedSpots"  # attribute: JSON, the (i, j, k) of spots
ACCEPTED = "UGMCLSegmentation.Accepted"  # attribute of a result that the user accepted
LABEL = "UGMCLSegmentation.CaseLabel"  # node reference: the segmentation that the user chose
SEGMENTATION = "segmentation"
LABELMAP = "Binary labelmap"  # a representation of segments


def sourceOf(node):
    """The volume that `node` is a result of, or None."""
    return node.GetNodeReference(SOURCE) if node is not None else None


def mark(node, role: str, sourceNode, label: int | None = None) -> None:
    node.SetAttribute(ROLE, role)
    node.SetNodeReferenceID(NODE, node.GetID())
    node.SetNodeReferenceID(SOURCE, sourceNode.GetID())
    if label is not None:
        node.SetAttribute(CLASS, str(label))


def isResultVolume(volumeNode) -> bool:
    """Whether a run made the volume. A clone has the attributes of its original, but is the user's
    own."""
    return (
        volumeNode is not None
        and volumeNode.GetAttribute(ROLE) in [overlay.role for overlay in overlays.OVERLAYS]
        and volumeNode.GetNodeReference(NODE) is volumeNode
    )


def find(role: str, sourceNode=None, segmentationNode=None) -> list:
    """The results of that role, of one volume or of all, in the order of the scene; no clones of
    volumes, which are the user's own. With `segmentationNode` those of its run, and those whose
    segmentation is gone."""
    isVolume = role != SEGMENTATION
    className = "vtkMRMLScalarVolumeNode" if isVolume else "vtkMRMLSegmentationNode"
    return [
        node
        for node in slicer.util.getNodesByClass(className)
        if node.GetAttribute(ROLE) == role
        and (not isVolume or isResultVolume(node))
        and (sourceNode is None or sourceOf(node) is sourceNode)
        and (segmentationNode is None or node.GetNodeReference(RESULT) in (segmentationNode, None))
    ]


def overlayVolumes() -> list[tuple[Overlay, Any]]:
    """All overlays in the scene and their volumes."""
    return [(overlay, node) for overlay in overlays.OVERLAYS for node in find(overlay.role)]


def volumeOf(overlay: Overlay, sourceNode, label: int, segmentationNode=None):
    """The overlay's volume (of the class `label`, if there is one for each class), or None; see
    `find`."""
    for node in find(overlay.role, sourceNode, segmentationNode):
        if not overlay.isPerClass or node.GetAttribute(CLASS) == str(label):
            return node
    return None


def distanceOf(sourceNode, label: int, segmentationNode=None):
    return volumeOf(overlays.of(overlays.DISTANCE), sourceNode, label, segmentationNode)


def uncertaintyOf(sourceNode, segmentationNode=None):
    return volumeOf(overlays.of(overlays.UNCERTAINTY), sourceNode, 0, segmentationNode)


def surfaceErrorOf(sourceNode, segmentationNode=None):
    return volumeOf(overlays.of(overlays.SURFACE_ERROR), sourceNode, 0, segmentationNode)


def latestOf(sourceNode):
    """The newest segmentation of a volume, or None."""
    nodes = find(SEGMENTATION, sourceNode) if sourceNode is not None else []
    return nodes[-1] if nodes else None


def summary(segmentationNode) -> dict[str, Any]:
    """What the run reported: `classes` (value, name, volume_ml, mean_uncertainty), `scale` and
    `model`. Empty for other segmentations."""
    text = segmentationNode.GetAttribute(SUMMARY) if segmentationNode is not None else ""
    return fromJson(text, dict)


def fromJson(text: str | None, kind: type) -> Any:
    """The content of an attribute; empty if it is not of this `kind`."""
    try:
        content = json.loads(text or "null")
    except ValueError:
        content = None
    return content if isinstance(content, kind) else kind()


def segmentsOf(segmentationNode) -> list[tuple[str, Any]]:
    """The segments with their identifiers."""
    segmentation = segmentationNode.GetSegmentation()
    return [
        (segmentation.GetNthSegmentID(n), segmentation.GetNthSegment(n))
        for n in range(segmentation.GetNumberOfSegments())
    ]


def classOf(segment) -> str:
    """The label of the segment's class, "" for a segment that the user added."""
    label = vtk.reference("")
    segment.GetTag(CLASS, label)
    return str(label)


@dataclass(frozen=True)
class Content:
    """The contents of a segment: the voxels of value `label` in `image`."""

    segmentId: str
    name: str
    image: Any
    label: int


def _contents(segmentationNode) -> Iterator[Content]:
    for identifier, segment in segmentsOf(segmentationNode):
        image = segment.GetRepresentation(LABELMAP)
        yield Content(identifier, segment.GetName(), image, segment.GetLabelValue())


def fingerprint(contents: Iterable[Content]) -> Generator[None, None, str]:
    """A generator that returns a hash of the segments' names and voxels.

    It does not depend on how the voxels are stored (extent, shared or separate labelmaps), so it
    is the same after a scene was saved and read.
    """
    digest = hashlib.sha256()
    for content in contents:
        digest.update(f"{content.segmentId}\n{content.name}\n".encode())
        for part in _effective(content.image, content.label):
            if part is None:
                yield
            else:
                digest.update(part)
    return digest.hexdigest()


def _effective(image, label: int) -> Iterator[bytes | None]:
    """The corner and the bits of the smallest box around the voxels of `label`."""
    if image is None or image.GetPointData().GetScalars() is None:
        return
    mask = arrays.voxels(image) == label
    yield None
    box = arrays.tightBox(mask)
    if box is None:
        return
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    i0, _i1, j0, _j1, k0, _k1 = image.GetExtent()
    start = (i0 + box[2].start, j0 + box[1].start, k0 + box[0].start, 1.0)
    # in steps of 0.05 mm; the odd offset keeps multiples of usual spacings off the steps' borders
    corner = np.floor(np.array(matrix.MultiplyPoint(start)[:3]) / 0.05 + 0.1372).astype(int)
    cut = np.ascontiguousarray(mask[box])
    yield None
    yield f"{corner.tolist()}{cut.shape}\n".encode()
    yield np.packbits(cut).tobytes()


def isEdited(segmentationNode) -> Generator[None, None, bool]:
    """A generator that returns whether the segmentation changed since its run."""
    stored = segmentationNode.GetAttribute(FINGERPRINT)
    current = yield from fingerprint(_contents(segmentationNode))
    return current != stored


def isKept(segmentationNode) -> bool:
    """Whether the user accepted it or chose it as a label, so that no run may replace it."""
    volumeNodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return segmentationNode.GetAttribute(ACCEPTED) == "1" or any(
        node.GetNodeReference(LABEL) is segmentationNode for node in volumeNodes
    )
