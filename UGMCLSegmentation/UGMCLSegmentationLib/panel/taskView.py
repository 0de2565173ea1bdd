"""A task in a section of the panel: progress bar, message, Cancel button."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from slicer.i18n import tr as _

from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.setup import dependencies
from UGMCLSegmentationLib.panel.shell import Shell
from UGMCLSegmentationLib.worker.run import CANCELED, DONE, TaskListener, TaskResult


class Run(Protocol):
    """What a section starts: a `WorkerTask` or a `SegmentQueue`."""

    @property
    def running(self) -> bool: ...

    def cancel(self) -> None: ...


class TaskView:
    """A `TaskListener` that shows the task under way."""

    def __init__(
        self,
        shell: Shell,
        bar,
        cancelButton,
        label,
        onLog: Callable[[str], None] | None = None,
        progressLabel=None,
        onChanged: Callable[[], None] | None = None,
    ) -> None:
        """`onLog` gets every line for the log; without it, the panel's log shows them. Without
        `progressLabel`, the label shows the progress too. `onChanged` is called when a task starts
        or ends; without it, the panel updates its buttons."""
        self._shell = shell
        self._bar, self._cancelButton, self._label = bar, cancelButton, label
        self._progressLabel = progressLabel or label
        self._onLog = onLog or shell.ui.logText.appendPlainText
        self._onChanged = onChanged or shell.updateButtons
        self._onDone: Callable[[TaskResult], None] | None = None
        self._warnings: list[str] = []
        self._run: Run | None = None
        self.isPaused = False
        shell.connections.connect(cancelButton, "clicked(bool)", self._onCancel)
        self._setRunning(False)
        self.show("")

    @property
    def running(self) -> bool:
        return self._run is not None and self._run.running

    def start(
        self,
        begin: Callable[[TaskListener], Run],
        onDone: Callable[[TaskResult], None],
        model: str = "",
        device: str = "",
    ) -> None:
        """Call `begin` with this listener to start the run, and later `onDone` with its result.
        The label shows a PanelError of either."""
        self.show("")
        self._warnings.clear()
        self.isPaused = False
        with messages.showingErrors(self._label, _("The run cannot be started.")):
            if not self._shell.isReady(model, device):
                return
            self._onDone = onDone
            self._run = begin(self)
        self._setRunning(self.running)
        self._onChanged()

    def show(self, text: str, isError: bool = False) -> None:
        messages.show(self._label, text, isError)

    def onProgress(self, fraction: float, text: str, remaining: float | None) -> None:
        if fraction >= 0:
            self._bar.value = round(100 * fraction)
        text = messages.withTimeLeft(text, None if self.isPaused else remaining)
        messages.show(self._progressLabel, text)

    def onLog(self, level: str, text: str) -> None:
        self._onLog(text)
        if level == "warning":
            self._warnings.append(messages.asSentence(text))
            if self._progressLabel is not self._label:
                self.show(messages.asSentence(text))

    def onEnd(self, result: TaskResult) -> None:
        self._setRunning(False)
        self._bar.value = 0
        if result.message:
            self._onLog(result.message)
        message = messages.asSentence(dependencies.explained(result.message))
        self.show(message, isError=result.kind not in (DONE, CANCELED))
        if result.kind == DONE or result.value:
            with messages.showingErrors(self._label, _("The result cannot be shown.")):
                self._onDone(result)
        if self._warnings and result.kind == DONE:
            self.show("\n".join([self._label.text, *self._warnings]).strip())
        self._onChanged()

    def _onCancel(self, _checked: bool = False) -> None:
        self._cancelButton.enabled = False
        if self.running:
            self._run.cancel()

    def _setRunning(self, isRunning: bool) -> None:
        self._cancelButton.enabled = isRunning
        self._cancelButton.setVisible(isRunning)
        self._bar.setVisible(isRunning)
        if self._progressLabel is not self._label:
            self._progressLabel.setVisible(isRunning)
