"""Declare the properties of a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6 import QtCore

_NAMES: dict[Any, str] = {str: "QString", bool: "bool", int: "int", float: "double"}

# PySide6 rebuilds the meta object of a Python class now and then and leaves the old one dangling,
# so the types are kept here.
_types: dict[int, tuple[Any, str, bool]] = {}


def Property(
    kind: Any, read: Callable[[Any], Any], write: Callable[[Any, Any], None] | None = None,
    notify: Any = None,
) -> Any:
    """QtCore.Property whose type and writability can be asked for."""
    options = {} if notify is None else {"notify": notify}
    made = QtCore.Property(kind, read, write, **options)
    _types[id(made)] = made, _NAMES.get(kind, str(kind)), write is not None
    return made


def describe(declared: Any) -> tuple[str, bool]:
    """Type name and writability of what Property made."""
    _, type_name, writable = _types.get(id(declared), (None, "", True))
    return type_name, writable


def stored(kind: Any, default: Any, name: str) -> Any:
    """A property that is kept and has no effect here, such as a hint for a file dialog."""
    attribute = f"_stored_{name}"

    def read(self: Any) -> Any:
        return self.__dict__.get(attribute, default)

    def write(self: Any, value: Any) -> None:
        self.__dict__[attribute] = value

    return Property(kind, read, write)
