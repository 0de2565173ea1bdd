"""Load a `.ui` file with stand-ins for Slicer's widgets.

Two things in such a file are beyond Qt's own loader: connections that carry a `vtkMRMLScene*`,
which are taken out and made afterwards, and enumerations of classes that Qt does not know.
"""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from typing import Any

from PySide6 import QtCore, QtWidgets
from PySide6.QtUiTools import QUiLoader

from .pythonqt import has_property, rich_tool_tip

_custom: dict[str, type] = {}


def register(widgets: list[type]) -> None:
    """Make the stand-ins known to the loading of `.ui` files; before the first of them."""
    _custom.update({widget.__name__: widget for widget in widgets})


class UiError(RuntimeError):
    """The file asks for something that the real widgets do not have, or that is missing here."""


@dataclass(frozen=True)
class _SceneConnection:
    sender: str
    signal: str
    receiver: str
    slot: str


@functools.cache
def _loader() -> QUiLoader:
    """One for all files: to make the stand-ins known takes as long as to load a file."""
    loader = QUiLoader()
    for custom in _custom.values():
        loader.registerCustomWidget(custom)
    return loader


class UiLoader:
    """qt.QUiLoader."""

    def load(self, device: Any, parent: Any = None) -> Any:
        content, later = _prepared(bytes(device.readAll()))
        loader = _loader()
        buffer = QtCore.QBuffer()
        buffer.setData(content)
        buffer.open(QtCore.QIODevice.ReadOnly)
        loaded = loader.load(buffer, parent)
        if loaded is None:
            raise UiError(loader.errorString())
        for connection in later:
            _connect(loaded, connection)
        return loaded


@functools.cache
def _prepared(content: bytes) -> tuple[bytes, list[_SceneConnection]]:
    """A file as Qt's own loader takes it, and the connections to be made afterwards."""
    root = ElementTree.fromstring(content)
    later = _take_scene_connections(root)
    for widget in root.iter("widget"):
        _check_widget(widget)
        _resolve_enumerations(widget)
        for tip in widget.findall("property[@name='toolTip']/string"):
            tip.text = rich_tool_tip(tip.text or "")
    return ElementTree.tostring(root), later


def _take_scene_connections(root: ElementTree.Element) -> list[_SceneConnection]:
    section = root.find("connections")
    taken = []
    for element in list(section) if section is not None else []:
        values = [element.findtext(key, "") for key in ("sender", "signal", "receiver", "slot")]
        if "vtkMRML" in values[1]:
            taken.append(_SceneConnection(*values))
            section.remove(element)  # type: ignore[union-attr]
    return taken


def _check_widget(widget: ElementTree.Element) -> None:
    """Qt's loader only prints a warning for a class or property that does not exist."""
    name = widget.get("class", "")
    cls = _custom.get(name) or getattr(QtWidgets, name, None)
    if cls is None:
        raise UiError(f"no stand-in for the widget class {name}")
    for element in widget.findall("property"):
        key = element.get("name", "")
        # Designer's own properties, and dynamic ones, are marked so.
        if element.get("stdset") == "0" or "buddy" in key or has_property(cls, key):
            continue
        raise UiError(f"{name} has no property '{key}' (widget '{widget.get('name')}')")


def _resolve_enumerations(widget: ElementTree.Element) -> None:
    for element in widget.findall("property"):
        for kind in ("enum", "set"):
            value = element.find(kind)
            if value is None or not value.text or not value.text.startswith(("ctk", "qMRML")):
                continue
            number = 0
            for item in value.text.split("|"):
                owner, _, constant = item.partition("::")
                number |= int(getattr(_custom[owner], constant.rpartition("::")[2]))
            element.remove(value)
            ElementTree.SubElement(element, "number").text = str(number)


def _connect(root: Any, connection: _SceneConnection) -> None:
    sender, receiver = _named(root, connection.sender), _named(root, connection.receiver)
    slot = getattr(receiver, connection.slot.partition("(")[0])
    sender.connect(connection.signal, slot)


def _named(root: Any, name: str) -> Any:
    found = root if root.objectName == name else root.findChild(QtCore.QObject, name)
    if found is None:
        raise UiError(f"a connection names '{name}', which does not exist")
    return found
