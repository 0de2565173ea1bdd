"""Build the `qt` and `ctk` modules and put them where `import qt` finds them."""

from __future__ import annotations

import sys
import types
from typing import Any

from PySide6 import QtCore, QtGui, QtNetwork, QtWidgets

from .uiloader import UiLoader

# Names that belong to PySide6 alone; a module that used them would fail in Slicer.
_PYSIDE_ONLY = {
    "Signal", "SignalInstance", "Slot", "Property", "ClassInfo", "QEnum", "QFlag", "Nullable",
    "MetaFunction", "MetaSignal", "PyClassProperty", "NonAutoBool", "qVersion", "Any", "List",
    "Optional", "Union", "Tuple", "Callable", "Iterable", "Sequence", "SIGNAL", "SLOT",
}


def _single_shot(milliseconds: int, target: Any, slot_name: str | None = None) -> None:
    """Slicer's own QTimer.singleShot: the timer and its callable live as long as Slicer."""
    import slicer

    timer = QtCore.QTimer(slicer.app.moduleManager())
    timer.setSingleShot(True)
    timer.connect("timeout()", target, slot_name)
    timer.start(milliseconds)


def build_qt() -> types.ModuleType:
    module = types.ModuleType("qt", "Qt as PythonQt shows it.")
    for source in (QtCore, QtGui, QtWidgets, QtNetwork):
        # PySide6 makes its classes when asked for them: vars() would miss most.
        for name in dir(source):
            if not name.startswith("_") and name not in _PYSIDE_ONLY:
                setattr(module, name, getattr(source, name))
    module.QUiLoader = UiLoader  # type: ignore[attr-defined]
    static = getattr(QtCore.QTimer, "__dict__", {}).get("singleShot")
    if static is not None:
        static.method = _single_shot
    return module


def build_ctk(widgets: list[type]) -> types.ModuleType:
    module = types.ModuleType("ctk", "Stand-ins for the CTK widgets.")
    for widget in widgets:
        setattr(module, widget.__name__, widget)
    return module


def install(ctk_widgets: list[type]) -> None:
    sys.modules["qt"] = build_qt()
    sys.modules["ctk"] = build_ctk(ctk_widgets)
