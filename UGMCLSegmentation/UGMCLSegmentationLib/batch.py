"""Many volumes segmented one after the other, the model loaded once."""

from __future__ import annotations

from collections.abc import Sequence

from slicer.i18n import tr as _

from UGMCLSegmentationLib import inputs, outputs
from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.process import Worker
from UGMCLSegmentationLib.run import CANCELLED, DONE, Listener, Outcome, Run
from UGMCLSegmentationLib.segmentWork import SegmentWork, Settings


class BatchRun:
    """A run over volumes. One that fails does not stop the others; `onEnd` gets the list of the
    segmentations that were made, and its message what failed."""

    def __init__(
        self, worker: Worker, volumeNodes: Sequence, settings: Settings, listener: Listener
    ) -> None:
        if not volumeNodes:
            raise PanelError(_("There is no volume to segment."))
        self._worker = worker
        self._waiting = list(volumeNodes)
        self._count = len(volumeNodes)
        self._settings = settings
        self._listener: Listener | None = listener
        self._made: list = []
        self._failures: list[str] = []
        self._run: Run | None = None
        self._name = ""
        self._next()

    @property
    def running(self) -> bool:
        return self._listener is not None

    def cancel(self) -> None:
        self._waiting.clear()
        if self._run is not None and self._run.running:
            self._run.cancel()

    def abandon(self) -> None:
        self._listener = None
        self._waiting.clear()
        if self._run is not None:
            self._run.abandon()

    # What each run tells (run.Listener)

    def onProgress(self, fraction: float, text: str, remaining: float | None) -> None:
        if self._listener is not None:
            done = self._count - len(self._waiting) - 1
            words = _("{name} ({n} of {count}): {text}").format(
                name=self._name, n=done + 1, count=self._count, text=text
            )
            whole = (done + max(0.0, fraction)) / self._count
            self._listener.onProgress(whole if fraction >= 0 else fraction, words, None)

    def onLog(self, level: str, text: str) -> None:
        if self._listener is not None:
            self._listener.onLog(level, f"{self._name}: {text}")

    def onEnd(self, outcome: Outcome) -> None:
        if outcome.kind == DONE:
            self._made.append(outcome.result)
        elif outcome.kind == CANCELLED:
            self._end(Outcome(CANCELLED, self._text(_("Canceled.")), list(self._made)))
            return
        else:
            self._failures.append(f"{self._name}: {outcome.message}")
        self._next()

    def _next(self) -> None:
        while self._waiting:
            node = self._waiting.pop(0)
            if not outputs.isInScene(node):
                continue
            self._name = node.GetName()
            try:
                inputs.check(node)
                work = SegmentWork(node, inputs.box(node, None), self._settings)
                self._run = Run(self._worker, work, self)
                return
            except PanelError as error:
                self._failures.append(str(error))
        self._end(Outcome(DONE, self._text(""), list(self._made)))

    def _text(self, before: str) -> str:
        made = _("{n} of {count} volumes were segmented.").format(
            n=len(self._made), count=self._count
        )
        return " ".join(part for part in (before, made, *self._failures) if part)

    def _end(self, outcome: Outcome) -> None:
        listener, self._listener = self._listener, None
        self._run = None
        if listener is not None:
            listener.onEnd(outcome)
