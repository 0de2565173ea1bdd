"""What a request reports while it runs, and the commands that it follows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

Send = Callable[..., None]
"""Sends an event: its name, and its content by keywords."""


class Control(Protocol):
    """What the user wants from a running request."""

    @property
    def stopped(self) -> bool:
        """Whether it should stop."""

    @property
    def held(self) -> bool:
        """Whether it should wait."""

    @property
    def left(self) -> bool:
        """Whether it should stop because nobody waits for it any more. A training on another
        computer then continues."""

    def canceled(self) -> bool:
        """Whether it should stop; while it should wait, returns only after that."""

    def told(self) -> list[str]:
        """The commands about it that arrived since the last call."""


class ProgressEvents:
    """Sends `progress` events, at most 20 a second, with the remaining time: as given, or
    estimated from the fraction."""

    _EVERY = 0.05

    def __init__(self, send: Send) -> None:
        self._send = send
        self._began = time.monotonic()
        self._last = 0.0
        self._text = ""

    def __call__(self, fraction: float, text: str, remaining: float | None = None) -> None:
        now = time.monotonic()
        if text == self._text and now - self._last < self._EVERY:
            return
        self._last, self._text = now, text
        fraction = min(max(fraction, 0.0), 1.0)
        passed = now - self._began
        if remaining is None and fraction > 0.05 and passed > 0.5:
            remaining = round(passed * (1 - fraction) / fraction, 1)
        self._send("progress", fraction=round(fraction, 4), text=text, remaining=remaining)
