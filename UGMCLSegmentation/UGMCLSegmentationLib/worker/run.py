"""Work of the worker: scene -> files -> worker -> files -> scene, or nothing of it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.storage import temporaryFolders
from UGMCLSegmentationLib.worker.steps import Deadline, Steps
from UGMCLSegmentationLib.worker.worker import ENDS, Event, Worker

DONE, CANCELED, FAILED = "done", "canceled", "failed"
GRACE = 0.7  # seconds that a canceled worker may take before the panel goes on without it
_WRITTEN, _COMPUTED = 0.03, 0.95  # the progress at the ends of the first two parts


@dataclass(frozen=True)
class Outcome:
    """How a run ended; `result` is what its work returned, only when it is done."""

    kind: str
    message: str = ""
    result: Any = None


class Listener(Protocol):
    """Who wants to know of a run."""

    def onProgress(self, fraction: float, text: str, remaining: float | None) -> None: ...

    def onLog(self, level: str, text: str) -> None: ...

    def onEnd(self, outcome: Outcome) -> None: ...


class Work(Protocol):
    """What is to be done; files go into the private `folder` of the run."""

    def write(self, folder: Path) -> Iterator[None]:
        """Write what the worker reads, in small steps."""

    def request(self, folder: Path) -> dict[str, Any]:
        """What the worker is asked."""

    def names(self, folder: Path) -> dict[str, str]:
        """What the files in `folder`, of which the user knows nothing, are to be called."""

    def hear(self, event: Event) -> None:
        """Something that only this kind of work knows."""

    def read(self, event: Event, folder: Path) -> Generator[None, None, Any]:
        """Bring the worker's result into the scene, in small steps; returns what it is."""


class Run:
    """A run from its start to its `Outcome`, driven by events; it can be canceled anywhere."""

    def __init__(self, worker: Worker, work: Work, listener: Listener) -> None:
        self._worker = worker
        self._work: Work | None = work
        self._listener: Listener | None = listener
        self._asked = False
        self._canceling = False
        self._folder: Path | None = temporaryFolders.makeFolder()
        self._grace = Deadline(self._graceIsOver)
        listener.onProgress(0.0, _("Preparing"), None)
        self._steps: Steps | None = Steps(work.write(self._folder), self._ask, self._fail)

    @property
    def running(self) -> bool:
        return self._listener is not None

    def cancel(self) -> None:
        """Stop; `onEnd` follows now or within GRACE."""
        if not self.running:
            return
        if self._steps is not None:
            self._end(Outcome(CANCELED, _("Canceled.")))
            return
        self._canceling = True
        self._listener.onProgress(-1.0, _("Canceling…"), None)
        self._grace.start(GRACE)
        self._worker.cancel()

    def abandon(self) -> None:
        """Stop at once and tell nobody; for the end of the panel."""
        self._listener = None
        self._asked = False
        self._release()

    def _ask(self, _nothing) -> None:
        self._steps = None
        self._listener.onProgress(_WRITTEN, _("Starting"), None)
        self._asked = True
        try:
            request = self._work.request(self._folder)
            self._worker.request(request, self._onEvent, self._folder)
        except Exception as error:  # nobody else would end the run
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
            self._asked = False
        if not self.running:
            if isLast:
                self._release()  # the files were kept for a worker that took its time
            return
        if name == "progress":
            if not self._canceling:
                fraction = _WRITTEN + float(event["fraction"]) * (_COMPUTED - _WRITTEN)
                self._listener.onProgress(fraction, event["text"], event.get("remaining"))
        elif name == "log":
            self._listener.onLog(event["level"], event["text"])
        elif name == "canceled" or (isLast and self._canceling):
            self._end(Outcome(CANCELED, _("Canceled.")))
        elif name == "result":
            self._listener.onProgress(_COMPUTED, _("Loading the result"), None)
            work = self._work.read(event, self._folder)
            self._steps = Steps(work, self._succeed, self._fail)
            for advice in event.get("advice") or []:
                self._listener.onLog("warning", advice)
        elif isLast:
            if event.get("details"):
                self._listener.onLog("warning", event["details"])
            self._end(Outcome(FAILED, self._named(event["message"])))
        elif not self._canceling:
            self._work.hear(event)

    def _named(self, message: str) -> str:
        for path, name in self._work.names(self._folder).items():
            message = message.replace(path, name)
        return message

    def _succeed(self, result: Any) -> None:
        self._steps = None
        self._end(Outcome(DONE, "", result))

    def _fail(self, error: Exception) -> None:
        self._steps = None
        if not isinstance(error, PanelError):
            import logging

            logging.error("UGMCL Segmentation", exc_info=error)
        asked = self._asked
        self._end(Outcome(FAILED, lineOf(error)))
        if asked:
            self._worker.cancel()  # what it computes is of no use any more

    def _graceIsOver(self) -> None:
        if self.running:
            self._end(Outcome(CANCELED, _("Canceled.")))

    def _end(self, outcome: Outcome) -> None:
        listener, self._listener = self._listener, None
        self._release()
        if listener is not None:
            listener.onEnd(outcome)

    def _release(self) -> None:
        """Let go of the scene and, once the worker is through with them, of the files."""
        self._grace.stop()
        if self._steps is not None:
            self._steps.stop()
            self._steps = None
        self._work = None
        if self._folder is not None and not self._asked:
            temporaryFolders.removeFolder(self._folder)
            self._folder = None


def lineOf(error: Exception) -> str:
    """What the panel says of an error."""
    if isinstance(error, PanelError):
        return str(error)
    if isinstance(error, MemoryError):
        return _("Not enough memory: choose a region, or close other programs.")
    if isinstance(error, OSError) and error.strerror:
        return _("{file} cannot be used: {why}.").format(
            file=error.filename or _("A temporary file"), why=error.strerror
        )
    return f"{type(error).__name__}: {error}"
