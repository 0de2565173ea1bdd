"""ctkSliderWidget: a slider of doubles with a spin box beside it."""

from __future__ import annotations

import math
from typing import Any

from PySide6 import QtCore, QtWidgets

from ..qtlayer.connections import declare_signals
from ..qtlayer.properties import Property, stored

_STEPS = 10000


class ctkSliderWidget(QtWidgets.QWidget):
    valueChanged = QtCore.Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal)
        self._slider.setRange(0, _STEPS)
        self._box = QtWidgets.QDoubleSpinBox()
        self._box.setDecimals(2)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self._box.setRange(0.0, 99.0)
        self._box.valueChanged.connect(self._on_box)
        self._slider.valueChanged.connect(self._on_slider)

    def _span(self) -> float:
        return self._box.maximum - self._box.minimum

    def _on_slider(self, position: int) -> None:
        self._box.setValue(self._box.minimum + self._span() * position / _STEPS)

    def _on_box(self, value: float) -> None:
        self._move_handle()
        self.valueChanged.emit(value)

    def _move_handle(self) -> None:
        span = self._span()
        known = span and math.isfinite(span)
        fraction = (self._box.value - self._box.minimum) / span if known else 0.0
        self._slider.blockSignals(True)
        self._slider.setValue(round(fraction * _STEPS))
        self._slider.blockSignals(False)

    def _set_range(self, minimum: float, maximum: float) -> None:
        self._box.setRange(minimum, maximum)
        self._move_handle()

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    value = Property(
        float, lambda self: self._box.value, lambda self, value: self._box.setValue(value)
    )
    minimum = Property(
        float, lambda self: self._box.minimum,
        lambda self, value: self._set_range(value, max(value, self._box.maximum)),
    )
    maximum = Property(
        float, lambda self: self._box.maximum,
        lambda self, value: self._set_range(min(value, self._box.minimum), value),
    )
    singleStep = Property(
        float, lambda self: self._box.singleStep,
        lambda self, value: self._box.setSingleStep(value),
    )
    decimals = Property(
        int, lambda self: self._box.decimals, lambda self, value: self._box.setDecimals(value)
    )
    suffix = Property(
        str, lambda self: self._box.suffix, lambda self, value: self._box.setSuffix(value)
    )
    prefix = Property(
        str, lambda self: self._box.prefix, lambda self, value: self._box.setPrefix(value)
    )
    spinBoxVisible = Property(
        bool, lambda self: not self._box.isHidden(),
        lambda self, value: self._box.setVisible(value),
    )
    pageStep = stored(float, 10.0, "pageStep")


declare_signals(ctkSliderWidget, valueChanged="valueChanged(double)")
