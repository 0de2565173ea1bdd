"""The table of a case's channels: a volume for each, found by study and name, and changed by the
user."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.qtHelpers import ROW, fill, setUpTable
from UGMCLSegmentationLib.scene import channels

_NAME, _VOLUME = range(2)
_WIDTHS = {_NAME: 96}


class ChannelTable:
    """Hidden if a case has one image. `onChosen` is called after a choice."""

    def __init__(self, table, onChosen) -> None:
        self._table = table
        self._onChosen = onChosen
        self._shown: tuple | None = None
        setUpTable(table, _WIDTHS)
        table.horizontalHeader().setVisible(False)
        table.setVisible(False)

    def show(self, volumeNode, names) -> None:
        """Show the channels of the case that `volumeNode` belongs to; None for no case."""
        isShown = volumeNode is not None and len(names) > 1
        self._table.setVisible(isShown)
        if not isShown:
            self._shown = None
            return
        found = channels.volumesOf(volumeNode, names)
        options = [(node.GetName(), node.GetID()) for node in channels.candidates()]
        current = [node.GetID() if node is not None else "" for node in found]
        shown = (volumeNode.GetID(), tuple(names), tuple(current), tuple(options))
        if shown != self._shown:
            self._shown = shown
            self._fill(volumeNode, names, current, options)

    def _fill(self, volumeNode, names, current, options) -> None:
        table = self._table
        table.setRowCount(0)
        table.setRowCount(len(names))
        table.setFixedHeight(ROW * min(6, len(names)) + 4)
        for row, (name, identifier) in enumerate(zip(names, current, strict=True)):
            item = qt.QTableWidgetItem(name)
            text = _("The channel {name} of the case.").format(name=name)
            if not identifier:
                text = _("There is no volume for {name}: choose one.").format(name=name)
                item.setForeground(qt.QBrush(qt.QColor(messages.ERROR_COLOR)))
            item.setToolTip(text)
            table.setItem(row, _NAME, item)
            selector = qt.QComboBox()
            selector.sizeAdjustPolicy = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
            entries = [(_("Choose…"), "", ""), *((text, key, "") for text, key in options)]
            fill(selector, entries, identifier)
            selector.toolTip = _("The volume of this channel, on the grid of the first one.")
            selector.connect(
                "currentIndexChanged(int)",
                lambda index, name=name, box=selector: self._chosen(
                    volumeNode, names, name, box, index
                ),
            )
            table.setCellWidget(row, _VOLUME, selector)

    def _chosen(self, volumeNode, names, name, selector, index) -> None:
        if index >= 0:
            chosen = channels.nodeOf(selector.itemData(index))
            channels.choose(volumeNode, names, name, chosen)
            self._onChosen()
