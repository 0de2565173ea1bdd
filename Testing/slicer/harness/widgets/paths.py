"""ctkPathLineEdit: a path with a history and a button that browses."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtWidgets

from ..qtlayer.connections import declare_signals
from ..qtlayer.properties import Property, stored


class ctkPathLineEdit(QtWidgets.QWidget):
    Dirs, Files, Drives, NoSymLinks = 0x001, 0x002, 0x004, 0x008
    AllEntries, Readable, Writable, Executable = 0x007, 0x010, 0x020, 0x040
    Hidden, System, NoDotAndDotDot, NoFilter = 0x100, 0x200, 0x1000, -1
    AdjustToContents, AdjustToContentsOnFirstShow, AdjustToMinimumContentsLength = 0, 1, 2

    currentPathChanged = QtCore.Signal(str)

    def __init__(self, *args: Any) -> None:
        parent = next((item for item in args if isinstance(item, QtWidgets.QWidget)), None)
        super().__init__(parent)
        self._combo = QtWidgets.QComboBox()
        self._combo.setEditable(True)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
        self._browse_button = QtWidgets.QToolButton()
        self._browse_button.setText("…")
        self._browse_button.clicked.connect(self.browse)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._combo)
        layout.addWidget(self._browse_button)
        self._combo.editTextChanged.connect(self.currentPathChanged)
        self._shown_history = True

    def setCurrentPath(self, path: str) -> None:
        if path != self._combo.currentText:
            self._combo.setEditText(path)

    def browse(self) -> None:
        if self.filters & self.Files:
            chosen = QtWidgets.QFileDialog.getOpenFileName(self, self.label or "Select a file")
        else:
            chosen = QtWidgets.QFileDialog.getExistingDirectory(self, self.label or "Select")
        if chosen:
            self.setCurrentPath(chosen)

    def _history_key(self) -> str:
        return f"ctkPathLineEdit/{self.settingKey or self.objectName}"

    def retrieveHistory(self) -> None:
        kept = QtCore.QSettings().value(self._history_key()) or []
        paths = [kept] if isinstance(kept, str) else list(kept)
        current = self._combo.currentText
        self._combo.blockSignals(True)
        self._combo.clear()
        self._combo.addItems(paths)
        self._combo.setEditText(current)
        self._combo.blockSignals(False)
        if not current and paths:
            self.setCurrentPath(paths[0])

    def addCurrentPathToHistory(self) -> None:
        current = self._combo.currentText
        if current:
            kept = QtCore.QSettings().value(self._history_key()) or []
            others = [kept] if isinstance(kept, str) else list(kept)
            paths = [current, *(path for path in others if path != current)]
            QtCore.QSettings().setValue(self._history_key(), paths[:10])
            self.retrieveHistory()

    def _set_setting_key(self, key: str) -> None:
        self.__dict__["_key"] = key
        self.retrieveHistory()

    currentPath = Property(
        str, lambda self: self._combo.currentText, lambda self, value: self.setCurrentPath(value)
    )
    settingKey = Property(
        str, lambda self: self.__dict__.get("_key", ""),
        lambda self, value: self._set_setting_key(value),
    )
    showBrowseButton = Property(
        bool, lambda self: not self._browse_button.isHidden(),
        lambda self, value: self._browse_button.setVisible(value),
    )
    filters = stored(int, 0x007, "filters")
    options = stored(int, 0, "options")
    label = stored(str, "", "label")
    sizeAdjustPolicy = stored(int, 1, "sizeAdjustPolicy")
    minimumContentsLength = stored(int, 0, "minimumContentsLength")


declare_signals(ctkPathLineEdit, currentPathChanged="currentPathChanged(QString)")
