"""The next case: rank the unlabeled ones, correct one, accept it as labeled."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel.display import appearance
from UGMCLSegmentationLib.panel.improve.cases import caseFiles, cases
from UGMCLSegmentationLib.panel.improve.cases.caseList import CaseListModel
from UGMCLSegmentationLib.panel.improve.cases.cases import Case, Rank
from UGMCLSegmentationLib.panel.improve.cases.casesSection import CasesSection
from UGMCLSegmentationLib.panel.improve.keepLearning.section import KeepLearningSection
from UGMCLSegmentationLib.panel.qtHelpers import enable
from UGMCLSegmentationLib.panel.segment.segmentation import SegmentTask, Settings, settingsOf
from UGMCLSegmentationLib.panel.shell import Shell
from UGMCLSegmentationLib.panel.taskView import TaskView
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.scene import channels, resultNodes, results, volumes
from UGMCLSegmentationLib.worker.run import Task, TaskListener, TaskResult, WorkerTask
from UGMCLSegmentationLib.worker.worker import Event

_PASSES = 4  # at least: without any, there is no uncertainty


class RankingSection:
    def __init__(
        self,
        shell: Shell,
        caseList: CaseListModel,
        casesSection: CasesSection,
        keepLearning: KeepLearningSection,
    ) -> None:
        self._ui = ui = shell.ui
        self._logic = shell.logic
        self._caseList = caseList
        self._casesSection = casesSection
        self._keepLearning = keepLearning
        self._showResult, self._onAccepted = shell.showResult, shell.onAccepted
        self._parameters: Parameters | None = None
        log = ui.improveLogText.appendPlainText
        self._view = TaskView(shell, ui.nextProgressBar, ui.cancelNextButton, ui.nextLabel, log)
        for widget, slot in (
            (ui.rankButton, self._onRank),
            (ui.openNextButton, self._onOpen),
            (ui.acceptButton, self._onAccept),
        ):
            shell.connections.connect(widget, "clicked(bool)", slot)
        shell.connections.connect(ui.casesTable, "itemSelectionChanged()", self.update)

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self.update()

    def update(self) -> None:
        reason = self._logic.occupation
        if self._parameters is None or not self._unlabeled():
            reason = _("There is no unlabeled case: set the role of a volume to Unlabeled.")
        text = _(
            "Look at every unlabeled volume with the model selected in Segment, and sort them: "
            "that with the lowest predicted Dice first."
        )
        enable(self._ui.rankButton, text, unless=reason)
        text = _(
            "Segment the selected unlabeled volume, or that with the lowest predicted Dice, and "
            "open the result in the Segment Editor."
        )
        enable(self._ui.openNextButton, text, unless=reason)
        pair = self._toAccept()
        text = _("{name} is correct now: use it as Labeled.")
        text = text.format(name=pair[1].GetName() if pair else "")
        enable(self._ui.acceptButton, text, unless="" if pair else _("Correct a case first."))

    def _onRank(self, _checked: bool = False) -> None:
        def begin(listener: TaskListener) -> WorkerTask:
            self._caseList.update()
            settings = self._settings()
            settings = replace(settings, passes=max(_PASSES, settings.passes))
            task = RankTask(self._unlabeled(), settings, self._setRank)
            return self._logic.start(task, listener)

        self._view.start(
            begin, self._ranked, self._parameters.model, self._parameters.device
        )

    def _setRank(self, case: cases.Case, rank: cases.Rank) -> None:
        if case.volumeNode is not None:
            if resultNodes.isInScene(case.volumeNode):
                cases.setRank(case.volumeNode, rank)
        elif self._parameters is not None:
            text = caseFiles.changed(self._parameters.caseFiles, case, rank=rank)
            self._parameters.caseFiles = text

    def _ranked(self, result: TaskResult) -> None:
        self._caseList.update()
        if result.value:
            text = _("{name} has the lowest predicted Dice.")
            self._view.show(text.format(name=result.value[0]))

    def _onOpen(self, _checked: bool = False) -> None:
        def begin(listener: TaskListener) -> WorkerTask:
            self._caseList.update()
            case = self._chosen()
            volumes.check(case.volumeNode)
            part = volumes.box(case.volumeNode, None)
            task = SegmentTask(case.volumeNode, part, self._settings())
            return self._logic.start(task, listener)

        self._view.start(
            begin, self._opened, self._parameters.model, self._parameters.device
        )

    def _opened(self, result: TaskResult) -> None:
        node = result.value
        if not resultNodes.isInScene(node):
            return
        volumeNode = results.sourceOf(node)
        self._caseList.update()
        if any(case.volumeNode is volumeNode for case in self._unlabeled()):
            # only Accept makes it Labeled, not a correction
            cases.setRole(volumeNode, cases.UNLABELED)
        self._showResult(node)
        appearance.clear()  # overlays would hide the segmentation
        openSegmentEditor(node, volumeNode)
        text = _("Correct {name} in the Segment Editor, come back and click Accept.")
        self._view.show(text.format(name=volumeNode.GetName()))

    def _onAccept(self, _checked: bool = False) -> None:
        pair = self._toAccept()
        if pair is not None:
            cases.accept(*pair)
            self._onAccepted()
            self._view.show(_("{name} is Labeled now.").format(name=pair[0].GetName()))
            self._caseList.update()
            self._keepLearning.add(pair[0])
            self.update()

    def _settings(self) -> Settings:
        """Those of Segment, with the model that has learned from the accepted cases if there is
        one. Raises PanelError."""
        settings = settingsOf(self._parameters)
        return replace(settings, model=self._keepLearning.model or settings.model)

    def _toAccept(self) -> tuple | None:
        """The volume and the result that Accept takes: those that are shown."""
        node = self._parameters.segmentation if self._parameters is not None else None
        volumeNode = results.sourceOf(node)
        if volumeNode is None:
            return None
        for case in self._caseList.contents.cases:
            if case.volumeNode is volumeNode and case.role == cases.UNLABELED:
                return volumeNode, node
        return None

    def _unlabeled(self) -> list[cases.Case]:
        contents = self._caseList.contents
        return [c for c in contents.cases if c.role == cases.UNLABELED and not c.problem]

    def _chosen(self) -> cases.Case:
        """The selected unlabeled case, otherwise the first by rank, otherwise the first."""
        inScene = [case for case in self._unlabeled() if case.volumeNode is not None]
        if not inScene:
            raise PanelError(_("Load an unlabeled volume: files beside the scene are not shown."))
        keys = [case.key for case in self._casesSection.selected]
        selected = [case for case in inScene if case.key in keys]
        ranked = [case for case in inScene if case.rank is not None]
        ranked.sort(key=lambda case: case.rank.order)
        return (selected or ranked or inScene)[0]


def openSegmentEditor(segmentationNode, volumeNode) -> None:
    """Open the segmentation over its volume in Slicer's Segment Editor."""
    slicer.util.selectModule("SegmentEditor")
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    editor.setSegmentationNode(segmentationNode)
    editor.setSourceVolumeNode(volumeNode)


class RankTask(Task):
    """Calls `onRank` for each case as soon as its rank is known."""

    def __init__(
        self, cases: Sequence[Case], settings: Settings, onRank: Callable[[Case, Rank], None]
    ) -> None:
        self._cases = list(cases)
        self._settings = settings
        self._onRank = onRank
        self._byImage: dict[tuple[str, ...], Case] = {}

    def occupation(self) -> str:
        return _("A ranking is running.")

    def write(self, folder: Path) -> Iterator[None]:
        for number, case in enumerate(self._cases):
            paths = case.images
            if case.volumeNode is not None:
                names = self._settings.channels  # the list may belong to another model
                several = len(names) > 1
                nodes = channels.check(case.volumeNode, names) if several else [case.volumeNode]
                paths = channels.paths(folder / f"{number:03d}.nrrd", len(nodes))
                for node, path in zip(nodes, paths, strict=True):
                    yield from volumes.write(node, volumes.fullBox(node), Path(path))
            self._byImage[paths] = case

    def request(self, folder: Path) -> dict[str, Any]:
        return {
            "command": "rank",
            "images": [list(p) if len(p) > 1 else p[0] for p in self._byImage],
            "model": self._settings.model,
            "device": self._settings.device,
            "passes": self._settings.passes,
        }

    def names(self, folder: Path) -> dict[str, str]:
        mine = (pair for pair in self._byImage.items() if pair[1].volumeNode)
        return {path: case.name for paths, case in mine for path in paths}

    def onEvent(self, event: Event) -> None:
        if event["event"] == "ranked":
            self._report(event)

    def read(self, event: Event, folder: Path) -> Generator[None, None, list[str]]:
        """The names of the cases, that with the lowest predicted Dice first."""
        for row in event["cases"]:
            self._report(row)
            yield
        return [self._caseOf(row).name for row in event["cases"]]

    def _caseOf(self, row: dict[str, Any]) -> Case:
        image = row["image"]
        return self._byImage[tuple(image) if isinstance(image, list) else (image,)]

    def _report(self, row: dict[str, Any]) -> None:
        uncertainty, dice = row["uncertainty"], row.get("predicted_dice")
        rank = Rank(
            1.0 if uncertainty is None else float(uncertainty),  # no surface: first
            None if dice is None else float(dice),
            self._settings.model,
        )
        self._onRank(self._caseOf(row), rank)
