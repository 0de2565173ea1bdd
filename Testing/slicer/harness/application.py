"""slicer.app: qSlicerApplication as far as a scripted module sees it."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from .files import CoreIOManager
from .modules import ModuleManager
from .qtlayer.connections import declare_signals
from .qtlayer.properties import Property

VERSION = "5.12.0"
_SHARE = "share/Slicer-5.12"


def _property(kind: Any, name: str) -> Any:
    return Property(kind, lambda self: self._facts[name])


class ExtensionsManagerModel:
    """The extensions said to be installed, and those that the server has: lists to edit."""

    def __init__(self) -> None:
        self.installedExtensions: list[str] = []
        self._on_server: list[str] = []
        self.interactive = True

    def isExtensionInstalled(self, name: str) -> bool:
        return name in self.installedExtensions

    def installExtensionFromServer(self, name: str, restart: bool = True) -> bool:
        """False when the user declines as well as when the server lacks the extension."""
        if self.isExtensionInstalled(name):
            return True
        if self.interactive:
            question = f"Do you want to install '{name}' now?"
            yes = QtWidgets.QMessageBox.question(None, "Install extension ?", question)
            if yes != QtWidgets.QMessageBox.Yes:
                return False
        if name not in self._on_server:
            return False
        self.installedExtensions.append(name)
        return True


class Application(QtWidgets.QApplication):
    startupCompleted = QtCore.Signal()

    def __init__(self) -> None:
        super().__init__(["Slicer"])
        root = Path(tempfile.mkdtemp(prefix="slicer-harness-"))
        atexit.register(shutil.rmtree, root, ignore_errors=True)
        home, temporary = root / "home", root / "tmp"
        temporary.mkdir()
        _make_python_launchers(home / "bin")
        _make_label_colors(home / _SHARE / "ColorFiles")
        self._facts: dict[str, Any] = {
            "slicerHome": str(home), "temporaryPath": str(temporary),
            "extensionsInstallPath": str(root / "extensions"),
        }
        self.setApplicationName("Slicer")
        self.setOrganizationName("slicer.org")
        self.setApplicationVersion(VERSION)
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
        QtCore.QSettings.setPath(
            QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, str(root / "settings")
        )
        self._data = root / "data"
        os.environ["XDG_DATA_HOME"] = str(self._data)  # QStandardPaths follow it
        self.setQuitOnLastWindowClosed(False)
        _dress(self)
        self._testing, self._paused, self._logic = True, 0, None
        self._settings = QtCore.QSettings()
        self._module_manager, self._files = ModuleManager(), CoreIOManager()
        self._extensions = ExtensionsManagerModel()
        self._layout_manager: Any = None

    def _adopt(self, logic: Any) -> None:
        """Take the application logic and tell it where things are."""
        self._logic = logic
        logic.SetTemporaryPath(self._facts["temporaryPath"])
        logic.SetHomeDirectory(self._facts["slicerHome"])
        logic.SetShareDirectory(_SHARE)

    def applicationLogic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def layoutManager(self) -> Any:
        return self._layout_manager

    def moduleManager(self) -> ModuleManager:
        return self._module_manager

    def coreIOManager(self) -> CoreIOManager:
        return self._files

    def ioManager(self) -> CoreIOManager:
        return self._files

    def extensionsManagerModel(self) -> ExtensionsManagerModel:
        return self._extensions

    def settings(self) -> Any:
        return self._settings

    def commandOptions(self) -> SimpleNamespace:
        return SimpleNamespace(noMainWindow=True, testingEnabled=self._testing, noSplash=True)

    def testingEnabled(self) -> bool:
        return self._testing

    def startupEnvironment(self) -> Any:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def pauseRender(self) -> None:
        self._paused += 1

    def resumeRender(self) -> None:
        self._paused = max(self._paused - 1, 0)

    def restart(self) -> None:
        raise RuntimeError("the code under test asked the application to restart")

    slicerHome = _property(str, "slicerHome")
    temporaryPath = _property(str, "temporaryPath")
    extensionsInstallPath = _property(str, "extensionsInstallPath")


def _make_python_launchers(folder: Path) -> None:
    """Put PythonSlicer and python-real where an installed Slicer has them, and on PATH."""
    folder.mkdir(parents=True)
    for name in ("PythonSlicer", "python-real"):
        launcher = folder / name
        launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"


def _make_label_colors(folder: Path) -> None:
    """Slicer's default colors of label volumes come from a file that slicer-core lacks.

    The node has the name and the role of Slicer's; the colors are not the same.
    """
    folder.mkdir(parents=True)
    rows = ["0 background 0 0 0 0"]
    for label in range(1, 321):
        color = QtGui.QColor.fromHsvF(label * 0.381966 % 1.0, 0.55, 0.9)
        rows.append(f"{label} {label} {color.red()} {color.green()} {color.blue()} 255")
    (folder / "GenericColors.txt").write_text("\n".join(rows) + "\n")


def _dress(application: Any) -> None:
    """Slicer's light style, about."""
    application.setStyle("Fusion")
    palette = QtGui.QPalette()
    for role, color in (
        ("Window", "#efefef"), ("WindowText", "#000000"), ("Base", "#ffffff"),
        ("AlternateBase", "#f6f6f6"), ("Text", "#000000"), ("Button", "#efefef"),
        ("ButtonText", "#000000"), ("Highlight", "#308cc6"), ("HighlightedText", "#ffffff"),
        ("ToolTipBase", "#ffffdc"), ("ToolTipText", "#000000"), ("PlaceholderText", "#777777"),
    ):
        palette.setColor(getattr(QtGui.QPalette, role), QtGui.QColor(color))
    for role in ("WindowText", "Text", "ButtonText"):
        palette.setColor(
            QtGui.QPalette.Disabled, getattr(QtGui.QPalette, role), QtGui.QColor("#a0a0a0")
        )
    application.setPalette(palette)
    font = application.font()
    font.setPointSize(9)
    application.setFont(font)


declare_signals(Application, startupCompleted="startupCompleted()")
