"""Give PySide6's classes the manners of PythonQt.

A declared Qt property is an attribute and hides its getter; an unknown attribute cannot be set
on a C++ object; `name` stands for `objectName`; children are attributes under their names.
Whatever PythonQt would only print about (an unknown signal) raises here.
"""

from __future__ import annotations

import ctypes
import types
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets

from . import connections
from .properties import describe

# Calling these from Python while C++ calls the virtual method of the same name recurses, so they
# stay methods.
_VIRTUAL_GETTERS = {"sizeHint", "minimumSizeHint"}
_KEPT_METHODS = {("QProgressBar", "text"), ("QLayout", "contentsMargins")}

# object.__setattr__ refuses shiboken types.
_plain_setattr = ctypes.pythonapi.PyObject_GenericSetAttr
_plain_setattr.argtypes = [ctypes.py_object] * 3
_plain_setattr.restype = ctypes.c_int

_STAND_IN_PACKAGE = __name__.partition(".")[0]
_CHECKED_TYPES: dict[str, tuple[type, ...]] = {
    "QString": (str,),
    "bool": (bool, int),
    "int": (int,),
    "double": (int, float),
    "QStringList": (list, tuple),
}


class QtProperty:
    """A property of a C++ class: an attribute of instances, the C++ method on the class."""

    def __init__(self, name: str, writable: bool, type_name: str, method: Any = None) -> None:
        self.name = name
        self.writable = writable
        self.type_name = type_name
        self.method = method

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self if self.method is None else self.method
        return QtCore.QObject.property(instance, self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        if not self.writable:
            raise AttributeError(
                f"Property '{self.name}' of {type(instance).__name__} is not writable"
            )
        write_property(instance, self.name, self.type_name, value)


def rich_tool_tip(text: str) -> str:
    """What the application makes of a widget's tool tip as soon as it is set."""
    if not text or QtGui.Qt.mightBeRichText(text):
        return text
    return QtGui.Qt.convertFromPlainText(text, QtGui.Qt.WhiteSpaceNormal)


def write_property(instance: Any, name: str, type_name: str, value: Any) -> None:
    """Set a Qt property or raise AttributeError, which PythonQt does for a value that misfits."""
    expected = _CHECKED_TYPES.get(type_name)
    fits = expected is None or isinstance(value, expected)
    if fits and type_name == "QStringList":
        fits = all(isinstance(item, str) for item in value)
        value = list(value)
    done = False
    if fits and name == "toolTip" and isinstance(instance, QtWidgets.QWidget):
        value = rich_tool_tip(value)
    if fits:
        try:
            done = QtCore.QObject.setProperty(instance, name, value)
        except TypeError:  # A stand-in's own setter refused.
            done = False
    if not done:
        raise AttributeError(
            f"Property '{name}' of type '{type_name}' of {type(instance).__name__} "
            f"does not accept an object of type {type(value).__name__} ({value!r})"
        )


def _is_plain(cls: type) -> bool:
    """Whether instances stand for C++ objects, which take no new attributes."""
    return cls.__module__.partition(".")[0] in ("PySide6", _STAND_IN_PACKAGE)


def _set_attribute(self: Any, name: str, value: Any) -> None:
    cls = type(self)
    if isinstance(value, QtCore.SignalInstance):
        _plain_setattr(self, name, value)  # PySide6 keeps a signal on the object it belongs to.
        return
    for base in cls.__mro__:
        found = base.__dict__.get(name)
        if isinstance(found, (QtProperty, property)):
            found.__set__(self, value)
            return
        if isinstance(found, QtCore.Property):
            # PySide6's Property takes values only through QObject.setProperty.
            type_name, writable = describe(found)
            if not writable:
                raise AttributeError(f"Property '{name}' of {cls.__name__} is not writable")
            write_property(self, name, type_name, value)
            return
        if found is not None:
            break
    if _is_plain(cls) and not name.startswith("_"):
        if name.encode() in [bytes(key) for key in QtCore.QObject.dynamicPropertyNames(self)]:
            QtCore.QObject.setProperty(self, name, value)
            return
        if isinstance(value, QtCore.QObject) and value.objectName == name:
            return  # PySide6's loader does so for every child, which is found by name anyway.
        raise AttributeError(
            f"'{name}' does not exist on {cls.__name__} and creating new attributes on C++ "
            "objects is not allowed"
        )
    _plain_setattr(self, name, value)


def _missing_attribute(self: Any, name: str) -> Any:
    if not name.startswith("__") and shiboken6.isValid(self):
        value = QtCore.QObject.property(self, name)
        if value is not None:
            return value
        for child in QtCore.QObject.children(self):
            if QtCore.QObject.objectName.__get__(child) == name:
                return child
    raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")


def _make_strict(cls: type) -> None:
    cls.__getattr__ = _missing_attribute  # type: ignore[attr-defined]
    cls.__setattr__ = _set_attribute  # type: ignore[assignment]
    # Instances get connect and disconnect hard-wired by PySide6, whatever the class says. Other
    # classes inherit the new lookup, but those with static and instance overloads
    # (QFile.exists) bring their own.
    if cls is not QtCore.QObject and "__getattribute__" not in cls.__dict__:
        return
    original: Callable[[Any, str], Any] = cls.__getattribute__

    def lookup(self: Any, name: str) -> Any:
        if name == "connect":
            return types.MethodType(connections.connect, self)
        if name == "disconnect":
            return types.MethodType(connections.disconnect, self)
        return original(self, name)

    cls.__getattribute__ = lookup  # type: ignore[assignment]


def _patch(cls: type) -> None:
    meta = cls.__dict__.get("staticMetaObject")
    if meta is None:
        return
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        declared = meta.property(index)
        name = declared.name()
        if name in _VIRTUAL_GETTERS or (cls.__name__, name) in _KEPT_METHODS:
            continue
        method = cls.__dict__.get(name)
        setattr(
            cls, name, QtProperty(name, declared.isWritable(), declared.typeName(), method)
        )
    _make_strict(cls)


def has_property(cls: type, name: str) -> bool:
    """Whether the real class declares the property."""
    if name in _VIRTUAL_GETTERS or any((base.__name__, name) in _KEPT_METHODS
                                       for base in cls.__mro__):
        return True
    found = (base.__dict__.get(name) for base in cls.__mro__)
    return any(isinstance(item, (QtProperty, QtCore.Property)) for item in found)


def _class_name(self: Any) -> str:
    cls = type(self)
    return self.metaObject().className() if connections.is_qt(cls) else cls.__name__


def patch_pyside() -> None:
    """Patch every QObject class of the Qt libraries in use; once per process."""
    object_name = QtProperty("objectName", True, "QString")
    for module in (QtCore, QtGui, QtWidgets):
        # PySide6 makes its classes when asked for them: vars() would miss most.
        for cls in [getattr(module, name) for name in dir(module)]:
            if isinstance(cls, type) and issubclass(cls, QtCore.QObject):
                _patch(cls)
    plain = QtWidgets.QWidget.setToolTip
    QtWidgets.QWidget.setToolTip = (  # type: ignore[method-assign]
        lambda self, text: plain(self, rich_tool_tip(text))
    )
    base: Any = QtCore.QObject
    base.name = object_name
    base.className = _class_name
    base.delete = lambda self: shiboken6.delete(self)
