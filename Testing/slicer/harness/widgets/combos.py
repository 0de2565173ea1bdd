"""ctkCheckableComboBox: a combo box whose entries have check marks."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtWidgets

from ..qtlayer.connections import declare_signals


class ctkCheckableComboBox(QtWidgets.QComboBox):
    checkedIndexesChanged = QtCore.Signal()

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.model().rowsInserted.connect(self._make_checkable)
        self.model().dataChanged.connect(self._on_data_changed)

    def _make_checkable(self, _parent: Any, first: int, last: int) -> None:
        for row in range(first, last + 1):
            item = self.model().item(row)
            item.setFlags(QtCore.Qt.ItemIsUserCheckable | QtCore.Qt.ItemIsEnabled)
            item.setData(QtCore.Qt.Unchecked, QtCore.Qt.CheckStateRole)

    def _on_data_changed(self, _first: Any, _last: Any, roles: Any = ()) -> None:
        if not roles or QtCore.Qt.CheckStateRole in roles:
            self.checkedIndexesChanged.emit()

    def checkedIndexes(self) -> list[Any]:
        model = self.model()
        every = [model.index(row, 0) for row in range(self.count)]
        return [index for index in every if self.checkState(index) == QtCore.Qt.Checked]

    def checkState(self, index: Any) -> Any:
        return QtCore.Qt.CheckState(self.model().data(index, QtCore.Qt.CheckStateRole) or 0)

    def setCheckState(self, index: Any, state: Any) -> None:
        self.model().setData(index, state, QtCore.Qt.CheckStateRole)


declare_signals(ctkCheckableComboBox, checkedIndexesChanged="checkedIndexesChanged()")
