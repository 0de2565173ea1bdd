"""The Evaluate section of the panel."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.panel.evaluate import evaluation
from UGMCLSegmentationLib.panel.evaluate.evaluation import EvaluateTask
from UGMCLSegmentationLib.panel.qtHelpers import enable, fitRows, setUpTable
from UGMCLSegmentationLib.panel.shell import Shell
from UGMCLSegmentationLib.panel.taskView import TaskView
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.worker.run import TaskResult


class EvaluateSection:
    def __init__(self, shell: Shell) -> None:
        self._ui = ui = shell.ui
        self._logic = shell.logic
        self._parameters: Parameters | None = None
        ui.referenceSelector.setMRMLScene(slicer.mrmlScene)
        ui.evaluateTable.setMRMLScene(slicer.mrmlScene)
        ui.evaluateTable.setVisible(False)
        setUpTable(ui.evaluateTable)
        self._view = TaskView(
            shell, ui.evaluateProgressBar, ui.cancelEvaluateButton, ui.evaluateLabel
        )
        shell.connections.connect(ui.evaluateButton, "clicked(bool)", self._onEvaluate)

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self._showTable(None)
        self.update()

    def update(self) -> None:
        parameters = self._parameters
        result = parameters.segmentation if parameters is not None else None
        reference = parameters.reference if parameters is not None else None
        reason = ""
        if self._logic.running:
            reason = self._logic.occupation
        elif result is None:
            reason = _("Segment a volume first, or select a result in Display.")
        elif reference is None or reference is result:
            reason = _("Choose the reference: another segmentation of the same volume.")
        name = result.GetName() if result is not None else _("none yet")
        self._ui.evaluatedLabel.text = name
        enable(self._ui.evaluateButton, _("Measure how well the two agree."), unless=reason)
        overlay = evaluation.overlay()
        if overlay is not None and parameters is not None and overlay.GetDisplayNode():
            overlay.GetDisplayNode().SetVisibility(parameters.showErrors)

    def _onEvaluate(self, _checked: bool = False) -> None:
        parameters = self._parameters
        self._view.start(
            lambda listener: self._logic.start(
                EvaluateTask(parameters.segmentation, parameters.reference), listener
            ),
            self._evaluated,
        )

    def _evaluated(self, result: TaskResult) -> None:
        node = evaluation.fillTable(result.value)
        self._showTable(node)
        self.update()
        self._view.show(_("The scene has the table {name}.").format(name=node.GetName()))

    def _showTable(self, node) -> None:
        self._ui.evaluateTable.setMRMLTableNode(node)
        self._ui.evaluateTable.setVisible(node is not None)
        if node is not None:
            fitRows(self._ui.evaluateTable, node.GetNumberOfRows())
