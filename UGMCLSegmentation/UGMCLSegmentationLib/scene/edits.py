"""Changes of segmentations that numbers or pictures were made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import slicer
from slicer.util import VTKObservationMixin


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
