"""How a result was corrected: the voxels that changed since its run, and the minutes that it took.

Both stay with the segmentation in the scene.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import slicer
from slicer.util import VTKObservationMixin

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.scene import arrays, labelmaps, results

_ORIGINAL = "UGMCLSegmentation.Original"  # attribute: JSON, the segments after the run
_CORRECTION = "UGMCLSegmentation.Correction"  # attribute: JSON of a Correction
_SECONDS = "UGMCLSegmentation.CorrectionSeconds"  # attribute
_LONGEST = 120.0  # seconds: a longer break between two edits counts as this


@dataclass(frozen=True)
class Correction:
    """The voxels that the user changed, those of the structures afterwards, and the minutes."""

    edited: int
    whole: int
    minutes: float

    @property
    def kept(self) -> float:
        """The part of the structures that the model had drawn, 0 to 1."""
        return max(0.0, 1.0 - self.edited / self.whole) if self.whole else 0.0


@dataclass(frozen=True)
class Mask:
    """Voxels (k, j, i) from `start` (k, j, i) on, on the grid of the segmented volume."""

    start: tuple[int, int, int]
    voxels: np.ndarray


def begin(segmentationNode) -> None:
    """Store the segments as the run made them."""
    content = {}
    for identifier, segment in results.segmentsOf(segmentationNode):
        mask = _current(segment, segmentationNode)
        if mask is not None:
            packed = zlib.compress(np.packbits(mask.voxels).tobytes(), 6)
            text = base64.b64encode(packed).decode("ascii")
            content[identifier] = [list(mask.start), list(mask.voxels.shape), text]
    segmentationNode.SetAttribute(_ORIGINAL, json.dumps(content))
    for name in (_CORRECTION, _SECONDS):
        segmentationNode.RemoveAttribute(name)


def changes(segmentationNode) -> list[Mask] | None:
    """The voxels that changed since the run, by segment; None where that is unknown: for what no
    run made, on another grid, and without its volume."""
    text = segmentationNode.GetAttribute(_ORIGINAL)
    if text is None:
        return None
    former = {key: _unpacked(row) for key, row in results.fromJson(text, dict).items()}
    found = []
    try:
        now = {
            key: _current(segment, segmentationNode)
            for key, segment in results.segmentsOf(segmentationNode)
        }
    except PanelError:
        return None
    for key in {**former, **now}:
        found.append(_difference(former.get(key), now.get(key)))
    return [mask for mask in found if mask is not None]


def editedSegments(segmentationNode) -> set[str]:
    """The identifiers of the segments whose voxels changed since the run; none where that is
    unknown."""
    former = results.fromJson(segmentationNode.GetAttribute(_ORIGINAL), dict)
    edited = set()
    for identifier, segment in results.segmentsOf(segmentationNode) if former else ():
        try:
            now = _current(segment, segmentationNode)
        except PanelError:
            continue
        row = former.get(identifier)
        difference = _difference(_unpacked(row) if row else None, now)
        if difference is not None and difference.voxels.any():
            edited.add(identifier)
    return edited


def finish(segmentationNode) -> Correction | None:
    """Keep with an accepted result how it was corrected; None where that is unknown."""
    edited = changes(segmentationNode)
    if edited is None:
        return None
    whole = sum(_count(mask) for mask in _masks(segmentationNode))
    minutes = round(_seconds(segmentationNode) / 60, 2)
    correction = Correction(sum(_count(mask) for mask in edited), whole, minutes)
    segmentationNode.SetAttribute(_CORRECTION, json.dumps(asdict(correction)))
    return correction


def of(segmentationNode) -> Correction | None:
    """What `finish` kept, or None."""
    text = segmentationNode.GetAttribute(_CORRECTION) if segmentationNode is not None else None
    try:
        return Correction(**results.fromJson(text, dict))
    except TypeError:
        return None


class Watch(VTKObservationMixin):
    """Calls `onChanged` with the segmentation node whose segments or place have changed."""

    def __init__(self, onChanged: Callable[[Any], None]) -> None:
        super().__init__()
        self._onChanged = onChanged
        self._nodes: list = []

    def follow(self, nodes: Iterable) -> None:
        """Watch these segmentation nodes, and no others; the missing ones may be None."""
        self.removeObservers()
        self._nodes = [node for node in nodes if node is not None]
        kinds = slicer.vtkSegmentation
        for node in self._nodes:
            self.addObserver(
                node, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._changed
            )
            for event in (kinds.SegmentAdded, kinds.SegmentRemoved,
                          kinds.SourceRepresentationModified):  # fmt: skip
                self.addObserver(node.GetSegmentation(), event, self._changed)

    @property
    def nodes(self) -> tuple:
        return tuple(self._nodes)

    def _changed(self, caller, _event) -> None:
        for node in self._nodes:
            if caller is node or caller is node.GetSegmentation():
                self._onChanged(node)
                return


class Stopwatch:
    """Adds up the time that a result is being worked on: from when it was shown to the last edit;
    breaks count only in part."""

    def __init__(self) -> None:
        self._node: Any = None
        self._since = 0.0

    def start(self, segmentationNode) -> None:
        """The result is shown from now on; None for no result."""
        self._node, self._since = segmentationNode, time.monotonic()

    def tick(self) -> None:
        """It was edited."""
        now = time.monotonic()
        if self._node is not None:
            seconds = _seconds(self._node) + min(_LONGEST, now - self._since)
            self._node.SetAttribute(_SECONDS, f"{seconds:.1f}")
        self._since = now


def _seconds(segmentationNode) -> float:
    return float(segmentationNode.GetAttribute(_SECONDS) or 0.0)


def _masks(segmentationNode) -> Iterator[Mask]:
    for _identifier, segment in results.segmentsOf(segmentationNode):
        if (mask := _current(segment, segmentationNode)) is not None:
            yield mask


def _current(segment, segmentationNode) -> Mask | None:
    """The voxels of a segment, None for an empty one. Raises PanelError if they lie on another
    grid than those of the volume, or if that is gone."""
    labelmap = labelmaps.image(segment)
    if labelmap is None:
        return None
    voxels = arrays.voxels(labelmap) == segment.GetLabelValue()
    box = arrays.tightBox(voxels)
    if box is None:
        return None
    volumeNode = results.sourceOf(segmentationNode)
    if volumeNode is None:
        raise PanelError("")
    matrix = labelmaps.toLabelmap(labelmap, segmentationNode, volumeNode)
    if not labelmaps.isSameGrid(matrix, labelmap.GetDimensions()):
        raise PanelError("")
    offset = np.round(matrix[:3, 3]).astype(int)[::-1]  # of the volume's voxels, k, j, i
    start = tuple(int(part.start - o) for part, o in zip(box, offset, strict=True))
    return Mask(start, voxels[box])


def _unpacked(row: list) -> Mask:
    start, shape, text = row
    count = int(np.prod(shape))
    packed = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return Mask(tuple(start), np.unpackbits(packed, count=count).astype(bool).reshape(shape))


def _difference(one: Mask | None, other: Mask | None) -> Mask | None:
    """Where exactly one of the two has voxels."""
    if one is None or other is None:
        return one if other is None else other
    start = np.minimum(one.start, other.start)
    ends = [np.add(m.start, m.voxels.shape) for m in (one, other)]
    voxels = np.zeros(np.maximum(*ends) - start, bool)
    for mask in (one, other):
        first = mask.start - start
        part = tuple(slice(f, f + n) for f, n in zip(first, mask.voxels.shape, strict=True))
        voxels[part] ^= mask.voxels
    return Mask(tuple(int(n) for n in start), voxels)


def _count(mask: Mask) -> int:
    return int(np.count_nonzero(mask.voxels))
