"""A task in a section of the panel: progress bar, message, Cancel button."""

from __future__ import annotations

from collections.abc import Callable

from slicer.i18n import tr as _

from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.setup import dependencies
from UGMCLSegmentationLib.panel.shell import Shell
from UGMCLSegmentationLib.worker.run import CANCELED, DONE, TaskListener, TaskResult


class TaskView:
    """A `TaskListener` that shows the task under way.

    `onLog` gets every line for the log.
    """

    def __init__(
        self,
        shell: Shell,
        bar,
        cancelButton,
        label,
        onLog: Callable[[str], None] | None = None,
    ) -> None:
        """Without `onLog`, the panel's log shows the lines."""
        self._shell = shell
        self._bar, self._cancelButton, self._label = bar, cancelButton, label
        self._onLog = onLog or shell.ui.logText.appendPlainText
        self._onDone: Callable[[TaskResult], None] | None = None
        self._warnings: list[str] = []
        shell.connections.connect(cancelButton, "clicked(bool)", self._onCancel)
        self._setRunning(False)
        self.show("")

    @property
    def running(self) -> bool:
        return self._onDone is not None

    def start(
        self,
        begin: Callable[[TaskListener], None],
        onDone: Callable[[TaskResult], None],
        model: str = "",
    ) -> None:
        """Call `begin` with this listener to start the run, and later `onDone` with its result.
        The label shows a PanelError of either."""
        self.show("")
        self._warnings.clear()
        with messages.showingErrors(self._label, _("The run cannot be started.")):
            if not self._shell.isReady(model):
                return
            self._onDone = onDone
            try:
                begin(self)
            except Exception:
                self._onDone = None
                raise
        self._setRunning(self.running)
        self._shell.updateButtons()

    def show(self, text: str, isError: bool = False) -> None:
        messages.show(self._label, text, isError)

    def onProgress(self, fraction: float, text: str, remaining: float | None) -> None:
        if fraction >= 0:
            self._bar.value = round(100 * fraction)
        self.show(messages.withTimeLeft(text, remaining))

    def onLog(self, level: str, text: str) -> None:
        self._onLog(text)
        if level == "warning":
            self._warnings.append(text)

    def onEnd(self, result: TaskResult) -> None:
        onDone, self._onDone = self._onDone, None
        self._setRunning(False)
        self._bar.value = 0
        if result.message:
            self._onLog(result.message)
        message = dependencies.explained(result.message)
        self.show(message, isError=result.kind not in (DONE, CANCELED))
        if onDone is not None and (result.kind == DONE or result.value):
            with messages.showingErrors(self._label, _("The result cannot be shown.")):
                onDone(result)
        if self._warnings and result.kind == DONE:
            self.show("\n".join([self._label.text, *self._warnings]).strip())
        self._shell.updateButtons()

    def _onCancel(self, _checked: bool = False) -> None:
        self._cancelButton.enabled = False
        if self.running:
            self._shell.logic.cancel()

    def _setRunning(self, isRunning: bool) -> None:
        self._cancelButton.enabled = isRunning
        self._cancelButton.setVisible(isRunning)
        self._bar.setVisible(isRunning)
