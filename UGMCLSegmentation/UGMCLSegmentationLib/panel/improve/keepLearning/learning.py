"""A training that keeps learning: accepted cases -> files -> the running training -> models."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel.improve.cases.caseList import Contents
from UGMCLSegmentationLib.panel.improve.cases.cases import Case
from UGMCLSegmentationLib.panel.improve.finetuning import caseListExport
from UGMCLSegmentationLib.panel.improve.finetuning.caseListExport import CaseListExport
from UGMCLSegmentationLib.panel.improve.finetuning.finetuning import FinetuneTask, correctionOf
from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.storage import computers, runFolder
from UGMCLSegmentationLib.worker.incremental import IncrementalTask
from UGMCLSegmentationLib.worker.run import TaskListener, TaskResult, WorkerTask
from UGMCLSegmentationLib.worker.worker import Event, Worker

COMMAND = "keep_learning"
PATIENCE = 2.5  # seconds that the process has to end with Slicer


class LearningListener(TaskListener, Protocol):
    """Receives what only such a training reports."""

    def onMetrics(self, event: Event) -> None: ...

    def onPaused(self, isPaused: bool) -> None: ...

    def onJoined(self, event: Event) -> None: ...

    def onCheck(self, event: Event) -> None: ...

    def onWaiting(self, why: str) -> None: ...


class KeepLearningTask(FinetuneTask):
    """Writes `cases` first; without them, it resumes the run."""

    def write(self, folder: Path) -> Iterator[None]:
        # a later case may have voxels that nobody annotated
        if self._cases is not None:
            yield from caseListExport.write(self._cases, self.folder, mayIgnore=True)
            self._cases = None
            runFolder.save(self._run)
            self._isSaved = True

    def request(self, folder: Path) -> dict[str, Any]:
        return self._run.request

    def onEvent(self, event: Event) -> None:
        name = event["event"]
        if name == "joined":
            self._listener.onJoined(event)
        elif name == "check":
            self._listener.onCheck(event)
        elif name == "waiting":
            self._listener.onWaiting(event["why"])
        else:
            super().onEvent(event)

    def read(self, event: Event, folder: Path) -> Generator[None, None, Any]:
        """Returns the content of the run's result.json."""
        yield
        result = {key: value for key, value in event.items() if key not in ("event", "id")}
        request = self._run.request
        if event["model"] is not None:
            model = models.adopt(Path(event["model"]), request["name"])
            request = {**request, "name": model.name}
            result["model"] = str(model)
        result = {**result, "about": self._run.about, "request": request}
        runFolder.complete(self.folder, result)
        return result


class Learning:
    """A training that keeps learning, from its start to its end. It is held while `others`, the
    worker of everything else, is busy, and while the user pauses it."""

    def __init__(
        self,
        trainer: Worker,
        others: Worker,
        run: runFolder.ResumableRun,
        listener: LearningListener,
        cases: CaseListExport | None = None,
    ) -> None:
        """Raises PanelError if another Slicer works on the run that is resumed."""
        self._trainer, self._others, self._listener = trainer, others, listener
        self._resumable = run
        self.folder, self.name = run.folder, run.request["name"]
        self.model = ""  # the folder of the model that took over, "" before one did
        if cases is None and (run.folder / "model" / "model.json").is_file():
            self.model = str(run.folder / "model")
        self._isPaused = self._isHeld = False
        self._additions: list[tuple[Case, Contents]] = []
        self._adding: IncrementalTask | None = None
        self._isUnannounced = False
        self._formerPatience = trainer.killAfter
        self._run: WorkerTask | None = None
        task = KeepLearningTask(run, self, cases)
        if not computers.split(run.request["device"])[1]:  # there it continues without Slicer
            trainer.killAfter = PATIENCE
        others.onBusy = self._hold
        self._run = WorkerTask(trainer, task, self)
        self.occupation = _("Keep learning is on: switch it off first.")

    @property
    def running(self) -> bool:
        return self._run is not None and self._run.running

    @property
    def isPaused(self) -> bool:
        """By the user."""
        return self._isPaused

    @property
    def isHeld(self) -> bool:
        """By the user or for a run of the other worker."""
        return self._isHeld

    def add(self, case: Case, contents: Contents) -> None:
        """Learn from an accepted case; the listener gets a warning if it cannot be used."""
        self._additions.append((case, contents))
        about = self._resumable.about
        rows = [row for row in about.get("corrections", []) if row[0] != case.name]
        about["corrections"] = rows + correctionOf(case)
        self._addNext()

    def pause(self, isPaused: bool) -> None:
        self._isPaused = isPaused
        self._hold()

    def compare(self) -> None:
        """Compare the models now."""
        self._run.send("take_model")

    def stop(self) -> None:
        """End with the report."""
        if self._run.isWriting:
            self._run.cancel()
        else:
            self.pause(False)
            self._send("continue")  # also while a segmentation runs
            self._send("stop")

    def cancel(self) -> None:
        """End now; the run can be resumed."""
        self._run.cancel()

    def abandon(self) -> None:
        """End without calling the listener, for the end of the panel."""
        self._release()
        self._run.abandon()

    def _send(self, command: str) -> None:
        if self._run.canSend:
            self._run.send(command)

    def _hold(self) -> None:
        """Tell the process whether it may compute."""
        wanted = self._isPaused or self._others.busy
        if wanted != self._isHeld and self._run.canSend:
            self._isHeld = wanted
            self._send("pause" if wanted else "continue")

    def _addNext(self) -> None:
        if self._run.isWriting or self._adding is not None:
            return  # the first cases are being written, or another one is
        if self._additions:
            work = caseListExport.add(*self._additions.pop(0), self.folder)
            self._adding = IncrementalTask(work, self._onAdded, self._onNotAdded)

    def _onAdded(self, _nothing: Any) -> None:
        self._adding = None
        self._isUnannounced = True
        runFolder.save(self._resumable)  # with how the case was corrected
        self._announce()
        self._addNext()

    def _announce(self) -> None:
        """Tell the process of new cases, once it listens."""
        if self._isUnannounced and self._run.canSend:
            self._isUnannounced = False
            self._send("add_case")

    def _onNotAdded(self, error: Exception) -> None:
        self._adding = None
        self._addNext()
        if not isinstance(error, PanelError):
            raise error
        self._listener.onLog("warning", str(error))

    def _release(self) -> None:
        self._trainer.killAfter = self._formerPatience
        self._others.onBusy = lambda: None
        if self._adding is not None:
            self._adding.stop()
            self._adding = None

    # The events of the training, passed on

    def onProgress(self, fraction: float, text: str, remaining: float | None) -> None:
        if self._run is not None:
            self._hold()  # something may have become busy before the process took commands
            self._addNext()
            self._announce()
        self._listener.onProgress(fraction, text, remaining)

    def onLog(self, level: str, text: str) -> None:
        self._listener.onLog(level, text)

    def onEstimate(self, event: Event) -> None:
        """There are no steps to prepare."""

    def onMetrics(self, event: Event) -> None:
        if self._isUnannounced and not self._run.canSend:  # each request has its own process
            self._isUnannounced = False
            text = _("The case is learned from once Keep learning is resumed.")
            self._listener.onLog("warning", text)
        self._listener.onMetrics(event)

    def onPaused(self, isPaused: bool) -> None:
        self._listener.onPaused(isPaused)

    def onJoined(self, event: Event) -> None:
        self._listener.onJoined(event)

    def onCheck(self, event: Event) -> None:
        if event["taken"]:
            self.model = event["model"]
        self._listener.onCheck(event)

    def onWaiting(self, why: str) -> None:
        self._listener.onWaiting(why)

    def onEnd(self, result: TaskResult) -> None:
        self._release()
        self.model = ""  # it was moved, or the run ended without one
        self._listener.onEnd(result)
        if not self._trainer.busy:
            self._trainer.kill()  # it has a low priority, which no process can raise again

