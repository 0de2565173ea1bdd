"""The Improve section of the panel: cases, ranking and fine-tuning."""

from __future__ import annotations

from UGMCLSegmentationLib.panel.improve.cases.caseList import CaseListModel, Contents
from UGMCLSegmentationLib.panel.improve.cases.casesSection import CasesSection
from UGMCLSegmentationLib.panel.improve.cases.structuresSection import StructuresSection
from UGMCLSegmentationLib.panel.improve.finetuning.section import FinetuneSection
from UGMCLSegmentationLib.panel.improve.keepLearning.section import KeepLearningSection
from UGMCLSegmentationLib.panel.improve.ranking import RankingSection
from UGMCLSegmentationLib.panel.shell import Shell
from UGMCLSegmentationLib.parameters import Parameters

_READ = ("base", "channels", "caseFiles", "targets")  # the parameters that the cases depend on


class ImproveSection:
    def __init__(self, shell: Shell) -> None:
        self._ui = ui = shell.ui
        self._parameters: Parameters | None = None
        self._applied: tuple | None = None
        self.caseList = CaseListModel(self._onCases)
        self.cases = CasesSection(ui, shell.connections, self.caseList)
        self.structures = StructuresSection(ui, shell.connections, self.caseList, self.cases)
        self.finetune = FinetuneSection(shell, self.caseList)
        self.keepLearning = KeepLearningSection(shell, self.caseList, self.finetune)
        self.ranking = RankingSection(shell, self.caseList, self.cases, self.keepLearning)
        shell.connections.connect(
            ui.improveSection, "contentsCollapsed(bool)", lambda _isCollapsed: self.update()
        )

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self._applied = None
        self.cases.setParameters(parameters)
        self.structures.setParameters(parameters)
        self.finetune.setParameters(parameters)
        self.keepLearning.setParameters(parameters)
        self.ranking.setParameters(parameters)
        self.update()

    def update(self) -> None:
        parameters = self._parameters
        if parameters is None or self._ui.improveSection.collapsed:
            self.caseList.setParameters(None)  # a closed section reads nothing
            self._applied = None
            return
        settings = tuple(getattr(parameters, name) for name in _READ)
        if settings != self._applied:
            self._applied = settings
            self.caseList.setParameters(parameters)
        self.finetune.update()
        self.keepLearning.update()
        self.ranking.update()

    def refresh(self) -> None:
        """Look for models and runs again."""
        self.finetune.refresh()

    def close(self) -> None:
        """For the end of the panel."""
        self.finetune.close()
        self.keepLearning.close()

    def _onCases(self, contents: Contents) -> None:
        self.cases.show(contents)
        self.structures.show(contents)
        self.finetune.update()
        self.keepLearning.update()
        self.ranking.update()
