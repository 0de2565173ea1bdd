"""Modules as slicer.modules and the module manager show them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from .qtlayer.connections import declare_signals
from .qtlayer.properties import Property, stored
from .widgets.mrml import qSlicerWidget


class ModuleManager(QtCore.QObject):
    moduleLoaded = QtCore.Signal(str)
    moduleAboutToBeUnloaded = QtCore.Signal(str)
    moduleUnloaded = QtCore.Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._modules: dict[str, Any] = {}

    def module(self, name: str) -> Any:
        return self._modules.get(name)

    def _add(self, module: Any) -> None:
        self._modules[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)

    def _remove(self, name: str) -> None:
        self._modules.pop(name, None)
        for attribute in (name.lower(), f"{name}Instance", f"{name}Widget"):
            if hasattr(slicer.modules, attribute):
                delattr(slicer.modules, attribute)


class CoreModule:
    """A loadable module of which slicer-core has the logic and not the panel."""

    def __init__(self, name: str, logic: Any) -> None:
        self.name, self.title, self._logic = name, name, logic

    def logic(self) -> Any:
        return self._logic

    def widgetRepresentation(self) -> None:
        return None


class ScriptedModule(QtCore.QObject):
    """qSlicerScriptedLoadableModule, the parent that a module's class receives."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._name = str(path), path.stem
        self._representation: ScriptedModuleWidget | None = None

    def widgetRepresentation(self) -> ScriptedModuleWidget:
        if self._representation is None:
            self._representation = ScriptedModuleWidget(self)
            self._representation.reload()
        return self._representation

    def _forget_widget(self) -> None:
        self._representation = None

    def logic(self) -> Any:
        return None

    path = Property(str, lambda self: self._path)
    name = Property(str, lambda self: self._name)
    title = stored(str, "", "title")
    categories = stored("QStringList", (), "categories")
    contributors = stored("QStringList", (), "contributors")
    dependencies = stored("QStringList", (), "dependencies")
    helpText = stored(str, "", "helpText")
    acknowledgementText = stored(str, "", "acknowledgementText")
    hidden = stored(bool, False, "hidden")
    index = stored(int, -1, "index")
    icon = stored(QtGui.QIcon, QtGui.QIcon(), "icon")


class ScriptedModuleWidget(qSlicerWidget):
    """qSlicerScriptedLoadableModuleWidget: the panel that holds what the Python widget builds."""

    def __init__(self, module: ScriptedModule) -> None:
        super().__init__()
        self._module, self._python, self._entered = module, None, False
        QtWidgets.QVBoxLayout(self)
        self.setMRMLScene(slicer.mrmlScene)

    def self(self) -> Any:
        return self._python

    def module(self) -> ScriptedModule:
        return self._module

    def reload(self) -> None:
        """Make the Python widget anew from the module that is now imported."""
        name = self._module.name
        cls = getattr(sys.modules[name], f"{name}Widget")
        self._python = cls(self)
        setattr(slicer.modules, f"{name}Widget", self._python)
        self._python.setup()

    def enter(self) -> None:
        self._entered = True
        if hasattr(self._python, "enter"):
            self._python.enter()

    def exit(self) -> None:
        self._entered = False
        if hasattr(self._python, "exit"):
            self._python.exit()

    def _release(self) -> None:
        self._python = None

    isEntered = Property(bool, lambda self: self._entered)
    moduleName = Property(str, lambda self: self._module.name)


def import_entry(path: Path) -> Any:
    """Import a module's entry file under its own name, as Slicer's factory does."""
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


for _name in ("moduleLoaded", "moduleAboutToBeUnloaded", "moduleUnloaded"):
    declare_signals(ModuleManager, **{_name: f"{_name}(QString)"})
