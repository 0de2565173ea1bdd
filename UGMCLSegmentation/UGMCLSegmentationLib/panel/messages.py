"""Messages of the panel: how they look, and how errors become messages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError

ERROR_COLOR = "#c0392b"
_OPENINGS = {  # words that messages of ugmcl_core begin with
    "a", "an", "another", "case", "cases", "channels", "choose", "classes", "give", "keep",
    "method", "model", "no", "nothing", "out", "the", "there", "these", "this", "two", "unknown",
    "without",
}  # fmt: skip


def show(label, text: str, isError: bool = False) -> None:
    """Show the text in the label; an empty text hides the label."""
    label.text = text
    label.styleSheet = f"color: {ERROR_COLOR}" if isError else ""
    label.setVisible(bool(text))


def asSentence(text: str) -> str:
    """A message of the program, which begins like a line of a command line, with a capital. Names
    at its beginning, as of a file, stay as they are."""
    return text[:1].upper() + text[1:] if text.partition(" ")[0] in _OPENINGS else text


@contextlib.contextmanager
def showingErrors(label, what: str) -> Iterator[None]:
    """Show a PanelError in the label. Any other error is a defect: Slicer's error window shows
    it, headed by `what`. The panel stays usable either way."""
    with slicer.util.tryWithErrorDisplay(what):
        try:
            yield
        except PanelError as error:
            show(label, str(error), isError=True)


def withTimeLeft(text: str, seconds: float | None) -> str:
    """The text of a progress event, with the remaining time if the worker knows it."""
    if seconds is None:
        return text
    return _("{text}, about {time} left").format(text=text, time=duration(seconds))


def duration(seconds: float) -> str:
    if seconds < 90:
        return _("{n} s").format(n=max(1, round(seconds)))
    if seconds < 5400:
        return _("{n} min").format(n=round(seconds / 60))
    return _("{n:.1f} h").format(n=seconds / 3600)
