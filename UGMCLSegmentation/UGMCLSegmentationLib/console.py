"""Functions for Slicer's Python console that return when the work is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from ugmcl_core.training.settings import (
    DEFAULT_METHOD,
    FinetuneSettings,
    KeepLearningSettings,
)
from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel.evaluate.evaluation import EvaluateTask
from UGMCLSegmentationLib.panel.export import export
from UGMCLSegmentationLib.panel.improve.cases import caseChecks, cases, structures
from UGMCLSegmentationLib.panel.improve.cases.caseList import Contents
from UGMCLSegmentationLib.panel.improve.finetuning import caseListExport, finetuning
from UGMCLSegmentationLib.panel.improve.finetuning.finetuning import FinetuneTask
from UGMCLSegmentationLib.panel.improve.keepLearning.learning import Learning
from UGMCLSegmentationLib.panel.improve.ranking import RankTask
from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.panel.segment.segmentation import SegmentQueue, SegmentTask, Settings
from UGMCLSegmentationLib.parameters import PATTERN
from UGMCLSegmentationLib.scene import channels, volumes
from UGMCLSegmentationLib.worker.run import DONE, Task, TaskResult, WorkerTask
from UGMCLSegmentationLib.worker.worker import Worker


class Console:
    """The functions of the logic that need no panel. Each raises PanelError, a RuntimeError, with
    one line of what is wrong. `model` is a name or a folder; without one the first installed is
    used.
    """

    worker: Worker
    trainer: Worker

    def segment(
        self, volumeNode, model: str = "", region=None, passes: int = 8, device: str = "auto",
        uncertainty: str = "dropout",
    ) -> Any:  # fmt: skip
        """Segment a volume, or the part of it in the `region` (a vtkMRMLMarkupsROINode); returns
        the segmentation node. Distance and uncertainty volumes are made beside it."""
        volumes.check(volumeNode)
        settings = Settings(_model(model), device, passes, uncertainty)
        return self._do(SegmentTask(volumeNode, volumes.box(volumeNode, region), settings))

    def segmentAll(
        self, volumeNodes: Sequence, model: str = "", passes: int = 8, device: str = "auto",
        uncertainty: str = "dropout",
    ) -> list:  # fmt: skip
        """Segment volumes one after the other, the model loaded once; returns the segmentations.
        One that fails does not stop the others and is left out."""
        settings = Settings(_model(model), device, passes, uncertainty)
        waiting = Waiting()
        return waiting.wait(lambda: SegmentQueue(self.worker, volumeNodes, settings, waiting))

    def exportAll(
        self, segmentationNodes: Sequence, folder: str | Path, suffix: str = ".nrrd",
        pattern: str = PATTERN,
    ) -> list[Path]:  # fmt: skip
        """Write each segmentation as a file; returns the paths. See export.export. No file that
        exists is replaced: the new one's name is numbered then."""
        return export.export(segmentationNodes, Path(folder), suffix, pattern)

    def evaluate(self, segmentationNode, referenceNode) -> list[dict[str, Any]]:
        """Compare two segmentations; returns a row of numbers for each structure, with the keys
        Structure, Dice, Jaccard, ASD (mm) and 95HD (mm) in every language; None for what is not
        defined. The errors are shown in the scene."""
        return self._do(EvaluateTask(segmentationNode, referenceNode)).rows

    def rank(
        self, volumeNodes: Sequence, model: str = "", passes: int = 8, device: str = "auto"
    ) -> list[tuple]:
        """The volumes, each with the model's assessment (cases.Rank), in the order in which to
        correct them."""
        ranks: dict[str, cases.Rank] = {}
        settings = Settings(_model(model), device, passes)
        volumeNodes = channels.leads(volumeNodes, settings.channels)
        listed = [cases.Case(n.GetName(), cases.UNLABELED, n) for n in volumeNodes]
        for node in volumeNodes:
            volumes.check(node)

        def keep(case: cases.Case, rank: cases.Rank) -> None:
            ranks[case.key] = rank

        self._do(RankTask(listed, settings, keep))
        found = [(node, ranks[node.GetID()]) for node in volumeNodes if node.GetID() in ranks]
        return sorted(found, key=lambda pair: pair[1].order)

    def finetune(
        self, labeled: Mapping, unlabeled: Sequence = (), holdout: Mapping | None = None,
        base: str = "", name: str = "", iterations: int = 1000, method: str = DEFAULT_METHOD,
        device: str = "auto", compare: bool = False, seed: int = 0, leaveOneOut: bool = False,
        keepNames: bool = False, fromScratch: bool = False, minutes: float = 0.0,
        overrides: Sequence[str] = (), channels: Sequence[str] = (), replan: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Train a new model. `labeled` and `holdout` map volumes to their segmentations;
        `compare`, `leaveOneOut` and `keepNames` are the choices of the panel's Advanced.
        `fromScratch` trains without a base, by a plan, of which `overrides` ("patch=96,96,10")
        change lines and whose `channels` are the names of a case's images, if there are several;
        `minutes` above 0 set the iterations. `replan` makes a plan for a training from a base too,
        and keeps the weights that fit. The volumes of the other channels are found by study
        and name.

        Returns the worker's result (docs/architecture.md); `model` in it is the folder of the new
        model, which is among the user's models from then on.
        """
        base = "" if fromScratch else _model(base)
        names = models.channelsOf(base) if base else tuple(channels) or ("image",)
        found = _contents(base, labeled, unlabeled, holdout or {}, names)
        cases_ = caseListExport.prepare(found)
        settings = finetuning.newSettings(
            FinetuneSettings, name, base=base, method=method, iterations=iterations, seed=seed,
            device=device, compare=compare, leave_one_out=leaveOneOut, keep_names=keepNames,
            minutes=float(minutes), overrides=tuple(overrides), replan=replan,
        )  # fmt: skip
        waiting = Waiting()
        task = FinetuneTask(finetuning.newRun(settings, cases_), waiting, cases_)
        return waiting.wait(lambda: WorkerTask(self.trainer, task, waiting))

    def keepLearning(
        self, labeled: Mapping, unlabeled: Sequence = (), holdout: Mapping | None = None,
        base: str = "", name: str = "", method: str = "ugmcl", device: str = "auto", seed: int = 0,
        keepNames: bool = False, checkMinutes: float = 3.0, cores: float = 0.5,
    ) -> LearningHandle:  # fmt: skip
        """Start a training that goes on while cases are being corrected, and return at once; the
        handle adds cases and ends it. `labeled` and `holdout` map volumes to their segmentations.
        The models are compared every `checkMinutes` of training; `cores` is the share of the
        processor cores that it takes."""
        base = _model(base)
        names = models.channelsOf(base)
        first = _contents(base, labeled, unlabeled, holdout or {}, names)
        cases_ = caseListExport.prepare(first)
        settings = finetuning.newSettings(
            KeepLearningSettings, name, base=base, method=method, seed=seed, device=device,
            keep_names=keepNames,
            check_minutes=float(checkMinutes), cores=float(cores),
        )  # fmt: skip
        return LearningHandle(self, finetuning.newRun(settings, cases_), cases_, first)

    def _do(self, task: Task) -> Any:
        waiting = Waiting()
        return waiting.wait(lambda: WorkerTask(self.worker, task, waiting))


def _contents(
    base: str, labeled: Mapping, unlabeled: Sequence, holdout: Mapping, names: Sequence[str]
) -> Contents:
    """The cases, with the structures in their labels, and an image for each of the channels'
    `names`. Raises PanelError."""
    found = [
        *(cases.Case(v.GetName(), cases.LABELED, v, s) for v, s in labeled.items()),
        *(cases.Case(v.GetName(), cases.UNLABELED, v) for v in unlabeled),
        *(cases.Case(v.GetName(), cases.HOLDOUT, v, s) for v, s in holdout.items()),
    ]
    for case in found:
        volumes.check(case.volumeNode)
    found = [_withChannels(case, names) for case in found]
    classes = structures.modelClasses(base)
    return Contents(found, structures.find(found, classes, {}), classes, tuple(names))


def _withChannels(case: cases.Case, names: Sequence[str]) -> cases.Case:
    """The case with the volumes of its channels, if there are several. Raises PanelError."""
    if len(names) < 2:
        return case
    return replace(case, channelNodes=tuple(channels.check(case.volumeNode, names)))


class LearningHandle:
    """A training that keeps learning. Its methods raise PanelError, a RuntimeError."""

    def __init__(self, console: Console, run: Any, first: Any, contents: Contents) -> None:
        self._contents = contents
        self._waiting = Waiting()
        self._learning = Learning(console.trainer, console.worker, run, self._waiting, first)

    @property
    def running(self) -> bool:
        return self._learning.running

    @property
    def model(self) -> str:
        """The folder of the model that took over last, for `segment` and `rank`; "" before."""
        return self._learning.model

    @property
    def events(self) -> list[dict[str, Any]]:
        """What joined, and how the models were compared: the worker's events `joined` and `check`
        (docs/architecture.md)."""
        return self._waiting.events

    def add(self, volumeNode, segmentationNode) -> None:
        """Learn from a corrected case, too."""
        volumes.check(volumeNode)
        case = cases.Case(volumeNode.GetName(), cases.LABELED, volumeNode, segmentationNode)
        case = _withChannels(case, self._contents.channels)
        found = structures.find([case], self._contents.classes, {})
        known = {structure.key for structure in self._contents.structures}
        more = [s for s in found if s.key not in known]
        contents = Contents([case], [*self._contents.structures, *more], self._contents.classes)
        self._learning.add(caseChecks.check(case, contents.structures, contents.classes), contents)

    def pause(self, isPaused: bool = True) -> None:
        """Pause it, or let it continue. It pauses automatically while a volume is segmented."""
        self._learning.pause(isPaused)

    def compare(self) -> None:
        """Compare the models now: the one that learns takes over if it is not worse."""
        self._learning.compare()

    def stop(self) -> dict[str, Any]:
        """End it; returns the worker's result. Its `model` is among the user's models from then
        on, or None if none took over."""
        return self._waiting.wait(self._stop)

    def cancel(self) -> None:
        """End it at once; the panel can resume it."""
        self._learning.cancel()

    def _stop(self) -> Learning:
        self._learning.stop()
        return self._learning


class Waiting:
    """A listener that waits for the end of a task while the application keeps running."""

    def __init__(self) -> None:
        self._loop = qt.QEventLoop()
        self._result: TaskResult = None
        self._run: Any = None
        self.events: list[dict[str, Any]] = []

    def wait(self, begin: Callable[[], Any]) -> Any:
        """The value of the task; raises PanelError if it failed."""
        self._run = begin()
        if self._result is None:
            # its name in newer and in older wrappers of Qt
            (getattr(self._loop, "exec", None) or self._loop.exec_)()
        self._run = None
        if self._result.kind != DONE:
            raise PanelError(self._result.message)
        return self._result.value

    def onLog(self, level: str, text: str) -> None:
        if level == "warning":
            print(text)

    def _ignore(self, *_arguments: Any) -> None:
        """The console shows no progress."""

    onProgress = onEstimate = onMetrics = onPaused = onWaiting = _ignore

    def onJoined(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    onCheck = onJoined

    def onEnd(self, result: TaskResult) -> None:
        self._result = result
        self._loop.quit()


def _model(model: str) -> str:
    if model:
        return model
    found = models.installed()
    if not found:
        raise PanelError(_("There is no model: name one, or a folder."))
    return found[0].key
