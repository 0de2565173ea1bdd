"""Load, enter, reload and unload a scripted module as the application does."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any

import shiboken6
import slicer
from PySide6 import QtCore

from .modules import ScriptedModule, ScriptedModuleWidget, import_entry


def process_events(milliseconds: int = 0) -> None:
    """Run the Qt event loop, deferred deletions included, for at least this long."""
    timer = QtCore.QElapsedTimer()
    timer.start()
    while True:
        slicer.app.processEvents()
        slicer.app.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)
        if timer.elapsed() >= milliseconds:
            return
        QtCore.QThread.msleep(5)


def wait_until(condition: Any, seconds: float = 10.0) -> None:
    """Run the event loop until the condition holds; TimeoutError if it never does."""
    timer = QtCore.QElapsedTimer()
    timer.start()
    while not condition():
        if timer.elapsed() > seconds * 1000:
            raise TimeoutError(f"condition not met within {seconds} s")
        process_events(5)


class LoadedModule:
    """A module in the application: its Python module, instance, panel and Python widget."""

    def __init__(self, path: Path, enter: bool) -> None:
        self.name = path.stem
        self.module: Any = import_entry(path)
        self.parent: Any = ScriptedModule(path)
        self.instance: Any = getattr(self.module, self.name)(self.parent)
        manager = slicer.app.moduleManager()
        manager._add(self.parent)
        setattr(slicer.modules, f"{self.name}Instance", self.instance)
        manager.moduleLoaded.emit(self.name)
        slicer.app.startupCompleted.emit()
        self.panel: Any = self.parent.widgetRepresentation()
        if enter:
            self.enter()

    @property
    def widget(self) -> Any:
        """The module's Python widget, an instance of its ...Widget class."""
        return self.panel.self()

    @property
    def ui(self) -> Any:
        return self.widget.ui

    def enter(self) -> None:
        """The user selects the module."""
        self.panel.enter()

    def exit(self) -> None:
        """The user leaves the module for another."""
        self.panel.exit()

    def reload(self) -> Any:
        """The user presses Reload; returns the new Python widget."""
        entered = self.panel.isEntered
        if entered:
            self.exit()
        self.widget.onReload()
        process_events()
        self.module = sys.modules[self.name]
        if entered:
            self.enter()
        return self.widget

    def unload(self) -> None:
        """Take the module out of the application and drop every reference to it."""
        if self.panel is None:
            return
        if self.panel.isEntered:
            self.exit()
        manager = slicer.app.moduleManager()
        manager.moduleAboutToBeUnloaded.emit(self.name)
        slicer.app.disconnect("startupCompleted()")  # or it registers once for each former one
        manager._remove(self.name)
        panel: ScriptedModuleWidget = self.panel
        panel._release()
        self.parent._forget_widget()
        self.panel = self.instance = self.parent = self.module = None
        slicer.selfTests.pop(self.name, None)
        sys.modules.pop(self.name, None)
        shiboken6.delete(panel)
        del panel
        manager.moduleUnloaded.emit(self.name)
        process_events()
        gc.collect()


def load_module(path: str | os.PathLike[str], enter: bool = True) -> LoadedModule:
    """Load a scripted module from its entry file, build its panel and, unless told not to, enter.

    startupCompleted() is emitted at every loading, so that what a module registers then runs.
    """
    return LoadedModule(Path(path).resolve(), enter)
