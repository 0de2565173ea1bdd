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
from UGMCLSegmentationLib.scene import corrections
from UGMCLSegmentationLib.worker.run import TaskResult


class EvaluateSection:
    def __init__(self, shell: Shell) -> None:
        self._ui = ui = shell.ui
        self._logic = shell.logic
        self._parameters: Parameters | None = None
        self._compared: tuple[str, str] | None = None  # what the table is about, by ID
        self._watch = corrections.Watch(self._onEdited)
        self._edited: str | None = None  # the one of the pair that changed during the run
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
        self._watch.follow(evaluation.compared() if parameters is not None else ())
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
        if self._compared is not None and self._compared != self._pair():
            self._dropTable()
        name = result.GetName() if result is not None else _("none yet")
        self._ui.evaluatedLabel.text = name
        enable(self._ui.evaluateButton, _("Measure how well the two agree."), unless=reason)
        overlay = evaluation.overlay()
        if overlay is not None and parameters is not None and overlay.GetDisplayNode():
            isOfPair = evaluation.compared() == (result, reference)
            overlay.GetDisplayNode().SetVisibility(parameters.showErrors and isOfPair)

    def _pair(self) -> tuple[str, str] | None:
        """The IDs of the result and the reference, None where one is missing."""
        parameters = self._parameters
        if parameters is None or None in (parameters.segmentation, parameters.reference):
            return None
        return parameters.segmentation.GetID(), parameters.reference.GetID()

    def _dropTable(self) -> None:
        """Numbers and differences of another pair would be taken for those of this one."""
        self._showTable(None)
        if not self._view.running:
            self._view.show("")

    def _onEdited(self, node) -> None:
        """Neither the numbers nor the differences are those of an edited segmentation."""
        self._watch.follow(())
        self._edited = node.GetName()
        evaluation.markOutdated()
        wasShown = self._compared is not None
        self._dropTable()
        if wasShown:
            self._showEdited()
        self.update()

    def _showEdited(self) -> None:
        text = _("{name} has changed since it was measured: evaluate again.")
        self._view.show(text.format(name=self._edited))

    def _onEvaluate(self, _checked: bool = False) -> None:
        parameters, pair = self._parameters, self._pair()
        self._dropTable()
        self.update()
        self._edited = None
        self._watch.follow((parameters.segmentation, parameters.reference))
        self._view.start(
            lambda listener: self._logic.start(
                EvaluateTask(parameters.segmentation, parameters.reference), listener
            ),
            lambda result: self._evaluated(result, pair),
        )

    def _evaluated(self, result: TaskResult, pair: tuple[str, str] | None) -> None:
        node = evaluation.fillTable(result.value)
        if self._edited is not None:  # while it ran
            evaluation.markOutdated()
            self._showEdited()
            self.update()
            return
        text = _("{name}. The table is also in the Data module.")
        self._view.show(text.format(name=node.GetName()))
        self._showTable(node, pair)
        self.update()

    def _showTable(self, node, pair: tuple[str, str] | None = None) -> None:
        self._compared = pair
        self._ui.evaluateTable.setMRMLTableNode(node)
        self._ui.evaluateTable.setVisible(node is not None)
        if node is not None:
            fitRows(self._ui.evaluateTable, node.GetNumberOfRows())
