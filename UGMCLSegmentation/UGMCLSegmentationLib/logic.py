"""The functions of the module, for its panel and for scripts."""

from __future__ import annotations

from collections.abc import Sequence

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from UGMCLSegmentationLib.console import Console
from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel.segment.segmentation import SegmentQueue, SegmentTask, settingsOf
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.scene import results, volumes
from UGMCLSegmentationLib.worker.run import Task, TaskListener, WorkerTask
from UGMCLSegmentationLib.worker.worker import Worker


class UGMCLSegmentationLogic(Console, ScriptedLoadableModuleLogic):
    """Holds the workers and the current run. `workerCommand` replaces the command that starts the
    worker (a list of program and arguments)."""

    def __init__(self, workerCommand: Sequence[str] | None = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.worker = Worker(workerCommand)
        # a second process, so that volumes can be segmented during a training; it gets more time
        # to end, because it writes a checkpoint. Who quits Slicer does not wait for a long step:
        # the last checkpoint is two minutes old at most
        self.trainer = Worker(workerCommand, killAfter=15.0, quitAfter=1.5)
        self.run: WorkerTask | SegmentQueue | None = None

    def getParameterNode(self) -> Parameters:
        return Parameters(super().getParameterNode())

    @property
    def running(self) -> bool:
        return self.run is not None and self.run.running

    @property
    def occupation(self) -> str:
        """The reason that no other task can start now, "" if one can."""
        return self.run.occupation if self.running else ""

    def startSegment(self, parameters: Parameters, listener: TaskListener) -> WorkerTask:
        """Segment the input volume; raises PanelError if it cannot start."""
        self.refuseWhileRunning()
        volumes.check(parameters.inputVolume)
        settings = settingsOf(parameters)
        part = volumes.box(parameters.inputVolume, parameters.roi)
        task = SegmentTask(parameters.inputVolume, part, settings, parameters.segmentation)
        return self.start(task, listener)

    def start(self, task: Task, listener: TaskListener) -> WorkerTask:
        """Run the task; raises PanelError if the worker is busy."""
        self.refuseWhileRunning()
        self.run = WorkerTask(self.worker, task, listener)
        return self.run

    def startBatch(
        self, volumeNodes: Sequence, parameters: Parameters, listener: TaskListener
    ) -> SegmentQueue:
        """Segment the volumes one after the other; raises PanelError."""
        self.refuseWhileRunning()
        self.run = SegmentQueue(self.worker, volumeNodes, settingsOf(parameters), listener)
        return self.run

    def refuseWhileRunning(self) -> None:
        if self.running:
            raise PanelError(f"{self.occupation} {_('Wait or cancel it.')}")

    def cancel(self) -> None:
        if self.run is not None:
            self.run.cancel()

    def dropWorkers(self) -> None:
        """End the idle processes. The next request starts a new one, which sees new packages and
        another user folder."""
        for worker in (self.worker, self.trainer):
            if not worker.busy:
                worker.kill()

    def shutdown(self) -> None:
        """End all processes and delete all temporary files; for the end of the panel."""
        self.worker.shutdown()
        self.trainer.shutdown()
        if self.run is not None:
            self.run.abandon()
            self.run = None

    @staticmethod
    def resultNodes() -> list:
        """All segmentations of the scene that this module made."""
        return results.find(results.SEGMENTATION, None)

    @staticmethod
    def firstVolume():
        """The volume to preselect: the one in the slice views, else the first; never a result."""
        images = volumes.images()
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            node = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID() or "")
            if node in images:
                return node
        return images[0] if images else None
