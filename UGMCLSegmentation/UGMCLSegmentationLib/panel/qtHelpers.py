"""Helpers around Qt that several sections use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt


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


def fill(selector, entries: list[tuple[str, Any, str]], current: Any) -> None:
    """Fill a combo box with entries (text, data, tooltip) and select the one with that data."""
    selector.clear()
    for text, data, toolTip in entries:
        selector.addItem(text, data)
        if toolTip:
            selector.setItemData(selector.count - 1, toolTip, qt.Qt.ToolTipRole)
    selector.currentIndex = selector.findData(current)
