"""The run engine: scene -> files -> worker -> files -> scene."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.storage import temporaryFolders
from UGMCLSegmentationLib.worker.incremental import Deadline, IncrementalTask
from UGMCLSegmentationLib.worker.worker import ENDS, Event, Worker

DONE, CANCELED, FAILED = "done", "canceled", "failed"
GRACE = 0.7  # seconds that a canceled worker may take before the panel goes on without it
MORE = object()  # returned by `Task.read` when the task has another request for the worker


@dataclass(frozen=True)
class TaskResult:
    """How a task ended; `value` is what the task returned, None unless it is done."""

    kind: str
    message: str = ""
    value: Any = None


class TaskListener(Protocol):
    """Receives the progress and the end of a task."""

    def onProgress(self, fraction: float, text: str, remaining: float | None) -> None: ...

    def onLog(self, level: str, text: str) -> None: ...

    def onEnd(self, result: TaskResult) -> None: ...


class Task:
    """One piece of work for the worker. `folder` is private to the run and holds its files."""

    span = (0.03, 0.95)  # the worker's part of the whole progress
    resumable = ""  # added to the message of a canceled or crashed task

    def occupation(self) -> str:
        """Why nothing else can run now."""
        return _("A run is in progress.")

    def preparing(self) -> str:
        """The progress text while the files are written."""
        return _("Preparing")

    def starting(self) -> str:
        """The progress text until the worker reports its own."""
        return _("Starting")

    def write(self, folder: Path) -> Iterator[None]:
        """Write the worker's input in small steps."""
        return iter(())

    def request(self, folder: Path) -> dict[str, Any]:
        """The next request for the worker."""
        raise NotImplementedError

    def names(self, folder: Path) -> dict[str, str]:
        """What the user calls the files in `folder`, by path."""
        return {}

    def onEvent(self, event: Event) -> None:
        """Handle an event that only this kind of task knows."""

    def read(self, event: Event, folder: Path) -> Generator[None, None, Any]:
        """Load the worker's result in small steps. Returns the value of the task, or MORE."""
        raise NotImplementedError

    def close(self) -> None:
        """The task has ended or was abandoned; the worker may still be busy with it."""


class WorkerTask:
    """Runs a task from its start to its `TaskResult`, driven by events; cancel it anytime."""

    def __init__(self, worker: Worker, task: Task, listener: TaskListener) -> None:
        self._worker = worker
        self._task: Task | None = task
        self._listener: TaskListener | None = listener
        self.occupation = task.occupation()
        self._isRequested = False  # and the worker has not ended the request yet
        self._canceling = False
        self._memory = ""
        self.isWriting = True
        self._folder: Path | None = temporaryFolders.makeFolder()
        self._grace = Deadline(self._onGraceOver)
        listener.onProgress(0.0, task.preparing(), None)
        self._steps: IncrementalTask | None = IncrementalTask(
            task.write(self._folder), self._request, self._fail
        )

    @property
    def running(self) -> bool:
        return self._listener is not None

    @property
    def canSend(self) -> bool:
        """Whether the worker takes commands about this task now."""
        return self._isRequested and not self._canceling and self._worker.canSend

    def send(self, command: str) -> None:
        """Send a command about the request, such as "pause"."""
        self._worker.send(command)

    def cancel(self) -> None:
        """Stop; `onEnd` follows now or within GRACE."""
        if not self.running:
            return
        if self._steps is not None:
            self._endCanceled()
            return
        self._canceling = True
        self._listener.onProgress(-1.0, _("Canceling…"), None)
        self._grace.start(GRACE)
        self._worker.cancel()

    def abandon(self) -> None:
        """Stop at once without calling the listener; for the end of the panel."""
        self._listener = None
        self._isRequested = False
        self._release()

    def _request(self, _nothing=None) -> None:
        self._steps = None
        self.isWriting = False
        self._listener.onProgress(self._task.span[0], self._task.starting(), None)
        self._isRequested = True
        try:
            request = self._task.request(self._folder)
            self._worker.request(request, self._onEvent, self._folder)
        except Exception as error:  # else the run would never end
            self._fail(error)

    def _onEvent(self, event: Event) -> None:
        try:
            self._follow(event)
        except Exception as error:
            if not self.running:
                raise  # the listener's own
            self._fail(error)

    def _follow(self, event: Event) -> None:
        name = event["event"]
        isLast = name in ENDS
        if isLast:
            self._isRequested = False
        if not self.running:
            if isLast:
                self._release()  # the files were kept until the worker had finished
        elif name == "progress":
            if not self._canceling:
                first, last = self._task.span
                fraction = first + float(event["fraction"]) * (last - first)
                text = ", ".join(part for part in (event["text"], self._memory) if part)
                self._listener.onProgress(fraction, text, event.get("remaining"))
        elif name == "memory":
            self._memory = memoryText(event)
        elif name == "log":
            self._listener.onLog(event["level"], event["text"])
        elif name == "canceled" or (isLast and self._canceling):
            self._endCanceled()
        elif name == "result":
            self._listener.onProgress(self._task.span[1], _("Loading the result"), None)
            work = self._task.read(event, self._folder)
            self._steps = IncrementalTask(work, self._onRead, self._fail)
            for advice in event.get("advice") or []:
                self._listener.onLog("warning", advice)
        elif isLast:
            self._endFailed(event)
        else:
            self._task.onEvent(event)

    def _onRead(self, value: Any) -> None:
        self._steps = None
        if value is MORE:
            self._request()
        else:
            self._end(TaskResult(DONE, "", value))

    def _fail(self, error: Exception) -> None:
        self._steps = None
        if not isinstance(error, PanelError):
            logging.error("UGMCL Segmentation", exc_info=error)
        isRequested = self._isRequested
        self._end(TaskResult(FAILED, lineOf(error)))
        if isRequested:
            self._worker.cancel()  # nobody needs its result any more

    def _endFailed(self, event: Event) -> None:
        if event.get("details"):
            self._listener.onLog("warning", event["details"])
        message = event["message"]
        for path, name in self._task.names(self._folder).items():
            message = message.replace(path, name)
        if event["event"] == "crashed":
            message = f"{message} {self._task.resumable}".strip()
        self._end(TaskResult(FAILED, message))

    def _endCanceled(self) -> None:
        message = f"{_('Canceled.')} {self._task.resumable}".strip()
        self._end(TaskResult(CANCELED, message))

    def _onGraceOver(self) -> None:
        if self.running:
            self._endCanceled()

    def _end(self, result: TaskResult) -> None:
        listener, self._listener = self._listener, None
        self._release()
        if listener is not None:
            listener.onEnd(result)

    def _release(self) -> None:
        """Drop the references to the scene; delete the files once the worker has finished."""
        self._grace.stop()
        if self._steps is not None:
            self._steps.stop()
            self._steps = None
        if self._task is not None:
            self._task.close()
            self._task = None
        if self._folder is not None and not self._isRequested:
            temporaryFolders.removeFolder(self._folder)
            self._folder = None


def memoryText(event: Event) -> str:
    """A worker's `memory` event in words, "" if it knows nothing."""
    parts = []
    for text, key, totalKey in (
        (_("memory {used}"), "resident", "total"), (_("GPU {used}"), "gpu", "gpu_total")
    ):  # fmt: skip
        used, total = event.get(key), event.get(totalKey)
        if used:
            amount = _("{n:.1f} GB").format(n=used / 1e9)
            if total:
                amount = _("{n:.1f} of {total:.0f} GB").format(n=used / 1e9, total=total / 1e9)
            parts.append(text.format(used=amount))
    return ", ".join(parts)


def lineOf(error: Exception) -> str:
    """One line for the panel about an error."""
    if isinstance(error, PanelError):
        return str(error)
    if isinstance(error, MemoryError):
        return _("Not enough memory: choose a region, or close other programs.")
    if isinstance(error, OSError) and error.strerror:
        return _("{file} cannot be used: {why}.").format(
            file=error.filename or _("A temporary file"), why=error.strerror
        )
    return f"{type(error).__name__}: {error}"
