"""parameterNodeWrapper: a class whose annotated members live in a parameter node."""

from __future__ import annotations

import logging
import typing
import weakref
from typing import Any

import qt
import vtk
from slicer.util import NodeModify

from .annotations import (
    Default,
    splitAnnotations,
    splitDottedName,
    takeDefault,
    unannotatedType,
)
from .connector import GuiConnector, createGuiConnector
from .connectors import packWidgets
from .packs import checkMember
from .serializers import Serializer, makeSerializer

SlicerParameterNamePropertyName = "SlicerParameterName"


class ParameterInfo:
    """What the class says about one parameter."""

    def __init__(self, name: str, serializer: Serializer, default: Default, kind: Any) -> None:
        self.basename, self.serializer = name, serializer
        self.default, self.unalteredType = default, kind


class _Parameter:
    """One parameter in one node; its value is remembered where that is safe."""

    def __init__(self, info: ParameterInfo, node: Any, prefix: str) -> None:
        self.info, self.node, self.name = info, node, prefix + info.basename
        self.cached = info.serializer.supportsCaching()
        if not info.serializer.isIn(node, self.name):
            info.serializer.write(node, self.name, info.default.value)
        self._value, self._writing, self._tag = self._fetch(), False, None
        if self.cached:
            reference = weakref.ref(self)

            def modified(*_: Any) -> None:
                parameter = reference()
                if parameter is not None and not parameter._writing:
                    parameter._value = parameter._fetch()

            self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, modified)

    def __del__(self) -> None:
        if getattr(self, "_tag", None) is not None:
            self.node.RemoveObserver(self._tag)

    def _fetch(self) -> Any:
        if not self.info.serializer.isIn(self.node, self.name):
            self.info.serializer.write(self.node, self.name, self.info.default.value)
        return self.info.serializer.read(self.node, self.name)

    def read(self) -> Any:
        return self._value if self.cached else self._fetch()

    def write(self, value: Any) -> None:
        self._writing = True
        try:
            # Observers must find the new value, so it is fetched before they are called.
            with NodeModify(self.node):
                self.info.serializer.write(self.node, self.name, value)
                self._value = self._fetch()
        finally:
            self._writing = False


class _Methods:
    """What every wrapper class gets, except the observer methods of its node."""

    allParameters: dict[str, ParameterInfo]
    parameterNode: Any
    _parameters: dict[str, _Parameter]
    _guis: dict[int, tuple[dict[str, GuiConnector], int]]
    _updating: bool

    @classmethod
    def _check_name(cls, name: str) -> None:
        top, rest = splitDottedName(name)
        if top not in cls.allParameters:
            raise ValueError(
                f"Cannot find a param with the given name: {top}; there are "
                f"{', '.join(cls.allParameters)}"
            )
        if rest is not None:
            checkMember(unannotatedType(cls.allParameters[top].unalteredType), rest)

    @classmethod
    def dataType(cls, name: str) -> Any:
        cls._check_name(name)
        top, rest = splitDottedName(name)
        kind = cls.allParameters[top].unalteredType
        return kind if rest is None else unannotatedType(kind).dataType(rest)

    def default(self, name: str) -> Default:
        self._check_name(name)
        return self._parameters[name].info.default

    def isCached(self, name: str) -> bool:
        self._check_name(name)
        return self._parameters[name].cached

    def getValue(self, name: str) -> Any:
        self._check_name(name)
        top, rest = splitDottedName(name)
        value = self._parameters[top].read()
        return value if rest is None else value.getValue(rest)

    def setValue(self, name: str, value: Any) -> None:
        self._check_name(name)
        top, rest = splitDottedName(name)
        if rest is None:
            self._parameters[top].write(value)
        else:
            self._parameters[top].read().setValue(rest, value)

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        for name in mapping:
            self._check_name(name)
        connectors = {
            name: item if isinstance(item, GuiConnector)
            else createGuiConnector(item, self.dataType(name))
            for name, item in mapping.items()
        }
        tag = self._next_tag
        self._next_tag += 1
        self._guis[tag] = connectors, self._observe()
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(self._make_callback(name, connector))
        return tag

    def _observe(self) -> int:
        # The garbage collector clears a callback that only a VTK object refers to, and VTK then
        # crashes calling it; a weak reference leaves nothing to collect.
        reference = weakref.ref(self)

        def modified(*_: Any) -> None:
            wrapper = reference()
            if wrapper is not None:
                wrapper._update_gui()

        return self.AddObserver(vtk.vtkCommand.ModifiedEvent, modified)

    def _make_callback(self, name: str, connector: GuiConnector) -> Any:
        def changed() -> None:
            if not self._updating:
                with NodeModify(self):
                    self.setValue(name, connector.read())

        return changed

    def _update_gui(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            with NodeModify(self):
                for connectors, _ in list(self._guis.values()):
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._updating = False

    def connectGui(self, gui: Any) -> int:
        """Bind the widgets, of a widget or of a `ui` object, that name a parameter."""
        is_widget = getattr(gui, "isWidgetType", lambda: False)()
        widgets = gui.findChildren(qt.QWidget) if is_widget else list(vars(gui).values())
        named = {}
        for widget in widgets:
            name = widget.property(SlicerParameterNamePropertyName)
            if name:
                named[name] = widget
        return self.connectParametersToGui(named)

    def disconnectGui(self, tag: int) -> None:
        connectors, observer = self._guis.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.onChanged(None)
        if observer is not None:
            self.RemoveObserver(observer)

    def StartModify(self) -> Any:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: Any) -> Any:
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def _init(self: Any, parameterNode: Any, prefix: str | None = None) -> None:
    self.parameterNode = parameterNode
    self._guis, self._next_tag, self._updating = {}, 0, False
    self._parameters = {
        name: _Parameter(info, parameterNode, prefix or "")
        for name, info in self.allParameters.items()
    }


def _property(name: str) -> property:
    return property(
        lambda self: self._parameters[name].read(),
        lambda self, value: self._parameters[name].write(value),
    )


def _parameter_info(cls: Any, name: str, kind: Any) -> ParameterInfo:
    bare, annotations = splitAnnotations(kind)
    try:
        serializer, rest = makeSerializer(bare, annotations)
    except Exception as error:
        raise TypeError(f"Unable to create serializer for {cls} member {name}") from error
    if hasattr(cls, name):
        default: Default | None = Default(getattr(cls, name))
    else:
        default, rest = takeDefault(rest)
    if rest:
        logging.warning("Unused annotations: %s", rest)
    return ParameterInfo(name, serializer, default or Default(serializer.default()), kind)


def _process(cls: Any) -> Any:
    hints = typing.get_type_hints(cls, include_extras=True)
    parameters = {name: _parameter_info(cls, name, kind) for name, kind in hints.items()}
    for name in parameters:
        setattr(cls, name, _property(name))
    methods = {
        name: value for name, value in vars(_Methods).items()
        if not name.startswith("__")
    }
    reserved = {**methods, "allParameters": parameters, "_is_parameter_node_wrapper": True}
    for name, value in reserved.items():
        if hasattr(cls, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        setattr(cls, name, value)
    cls.__init__ = _init
    return cls


def parameterNodeWrapper(cls: Any = None) -> Any:
    """Class decorator, with or without parentheses."""
    return _process if cls is None else _process(cls)


def isParameterNodeWrapper(obj: Any) -> bool:
    return getattr(obj, "_is_parameter_node_wrapper", False)


def findChildWidgetForParameter(widget: Any, parameter: str) -> Any:
    for child in widget.findChildren(qt.QWidget):
        if child.property(SlicerParameterNamePropertyName) == parameter:
            return child
    top, rest = splitDottedName(parameter)
    if rest is None:
        return None
    found = findChildWidgetForParameter(widget, top)
    return packWidgets(found).get(rest) if found is not None else None
