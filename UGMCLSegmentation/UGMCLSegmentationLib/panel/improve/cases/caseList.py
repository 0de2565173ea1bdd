"""All cases of the scene and beside it, read again whenever one of them changes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import slicer
import vtk
from slicer.util import VTKObservationMixin

from ugmcl_core.models.card import ClassInfo
from UGMCLSegmentationLib.panel.improve.cases import caseChecks, caseFiles, cases, structures
from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.parameters import SCRATCH, Parameters
from UGMCLSegmentationLib.scene import channels, results, volumes
from UGMCLSegmentationLib.worker.incremental import Deadline, IncrementalTask, finish

_PAUSE = 0.15  # seconds without a change before the cases are read: brush strokes are many


@dataclass(frozen=True)
class Contents:
    """The cases with their problems, the structures in their labels, the base's classes, and the
    names of the images of a case."""

    cases: list[cases.Case] = field(default_factory=list)
    structures: list[structures.Structure] = field(default_factory=list)
    classes: list[ClassInfo] = field(default_factory=list)
    channels: tuple[str, ...] = ("image",)


def channelsOf(parameters: Parameters) -> tuple[str, ...]:
    """The names of the images of a case: those of the base, or the user's from scratch."""
    if parameters.base != SCRATCH:
        return models.channelsOf(parameters.base)
    return channels.parse(parameters.channels) or ("image",)


class CaseListModel(VTKObservationMixin):
    """Reads the cases in small steps and calls `onChanged` with the new contents."""

    def __init__(self, onChanged: Callable[[Contents], None]) -> None:
        super().__init__()
        self._onChanged = onChanged
        self._parameters: Parameters | None = None
        self._edited: dict[str, tuple[int, bool]] = {}
        self._steps: IncrementalTask | None = None
        self._pause = Deadline(self._start)
        self.contents = Contents()

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        if parameters is None:
            self.close()
        else:
            self.refresh()

    def refresh(self, *_args) -> None:
        """Read the cases again soon."""
        if self._parameters is not None:
            self._pause.start(_PAUSE)

    def update(self) -> Contents:
        """Read the cases again now."""
        self._halt()
        if self._parameters is not None:
            self._done(finish(self._read()))
        return self.contents

    def close(self) -> None:
        """Drop all references to the scene."""
        self._halt()
        self.removeObservers()
        self._edited.clear()
        self.contents = Contents()

    def _halt(self) -> None:
        self._pause.stop()
        if self._steps is not None:
            self._steps.stop()
            self._steps = None

    def _start(self) -> None:
        if slicer.mrmlScene.IsBatchProcessing() or slicer.mrmlScene.IsClosing():
            self.refresh()
            return
        self._halt()
        self._steps = IncrementalTask(self._read(), self._done, self._failed)

    def _done(self, contents: Contents) -> None:
        self._steps = None
        self.contents = contents
        self._observe()
        self._onChanged(contents)

    def _failed(self, error: Exception) -> None:
        self._steps = None
        raise error

    def _read(self) -> Generator[None, None, Contents]:
        parameters = self._parameters
        classes = structures.modelClasses(parameters.base)
        yield
        found = []
        names = channelsOf(parameters)
        for volumeNode in volumes.images():
            for node in volumes.segmentationsOf(volumeNode):
                yield from self._lookForEdits(node)
            yield
        for volumeNode in channels.leads(volumes.images(), names):
            found.append(cases.read(volumeNode, self._isEdited, names))
            yield
        found += [file.case(names) for file in caseFiles.fromText(parameters.caseFiles)]
        inLabels = structures.find(found, classes, structures.fromText(parameters.targets))
        checked = []
        for case in found:
            checked.append(caseChecks.check(case, inLabels, classes))
            yield
        return Contents(checked, inLabels, classes, names)

    def _lookForEdits(self, node) -> Generator[None, None, None]:
        """Find out whether the user edited a result. Reads only results that changed since the
        last check and were not accepted."""
        isResult = node.GetAttribute(results.ROLE) == results.SEGMENTATION
        if not isResult or node.GetAttribute(results.ACCEPTED) == "1":
            return
        time = _modified(node)
        if self._edited.get(node.GetID(), (0, False))[0] != time:
            self._edited[node.GetID()] = (time, (yield from results.isEdited(node)))

    def _isEdited(self, node) -> bool:
        return self._edited.get(node.GetID(), (0, False))[1]

    def _observe(self) -> None:
        """Observe changes of volumes and segmentations, and new ones."""
        self.removeObservers()
        scene, modified = slicer.mrmlScene, vtk.vtkCommand.ModifiedEvent
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
            self.addObserver(scene, event, self.refresh)
        for volumeNode in volumes.images():
            for event in (modified, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent):
                self.addObserver(volumeNode, event, self.refresh)
        kinds = slicer.vtkSegmentation
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            self.addObserver(node, modified, self.refresh)
            for event in (kinds.SegmentAdded, kinds.SegmentRemoved, kinds.SegmentModified,
                          kinds.SourceRepresentationModified):  # fmt: skip
                self.addObserver(node.GetSegmentation(), event, self.refresh)


def _modified(segmentationNode) -> int:
    """A number that changes with the contents of the segments."""
    times = [segmentationNode.GetSegmentation().GetMTime()]
    for _identifier, segment in results.segmentsOf(segmentationNode):
        image = segment.GetRepresentation(results.LABELMAP)
        times += [segment.GetMTime(), image.GetMTime() if image is not None else 0]
    return max(times)
