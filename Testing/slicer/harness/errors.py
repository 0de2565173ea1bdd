"""Exceptions raised in slots and observers.

Qt, PythonQt and VTK print such an exception and go on, so that a test would pass although the
code under test failed. Here they are kept until a test asks for them.
"""

from __future__ import annotations

import sys
import traceback
from types import TracebackType

_collected: list[str] = []
_previous_hook = sys.excepthook


def record(error: BaseException) -> None:
    """Keep and print an exception that nobody can catch."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    _collected.append(text)
    sys.stderr.write(text)


def take() -> list[str]:
    """Return the exceptions collected so far and forget them."""
    taken = list(_collected)
    _collected.clear()
    return taken


def _hook(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    _collected.append("".join(traceback.format_exception(kind, error, trace)))
    _previous_hook(kind, error, trace)


def install() -> None:
    """Listen to the hook that PySide6 and VTK call for exceptions in Python callbacks."""
    sys.excepthook = _hook
