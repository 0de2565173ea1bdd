"""The table of the cases in the Improve section of the panel."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.channelTable import ChannelTable
from UGMCLSegmentationLib.panel.improve.cases import caseChecks, caseFiles, cases
from UGMCLSegmentationLib.panel.improve.cases.caseList import CaseListModel, Contents
from UGMCLSegmentationLib.panel.qtHelpers import Connections, askForFolder, fill, setUpTable
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.scene import results, subjectHierarchy, volumes

_NAME, _ROLE, _LABEL, _RANK, _SIZE = range(5)
_WIDTHS = {_ROLE: 96, _RANK: 104, _SIZE: 84}  # the names share the rest
_WHOLE = 0  # of the subject hierarchy
_EMPTY = "empty"  # instead of a segmentation's ID


class CasesSection:
    """Shows the cases of `caseList` and writes what the user chooses to the scene."""

    def __init__(self, ui, connections: Connections, caseList: CaseListModel) -> None:
        self._ui = ui
        self._caseList = caseList
        self._parameters: Parameters | None = None
        self._rows: list[cases.Case] = []
        self._shown: list[tuple] | None = None
        self._leftOut: list[str] = []  # of the folder that was added last
        table = ui.casesTable
        setUpTable(table, _WIDTHS)
        self._channels = ChannelTable(ui.caseChannelsTable, caseList.refresh)
        connections.connect(table, "itemSelectionChanged()", self._showChannels)
        table.horizontalHeader().setHighlightSections(False)  # bold titles would be cut off
        for widget, signal, slot in (
            (ui.caseFilterEdit, "textChanged(QString)", self._onFilter),
            (ui.caseFolderSelector, "currentIndexChanged(int)", self._onFilter),
            (ui.addFilesButton, "clicked(bool)", self.onAddFiles),
            (ui.removeFilesButton, "clicked(bool)", self.onRemoveFiles),
        ):
            connections.connect(widget, signal, slot)

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        if parameters is None:
            self._shown = None
            self._rows = []
            self._ui.casesTable.setRowCount(0)

    @property
    def selected(self) -> list[cases.Case]:
        """The cases of the selected rows that are shown."""
        table = self._ui.casesTable
        rows = {index.row() for index in table.selectionModel().selectedRows()}
        return [
            case for n, case in enumerate(self._rows) if n in rows and not table.isRowHidden(n)
        ]

    @property
    def _visible(self) -> list[cases.Case]:
        """The cases that the filters leave."""
        table = self._ui.casesTable
        return [case for n, case in enumerate(self._rows) if not table.isRowHidden(n)]

    def show(self, contents: Contents) -> None:
        """Fill the table, unless it shows these cases already."""
        self._fillFolders()
        chosen = {case.key for case in self.selected}  # before the rows change
        self._rows = sorted(contents.cases, key=_rankOrder)
        options = [(n.GetName(), n.GetID()) for n in _segmentations()]
        shown = [(*_signature(case), tuple(options)) for case in self._rows]
        if shown != self._shown:
            self._shown = shown
            self._fill(options, chosen)
        self._onFilter()
        self._showChannels()
        used = [case for case in contents.cases if case.role != cases.IGNORE]
        lines = [caseChecks.summary(used)]
        if not contents.cases:
            lines = [_("The scene has no volumes yet: load some, or add files.")]
        lines += [case.problem for case in used if case.problem]
        lines += self._leftOut
        lines += [notice for case in used for notice in case.notices]
        self._ui.casesLabel.text = "\n".join(lines[:5])
        hasFiles = any(case.image for case in contents.cases)
        self._ui.removeFilesButton.setVisible(hasFiles)

    def onAddFiles(self, _checked: bool = False) -> None:
        if folder := askForFolder(_("Folder of images for the training")):
            self.addFolder(folder)

    def addFolder(self, folder: str) -> None:
        try:
            found = caseFiles.find(Path(folder), self._caseList.contents.channels)
            added, self._leftOut = found
        except PanelError as error:
            self._ui.casesLabel.text = str(error)
            return
        known = caseFiles.fromText(self._parameters.caseFiles)
        self._parameters.caseFiles = caseFiles.toText(caseFiles.merged(known, added))
        self._caseList.refresh()

    def onRemoveFiles(self, _checked: bool = False) -> None:
        """Remove the files of the selected rows, or all that are shown if no row is selected."""
        chosen = {case.image for case in self.selected or self._visible}
        files = caseFiles.fromText(self._parameters.caseFiles)
        kept = [file for file in files if file.image not in chosen]
        self._parameters.caseFiles = caseFiles.toText(kept)
        self._caseList.refresh()

    def setRole(self, case: cases.Case, role: str) -> None:
        if case.volumeNode is not None:
            cases.setRole(case.volumeNode, role)
            return
        text = caseFiles.changed(self._parameters.caseFiles, case, role=role)
        self._parameters.caseFiles = text
        self._caseList.refresh()

    def _fill(self, options: list[tuple[str, str]], chosen: set[str]) -> None:
        table = self._ui.casesTable
        table.setRowCount(0)
        table.setRowCount(len(self._rows))
        isRanked = any(case.rank is not None and case.role == cases.UNLABELED
                       for case in self._rows)  # fmt: skip
        table.setColumnHidden(_RANK, not isRanked)  # in a narrow panel there is room for one
        table.setColumnHidden(_SIZE, isRanked)
        for row, case in enumerate(self._rows):
            item = qt.QTableWidgetItem(case.name)
            own = _imagesOf(case, self._caseList.contents.channels)
            size = _sizeOf(case)[1]
            lines = (case.image or case.name, size, *own, case.problem, *case.notices)
            item.setToolTip("\n".join(line for line in lines if line))
            if case.problem:
                item.setForeground(qt.QBrush(qt.QColor(messages.ERROR_COLOR)))
            table.setItem(row, _NAME, item)
            table.setCellWidget(row, _ROLE, self._roleSelector(case))
            self._fillLabel(row, case, options)
            table.setItem(row, _RANK, _rankItem(case))
            table.setItem(row, _SIZE, _sizeItem(case))
            if case.key in chosen:
                table.selectionModel().select(
                    table.model().index(row, 0),
                    qt.QItemSelectionModel.Select | qt.QItemSelectionModel.Rows,
                )

    def _showChannels(self) -> None:
        """The volumes of the selected case, or of the first that lacks one."""
        names = self._caseList.contents.channels
        chosen = [case for case in self.selected if case.volumeNode is not None]
        chosen += [case for case in self._visible if None in case.channelNodes]
        self._channels.show(chosen[0].volumeNode if chosen else None, names)

    def _roleSelector(self, case: cases.Case):
        selector = qt.QComboBox()
        entries = [(cases.roleText(role), role, "") for role in cases.ROLES]
        fill(selector, entries, case.role)
        selector.toolTip = _(
            "Labeled: the model learns from the volume and its segmentation. Unlabeled: the model "
            "learns from the volume alone. Hold-out: the volume only measures the model. Ignore: "
            "the volume is not used. A choice applies to all selected rows."
        )
        selector.connect(
            "currentIndexChanged(int)", lambda index, case=case: self._onRole(case, index)
        )
        return selector

    def _fillLabel(self, row: int, case: cases.Case, options: list[tuple[str, str]]) -> None:
        if case.volumeNode is None or not case.needsLabel:
            text = Path(case.label).name if case.label else ""
            item = qt.QTableWidgetItem(text)
            item.setToolTip(case.label)
            self._ui.casesTable.setItem(row, _LABEL, item)
            return
        selector = qt.QComboBox()
        selector.sizeAdjustPolicy = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
        current = case.segmentationNode.GetID() if case.segmentationNode is not None else ""
        entries = [(_("Choose…"), "", ""), *((name, key, "") for name, key in options)]
        entries.append((_("Nothing is there"), _EMPTY, ""))
        fill(selector, entries, _EMPTY if case.isEmpty else current)
        about = _(
            "The segmentation that labels this volume. Choose “Nothing is there” for a volume "
            "without any of the structures, such as a scan without a lesion: it is an example too."
        )
        selector.toolTip = f"{selector.currentText}\n\n{about}"  # the column cuts long names off
        selector.connect(
            "currentIndexChanged(int)",
            lambda index, node=case.volumeNode, box=selector: self._onLabel(node, box, index),
        )
        self._ui.casesTable.setCellWidget(row, _LABEL, selector)

    def _onRole(self, case: cases.Case, index: int) -> None:
        if index < 0:
            return
        chosen = self.selected
        for other in chosen if case.key in [c.key for c in chosen] else [case]:
            self.setRole(other, cases.ROLES[index])

    def _onLabel(self, volumeNode, selector, index: int) -> None:
        if index >= 0:
            chosen = selector.itemData(index) or ""
            node = None if chosen == _EMPTY else slicer.mrmlScene.GetNodeByID(chosen)
            cases.setLabel(volumeNode, node, isEmpty=chosen == _EMPTY)

    def _onFilter(self, *_args) -> None:
        """Hide the cases that the filters leave out. They keep their roles."""
        words = self._ui.caseFilterEdit.text.casefold().split()
        folder = self._ui.caseFolderSelector.itemData(self._ui.caseFolderSelector.currentIndex)
        for row, case in enumerate(self._rows):
            isShown = all(word in case.name.casefold() for word in words)
            if isShown and folder:
                isShown = case.volumeNode is not None and _isBeneath(case.volumeNode, folder)
            self._ui.casesTable.setRowHidden(row, not isShown)

    def _fillFolders(self) -> None:
        """Offer the folders, patients and studies of the scene; hide the selector without any."""
        selector = self._ui.caseFolderSelector
        entries = [(_("Whole scene"), _WHOLE, ""), *((n, i, "") for n, i in _folders())]
        known = [(selector.itemText(n), selector.itemData(n), "") for n in range(selector.count)]
        if entries != known:
            fill(selector, entries, selector.itemData(selector.currentIndex) or _WHOLE)
        selector.setVisible(len(entries) > 1)


def _segmentations() -> list:
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in nodes if not node.GetAttribute(results.OVERLAY)]


def _imagesOf(case: cases.Case, names) -> list[str]:
    """A line for each channel of a case of several images."""
    nodes = [node.GetName() if node is not None else "-" for node in case.channelNodes]
    files = [Path(file).name for file in case.images] if case.further else []
    return [f"{name}: {image}" for name, image in zip(names, nodes or files, strict=False)]


def _signature(case: cases.Case) -> tuple:
    """Everything that a row shows."""
    label = case.segmentationNode.GetID() if case.segmentationNode is not None else case.label
    images = tuple(node and node.GetID() for node in case.channelNodes)
    row = (case.key, case.name, case.role, label, case.rank, case.problem, case.notices)
    return (*row, case.isEmpty, images, case.further, _sizeOf(case))


def _rankOrder(case: cases.Case) -> tuple:
    """Ranked unlabeled cases come first, that with the lowest predicted Dice on top."""
    isRanked = case.rank is not None and case.role == cases.UNLABELED
    return (0, *case.rank.order) if isRanked else (1, 0.0, 0.0)


def _rankItem(case: cases.Case):
    rank = case.rank if case.role == cases.UNLABELED else None
    dice = rank.predictedDice if rank is not None else None
    item = qt.QTableWidgetItem(f"{dice:.2f}" if dice is not None else "")
    if rank is not None:
        text = _("Uncertainty of {model} near the surface: {value:.3f} (0 to 1).")
        text = text.format(model=rank.model, value=rank.uncertainty)
        if dice is not None:
            text = _("{model} expects a Dice of {dice:.3f}.").format(
                model=rank.model, dice=dice) + " " + text  # fmt: skip
        item.setToolTip(text)
    return item


def _sizeOf(case: cases.Case) -> tuple[str, str]:
    """The size of the image, short and in full, to tell cases apart."""
    if case.volumeNode is None:
        try:
            megabytes = Path(case.image).stat().st_size / 1e6
        except OSError:
            return "", ""
        return _("{n:.1f} MB").format(n=megabytes), _("Size of the file.")
    count = volumes.dimensions(case.volumeNode)
    spacing = case.volumeNode.GetSpacing()
    text = _("{n} voxels of {mm} mm: {extent} mm.")
    text = text.format(
        n="x".join(map(str, count)),
        mm="x".join(f"{s:.3g}" for s in spacing),
        extent="x".join(f"{c * s:.0f}" for c, s in zip(count, spacing, strict=True)),
    )
    return "x".join(map(str, count)), text


def _sizeItem(case: cases.Case):
    text, toolTip = _sizeOf(case)
    item = qt.QTableWidgetItem(text)
    item.setToolTip(toolTip)
    return item


def _folders() -> list[tuple[str, int]]:
    """Subject hierarchy items that have volumes beneath them."""
    hierarchy = subjectHierarchy.tree()
    found: dict[int, str] = {}
    for node in volumes.images():
        item = hierarchy.GetItemByDataNode(node)
        while item not in (hierarchy.GetInvalidItemID(), hierarchy.GetSceneItemID()):
            if hierarchy.GetItemDataNode(item) is None:
                found[item] = hierarchy.GetItemName(item)
            item = hierarchy.GetItemParent(item)
    return [(name, item) for item, name in sorted(found.items())]


def _isBeneath(volumeNode, folder: int) -> bool:
    item = subjectHierarchy.tree().GetItemByDataNode(volumeNode)
    return item in subjectHierarchy.beneath(folder)
