"""A fine-tuning run: cases -> files -> estimate -> worker -> a new model, or a run to resume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from slicer.i18n import tr as _

from UGMCLSegmentationLib import newModels, plan, runs
from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.process import ENDS, Event, Worker
from UGMCLSegmentationLib.run import CANCELLED, DONE, FAILED, GRACE, lineOf
from UGMCLSegmentationLib.steps import Deadline, Steps


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
        cases: plan.Plan | None = None,
        isMeasured: bool = False,
        onlyEstimate: bool = False,
    ) -> None:
        """`cases` are written first; without them the run in `folder` is resumed.

        Raises PanelError if another Slicer works on that one.
        """
        if cases is None:
            runs.claim(folder)
        self._worker = worker
        self.folder = folder
        self._request = request
        self._about = about
        self._listener: Listener | None = listener
        self._needsEstimate = not isMeasured or onlyEstimate
        self._onlyEstimate = onlyEstimate
        self._steps: Steps | None = None
        self._cancelling = False
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
        isTraining = self.running and self._hasSteps and not self._cancelling
        return isTraining and self._worker.canTell

    def cancel(self) -> None:
        """Stop; `onEnd` follows now or within GRACE. The latest checkpoint stays usable."""
        if not self.running:
            return
        if self._steps is not None:
            self._end(Outcome(CANCELLED, _("Canceled.")))
            return
        self._cancelling = True
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

    def _write(self, cases: plan.Plan) -> Iterator[None]:
        yield from plan.write(cases, self.folder)
        if not self._onlyEstimate:  # which leaves nothing to resume
            runs.save(self.folder, self._request, self._about)
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
            if not self._cancelling:
                remaining = None if self.isPaused else event.get("remaining")
                listener.onProgress(float(event["fraction"]), event["text"], remaining)
        elif name == "log":
            listener.onLog(event["level"], event["text"])
        elif name == "metrics":
            self._hasSteps = True
            if not event.get("part"):  # of the model itself, not of what it is compared with
                runs.addMetrics(self.folder, event)
                listener.onMetrics(event)
        elif name in ("paused", "continued"):
            self.isPaused = name == "paused"
            listener.onPaused(self.isPaused)
        elif name == "cancelled" or (name in ENDS and self._cancelling):
            self._end(Outcome(CANCELLED, self._canceledText(), folder=self.folder))
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
        model = newModels.adopt(Path(event["model"]), self._request["name"])
        request = {**self._request, "name": model.name}
        result = {**result, "model": str(model), "about": self._about, "request": request}
        runs.complete(self.folder, result)
        self._end(Outcome(DONE, "", result, newModels.keyOf(model), self.folder))

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
            self._end(Outcome(CANCELLED, self._canceledText(), folder=self.folder))

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
            runs.discard(self.folder)
        elif self.folder.exists():
            runs.release(self.folder)
