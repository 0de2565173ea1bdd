"""The Improve section of the panel: the cases, and what is done with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from UGMCLSegmentationLib.panel.improve.cases.caseList import CaseListModel, Contents
from UGMCLSegmentationLib.panel.improve.cases.casesSection import CasesSection
from UGMCLSegmentationLib.panel.improve.cases.structuresSection import StructuresSection
from UGMCLSegmentationLib.panel.improve.finetuning.section import FinetuneSection
from UGMCLSegmentationLib.panel.improve.ranking import NextSection
from UGMCLSegmentationLib.panel.qtHelpers import Connections
from UGMCLSegmentationLib.parameters import Parameters

if TYPE_CHECKING:
    from UGMCLSegmentationLib.logic import UGMCLSegmentationLogic

_READ = ("base", "caseFiles", "targets")  # the parameters that the cases depend on


class ImproveSection:
    def __init__(
        self,
        ui,
        connections: Connections,
        logic: UGMCLSegmentationLogic,
        isReady: Callable[[str], bool],
        isEntered: Callable[[], bool],
        onModel: Callable[[str, bool], None],
        onResult: Callable[[object], None],
        onChanged: Callable[[], None],
    ) -> None:
        self._ui = ui
        self._parameters: Parameters | None = None
        self._applied: tuple | None = None
        self.book = CaseListModel(self._onCases)
        self.cases = CasesSection(ui, connections, self.book)
        self.structures = StructuresSection(ui, connections, self.book, self.cases)
        self.finetune = FinetuneSection(
            ui, connections, self.book, logic.trainer, isReady, isEntered, onModel
        )
        self.next = NextSection(
            ui, connections, logic, self.book, self.cases, isReady, onChanged, onResult
        )
        connections.connect(ui.improveSection, "contentsCollapsed(bool)", self._onCollapsed)

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self._applied = None
        self.cases.setParameters(parameters)
        self.structures.setParameters(parameters)
        self.finetune.setParameters(parameters)
        self.next.setParameters(parameters)
        self.update()

    def update(self) -> None:
        """Follow the parameter node."""
        parameters = self._parameters
        if parameters is None or self._ui.improveSection.collapsed:
            self.book.setParameters(None)  # nobody looks: nothing is read
            self._applied = None
            return
        settings = tuple(getattr(parameters, name) for name in _READ)
        if settings != self._applied:
            self._applied = settings
            self.book.setParameters(parameters)
        self.finetune.update()
        self.next.update()

    def refresh(self) -> None:
        """Look for models and runs again."""
        self.finetune.refresh()

    def close(self) -> None:
        """For the end of the panel."""
        self.finetune.close()

    def _onCollapsed(self, _isCollapsed: bool) -> None:
        self.update()

    def _onCases(self, contents: Contents) -> None:
        self.cases.show(contents)
        self.structures.show(contents)
        self.finetune.update()
        self.next.update()
