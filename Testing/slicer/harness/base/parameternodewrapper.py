"""slicer.parameterNodeWrapper: typed parameters in a vtkMRMLScriptedModuleNode.

Only the types that a module here declares: str, int, float, bool and nodes, with Choice and
WithinRange. Values are written in the genuine package's format, so that scenes are exchangeable.
"""

from __future__ import annotations

import typing
import weakref
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import ctk
import qt
import slicer
import vtk
from slicer.util import NodeModify

__all__ = ["Choice", "WithinRange", "parameterNodeWrapper"]

SlicerParameterNamePropertyName = "SlicerParameterName"
_DEFAULTS: dict[type, Any] = {str: "", int: 0, float: 0, bool: False}


class WithinRange:
    """An annotation: the value lies between two numbers, both included."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be in [{self.minimum}, {self.maximum}], is {value}")


class Choice:
    """An annotation: the value is one of these."""

    def __init__(self, choices: Collection[Any]) -> None:
        self.choices = choices

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value must be one of {self.choices}, is {value!r}")


@dataclass(frozen=True)
class ParameterInfo:
    """What the class declares about one parameter, and how a node keeps it."""

    basename: str
    kind: type
    annotations: Sequence[Any]
    default: Any

    @property
    def isNode(self) -> bool:
        return issubclass(self.kind, slicer.vtkMRMLNode)

    def annotation(self, kind: type) -> Any:
        return next((item for item in self.annotations if isinstance(item, kind)), None)

    def validate(self, value: Any) -> None:
        if self.isNode and value is None:
            return
        accepted = (int, float) if self.kind is float else self.kind
        if not isinstance(value, accepted):
            raise TypeError(f"Value must be of type {self.kind}, is {value!r}")
        for annotation in self.annotations:
            annotation.validate(value)

    def write(self, node: Any, value: Any) -> None:
        self.validate(value)
        if self.isNode:
            # The empty parameter beside the reference separates None from never set.
            node.SetParameter(self.basename, "")
            node.SetNodeReferenceID(self.basename, None if value is None else value.GetID())
        else:
            node.SetParameter(self.basename, str(value))

    def read(self, node: Any) -> Any:
        if not node.HasParameter(self.basename):
            self.write(node, self.default)
        if self.isNode:
            return node.GetNodeReference(self.basename)
        text = node.GetParameter(self.basename)
        return text == "True" if self.kind is bool else self.kind(text)


class _Parameter:
    """One parameter in one node; its value is remembered until the node changes."""

    def __init__(self, info: ParameterInfo, node: Any) -> None:
        self.info, self.node = info, node
        self.value, self._writing = info.read(node), False
        reference = weakref.ref(self)

        def modified(*_: Any) -> None:
            parameter = reference()
            if parameter is not None and not parameter._writing:
                parameter.value = parameter.info.read(parameter.node)

        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, modified)

    def __del__(self) -> None:
        if getattr(self, "_tag", None) is not None:
            self.node.RemoveObserver(self._tag)

    def write(self, value: Any) -> None:
        self._writing = True
        try:
            # Observers must find the new value, so it is fetched before they are called.
            with NodeModify(self.node):
                self.info.write(self.node, value)
                self.value = self.info.read(self.node)
        finally:
            self._writing = False


class _Connector:
    """One widget and its signal; derived classes configure, read and write it."""

    signal: ClassVar[str]
    attribute: ClassVar[str]  # the property of the widget that holds the value

    def __init__(self, widget: Any, info: ParameterInfo) -> None:
        self.widget, self.info = widget, info
        self._changed: Any = None
        self.configure()

    def configure(self) -> None:
        """Prepare the widget for the parameter's annotations."""

    def read(self) -> Any:
        return getattr(self.widget, self.attribute)

    def write(self, value: Any) -> None:
        setattr(self.widget, self.attribute, value)

    def connect(self, changed: Any) -> None:
        self._changed = changed
        getattr(self.widget, self.signal).connect(changed)

    def disconnect(self) -> None:
        getattr(self.widget, self.signal).disconnect(self._changed)


class _CheckBox(_Connector):
    signal, attribute = "stateChanged", "checked"


class _LineEdit(_Connector):
    signal, attribute = "textChanged", "text"


class _SpinBox(_Connector):
    signal, attribute = "valueChanged", "value"

    def configure(self) -> None:
        within = self.info.annotation(WithinRange)
        if within is not None:
            self.widget.minimum, self.widget.maximum = within.minimum, within.maximum
        else:
            self.widget.minimum, self.widget.maximum = -(2**31), 2**31 - 1


class _Slider(_SpinBox):
    def configure(self) -> None:
        if self.info.annotation(WithinRange) is None:
            raise RuntimeError(
                f"Cannot have a connection to {type(self.widget).__name__} where the "
                "parameter is unbounded."
            )
        super().configure()


class _ComboBox(_Connector):
    signal = "currentIndexChanged"

    def configure(self) -> None:
        choice = self.info.annotation(Choice)
        if choice is None:
            raise RuntimeError("A QComboBox requires the Choice annotation to be used.")
        self._items = list(choice.choices)
        self.widget.clear()
        for item in self._items:
            self.widget.addItem(str(item))

    def read(self) -> Any:
        return self._items[self.widget.currentIndex]

    def write(self, value: Any) -> None:
        self.widget.currentIndex = self._items.index(value)


class _NodeComboBox(_Connector):
    signal = "currentNodeChanged"

    def configure(self) -> None:
        self.widget.nodeTypes = (self.info.kind().GetClassName(),)

    def read(self) -> Any:
        return self.widget.currentNode()

    def write(self, value: Any) -> None:
        self.widget.setCurrentNode(value)


# By the exact class of the widget, as in the genuine package: a derived check box is refused.
_CONNECTORS: dict[tuple[type, type], type[_Connector]] = {
    (qt.QCheckBox, bool): _CheckBox,
    (qt.QLineEdit, str): _LineEdit,
    (qt.QSpinBox, int): _SpinBox,
    (ctk.ctkSliderWidget, float): _Slider,
    (slicer.qMRMLNodeComboBox, slicer.vtkMRMLNode): _NodeComboBox,
    **{(qt.QComboBox, kind): _ComboBox for kind in (int, float, str, bool)},
}


def _connector(widget: Any, info: ParameterInfo) -> _Connector:
    kind = slicer.vtkMRMLNode if info.isNode else info.kind
    made = _CONNECTORS.get((type(widget), kind))
    if made is None:
        raise RuntimeError(
            f"Unable to create GUI connector from datatype '{info.kind}' to widget type "
            f"'{type(widget)}'"
        )
    return made(widget, info)


class _Methods:
    """What every wrapper class gets."""

    allParameters: dict[str, ParameterInfo]
    parameterNode: Any
    _parameters: dict[str, _Parameter]
    _guis: dict[int, dict[str, _Connector]]
    _updating: bool

    def connectGui(self, gui: Any) -> int:
        """Bind the widgets of a `ui` object that name a parameter; return what disconnects."""
        connectors = {}
        for widget in vars(gui).values():
            name = widget.property(SlicerParameterNamePropertyName)
            if not name:
                continue
            if name not in self.allParameters:
                raise ValueError(f"Cannot find a param with the given name: {name}")
            connectors[name] = _connector(widget, self.allParameters[name])
        tag = self._observe()
        self._guis[tag] = connectors
        for name, connector in connectors.items():
            connector.write(self._parameters[name].value)
            connector.connect(self._writer(name, connector))
        return tag

    def disconnectGui(self, tag: int) -> None:
        for connector in self._guis.pop(tag, {}).values():
            connector.disconnect()
        self.parameterNode.RemoveObserver(tag)

    def _observe(self) -> int:
        # The garbage collector clears a callback that only a VTK object refers to, and VTK then
        # crashes calling it; a weak reference leaves nothing to collect.
        reference = weakref.ref(self)

        def modified(*_: Any) -> None:
            wrapper = reference()
            if wrapper is not None:
                wrapper._update_gui()

        return self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, modified)

    def _writer(self, name: str, connector: _Connector) -> Any:
        def changed(*_: Any) -> None:
            if not self._updating:
                with NodeModify(self.parameterNode):
                    self._parameters[name].write(connector.read())

        return changed

    def _update_gui(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            with NodeModify(self.parameterNode):
                for connectors in list(self._guis.values()):
                    for name, connector in connectors.items():
                        connector.write(self._parameters[name].value)
        finally:
            self._updating = False


def _init(self: Any, parameterNode: Any) -> None:
    self.parameterNode = parameterNode
    self._guis, self._updating = {}, False
    self._parameters = {
        name: _Parameter(info, parameterNode) for name, info in self.allParameters.items()
    }


def _property(name: str) -> property:
    return property(
        lambda self: self._parameters[name].value,
        lambda self, value: self._parameters[name].write(value),
    )


def _info(cls: type, name: str, hint: Any) -> ParameterInfo:
    kind, *annotations = typing.get_args(hint) if typing.get_origin(hint) is Annotated else [hint]
    isNode = isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)
    if not isNode and kind not in _DEFAULTS:
        raise TypeError(f"Unable to create serializer for {cls} member {name}")
    return ParameterInfo(name, kind, annotations, getattr(cls, name, _DEFAULTS.get(kind)))


def parameterNodeWrapper(cls: Any) -> Any:
    """Class decorator: the annotated members live in a parameter node."""
    hints = typing.get_type_hints(cls, include_extras=True)
    parameters = {name: _info(cls, name, hint) for name, hint in hints.items()}
    for name in parameters:
        setattr(cls, name, _property(name))
    methods = {name: item for name, item in vars(_Methods).items() if not name.startswith("__")}
    for name, item in {**methods, "allParameters": parameters}.items():
        if hasattr(cls, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        setattr(cls, name, item)
    cls.__init__ = _init
    return cls
