"""Declare the properties of a stand-in."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore


def stored(kind: Any, default: Any, name: str) -> Any:
    """A property that is kept and has no effect here, such as a hint for a file dialog."""
    attribute = f"_stored_{name}"

    def read(self: Any) -> Any:
        return self.__dict__.get(attribute, default)

    def write(self: Any, value: Any) -> None:
        self.__dict__[attribute] = value

    return QtCore.Property(kind, read, write)
