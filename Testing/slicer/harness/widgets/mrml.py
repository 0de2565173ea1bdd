"""qMRMLWidget and qSlicerWidget: plain widgets that know the scene."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtWidgets

from ..qtlayer.connections import declare_signals


class _SceneWidget(QtWidgets.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class qMRMLWidget(_SceneWidget):
    pass


class qSlicerWidget(_SceneWidget):
    pass


declare_signals(_SceneWidget, mrmlSceneChanged="mrmlSceneChanged(vtkMRMLScene*)")
