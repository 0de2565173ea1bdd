"""Answer the dialogs that code under test opens.

Offscreen nobody can click, and a modal dialog would wait forever. Inside `answering` each dialog
takes the next prepared answer; outside, opening one raises. File dialogs are answered by the
path alone, which is what PythonQt returns, where PySide6 returns a pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from PySide6 import QtWidgets


class UnexpectedDialog(RuntimeError):
    """Code under test opened a dialog for which the test prepared no answer."""


@dataclass
class Dialogs:
    """The answers to give and, afterwards, what was asked."""

    answers: list[Any]
    asked: list[str] = field(default_factory=list)

    def next(self, text: str) -> Any:
        self.asked.append(text)
        if not self.answers:
            raise UnexpectedDialog(f"a dialog was opened without an answer for it: {text}")
        return self.answers.pop(0)


_current = Dialogs([])


@contextmanager
def answering(*answers: Any) -> Iterator[Dialogs]:
    """Give these answers, in order, to the dialogs opened inside the block."""
    global _current
    before, _current = _current, Dialogs(list(answers))
    try:
        yield _current
    finally:
        _current = before


def _describe(dialog: Any) -> str:
    text = dialog.property("text") or dialog.property("labelText") or ""
    return f"{dialog.windowTitle}: {text}"


def _exec(self: Any, *_: Any) -> Any:
    return _current.next(_describe(self))


def _static(kind: str) -> Any:
    def ask(parent: Any = None, title: str = "", text: str = "", *_: Any, **__: Any) -> Any:
        return _current.next(f"{kind} {title}: {text}")

    return staticmethod(ask)


def install() -> None:
    """Replace everything that would wait for a user."""
    for cls in (QtWidgets.QDialog, QtWidgets.QMessageBox, QtWidgets.QFileDialog,
                QtWidgets.QInputDialog, QtWidgets.QProgressDialog, QtWidgets.QMenu):
        cls.exec_ = _exec  # type: ignore[attr-defined]
        cls.exec = _exec  # type: ignore[assignment]
    for kind in ("question", "information", "warning", "critical", "about"):
        setattr(QtWidgets.QMessageBox, kind, _static(kind))
    for kind in ("getExistingDirectory", "getOpenFileName", "getOpenFileNames",
                 "getSaveFileName"):
        setattr(QtWidgets.QFileDialog, kind, _static(kind))
    for kind in ("getText", "getInt", "getDouble", "getItem"):
        setattr(QtWidgets.QInputDialog, kind, _static(kind))
