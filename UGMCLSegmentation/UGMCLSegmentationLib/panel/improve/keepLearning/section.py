"""Keep learning in the Improve section: its switch, its state, the model that took over."""

from __future__ import annotations

import math

from slicer.i18n import tr as _

from ugmcl_core.training.settings import DEFAULT_METHOD, KeepLearningSettings
from UGMCLSegmentationLib.panel.improve.cases import cases
from UGMCLSegmentationLib.panel.improve.cases.caseList import CaseListModel
from UGMCLSegmentationLib.panel.improve.finetuning import caseListExport, finetuning
from UGMCLSegmentationLib.panel.improve.finetuning.section import SEED, FinetuneSection
from UGMCLSegmentationLib.panel.improve.finetuning.settings import baseOf
from UGMCLSegmentationLib.panel.improve.keepLearning.learning import Learning
from UGMCLSegmentationLib.panel.qtHelpers import enable, silent
from UGMCLSegmentationLib.panel.shell import Shell
from UGMCLSegmentationLib.panel.taskView import TaskView
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.storage import runFolder
from UGMCLSegmentationLib.worker.run import TaskListener, TaskResult


class KeepLearningSection:
    def __init__(self, shell: Shell, caseList: CaseListModel, finetune: FinetuneSection) -> None:
        self._ui = ui = shell.ui
        self._shell = shell
        self._caseList = caseList
        self._finetune = finetune
        self._parameters: Parameters | None = None
        self._learning: Learning | None = None
        self._state = ""  # its state apart from training
        self._isPending = False  # it starts with the first accepted case
        self._view = TaskView(
            shell, ui.learningProgressBar, ui.cancelLearningButton, ui.learningMessageLabel,
            ui.improveLogText.appendPlainText, ui.learningProgressLabel, self._onChanged,
        )  # fmt: skip
        finetune.onResumeLearning = self._onResume
        for widget, signal, slot in (
            (ui.keepLearningCheckBox, "toggled(bool)", self._onToggled),
            (ui.pauseLearningButton, "clicked(bool)", self._onPause),
            (ui.compareLearningButton, "clicked(bool)", self._onCompare),
        ):
            shell.connections.connect(widget, signal, slot)
        ui.learningModelLabel.setVisible(False)

    @property
    def running(self) -> bool:
        return self._learning is not None and self._learning.running

    @property
    def model(self) -> str:
        """The folder of the model that took over, "" for none."""
        return self._learning.model if self._learning is not None else ""

    def setParameters(self, parameters: Parameters | None) -> None:
        if parameters is None and self.running:
            self._learning.cancel()  # the cases are about to go
        self._parameters = parameters
        if parameters is None:
            self._isPending = False
            self._setSwitch(False)
        self.update()

    def update(self) -> None:
        ui, running = self._ui, self.running
        if self._isPending and self._parameters is not None and not self._reason():
            self._start()
            return
        reason = ""
        if self._finetune.running:
            reason = _("A run is in progress.")
        elif self._parameters is None:
            reason = _("Open a scene first.")
        elif not running and not baseOf(self._parameters):
            reason = _("From scratch there is no model yet that could keep learning: fine-tune "
                       "first.")  # fmt: skip
        text = _(
            "Train on the labeled cases while you correct others. Each case that you accept joins "
            "the training within seconds, and Correct next uses the model as soon as it is not "
            "worse. It pauses while a segmentation runs and on battery."
        )
        enable(ui.keepLearningCheckBox, text, unless=reason)
        for button in (ui.pauseLearningButton, ui.compareLearningButton):
            button.setVisible(running)
        isPaused = running and self._learning.isPaused
        ui.pauseLearningButton.text = _("Continue") if isPaused else _("Pause")

    def add(self, volumeNode) -> None:
        """Learn from the volume's case, which the user accepted, if Keep learning is on."""
        if not self.running:
            self.update()  # this case may be the one awaited
            return
        contents = self._caseList.contents
        case = next((c for c in contents.cases if c.volumeNode is volumeNode), None)
        if case is None or case.role != cases.LABELED:
            return
        self._learning.add(case, contents)

    def close(self) -> None:
        """End the run, which the user can resume later."""
        if self._learning is not None:
            self._learning.abandon()
            self._learning = None

    # Actions of the user

    def _reason(self) -> str:
        """Why it cannot start yet, "" if it can."""
        if self._finetune.running:
            return _("A run is in progress.")
        return self._finetune.missing()

    def _onToggled(self, isOn: bool) -> None:
        self._isPending = False
        if not isOn:
            if self.running:
                self._learning.stop()
            self._view.show("")
            return
        self._caseList.update()
        labeled = any(c.role == cases.LABELED for c in self._caseList.contents.cases)
        if not labeled:
            self._isPending = True
            self._view.show(_("It starts with the first case that you accept."))
        elif reason := self._reason():
            self._setSwitch(False)
            self._view.show(reason, isError=True)
        else:
            self._start()

    def _start(self) -> None:
        self._isPending = False
        parameters = self._parameters

        def begin(listener: TaskListener) -> Learning:
            contents = caseListExport.prepare(self._caseList.update())
            settings = finetuning.newSettings(
                KeepLearningSettings,
                parameters.modelName,
                base=baseOf(parameters),
                method=_method(parameters.method),
                seed=SEED,
                device=parameters.device,
                keep_names=parameters.keepNames,
                check_minutes=float(parameters.checkMinutes),
                cores=parameters.cores / 100,
            )
            self._finetune.clear()
            return self._begin(finetuning.newRun(settings, contents), contents)

        self._view.start(begin, self._onDone, baseOf(parameters), parameters.device)
        self._setSwitch(self.running)

    def _onResume(self, run: runFolder.ResumableRun) -> None:
        def begin(listener: TaskListener) -> Learning:
            self._finetune.clear(run.folder)
            return self._begin(run, None)

        device = run.request.get("device", "auto")
        self._view.start(begin, self._onDone, run.request["base"], device)
        self._setSwitch(self.running)

    def _begin(self, run: runFolder.ResumableRun, contents) -> Learning:
        logic = self._shell.logic
        self._state = ""
        self._ui.learningModelLabel.setVisible(False)
        self._ui.nextSection.collapsed = False
        self._learning = Learning(logic.trainer, logic.worker, run, self, contents)
        return self._learning

    def _onPause(self, _checked: bool = False) -> None:
        if self.running:
            self._learning.pause(not self._learning.isPaused)
            self.update()

    def _onCompare(self, _checked: bool = False) -> None:
        if self.running:
            self._learning.compare()

    def _setSwitch(self, isOn: bool) -> None:
        with silent(self._ui.keepLearningCheckBox):
            self._ui.keepLearningCheckBox.checked = isOn

    # LearningListener

    def onProgress(self, fraction: float, text: str, remaining: float | None) -> None:
        if not self._state:
            self._view.onProgress(fraction, text, None)

    def onLog(self, level: str, text: str) -> None:
        self._view.onLog(level, text)

    def onMetrics(self, event: dict) -> None:
        self._finetune.showMetrics(event)

    def onPaused(self, isPaused: bool) -> None:
        text = _("Paused") if self._learning.isPaused else _("Paused while a segmentation runs")
        self._setState(text if isPaused else "")

    def onWaiting(self, why: str) -> None:
        texts = {
            "battery": _("Waiting: the computer runs on its battery"),
            "case": _("Nothing more is learned: waiting for the next case that you accept"),
        }
        self._setState(texts.get(why, why))

    def onJoined(self, event: dict) -> None:
        text = _("{name} joined at step {step}, {cases} labeled cases").format(**event)
        if _isKnown(event["dice"]):
            text += _(", Dice {dice:.3f} before it was learned from").format(dice=event["dice"])
        self._log(text)

    def onCheck(self, event: dict) -> None:
        where = event["case"] or _("the hold-out cases")
        numbers = {"step": event["step"], "now": _dice(event["dice"]),
                   "former": _dice(event["former"]), "where": where}  # fmt: skip
        if event["taken"]:
            text = _("Correct next uses the model of step {step}: Dice {now} on {where}, {former} "
                     "before").format(**numbers)  # fmt: skip
            self._ui.learningModelLabel.text = text
            self._ui.learningModelLabel.setVisible(True)
        else:
            text = _("The model in use stays: Dice {former} on {where}, {now} at step {step}")
            text = text.format(**numbers)
        self._log(text)

    def onEnd(self, result: TaskResult) -> None:
        self._setSwitch(False)
        self._ui.learningModelLabel.setVisible(False)
        self._view.onEnd(result)

    def _setState(self, text: str) -> None:
        self._state = text
        if text:
            self._ui.learningProgressLabel.text = text

    def _log(self, text: str) -> None:
        self._ui.improveLogText.appendPlainText(text)

    # The start and the end

    def _onChanged(self) -> None:
        self._finetune.occupation = self._learning.occupation if self.running else ""
        self._finetune.refresh()
        self._shell.updateButtons()
        self.update()

    def _onDone(self, result: TaskResult) -> None:
        self._finetune.showReport(result.value, self._learning.folder)


def _method(chosen: str) -> str:
    """The chosen method, unless it labels volumes at fixed parts of a training's length, which is
    unknown here."""
    return KeepLearningSettings.method if chosen == DEFAULT_METHOD else chosen


def _isKnown(dice: float | None) -> bool:
    return dice is not None and math.isfinite(dice)


def _dice(value: float | None) -> str:
    return f"{value:.3f}" if _isKnown(value) else _("unknown")
