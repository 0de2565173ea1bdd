"""Which widget shows which type of parameter, and how.

The genuine package looks at the exact class of the widget: a ctkComboBox or a derived check box
is refused although its base class would be accepted. So it is here.
"""

from __future__ import annotations

import enum
import logging
from typing import Any, ClassVar

import ctk
import qt
import slicer

from . import validators
from .annotations import (
    Decimals,
    SingleStep,
    findFirstAnnotation,
    getNodeTypes,
    isNodeOrUnionOfNodes,
    splitAnnotations,
    unannotatedType,
)
from .connector import GuiConnector, createGuiConnector, parameterNodeGuiConnector
from .packs import FloatRange, isParameterPack, nestedParameterNames
from .serializers import _PATHS

SlicerPackParameterNamePropertyName = "SlicerPackParameterName"


class _WidgetConnector(GuiConnector):
    """One widget with one signal; derived classes say which types and how to read and write."""

    signal: ClassVar[str]
    classes: ClassVar[tuple[type, ...]]

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__()
        self._widget = widget
        self._type, self._annotations = splitAnnotations(datatype)
        self._configure()

    @classmethod
    def _accepts(cls, kind: Any) -> bool:
        raise NotImplementedError

    @classmethod
    def canRepresent(cls, widget: Any, datatype: Any) -> bool:  # type: ignore[override]
        return type(widget) in cls.classes and cls._accepts(unannotatedType(datatype))

    @classmethod
    def create(cls, widget: Any, datatype: Any) -> GuiConnector:  # type: ignore[override]
        return cls(widget, datatype)

    def _configure(self) -> None:
        """Prepare the widget for the parameter's annotations."""

    def _annotation(self, kind: type) -> Any:
        return findFirstAnnotation(self._annotations, kind)

    def _connect(self) -> None:
        getattr(self._widget, self.signal).connect(self.changed)

    def _disconnect(self) -> None:
        getattr(self._widget, self.signal).disconnect(self.changed)

    def widget(self) -> Any:
        return self._widget


@parameterNodeGuiConnector
class CheckBoxConnector(_WidgetConnector):
    signal, classes = "stateChanged", (qt.QCheckBox,)

    @classmethod
    def _accepts(cls, kind: Any) -> bool:
        return kind is bool

    def read(self) -> bool:
        return self._widget.checked

    def write(self, value: bool) -> None:
        self._widget.checked = value


@parameterNodeGuiConnector
class PushButtonConnector(CheckBoxConnector):
    signal, classes = "toggled", (qt.QPushButton,)

    def _configure(self) -> None:
        if not self._widget.checkable:
            logging.warning("Making the push button %s checkable", self._widget.objectName)
            self._widget.checkable = True


class _RangeConnector(_WidgetConnector):
    """Numbers: sliders refuse a parameter without bounds."""

    signal = "valueChanged"
    sliders: ClassVar[tuple[type, ...]]
    unbounded: ClassVar[tuple[float, float]]

    def _configure(self) -> None:
        decimals, step = self._annotation(Decimals), self._annotation(SingleStep)
        if decimals is not None:
            self._widget.decimals = decimals.value
        if step is not None:
            self._widget.singleStep = step.value
        within = self._annotation(validators.WithinRange)
        low = within or self._annotation(validators.Minimum)
        high = within or self._annotation(validators.Maximum)
        if isinstance(self._widget, self.sliders) and (low is None or high is None):
            raise RuntimeError(
                f"Cannot have a connection to {type(self._widget).__name__} where the "
                "parameter is unbounded."
            )
        self._widget.minimum = self.unbounded[0] if low is None else low.minimum
        self._widget.maximum = self.unbounded[1] if high is None else high.maximum

    def read(self) -> Any:
        return self._widget.value

    def write(self, value: Any) -> None:
        self._widget.value = value


@parameterNodeGuiConnector
class IntegerConnector(_RangeConnector):
    classes, sliders = (qt.QSlider, qt.QSpinBox), (qt.QSlider,)
    unbounded = (-(2**31), 2**31 - 1)

    @classmethod
    def _accepts(cls, kind: Any) -> bool:
        return kind is int


@parameterNodeGuiConnector
class FloatConnector(_RangeConnector):
    classes, sliders = (qt.QDoubleSpinBox, ctk.ctkSliderWidget), (ctk.ctkSliderWidget,)
    unbounded = (float("-inf"), float("inf"))

    @classmethod
    def _accepts(cls, kind: Any) -> bool:
        return kind is float


class _ComboBoxConnector(_WidgetConnector):
    signal, classes = "currentIndexChanged", (qt.QComboBox,)

    def _entries(self) -> list[tuple[str, Any]]:
        raise NotImplementedError

    def _configure(self) -> None:
        self._items = self._entries()
        self._widget.clear()
        for text, _ in self._items:
            self._widget.addItem(text)

    def read(self) -> Any:
        return self._items[self._widget.currentIndex][1]

    def write(self, value: Any) -> None:
        for index, (_, item) in enumerate(self._items):
            if item == value:
                self._widget.currentIndex = index
                return
        raise ValueError(f"Unable to find value {value} in {[item for _, item in self._items]}")


@parameterNodeGuiConnector
class ChoiceConnector(_ComboBoxConnector):
    @classmethod
    def _accepts(cls, kind: Any) -> bool:
        return kind in (int, float, str, bool)

    def _entries(self) -> list[tuple[str, Any]]:
        choice = self._annotation(validators.Choice)
        if choice is None:
            raise RuntimeError("A QComboBox requires the Choice annotation to be used.")
        return [(str(item), item) for item in choice.choices]


@parameterNodeGuiConnector
class EnumConnector(_ComboBoxConnector):
    @classmethod
    def _accepts(cls, kind: Any) -> bool:
        return isinstance(kind, type) and issubclass(kind, enum.Enum)

    def _entries(self) -> list[tuple[str, Any]]:
        label = getattr(self._type, "label", lambda item: item.name)
        return [(label(item), item) for item in self._type]


@parameterNodeGuiConnector
class LineEditConnector(_WidgetConnector):
    signal, classes = "textChanged", (qt.QLineEdit,)

    @classmethod
    def _accepts(cls, kind: Any) -> bool:
        return kind is str

    def read(self) -> str:
        return self._widget.text

    def write(self, value: str) -> None:
        self._widget.text = value


@parameterNodeGuiConnector
class TextEditConnector(LineEditConnector):
    signal, classes = "textChanged", (qt.QTextEdit,)

    def read(self) -> str:
        return self._widget.toPlainText()

    def write(self, value: str) -> None:
        # Writing the same text again would move the cursor of somebody who types.
        if value != self._widget.toPlainText():
            self._widget.setPlainText(value)


@parameterNodeGuiConnector
class PathConnector(_WidgetConnector):
    signal, classes = "currentPathChanged", (ctk.ctkPathLineEdit,)

    @classmethod
    def _accepts(cls, kind: Any) -> bool:
        return kind in _PATHS

    def read(self) -> Any:
        return self._type(self._widget.currentPath)

    def write(self, value: Any) -> None:
        self._widget.currentPath = str(value)


@parameterNodeGuiConnector
class DirectoryConnector(PathConnector):
    signal, classes = "directoryChanged", (ctk.ctkDirectoryButton,)

    def read(self) -> Any:
        return self._type(self._widget.directory)

    def write(self, value: Any) -> None:
        self._widget.directory = str(value)


@parameterNodeGuiConnector
class RangeWidgetConnector(_WidgetConnector):
    signal, classes = "valuesChanged", (ctk.ctkRangeWidget,)

    @classmethod
    def _accepts(cls, kind: Any) -> bool:
        return kind is FloatRange

    def _configure(self) -> None:
        decimals, step = self._annotation(Decimals), self._annotation(SingleStep)
        if decimals is not None:
            self._widget.decimals = decimals.value
        if step is not None:
            self._widget.singleStep = step.value
        bounds = self._annotation(validators.RangeBounds)
        if bounds is None:
            raise RuntimeError("A ctkRangeWidget requires the RangeBounds annotation.")
        self._widget.setRange(bounds.minimum, bounds.maximum)

    def read(self) -> Any:
        return self._type(self._widget.minimumValue, self._widget.maximumValue)

    def write(self, value: Any) -> None:
        self._widget.setValues(value.minimum, value.maximum)


@parameterNodeGuiConnector
class NodeConnector(_WidgetConnector):
    signal, classes = "currentNodeChanged", (slicer.qMRMLNodeComboBox,)

    @classmethod
    def canRepresent(cls, widget: Any, datatype: Any) -> bool:  # type: ignore[override]
        return type(widget) in cls.classes and isNodeOrUnionOfNodes(datatype)

    def _configure(self) -> None:
        self._widget.nodeTypes = getNodeTypes(self._type)

    def read(self) -> Any:
        return self._widget.currentNode()

    def write(self, value: Any) -> None:
        self._widget.setCurrentNode(value)


def packWidgets(widget: Any) -> dict[str, Any]:
    """Widgets below this one by the dotted name of the pack's value that they show."""
    named = {}
    for child in widget.findChildren(qt.QWidget):
        parts, step = [], child
        while step is not None and step is not widget:
            name = step.property(SlicerPackParameterNamePropertyName)
            if name:
                parts.insert(0, name)
            step = step.parent()
        if parts and child.property(SlicerPackParameterNamePropertyName):
            named[".".join(parts)] = child
    return named


@parameterNodeGuiConnector
class PackConnector(GuiConnector):
    """A widget whose children show the values of a parameter pack."""

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        kind = unannotatedType(datatype)
        if not isParameterPack(kind):
            return False
        return set(nestedParameterNames(kind)) <= set(packWidgets(widget))

    @staticmethod
    def create(widget: Any, datatype: Any) -> GuiConnector:
        return PackConnector(widget, unannotatedType(datatype))

    def __init__(self, widget: Any, kind: Any) -> None:
        super().__init__()
        self._widget, self._type = widget, kind
        widgets = packWidgets(widget)
        self._parts = {
            name: createGuiConnector(widgets[name], kind.dataType(name))
            for name in nestedParameterNames(kind)
        }

    def _connect(self) -> None:
        for part in self._parts.values():
            part.onChanged(self.changed)

    def _disconnect(self) -> None:
        for part in self._parts.values():
            part.onChanged(None)

    def widget(self) -> Any:
        return self._widget

    def read(self) -> Any:
        pack = self._type()
        for name, part in self._parts.items():
            pack.setValue(name, part.read())
        return pack

    def write(self, value: Any) -> None:
        for name, part in self._parts.items():
            part.write(value.getValue(name))
