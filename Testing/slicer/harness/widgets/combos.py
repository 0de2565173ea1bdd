"""Combo boxes."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from ..qtlayer.connections import declare_signals
from ..qtlayer.properties import Property, stored
from .nodecombo import qMRMLNodeComboBox


class ctkComboBox(QtWidgets.QComboBox):
    NeverScroll, AlwaysScroll, ScrollWithFocus, ScrollWithNoVScrollBar = 0, 1, 2, 3

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._default = ""

    def _set_default(self, text: str) -> None:
        self._default = text
        self.setPlaceholderText(text)

    def setCurrentUserDataAsString(self, data: str) -> None:
        self.setCurrentIndex(self.findData(data))

    def _user_data(self) -> str:
        data = self.itemData(self.currentIndex)
        return "" if data is None else str(data)

    defaultText = Property(
        str, lambda self: self._default, lambda self, value: self._set_default(value)
    )
    currentUserDataAsString = Property(
        str, lambda self: self._user_data(),
        lambda self, value: self.setCurrentUserDataAsString(value),
    )
    forceDefault = stored(bool, False, "forceDefault")
    elideMode = stored(int, 3, "elideMode")
    scrollWheelEffect = stored(int, 1, "scrollWheelEffect")
    defaultIcon = stored(QtGui.QIcon, QtGui.QIcon(), "defaultIcon")


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

    def checkableModel(self) -> Any:
        return self.model()

    def checkedIndexes(self) -> list[Any]:
        model = self.model()
        every = [model.index(row, 0) for row in range(self.count)]
        return [index for index in every if self.checkState(index) == QtCore.Qt.Checked]

    def allChecked(self) -> bool:
        return len(self.checkedIndexes()) == self.count

    def noneChecked(self) -> bool:
        return not self.checkedIndexes()

    def checkState(self, index: Any) -> Any:
        return QtCore.Qt.CheckState(self.model().data(index, QtCore.Qt.CheckStateRole) or 0)

    def setCheckState(self, index: Any, state: Any) -> None:
        self.model().setData(index, state, QtCore.Qt.CheckStateRole)


class qMRMLColorTableComboBox(qMRMLNodeComboBox):
    """The color nodes of the scene, hidden ones included since color nodes are hidden."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.nodeTypes = ["vtkMRMLColorNode"]
        self.showHidden = True
        self.addEnabled = False
        self.removeEnabled = False


declare_signals(ctkCheckableComboBox, checkedIndexesChanged="checkedIndexesChanged()")
