"""The section for all volumes at once."""

from __future__ import annotations

from slicer.i18n import tr as _

from UGMCLSegmentationLib.panel.improve.cases import cases
from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.panel.qtHelpers import enable
from UGMCLSegmentationLib.panel.shell import Shell
from UGMCLSegmentationLib.panel.taskView import TaskView
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.worker.run import TaskResult


class BatchSection:
    """Shows the last of the results."""

    def __init__(self, shell: Shell) -> None:
        self._ui = ui = shell.ui
        self._logic = shell.logic
        self._showResult = shell.showResult
        self._parameters: Parameters | None = None
        self._view = TaskView(shell, ui.batchProgressBar, ui.cancelBatchButton, ui.batchLabel)
        shell.connections.connect(ui.batchButton, "clicked(bool)", self._onBatch)

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self.update()

    def update(self) -> None:
        reason = ""
        if self._logic.running:
            reason = self._logic.occupation
        elif self._parameters is None or not self._parameters.model:
            reason = _("Select a model first.")
        text = _(
            "Segment every volume of the scene that is not ignored in Improve, one after the "
            "other, with the settings of Segment. The model is loaded once."
        )
        enable(self._ui.batchButton, text, unless=reason)

    def _onBatch(self, _checked: bool = False) -> None:
        self._view.start(
            lambda listener: self._logic.startBatch(
                cases.segmentable(models.channelsOf(self._parameters.model)),
                self._parameters,
                listener,
            ),
            self._done,
            self._parameters.model,
            self._parameters.device,
        )

    def _done(self, result: TaskResult) -> None:
        if result.value:
            self._showResult(result.value[-1])
