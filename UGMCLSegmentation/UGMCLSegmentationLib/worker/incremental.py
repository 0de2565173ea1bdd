"""Long work in small steps between the events of the application, so that it never freezes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

import qt
import slicer

BUDGET = 0.03  # seconds of work between two turns of the event loop


class IncrementalTask:
    """Runs a generator from a timer; at each `yield` the event loop may get its turn."""

    def __init__(
        self,
        work: Generator[None, None, Any],
        onDone: Callable[[Any], None],
        onError: Callable[[Exception], None],
    ) -> None:
        self._work = work
        self._onDone = onDone
        self._onError = onError
        self._timer = qt.QTimer(slicer.app)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._tick)
        self._timer.start()

    def stop(self) -> None:
        """Stop the generator; its `finally` blocks run now. Neither callback is called."""
        if self._timer is None:
            return
        timer, self._timer = self._timer, None
        _end(timer, self._tick)
        self._work.close()

    def _tick(self) -> None:
        deadline = time.monotonic() + BUDGET
        try:
            while self._timer is not None and time.monotonic() < deadline:
                next(self._work)
        except StopIteration as end:
            self.stop()
            self._onDone(end.value)
        except Exception as error:
            self.stop()
            self._onError(error)


def finish(work: Generator[None, None, Any]) -> Any:
    """Run the generator to its end now; returns its value."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


class Deadline:
    """Calls `onLate` once unless it is stopped first; holds no reference while it is idle."""

    def __init__(self, onLate: Callable[[], None]) -> None:
        self._onLate = onLate
        self._timer = None

    @property
    def isRunning(self) -> bool:
        return self._timer is not None

    def start(self, seconds: float) -> None:
        self.stop()
        self._timer = qt.QTimer(slicer.app)
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._late)
        self._timer.start(int(seconds * 1000))

    def stop(self) -> None:
        if self._timer is not None:
            timer, self._timer = self._timer, None
            _end(timer, self._late)

    def _late(self) -> None:
        self.stop()
        self._onLate()


def _end(timer, slot: Callable[[], None]) -> None:
    timer.stop()
    timer.disconnect("timeout()", slot)
    timer.deleteLater()  # it must outlive the signal that it may be sending
