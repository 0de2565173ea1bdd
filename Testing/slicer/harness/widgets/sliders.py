"""Sliders of doubles."""

from __future__ import annotations

import math
from typing import Any

from PySide6 import QtCore, QtWidgets

from ..qtlayer.connections import declare_signals
from ..qtlayer.properties import Property, stored

_STEPS = 10000


class ctkDoubleSlider(QtWidgets.QWidget):
    valueChanged = QtCore.Signal(float)
    sliderMoved = QtCore.Signal(float)
    sliderPressed = QtCore.Signal()
    sliderReleased = QtCore.Signal()
    rangeChanged = QtCore.Signal(float, float)

    def __init__(self, *args: Any) -> None:
        vertical = not (args and args[0] == QtCore.Qt.Horizontal)
        parent = next((item for item in args if isinstance(item, QtWidgets.QWidget)), None)
        super().__init__(parent)
        self._minimum, self._maximum, self._value, self._syncing = 0.0, 99.0, 0.0, False
        orientation = QtCore.Qt.Vertical if vertical else QtCore.Qt.Horizontal
        self._slider = QtWidgets.QSlider(orientation)
        self._slider.setRange(0, _STEPS)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        self._slider.valueChanged.connect(self._on_slider)
        self._slider.sliderPressed.connect(self.sliderPressed)
        self._slider.sliderReleased.connect(self.sliderReleased)

    def _on_slider(self, position: int) -> None:
        if not self._syncing:
            span = self._maximum - self._minimum
            self._assign(self._minimum + span * position / _STEPS)

    def _assign(self, value: float) -> None:
        value = min(max(float(value), self._minimum), self._maximum)
        changed, self._value = value != self._value, value
        self._move_handle()
        if changed:
            self.valueChanged.emit(value)

    def _move_handle(self) -> None:
        span = self._maximum - self._minimum
        fraction = (self._value - self._minimum) / span if span and math.isfinite(span) else 0.0
        self._syncing = True
        self._slider.setValue(round(fraction * _STEPS))
        self._syncing = False

    def _set_range(self, minimum: float, maximum: float) -> None:
        if (minimum, maximum) != (self._minimum, self._maximum):
            self._minimum, self._maximum = float(minimum), float(maximum)
            self.rangeChanged.emit(self._minimum, self._maximum)
        self._assign(self._value)

    def setValue(self, value: float) -> None:
        self._assign(value)

    def setOrientation(self, orientation: Any) -> None:
        self._slider.setOrientation(orientation)

    value = Property(
        float, lambda self: self._value, lambda self, value: self._assign(value),
        notify=valueChanged,
    )
    minimum = Property(
        float, lambda self: self._minimum,
        lambda self, value: self._set_range(value, max(value, self._maximum)),
    )
    maximum = Property(
        float, lambda self: self._maximum,
        lambda self, value: self._set_range(min(value, self._minimum), value),
    )
    orientation = Property(
        int, lambda self: int(self._slider.orientation),
        lambda self, value: self._slider.setOrientation(QtCore.Qt.Orientation(value)),
    )
    sliderPosition = Property(
        float, lambda self: self._value, lambda self, value: self._assign(value)
    )
    singleStep = stored(float, 1.0, "singleStep")
    pageStep = stored(float, 10.0, "pageStep")
    tickInterval = stored(float, 0.0, "tickInterval")
    tickPosition = stored(int, 0, "tickPosition")
    tracking = stored(bool, True, "tracking")
    handleToolTip = stored(str, "", "handleToolTip")
    invertedAppearance = stored(bool, False, "invertedAppearance")
    invertedControls = stored(bool, False, "invertedControls")


class ctkDoubleSpinBox(QtWidgets.QWidget):
    valueChanged = QtCore.Signal(float)
    decimalsChanged = QtCore.Signal(int)
    editingFinished = QtCore.Signal()

    def __init__(self, *args: Any) -> None:
        parent = next((item for item in args if isinstance(item, QtWidgets.QWidget)), None)
        super().__init__(parent)
        self._box = QtWidgets.QDoubleSpinBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.valueChanged.connect(self.valueChanged)
        self._box.editingFinished.connect(self.editingFinished)

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    value = Property(
        float, lambda self: self._box.value, lambda self, value: self._box.setValue(value),
        notify=valueChanged,
    )
    minimum = Property(
        float, lambda self: self._box.minimum, lambda self, value: self._box.setMinimum(value)
    )
    maximum = Property(
        float, lambda self: self._box.maximum, lambda self, value: self._box.setMaximum(value)
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


class ctkSliderWidget(QtWidgets.QWidget):
    valueChanged = QtCore.Signal(float)
    valueIsChanging = QtCore.Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._slider = ctkDoubleSlider(QtCore.Qt.Horizontal)
        self._box = QtWidgets.QDoubleSpinBox()
        self._box.setDecimals(2)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self._box.setRange(0.0, 99.0)
        self._box.valueChanged.connect(self._on_box)
        self._slider.valueChanged.connect(self._box.setValue)

    def _on_box(self, value: float) -> None:
        self._slider.blockSignals(True)
        self._slider.setValue(value)
        self._slider.blockSignals(False)
        self.valueChanged.emit(value)

    def _set_range(self, minimum: float, maximum: float) -> None:
        self._slider.blockSignals(True)
        self._slider._set_range(minimum, maximum)
        self._slider.blockSignals(False)
        self._box.setRange(minimum, maximum)

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    def reset(self) -> None:
        self._box.setValue(0.0)

    def setSpinBoxVisible(self, visible: bool) -> None:
        self._box.setVisible(visible)

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
    tickInterval = stored(float, 0.0, "tickInterval")
    tickPosition = stored(int, 0, "tickPosition")
    autoSpinBoxWidth = stored(bool, True, "autoSpinBoxWidth")
    spinBoxAlignment = stored(int, 1, "spinBoxAlignment")
    tracking = stored(bool, True, "tracking")
    popupSlider = stored(bool, False, "popupSlider")


class ctkRangeWidget(QtWidgets.QWidget):
    minimumValueChanged = QtCore.Signal(float)
    minimumValueIsChanging = QtCore.Signal(float)
    maximumValueChanged = QtCore.Signal(float)
    maximumValueIsChanging = QtCore.Signal(float)
    valuesChanged = QtCore.Signal(float, float)
    rangeChanged = QtCore.Signal(float, float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._low, self._high = QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._low)
        layout.addStretch(1)
        layout.addWidget(self._high)
        self.setRange(0.0, 99.0)
        self._high.setValue(99.0)
        self._low.valueChanged.connect(self._on_low)
        self._high.valueChanged.connect(self._on_high)

    def _on_low(self, value: float) -> None:
        if value > self._high.value:
            self._high.setValue(value)
        self.minimumValueChanged.emit(value)
        self.valuesChanged.emit(value, self._high.value)

    def _on_high(self, value: float) -> None:
        if value < self._low.value:
            self._low.setValue(value)
        self.maximumValueChanged.emit(value)
        self.valuesChanged.emit(self._low.value, value)

    def setRange(self, minimum: float, maximum: float) -> None:
        self._low.setRange(minimum, maximum)
        self._high.setRange(minimum, maximum)
        self.rangeChanged.emit(minimum, maximum)

    def setMinimumValue(self, value: float) -> None:
        self._low.setValue(value)

    def setMaximumValue(self, value: float) -> None:
        self._high.setValue(value)

    def setValues(self, minimum: float, maximum: float) -> None:
        self._high.setValue(maximum)
        self._low.setValue(minimum)

    def reset(self) -> None:
        self.setValues(0.0, 0.0)

    def _each(self, setter: str, value: Any) -> None:
        for box in (self._low, self._high):
            getattr(box, setter)(value)

    minimumValue = Property(
        float, lambda self: self._low.value, lambda self, value: self._low.setValue(value)
    )
    maximumValue = Property(
        float, lambda self: self._high.value, lambda self, value: self._high.setValue(value)
    )
    minimum = Property(
        float, lambda self: self._low.minimum,
        lambda self, value: self.setRange(value, max(value, self._low.maximum)),
    )
    maximum = Property(
        float, lambda self: self._low.maximum,
        lambda self, value: self.setRange(min(value, self._low.minimum), value),
    )
    singleStep = Property(
        float, lambda self: self._low.singleStep,
        lambda self, value: self._each("setSingleStep", value),
    )
    decimals = Property(
        int, lambda self: self._low.decimals,
        lambda self, value: self._each("setDecimals", value),
    )
    suffix = Property(
        str, lambda self: self._low.suffix, lambda self, value: self._each("setSuffix", value)
    )
    prefix = Property(
        str, lambda self: self._low.prefix, lambda self, value: self._each("setPrefix", value)
    )
    tickInterval = stored(float, 0.0, "tickInterval")
    autoSpinBoxWidth = stored(bool, True, "autoSpinBoxWidth")
    spinBoxTextAlignment = stored(int, 1, "spinBoxTextAlignment")
    spinBoxAlignment = stored(int, 128, "spinBoxAlignment")
    tracking = stored(bool, True, "tracking")
    symmetricMoves = stored(bool, False, "symmetricMoves")


for _class in (ctkDoubleSlider,):
    declare_signals(
        _class, valueChanged="valueChanged(double)", sliderMoved="sliderMoved(double)",
        rangeChanged="rangeChanged(double,double)",
    )
declare_signals(ctkDoubleSpinBox, valueChanged="valueChanged(double)")
declare_signals(
    ctkSliderWidget, valueChanged="valueChanged(double)",
    valueIsChanging="valueIsChanging(double)",
)
declare_signals(
    ctkRangeWidget, minimumValueChanged="minimumValueChanged(double)",
    minimumValueIsChanging="minimumValueIsChanging(double)",
    maximumValueChanged="maximumValueChanged(double)",
    maximumValueIsChanging="maximumValueIsChanging(double)",
    valuesChanged="valuesChanged(double,double)", rangeChanged="rangeChanged(double,double)",
)
