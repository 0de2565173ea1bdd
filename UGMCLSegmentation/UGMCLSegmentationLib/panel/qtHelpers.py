"""Helpers around Qt that several sections use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import qt
import slicer

ROW, HEADER = 26, 30  # heights in pixels


class Connections:
    """Connections that end together when the panel is cleaned up, so that none keeps it alive."""

    def __init__(self) -> None:
        self._made: list[tuple] = []

    def connect(self, widget, signal: str, slot: Callable) -> None:
        widget.connect(signal, slot)
        self._made.append((widget, signal, slot))

    def disconnectAll(self) -> None:
        while self._made:
            widget, signal, slot = self._made.pop()
            widget.disconnect(signal, slot)


@contextlib.contextmanager
def silent(widget) -> Iterator[None]:
    """The widget emits no signals: the panel changes it, not the user."""
    former = widget.blockSignals(True)
    try:
        yield
    finally:
        widget.blockSignals(former)


def fill(selector, entries: Sequence[tuple[str, Any, str]], current: Any) -> None:
    """Fill a combo box with entries (text, data, tooltip) and select the one with that data."""
    with silent(selector):
        selector.clear()
        for text, data, toolTip in entries:
            selector.addItem(text, data)
            if toolTip:
                selector.setItemData(selector.count - 1, toolTip, qt.Qt.ToolTipRole)
        selector.currentIndex = selector.findData(current)


def askForFolder(title: str) -> str:
    """The folder that the user chooses, "" for none."""
    return qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)


def enable(button, toolTip: str, unless: str = "") -> None:
    """Enable a button, unless there is a reason against it, which becomes its tooltip."""
    button.enabled = not unless
    button.toolTip = unless or toolTip


def setUpTable(table, widths: Mapping[int, int] | None = None, rowHeight: int = ROW) -> None:
    """Columns keep their `widths` in pixels; those without one share the rest."""
    table.verticalHeader().setVisible(False)
    table.verticalHeader().setDefaultSectionSize(rowHeight)
    header = table.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.Stretch)
    for column, width in (widths or {}).items():
        header.setSectionResizeMode(column, qt.QHeaderView.Fixed)
        header.resizeSection(column, width)


def fitRows(table, count: int) -> None:
    """Make a table as high as `count` rows, but at most four: the user scrolls to the others."""
    table.setFixedHeight(HEADER + ROW * min(4, max(1, count)))
