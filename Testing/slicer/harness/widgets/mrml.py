"""Widgets that know the scene: qMRMLWidget and its simplest relatives."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtWidgets

from ..qtlayer.connections import declare_signals
from ..qtlayer.properties import stored
from .sliders import ctkDoubleSpinBox, ctkSliderWidget


class qMRMLWidget(QtWidgets.QWidget):
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


class qSlicerWidget(QtWidgets.QWidget):
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


class qMRMLSliderWidget(ctkSliderWidget):
    """A slider with a quantity; the unit's suffix and decimals are not applied here."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    quantity = stored(str, "", "quantity")
    unitAwareProperties = stored(int, 0, "unitAwareProperties")


class qMRMLSpinBox(ctkDoubleSpinBox):
    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    quantity = stored(str, "", "quantity")
    unitAwareProperties = stored(int, 0, "unitAwareProperties")


for _class in (qMRMLWidget, qSlicerWidget):
    declare_signals(_class, mrmlSceneChanged="mrmlSceneChanged(vtkMRMLScene*)")
