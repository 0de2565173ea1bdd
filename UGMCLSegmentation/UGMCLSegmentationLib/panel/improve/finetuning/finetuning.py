"""A fine-tuning run: cases -> files -> estimate -> worker -> a new model, or a run to resume."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel.improve.cases import caseChecks, structures
from UGMCLSegmentationLib.panel.improve.cases.caseList import Contents
from UGMCLSegmentationLib.panel.improve.cases.cases import IGNORE, Case
from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.scene import labelmaps, volumes
from UGMCLSegmentationLib.storage import runFolder
from UGMCLSegmentationLib.worker.run import CANCELED, DONE, FAILED, GRACE, lineOf
from UGMCLSegmentationLib.worker.steps import Deadline, Steps
from UGMCLSegmentationLib.worker.worker import ENDS, Event, Worker


@dataclass(frozen=True)
class Outcome:
    """How a run ended; with `result` and the `model`'s key when it is done."""

    kind: str
    message: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    folder: Path | None = None


class Listener(Protocol):
    """Who wants to know of a run."""

    def onProgress(self, fraction: float, text: str, remaining: float | None) -> None: ...

    def onLog(self, level: str, text: str) -> None: ...

    def onEstimate(self, event: Event) -> None: ...

    def onMetrics(self, event: Event) -> None: ...

    def onPaused(self, isPaused: bool) -> None: ...

    def onEnd(self, outcome: Outcome) -> None: ...


class FinetuneRun:
    """A run from its start to its `Outcome`. It needs the scene only while it writes the cases."""

    def __init__(
        self,
        worker: Worker,
        folder: Path,
        request: dict[str, Any],
        about: dict[str, Any],
        listener: Listener,
        cases: Plan | None = None,
        isMeasured: bool = False,
        onlyEstimate: bool = False,
    ) -> None:
        """`cases` are written first; without them the run in `folder` is resumed.

        Raises PanelError if another Slicer works on that one.
        """
        if cases is None:
            runFolder.claim(folder)
        self._worker = worker
        self.folder = folder
        self._request = request
        self._about = about
        self._listener: Listener | None = listener
        self._needsEstimate = not isMeasured or onlyEstimate
        self._onlyEstimate = onlyEstimate
        self._steps: Steps | None = None
        self._canceling = False
        self._hasSteps = False
        self._isSaved = cases is None
        self.isPaused = False
        self._grace = Deadline(self._graceIsOver)
        listener.onProgress(0.0, _("Preparing the cases"), None)
        if cases is None:
            self._needsEstimate = False
            self._ask()
        else:
            self._steps = Steps(self._write(cases), self._written, self._fail)

    @property
    def running(self) -> bool:
        return self._listener is not None

    @property
    def isWriting(self) -> bool:
        """Whether the scene is still needed."""
        return self._steps is not None

    @property
    def canPause(self) -> bool:
        """Only the training itself can be held, and only by a worker that listens."""
        isTraining = self.running and self._hasSteps and not self._canceling
        return isTraining and self._worker.canTell

    def cancel(self) -> None:
        """Stop; `onEnd` follows now or within GRACE. The latest checkpoint stays usable."""
        if not self.running:
            return
        if self._steps is not None:
            self._end(Outcome(CANCELED, _("Canceled.")))
            return
        self._canceling = True
        self._listener.onProgress(-1.0, _("Canceling…"), None)
        self._grace.start(GRACE)
        self._worker.cancel()

    def pause(self, isPaused: bool) -> None:
        """Hold the training or let it go on; `onPaused` follows once it does."""
        self._worker.tell("pause" if isPaused else "continue")

    def abandon(self) -> None:
        """Tell nobody any more; for the end of the panel."""
        self._listener = None
        self._release()

    def _write(self, cases: Plan) -> Iterator[None]:
        yield from write(cases, self.folder)
        if not self._onlyEstimate:  # which leaves nothing to resume
            runFolder.save(self.folder, self._request, self._about)
            self._isSaved = True

    def _written(self, _nothing) -> None:
        self._steps = None
        self._ask()

    def _ask(self) -> None:
        self._listener.onProgress(0.0, _("Starting"), None)
        request = dict(self._request)
        if self._needsEstimate:
            request["command"] = "estimate"
            self._listener.onProgress(0.0, _("Measuring this computer"), None)
        try:
            self._worker.request(request, self._onEvent)
        except Exception as error:  # nobody else would end the run
            self._fail(error)

    def _onEvent(self, event: Event) -> None:
        if not self.running:
            return
        try:
            self._follow(event)
        except Exception as error:
            if not self.running:
                raise  # the listener's own
            self._fail(error)

    def _follow(self, event: Event) -> None:
        name, listener = event["event"], self._listener
        if name == "progress":
            if not self._canceling:
                remaining = None if self.isPaused else event.get("remaining")
                listener.onProgress(float(event["fraction"]), event["text"], remaining)
        elif name == "log":
            listener.onLog(event["level"], event["text"])
        elif name == "metrics":
            self._hasSteps = True
            if not event.get("part"):  # of the model itself, not of what it is compared with
                runFolder.addMetrics(self.folder, event)
                listener.onMetrics(event)
        elif name in ("paused", "continued"):
            self.isPaused = name == "paused"
            listener.onPaused(self.isPaused)
        elif name == "canceled" or (name in ENDS and self._canceling):
            self._end(Outcome(CANCELED, self._canceledText(), folder=self.folder))
        elif name == "result":
            self._succeed(event)
        elif name in ENDS:
            if event.get("details"):
                listener.onLog("warning", event["details"])
            message = event["message"]
            if self._isSaved and name == "crashed":
                message += " " + _("The run can be resumed.")
            self._end(Outcome(FAILED, message, folder=self.folder))

    def _succeed(self, event: Event) -> None:
        if self._needsEstimate:
            self._needsEstimate = False
            self._listener.onEstimate(event)
            if self._onlyEstimate:
                self._end(Outcome(DONE, folder=self.folder))
            else:
                self._ask()
            return
        result = {k: v for k, v in event.items() if k not in ("event", "id")}
        model = models.adopt(Path(event["model"]), self._request["name"])
        request = {**self._request, "name": model.name}
        result = {**result, "model": str(model), "about": self._about, "request": request}
        runFolder.complete(self.folder, result)
        self._end(Outcome(DONE, "", result, models.keyOf(model), self.folder))

    def _fail(self, error: Exception) -> None:
        self._steps = None
        if not isinstance(error, PanelError):
            import logging

            logging.error("UGMCL Segmentation", exc_info=error)
        isBusy = self._worker.busy
        self._end(Outcome(FAILED, lineOf(error), folder=self.folder))
        if isBusy:
            self._worker.cancel()

    def _canceledText(self) -> str:
        return _("Canceled. The run can be resumed.") if self._isSaved else _("Canceled.")

    def _graceIsOver(self) -> None:
        if self.running:
            self._end(Outcome(CANCELED, self._canceledText(), folder=self.folder))

    def _end(self, outcome: Outcome) -> None:
        listener, self._listener = self._listener, None
        self._release()
        if listener is not None:
            listener.onEnd(outcome)

    def _release(self) -> None:
        self._grace.stop()
        if self._steps is not None:
            self._steps.stop()
            self._steps = None
        if not self._isSaved:
            runFolder.discard(self.folder)
        elif self.folder.exists():
            runFolder.release(self.folder)


@dataclass(frozen=True)
class Plan:
    """Cases that are ready, the label of each segment of theirs, and the classes."""

    cases: tuple[Case, ...]
    values: tuple[dict[str, int], ...]
    classes: tuple[structures.ClassSpec, ...]

    @property
    def hasIgnored(self) -> bool:
        return any(labelmaps.IGNORE_VALUE in v.values() for v in self.values)


def make(contents: Contents) -> Plan:
    """Raises PanelError with what is missing."""
    used = [case for case in contents.cases if case.role != IGNORE]
    if reason := caseChecks.readiness(used):
        raise PanelError(reason)
    _checkFiles(used)
    classes = structures.allClasses(contents.structures, contents.classes)
    if not classes:
        raise PanelError(_("From scratch, the labels must be segmentations of the scene."))
    values = [
        structures.values(case, contents.structures, classes) if case.needsLabel else {}
        for case in used
    ]
    return Plan(tuple(used), tuple(values), tuple(classes))


def _checkFiles(used: Sequence[Case]) -> None:
    """Raises PanelError for an image that is a volume of the scene and a file beside it: as two
    cases, one could be learned from and the other judge."""
    loaded = {}
    for case in used:
        storage = case.volumeNode.GetStorageNode() if case.volumeNode is not None else None
        if storage is not None and storage.GetFileName():
            loaded[os.path.realpath(storage.GetFullNameFromFileName())] = case.name
    for case in used:
        if case.volumeNode is None and os.path.realpath(case.image) in loaded:
            name = loaded[os.path.realpath(case.image)]
            raise PanelError(
                _("{file} is loaded as {name}: set one of the two to Ignore.").format(
                    file=Path(case.image).name, name=name
                )
            )


def write(plan: Plan, folder: Path) -> Iterator[None]:
    """Write the images, labels and list of the cases into a run's folder. Raises PanelError."""
    rows: list[dict[str, Any]] = []
    for number, (case, values) in enumerate(zip(plan.cases, plan.values, strict=True)):
        row = {"name": _unique(case.name, rows), "role": case.role}
        if case.volumeNode is None:
            row["image"] = case.image
            if case.needsLabel:
                row["label"] = case.label
        else:
            yield from _writeCase(case, values, folder, f"{runFolder.CASES}/{number:03d}", row)
        rows.append(row)
    content = {
        "cases": rows,
        "classes": [info.toJson() for info in plan.classes],
        "ignore": labelmaps.IGNORE_VALUE if plan.hasIgnored else None,
    }
    runFolder.write(folder / runFolder.CASE_LIST, json.dumps(content, indent=1))


def _writeCase(case: Case, values, folder: Path, stem: str, row: dict) -> Iterator[None]:
    row["image"] = f"{stem}.nrrd"
    box = volumes.fullBox(case.volumeNode)
    yield from volumes.write(case.volumeNode, box, folder / row["image"])
    if case.needsLabel:
        row["label"] = f"{stem}-label.nrrd"
        path = folder / row["label"]
        yield from labelmaps.write(path, case.segmentationNode, values, case.volumeNode)


def _unique(name: str, rows: Sequence[dict]) -> str:
    taken, unique, number = {row["name"] for row in rows}, name, 2
    while unique in taken:
        unique, number = f"{name} ({number})", number + 1
    return unique
