"""Fine-tuning in the Improve section: the run, its estimate, its curves, its report."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from ugmcl_core.training.settings import FEWEST, NOT_BETTER, FinetuneSettings
from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.improve.cases import cases
from UGMCLSegmentationLib.panel.improve.cases.caseList import CaseListModel, Contents
from UGMCLSegmentationLib.panel.improve.finetuning import (
    caseListExport,
    curves,
    finetuning,
    report,
)
from UGMCLSegmentationLib.panel.improve.finetuning.curves import Curves
from UGMCLSegmentationLib.panel.improve.finetuning.finetuning import FinetuneTask
from UGMCLSegmentationLib.panel.improve.finetuning.settings import (
    Estimate,
    FinetuneChoices,
    baseOf,
)
from UGMCLSegmentationLib.panel.improve.keepLearning.learning import COMMAND
from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.panel.qtHelpers import Connections, enable, fill
from UGMCLSegmentationLib.panel.setup import dependencies
from UGMCLSegmentationLib.panel.shell import Shell
from UGMCLSegmentationLib.panel.taskView import TaskView
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.storage import computers, runFolder
from UGMCLSegmentationLib.worker import elsewhere
from UGMCLSegmentationLib.worker.run import TaskListener, TaskResult, WorkerTask

SEED = 0
_TECHNICAL = ("strides", "kernels", "filters", "dropout", "batch", "rate")
"""Decisions of a plan that say something only to those who know networks."""


def _planLine(decision: dict) -> str:
    """A decision as `ugmcl plan` shows it."""
    meaning = f" ({decision['means']})" if decision.get("means") else ""
    return f"{decision['what']} {decision['value']}{meaning}: {decision['why']}"


class FinetuneSection:
    def __init__(self, shell: Shell, caseList: CaseListModel) -> None:
        self._ui = ui = shell.ui
        self._shell = shell
        self._caseList = caseList
        self._trainer = trainer = shell.logic.trainer
        self._parameters: Parameters | None = None
        self._run: WorkerTask | None = None
        self._task: FinetuneTask | None = None
        self._curves = Curves()
        self._estimates: dict[tuple, Estimate] = {}
        self._measured: tuple[tuple, int] = ((), 0)  # by the estimate, and steps
        self._checked: tuple[Contents | None, str] = (None, "")
        self._isSlow = False
        self._reportFile: Path | None = None
        self.onResumeLearning: Callable[[runFolder.ResumableRun], None] = lambda run: None
        self.occupation = ""  # why another training keeps this one from running
        self._view = TaskView(
            shell, ui.finetuneProgressBar, ui.cancelFinetuneButton, ui.improveMessageLabel,
            ui.improveLogText.appendPlainText, ui.finetuneProgressLabel, self._onChanged,
        )  # fmt: skip
        self.choices = FinetuneChoices(ui, shell.connections)
        self.resume = ResumeSection(
            ui, shell.connections, self._onResume, lambda: self._view.show("")
        )
        trainer.onHello = self._onHello
        trainer.onLog = self._view.onLog
        for widget, signal, slot in (
            (ui.finetuneAdvancedSection, "toggled(bool)", self._onAdvanced),
            (ui.estimateButton, "clicked(bool)", lambda _checked: self._start(onlyEstimate=True)),
            (ui.finetuneButton, "clicked(bool)", lambda _checked: self._start(onlyEstimate=False)),
            (ui.pauseButton, "clicked(bool)", self._onPause),
            (ui.curvesButton, "clicked(bool)", self._onCurves),
            (ui.reportButton, "clicked(bool)", self._onReport),
        ):
            shell.connections.connect(widget, signal, slot)
        self._hideReport()
        ui.curvesButton.setVisible(False)

    @property
    def running(self) -> bool:
        return self._run is not None and self._run.running

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        if parameters is None and self.running and self._run.isWriting:
            self._run.cancel()  # the volumes are about to go
        self.choices.setParameters(parameters)
        self.refresh()

    def refresh(self) -> None:
        """Look for models, runs and packages again."""
        facts = dependencies.facts()
        self._isSlow = bool(facts.torch) and facts.hasNvidia and not facts.torchUsesGpu
        self.choices.refresh()
        self.resume.refresh(self.running or bool(self.occupation))
        self.update()

    def update(self) -> None:
        ui, running = self._ui, self.running
        self.choices.update()
        reason = self._reason()
        text = _("Run a few steps to estimate the time and memory of the run. Fine-tune does this "
                 "too.")  # fmt: skip
        enable(ui.estimateButton, text, unless=reason)
        enable(ui.finetuneButton, _("Train a new model on the cases."), unless=reason)
        canPause = running and self._task.isTraining and self._run.canSend
        text = _("Pause the training between two steps. The computer is free meanwhile.")
        enable(ui.pauseButton, text, unless="" if canPause else _("No training runs yet."))
        isPaused = running and self._view.isPaused
        ui.pauseButton.text = _("Continue") if isPaused else _("Pause")
        ui.estimateButton.setVisible(not running)
        ui.pauseButton.setVisible(running)
        self._showEstimate()

    def close(self) -> None:
        """End the run, which the user can resume later."""
        self._curves.close()
        self._trainer.shutdown()
        if self._run is not None:
            self._run.abandon()
            self._run = self._task = None

    # Actions of the user

    def _start(self, onlyEstimate: bool) -> None:
        def begin(listener: TaskListener) -> WorkerTask:
            cases = caseListExport.prepare(self._caseList.update())
            run = finetuning.newRun(self._settings(), cases)
            self._measured = self._measureKey(), self._steps()
            if not onlyEstimate:
                self.clear()
            isMeasured = self._measured[0] in self._estimates
            task = FinetuneTask(run, self, cases, not isMeasured, onlyEstimate)
            return self._begin(task, listener)

        self._view.start(
            begin, self._onDone, baseOf(self._parameters), self._parameters.device
        )

    def _begin(self, task: FinetuneTask, listener: TaskListener) -> WorkerTask:
        self._task = task
        self._run = WorkerTask(self._trainer, task, listener)
        return self._run

    def _onResume(self, run: runFolder.ResumableRun) -> None:
        if run.request.get("command") == COMMAND:
            self.onResumeLearning(run)
            return

        def begin(listener: TaskListener) -> WorkerTask:
            self.clear(run.folder)
            return self._begin(FinetuneTask(run, self), listener)

        device = run.request.get("device", "auto")
        self._view.start(begin, self._onDone, run.request["base"], device)

    def _onPause(self, _checked: bool = False) -> None:
        if self.running:
            self._ui.pauseButton.enabled = False
            self._run.send("continue" if self._view.isPaused else "pause")

    def _onCurves(self, _checked: bool = False) -> None:
        self._curves.show()
        curves.openCharts()

    def _onReport(self, _checked: bool = False) -> None:
        if self._reportFile is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self._reportFile)))

    def _onAdvanced(self, isOpen: bool) -> None:
        if isOpen and not dependencies.situation().isBlocking:
            self._trainer.start()  # it reports the methods

    # FinetuneListener

    def onEstimate(self, event: dict) -> None:
        key, steps = self._measured
        keys = ("seconds", "seconds_per_iteration", "memory_bytes")
        plan = tuple(map(_planLine, event.get("plan", ())))
        estimate = Estimate(*(float(event[k]) for k in keys), steps, plan)
        self._estimates[key] = estimate
        self._ui.improveLogText.appendPlainText(estimate.text(steps, computers.split(key[2])[1]))
        self.update()

    def onMetrics(self, event: dict) -> None:
        self.showMetrics(event)
        if not self._ui.pauseButton.enabled:
            self.update()

    def showMetrics(self, event: dict) -> None:
        """Add to the curves of a run."""
        count = len(curves.charts())
        self._curves.add(event)
        self._curves.showSoon()
        if len(curves.charts()) > count and self._shell.isEntered:
            curves.openCharts()
        self._ui.curvesButton.setVisible(True)

    def onPaused(self, isPaused: bool) -> None:
        self._view.isPaused = isPaused
        if isPaused:
            self._ui.finetuneProgressLabel.text = _("Paused")
        self.update()

    # The start and the end of a run

    def _onChanged(self) -> None:
        self.refresh()
        self._curves.show()

    def _onDone(self, result: TaskResult) -> None:
        if result.value:  # an estimate has none
            self.showReport(result.value, self._task.folder)

    def showReport(self, result: dict, folder: Path) -> None:
        """Show the report of the run in `folder`, and offer the new model if there is one."""
        text = report.summary(result)
        messages.show(self._ui.reportLabel, text)
        self._ui.improveLogText.appendPlainText(text)
        if result["model"] is not None:
            isSelected = result.get("verdict") != NOT_BETTER
            self._shell.onNewModel(models.keyOf(Path(result["model"])), isSelected)
        report.show(result)
        self._reportFile = report.write(result, folder)
        self._ui.reportButton.setVisible(True)

    # Display

    def clear(self, folder: Path | None = None) -> None:
        """Forget the last report and its curves; start with those of the run in `folder`."""
        self._hideReport()
        self._curves.clear()
        for event in runFolder.metrics(folder) if folder is not None else ():
            self._curves.add(event)

    def _hideReport(self) -> None:
        self._reportFile = None
        self._ui.reportLabel.setVisible(False)
        self._ui.reportButton.setVisible(False)

    def _reason(self) -> str:
        """Why no run can be started, "" if it can."""
        if self.running:
            return _("A run is in progress.")
        if self.occupation:
            return self.occupation
        if self._parameters is None:
            return _("Open a scene first.")
        return self.missing()

    def missing(self) -> str:
        """Why the cases cannot be used for training, "" if they can; checked once per reading."""
        contents, reason = self._checked
        if contents is not self._caseList.contents:
            contents, reason = self._caseList.contents, ""
            try:
                caseListExport.prepare(contents)
            except PanelError as error:
                reason = str(error)
            self._checked = contents, reason
        return reason

    def _settings(self) -> FinetuneSettings:
        """The settings of a new run. Raises PanelError."""
        parameters = self._parameters
        return finetuning.newSettings(
            FinetuneSettings,
            parameters.modelName,
            base=baseOf(parameters),
            method=parameters.method,
            iterations=parameters.iterations,
            minutes=float(parameters.minutes),
            seed=SEED,
            device=parameters.device,
            compare=parameters.compare,
            leave_one_out=parameters.leaveOneOut,
            keep_names=parameters.keepNames,
            replan=self._isReplanned(),
        )

    def _isReplanned(self) -> bool:
        """Whether a training from a base is planned for the cases."""
        parameters = self._parameters
        return parameters is not None and parameters.replan and bool(baseOf(parameters))

    def _measureKey(self) -> tuple:
        """What the speed and the memory depend on."""
        parameters = self._parameters
        return (parameters.base, parameters.method, parameters.device, parameters.minutes,
                self._isReplanned())  # fmt: skip

    def _showEstimate(self) -> None:
        lines = []
        isTraining = self.running and self._task.isTraining  # which knows its own time
        isAsked = self._parameters is not None and not isTraining and not self.occupation
        if isAsked and self._measureKey() in self._estimates:
            estimate = self._estimates[self._measureKey()]
            lines.append(estimate.text(self._steps(), self._place()))
        if self._isSlow and not self._place():
            lines.append(
                _("This computer has an NVIDIA GPU, but the installed PyTorch uses the CPU only: "
                  "training takes many times longer than it needs to.")
            )  # fmt: skip
        if text := self._lacksEvidence():
            lines.append(text)
        messages.show(self._ui.estimateLabel, "\n".join(lines))
        messages.show(self._ui.planLabel, self._plan())

    def _lacksEvidence(self) -> str:
        """Why the report of a run could not tell whether the new model is better, "" if it could;
        better to know before a long training."""
        parameters = self._parameters
        if parameters is None or not baseOf(parameters) or self._reason():
            return ""
        roles = [case.role for case in self._caseList.contents.cases]
        count = roles.count(cases.HOLDOUT)
        if not count and parameters.leaveOneOut:
            count = roles.count(cases.LABELED)
        if count >= FEWEST:
            return ""
        text = _("With fewer than {n} hold-out cases, the report cannot tell whether the new "
                 "model is better.")  # fmt: skip
        return text.format(n=FEWEST)

    def _place(self) -> str:
        """The other computer that would do the work, "" for this one."""
        return "" if self._parameters is None else computers.split(self._parameters.device)[1]

    def _plan(self) -> str:
        """How the training is planned, a decision a line, its name in bold; "" if it stays on the
        grid of its base."""
        if self._parameters is None or (baseOf(self._parameters) and not self._isReplanned()):
            return ""
        estimate = self._estimates.get(self._measureKey())
        if estimate is None or not estimate.plan:
            return _("Estimate shows how the training is planned for these cases.")
        decisions = [html.escape(line).partition(" ") for line in estimate.plan]
        plain, technical = (
            [f"<b>{n}</b> {rest}" for n, _space, rest in decisions if (n in _TECHNICAL) is isIt]
            for isIt in (False, True)
        )
        lines = [html.escape(_("The plan for these cases:")), *plain]
        if technical:
            lines += [html.escape(_("For engineers:")), *technical]
        return "<br>".join(lines)

    def _steps(self) -> int:
        """How many steps all trainings of a run take together; 0 where minutes set them."""
        parameters = self._parameters
        if parameters.minutes:
            return 0
        roles = [case.role for case in self._caseList.contents.cases]
        labeled, each = roles.count(cases.LABELED), 2 if parameters.compare else 1
        trainings = 1
        if cases.HOLDOUT in roles:
            trainings = each
        elif parameters.leaveOneOut and labeled > 1:
            trainings += each * labeled
        return parameters.iterations * trainings

    def _onHello(self, event: dict) -> None:
        self.choices.setMethods(event.get("methods") or [])


class ResumeSection:
    """Offers the runs to resume; calls `onResume` with the one that the user chose, and
    `onDiscarded` after one was deleted."""

    def __init__(
        self,
        ui,
        connections: Connections,
        onResume: Callable[[runFolder.ResumableRun], None],
        onDiscarded: Callable[[], None],
    ) -> None:
        self._ui = ui
        self._onResume = onResume
        self._onDiscarded = onDiscarded
        self._runs: list[runFolder.ResumableRun] = []
        connections.connect(ui.resumeButton, "clicked(bool)", self._onResumeClicked)
        connections.connect(ui.discardButton, "clicked(bool)", self._onDiscard)

    def refresh(self, isRunning: bool) -> None:
        """Look for runs again; offer none while one is under way."""
        self._runs = [] if isRunning else runFolder.unfinished()
        selector = self._ui.runSelector
        current = selector.itemData(selector.currentIndex)
        entries = [(_textOf(run), str(run.folder), str(run.folder)) for run in self._runs]
        known = [entry[1] for entry in entries]
        fill(selector, entries, current if current in known else next(iter(known), ""))
        for widget in (selector, self._ui.resumeButton, self._ui.discardButton):
            widget.setVisible(bool(entries))

    def _chosen(self) -> runFolder.ResumableRun | None:
        index = self._ui.runSelector.currentIndex
        return self._runs[index] if 0 <= index < len(self._runs) else None

    def _onResumeClicked(self, _checked: bool = False) -> None:
        run = self._chosen()
        if run is not None:
            self._onResume(run)

    def _onDiscard(self, _checked: bool = False) -> None:
        run = self._chosen()
        if run is None:
            return
        question = _("Delete the run {run} and its progress?").format(run=_textOf(run))
        if slicer.util.confirmOkCancelDisplay(question):
            if not runFolder.isTaken(run.folder):  # otherwise another Slicer has just resumed it
                elsewhere.forget(run.folder)
                runFolder.discard(run.folder)
                self._onDiscarded()  # what is said of the run, such as that it can be resumed
            self.refresh(False)


def _textOf(run: runFolder.ResumableRun) -> str:
    place = elsewhere.computerOf(run.folder)
    return _("{run} on {name}").format(run=run.text, name=place) if place else run.text
