"""CTK widgets that add little to their Qt base class."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from ..qtlayer.properties import stored


class ctkCheckBox(QtWidgets.QCheckBox):
    indicatorIcon = stored(QtGui.QIcon, QtGui.QIcon(), "indicatorIcon")


class ctkPushButton(QtWidgets.QPushButton):
    buttonTextAlignment = stored(int, 132, "buttonTextAlignment")
    iconAlignment = stored(int, 129, "iconAlignment")


class ctkMenuButton(QtWidgets.QPushButton):
    """A push button with an extra arrow that opens the menu."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)


class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """A text browser as tall as its text; the collapsible setters fold a long text away."""

    collapsed = stored(bool, True, "collapsed")
    collapsibleText = stored(str, "", "collapsibleText")

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.setVerticalScrollBarPolicy(QtCore.Qt.ScrollBarAlwaysOff)
        self.textChanged.connect(self.updateGeometry)

    def _fitted_height(self) -> int:
        document = self.document
        document.setTextWidth(max(self.viewport().width, 100))
        return int(document.size().height()) + 2 * self.frameWidth

    def sizeHint(self) -> QtCore.QSize:
        return QtCore.QSize(super().sizeHint().width(), self._fitted_height())

    def minimumSizeHint(self) -> QtCore.QSize:
        return QtCore.QSize(super().minimumSizeHint().width(), self._fitted_height())


class ctkMessageBox(QtWidgets.QMessageBox):
    dontShowAgainVisible = stored(bool, False, "dontShowAgainVisible")
    dontShowAgain = stored(bool, False, "dontShowAgain")
    dontShowAgainSettingsKey = stored(str, "", "dontShowAgainSettingsKey")
