"""Which case next: rank the unlabeled ones, correct one, accept it as labeled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from slicer.i18n import tr as _

from UGMCLSegmentationLib import caseFiles, cases, display, inputs, outputs, results, views
from UGMCLSegmentationLib.caseBook import CaseBook
from UGMCLSegmentationLib.casesSection import CasesSection
from UGMCLSegmentationLib.connections import Connections
from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.logic import UGMCLSegmentationLogic
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.rankWork import RankWork
from UGMCLSegmentationLib.run import Listener, Outcome
from UGMCLSegmentationLib.segmentWork import SegmentWork, settingsOf
from UGMCLSegmentationLib.taskView import TaskView

_PASSES = 4  # at least: without any, nothing is known of the uncertainty


class NextSection:
    """`onResult` is called with the segmentation that is to be corrected."""

    def __init__(
        self,
        ui,
        connections: Connections,
        logic: UGMCLSegmentationLogic,
        book: CaseBook,
        casesSection: CasesSection,
        isReady: Callable[[str], bool],
        onChanged: Callable[[], None],
        onResult: Callable[[object], None],
    ) -> None:
        self._ui = ui
        self._logic = logic
        self._book = book
        self._casesSection = casesSection
        self._onResult = onResult
        self._parameters: Parameters | None = None
        widgets = (ui.nextProgressBar, ui.cancelNextButton, ui.nextLabel)
        self._view = TaskView(
            connections, logic, widgets, isReady, onChanged, ui.improveLogText.appendPlainText
        )
        for widget, slot in (
            (ui.rankButton, self._onRank),
            (ui.openNextButton, self._onOpen),
            (ui.acceptButton, self._onAccept),
        ):
            connections.connect(widget, "clicked(bool)", slot)
        connections.connect(ui.casesTable, "itemSelectionChanged()", self.update)

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self.update()

    def update(self) -> None:
        """Follow the parameter node and the cases."""
        hasCases = bool(self._unlabelled())
        isFree = self._parameters is not None and not self._logic.running
        for button, toolTip in (
            (self._ui.rankButton, _("Look at every unlabeled volume with the model selected in "
             "Segment, and sort them: the most uncertain first.")),
            (self._ui.openNextButton, _("Segment the selected or the most uncertain unlabeled "
             "volume, and open the result in the Segment Editor.")),
        ):  # fmt: skip
            button.enabled = hasCases and isFree
            button.toolTip = toolTip if hasCases else _("There is no unlabeled case.")
        pair = self._toAccept()
        self._ui.acceptButton.enabled = pair is not None
        text = _("{name} is right now: learn from it as Labeled.")
        self._ui.acceptButton.toolTip = (
            text.format(name=pair[1].GetName()) if pair else _("Correct a case first.")
        )

    def _onRank(self, _checked: bool = False) -> None:
        def begin(listener: Listener) -> None:
            self._book.update()
            settings = settingsOf(self._parameters)
            settings = replace(settings, passes=max(_PASSES, settings.passes))
            self._logic.start(RankWork(self._unlabelled(), settings, self._setRank), listener)

        self._view.start(begin, self._ranked, self._parameters.model)

    def _setRank(self, case: cases.Case, rank: cases.Rank) -> None:
        if case.volumeNode is not None:
            if outputs.isInScene(case.volumeNode):
                cases.setRank(case.volumeNode, rank)
        elif self._parameters is not None:
            files = caseFiles.fromText(self._parameters.caseFiles)
            files = [replace(f, rank=rank) if f.image == case.image else f for f in files]
            self._parameters.caseFiles = caseFiles.toText(files)

    def _ranked(self, outcome: Outcome) -> None:
        self._book.update()
        if outcome.result:
            text = _("The most uncertain case is {name}.")
            self._view.tell(text.format(name=outcome.result[0]))

    def _onOpen(self, _checked: bool = False) -> None:
        def begin(listener: Listener) -> None:
            self._book.update()
            case = self._chosen()
            inputs.check(case.volumeNode)
            part = inputs.box(case.volumeNode, None)
            settings = settingsOf(self._parameters)
            self._logic.start(SegmentWork(case.volumeNode, part, settings), listener)

        self._view.start(begin, self._opened, self._parameters.model)

    def _opened(self, outcome: Outcome) -> None:
        node = outcome.result
        if not outputs.isInScene(node):
            return
        volumeNode = results.sourceOf(node)
        self._book.update()
        if any(case.volumeNode is volumeNode for case in self._unlabelled()):
            # said, not found out: a correction alone does not label it, Accept does
            cases.setRole(volumeNode, cases.UNLABELLED)
        self._onResult(node)
        display.clear()  # they would hide what is to be corrected
        views.openSegmentEditor(node, volumeNode)
        text = _("Correct {name} in the Segment Editor, come back and click Accept.")
        self._view.tell(text.format(name=volumeNode.GetName()))

    def _onAccept(self, _checked: bool = False) -> None:
        pair = self._toAccept()
        if pair is not None:
            cases.accept(*pair)
            self._view.tell(_("{name} is Labeled now.").format(name=pair[0].GetName()))
            self._book.update()
            self.update()

    def _toAccept(self) -> tuple | None:
        """The volume and the result that would be accepted: those that are shown."""
        node = self._parameters.segmentation if self._parameters is not None else None
        volumeNode = results.sourceOf(node)
        if volumeNode is None:
            return None
        for case in self._book.contents.cases:
            if case.volumeNode is volumeNode and case.role == cases.UNLABELLED:
                return volumeNode, node
        return None

    def _unlabelled(self) -> list[cases.Case]:
        contents = self._book.contents
        return [c for c in contents.cases if c.role == cases.UNLABELLED and not c.problem]

    def _chosen(self) -> cases.Case:
        """The selected unlabeled case, else the most uncertain, else the first."""
        inScene = [case for case in self._unlabelled() if case.volumeNode is not None]
        if not inScene:
            raise PanelError(_("Load an unlabeled volume: files beside the scene are not shown."))
        keys = [case.key for case in self._casesSection.selected]
        selected = [case for case in inScene if case.key in keys]
        ranked = [case for case in inScene if case.rank is not None]
        ranked.sort(key=lambda case: -case.rank.uncertainty)
        return (selected or ranked or inScene)[0]
