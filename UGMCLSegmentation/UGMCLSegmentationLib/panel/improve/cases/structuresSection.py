"""The Structures group: the structure that each segment of the labels stands for."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.improve.cases import cases, structures
from UGMCLSegmentationLib.panel.improve.cases.caseList import CaseListModel, Contents
from UGMCLSegmentationLib.panel.improve.cases.casesSection import CasesSection
from UGMCLSegmentationLib.panel.qtHelpers import Connections, fill, fitRows, setUpTable, silent
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.scene import results


class StructuresSection:
    def __init__(
        self, ui, connections: Connections, caseList: CaseListModel, casesSection: CasesSection
    ) -> None:
        self._ui = ui
        self._caseList = caseList
        self._casesSection = casesSection
        self._parameters: Parameters | None = None
        self._shown: tuple | None = None
        setUpTable(ui.structuresTable, {1: 190})
        connections.connect(ui.casesTable, "itemSelectionChanged()", self._fillSegments)
        connections.connect(ui.caseSegmentsSelector, "checkedIndexesChanged()", self._onSegments)

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        if parameters is None:
            self._shown = None
            self._ui.structuresTable.setRowCount(0)

    def show(self, contents: Contents) -> None:
        shown = (tuple(contents.structures), tuple(contents.classes))
        if shown != self._shown:
            self._shown = shown
            self._fill(contents)
        unused = [s.name for s in contents.structures if s.target == structures.UNUSED]
        text = _("Not used: {names}.").format(names=", ".join(unused)) if unused else ""
        messages.show(self._ui.structuresLabel, text)
        self._fillSegments()

    def _fill(self, contents: Contents) -> None:
        table = self._ui.structuresTable
        entries = [(info.name, str(info.value), "") for info in contents.classes]
        entries += [
            (_("A new structure"), structures.NEW, _("The model learns it in addition.")),
            (_("Not annotated"), structures.UNKNOWN, _("The model learns nothing from it.")),
            (_("Not used"), structures.UNUSED, _("It counts as background.")),
        ]
        table.setRowCount(0)
        table.setRowCount(len(contents.structures))
        fitRows(table, len(contents.structures))
        for row, structure in enumerate(contents.structures):
            item = qt.QTableWidgetItem(_swatch(structure.color), structure.name)
            count = _("In {n} labels.").format(n=structure.count)
            item.setToolTip(f"{structure.name}. {count}")
            table.setItem(row, 0, item)
            selector = qt.QComboBox()
            fill(selector, entries, structure.target)
            selector.toolTip = _("The structure that segments of this name stand for.")
            selector.connect(
                "currentIndexChanged(int)",
                lambda index, key=structure.key, box=selector: self._onTarget(key, box, index),
            )
            table.setCellWidget(row, 1, selector)

    def _onTarget(self, key: str, selector, index: int) -> None:
        if index < 0:
            return
        targets = structures.fromText(self._parameters.targets)
        targets[key] = selector.itemData(index)
        self._parameters.targets = structures.toText(targets)
        self._caseList.refresh()

    def _case(self) -> cases.Case | None:
        """The one selected case that has segments to choose from."""
        chosen = self._casesSection.selected
        hasSegments = len(chosen) == 1 and chosen[0].segmentationNode is not None
        return chosen[0] if hasSegments and chosen[0].needsLabel else None

    def _fillSegments(self) -> None:
        selector, case = self._ui.caseSegmentsSelector, self._case()
        segments = results.segmentsOf(case.segmentationNode) if case is not None else []
        with silent(selector):
            selector.clear()
            for row, (identifier, segment) in enumerate(segments):
                selector.addItem(segment.GetName(), identifier)
                isUsed = identifier not in case.excluded
                state = qt.Qt.Checked if isUsed else qt.Qt.Unchecked
                selector.setCheckState(selector.model().index(row, 0), state)
        for widget in (selector, self._ui.caseSegmentsLabel):
            widget.setVisible(case is not None and selector.count > 1)

    def _onSegments(self) -> None:
        case = self._case()
        if case is None:
            return
        selector = self._ui.caseSegmentsSelector
        used = {selector.itemData(index.row()) for index in selector.checkedIndexes()}
        every = {selector.itemData(row) for row in range(selector.count)}
        cases.setExcluded(case.volumeNode, every - used)


def _swatch(color: tuple[float, float, float]):
    picture = qt.QPixmap(12, 12)
    picture.fill(qt.QColor.fromRgbF(*color))
    return qt.QIcon(picture)
