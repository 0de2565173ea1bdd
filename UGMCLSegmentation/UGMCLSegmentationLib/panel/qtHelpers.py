"""Qt connections that a panel ends when it is cleaned up, so that nothing keeps it alive."""

from __future__ import annotations

from collections.abc import Callable


class Connections:
    def __init__(self) -> None:
        self._made: list[tuple] = []

    def connect(self, widget, signal: str, slot: Callable) -> None:
        widget.connect(signal, slot)
        self._made.append((widget, signal, slot))

    def disconnectAll(self) -> None:
        while self._made:
            widget, signal, slot = self._made.pop()
            widget.disconnect(signal, slot)
