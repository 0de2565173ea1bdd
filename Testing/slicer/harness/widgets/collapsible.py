"""Sections that fold away: ctkCollapsibleButton and ctkCollapsibleGroupBox.

The real widgets hide their children when collapsed. Here the children are clipped, which looks
the same and keeps each child's own visibility untouched.
"""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from ..qtlayer.connections import declare_signals
from ..qtlayer.properties import Property, stored

_UNLIMITED = 16777215


def _arrow(painter: QtGui.QPainter, widget: Any, area: QtCore.QRect, collapsed: bool) -> None:
    option = QtWidgets.QStyleOption()
    option.initFrom(widget)
    option.rect = area
    element = (
        QtWidgets.QStyle.PE_IndicatorArrowRight if collapsed
        else QtWidgets.QStyle.PE_IndicatorArrowDown
    )
    widget.style().drawPrimitive(element, option, painter, widget)


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, *args: Any) -> None:
        text = args[0] if args and isinstance(args[0], str) else ""
        parent = next((item for item in args if isinstance(item, QtWidgets.QWidget)), None)
        super().__init__(parent)
        self._collapsed = False
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Preferred, QtWidgets.QSizePolicy.Preferred)
        self.setContentsMargins(0, self._header_height(), 0, 0)
        self.toggled.connect(self._on_toggled)

    def _header_height(self) -> int:
        return QtGui.QFontMetrics(self.font).height() + 8

    def _on_toggled(self, checked: bool) -> None:
        self._collapse(not checked)

    def _collapse(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        height = self._header_height()
        self.setMaximumHeight(height + self.collapsedHeight if collapsed else _UNLIMITED)
        self.setChecked(not collapsed)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < self._header_height()

    def _hint(self, contents: QtCore.QSize | None) -> QtCore.QSize:
        metrics = QtGui.QFontMetrics(self.font)
        size = QtCore.QSize(metrics.horizontalAdvance(self.text) + 36, self._header_height())
        if self._collapsed:
            width = max(size.width(), contents.width() if contents else 0)
            return QtCore.QSize(width, size.height() + self.collapsedHeight)
        return size.expandedTo(contents) if contents else size

    def sizeHint(self) -> QtCore.QSize:
        layout = self.layout()
        return self._hint(layout.totalSizeHint() if layout else None)

    def minimumSizeHint(self) -> QtCore.QSize:
        layout = self.layout()
        return self._hint(layout.totalMinimumSize() if layout else None)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        height = self._header_height()
        header = QtCore.QRect(0, 0, self.width, height)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = header
        option.state |= QtWidgets.QStyle.State_Raised
        option.features = QtWidgets.QStyleOptionButton.None_
        painter.drawControl(QtWidgets.QStyle.CE_PushButtonBevel, option)
        _arrow(painter, self, QtCore.QRect(6, (height - 12) // 2, 12, 12), self._collapsed)
        self.style().drawItemText(
            painter, header.adjusted(26, 0, -4, 0),
            int(QtCore.Qt.AlignVCenter | QtCore.Qt.AlignLeft), self.palette, self.enabled,
            self.text, QtGui.QPalette.ButtonText,
        )
        if not self._collapsed:
            frame = QtWidgets.QStyleOptionFrame()
            frame.initFrom(self)
            frame.rect = QtCore.QRect(0, height - 1, self.width, self.height - height + 1)
            frame.lineWidth = 1
            painter.setPen(self.palette.mid().color())
            painter.drawRect(frame.rect.adjusted(0, 0, -1, -1))

    collapsed = Property(
        bool, lambda self: self._collapsed, lambda self, value: self._collapse(value),
        notify=contentsCollapsed,
    )
    collapsedHeight = stored(int, 0, "collapsedHeight")


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    def __init__(self, *args: Any) -> None:
        title = args[0] if args and isinstance(args[0], str) else ""
        parent = next((item for item in args if isinstance(item, QtWidgets.QWidget)), None)
        super().__init__(title, parent)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._on_toggled)

    def _on_toggled(self, expanded: bool) -> None:
        height = QtGui.QFontMetrics(self.font).height() + 8
        self.setMaximumHeight(_UNLIMITED if expanded else height + self.collapsedHeight)
        # QGroupBox disables the children of an unchecked box; a folded box does not.
        for child in self.findChildren(
            QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly
        ):
            child.setEnabled(True)
        self.updateGeometry()

    def _collapsed_size(self, size: QtCore.QSize) -> QtCore.QSize:
        if not self.checked:
            size.setHeight(QtGui.QFontMetrics(self.font).height() + 8 + self.collapsedHeight)
        return size

    def sizeHint(self) -> QtCore.QSize:
        return self._collapsed_size(super().sizeHint())

    def minimumSizeHint(self) -> QtCore.QSize:
        return self._collapsed_size(super().minimumSizeHint())

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionGroupBox()
        self.initStyleOption(option)
        option.subControls &= ~QtWidgets.QStyle.SC_GroupBoxCheckBox
        if not self.checked:
            option.subControls &= ~QtWidgets.QStyle.SC_GroupBoxFrame
        box = self.style().subControlRect(
            QtWidgets.QStyle.CC_GroupBox, option, QtWidgets.QStyle.SC_GroupBoxLabel, self
        )
        option.text = "     " + option.text
        painter.drawComplexControl(QtWidgets.QStyle.CC_GroupBox, option)
        _arrow(
            painter, self,
            QtCore.QRect(box.left() + 2, box.center().y() - 5, 11, 11), not self.checked,
        )

    collapsed = Property(
        bool, lambda self: not self.checked, lambda self, value: self.setChecked(not value)
    )
    collapsedHeight = stored(int, 0, "collapsedHeight")


declare_signals(ctkCollapsibleButton, contentsCollapsed="contentsCollapsed(bool)")
