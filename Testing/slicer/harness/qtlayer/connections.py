"""`connect('signal(args)', callable)` and `disconnect` as PythonQt has them.

PythonQt keeps a connected callable alive as long as the sender lives, passes it no more
arguments than it takes, and prints its exceptions; PySide6 differs in all three.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import shiboken6
from PySide6 import QtCore

from .. import errors

_qt_connect = QtCore.QObject.connect
_qt_disconnect = QtCore.QObject.disconnect


class UnknownSignal(ValueError):
    """The sender's class declares no such signal. PythonQt only prints this."""


@dataclass(frozen=True)
class _Connection:
    signal: str
    target: Callable[..., Any]
    slot: Callable[..., None]
    stand_in: Any  # bound PySide6 signal of a stand-in, or None for a signal of Qt itself


_by_sender: dict[int, list[_Connection]] = {}


def declare_signals(cls: type, **signals: str) -> None:
    """Map signatures of the real C++ class to the Python signals of its stand-in.

    PySide6 cannot declare arguments such as `vtkMRMLNode*`; the stand-in's Python signal carries
    a plain object instead. Given as python_name="signature" pairs, several separated by spaces.
    """
    table = dict(getattr(cls, "_declared_signals", {}))
    for name, signatures in signals.items():
        for signature in signatures.split():
            table[normalized(signature)] = name
    cls._declared_signals = table  # type: ignore[attr-defined]


def normalized(signature: str) -> str:
    full = signature if "(" in signature else signature + "()"
    text = QtCore.QMetaObject.normalizedSignature(full)
    return text if isinstance(text, str) else bytes(text).decode()


def is_qt(cls: type) -> bool:
    """Whether a class is one of Qt's own, not a stand-in or another class in Python."""
    return cls.__module__.partition(".")[0] == "PySide6"


def _argument_limit(target: Callable[..., Any]) -> int | None:
    """How many arguments PythonQt passes: those that a Python function names, else all."""
    function = getattr(target, "__func__", target)
    if not inspect.isfunction(function) or function.__code__.co_flags & inspect.CO_VARARGS:
        return None
    count = function.__code__.co_argcount
    return count - 1 if inspect.ismethod(target) else count


def _make_slot(target: Callable[..., Any]) -> Callable[..., None]:
    limit = _argument_limit(target)

    def slot(*arguments: Any) -> None:
        try:
            target(*arguments[:limit])
        except Exception as error:
            errors.record(error)

    return slot


def _find(sender: Any, signal: str) -> tuple[str, Any]:
    full = normalized(signal)
    declared: dict[str, str] = getattr(type(sender), "_declared_signals", {})
    if full in declared:
        return full, getattr(sender, declared[full])
    qt_class: Any = next(cls for cls in type(sender).__mro__ if is_qt(cls))
    if qt_class.staticMetaObject.indexOfSignal(full) < 0:
        raise UnknownSignal(f"signal '{signal}' does not exist on {sender.className()}")
    return full, None


def _connections_of(sender: Any) -> list[_Connection]:
    key = shiboken6.getCppPointer(sender)[0]
    if key not in _by_sender:
        _by_sender[key] = []
        _qt_connect(sender, "2destroyed()", lambda: _by_sender.pop(key, None))
    return _by_sender[key]


def connect(self: Any, signal: str, target: Any, slot_name: str | None = None) -> bool:
    """Connect a signal, named by its C++ signature, to a callable or to a receiver's slot."""
    if slot_name is not None:
        target = getattr(target, slot_name.partition("(")[0])
    if not callable(target):
        raise TypeError(f"connect: {target!r} is not callable")
    full, stand_in = _find(self, signal)
    slot = _make_slot(target)
    _connections_of(self).append(_Connection(full, target, slot, stand_in))
    if stand_in is not None:
        return bool(stand_in.connect(slot))
    return bool(_qt_connect(self, "2" + full, slot))


def disconnect(self: Any, signal: str, target: Callable[..., Any] | None = None) -> bool:
    """Undo `connect`; without a callable every connection of the signal goes."""
    full, _ = _find(self, signal)
    known = _connections_of(self)
    matching = [
        item for item in known if item.signal == full and target in (None, item.target)
    ]
    for item in matching:
        known.remove(item)
        if item.stand_in is not None:
            item.stand_in.disconnect(item.slot)
        else:
            _qt_disconnect(self, "2" + full, item.slot)
    return bool(matching)
