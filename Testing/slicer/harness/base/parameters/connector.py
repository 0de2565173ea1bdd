"""What connects a widget to a parameter, and the register of those that do."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any


class GuiConnector(abc.ABC):
    """Reads and writes one widget and tells when it changed."""

    def __init__(self) -> None:
        super().__init__()
        self._callback: Callable[[], None] | None = None

    @staticmethod
    @abc.abstractmethod
    def canRepresent(widget: Any, datatype: Any) -> bool: ...

    @staticmethod
    @abc.abstractmethod
    def create(widget: Any, datatype: Any) -> GuiConnector | None: ...

    @abc.abstractmethod
    def _connect(self) -> None: ...

    @abc.abstractmethod
    def _disconnect(self) -> None: ...

    @abc.abstractmethod
    def widget(self) -> Any: ...

    @abc.abstractmethod
    def read(self) -> Any: ...

    @abc.abstractmethod
    def write(self, value: Any) -> None: ...

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        self._callback = callback
        if callback is None:
            self._disconnect()
        else:
            self._connect()

    def changed(self, *_: Any) -> None:
        if self._callback is not None:
            self._callback()


_registered: list[type[GuiConnector]] = []


def parameterNodeGuiConnector(cls: Any = None) -> Any:
    """Class decorator that makes a connector known; with or without parentheses."""

    def register(connector: type[GuiConnector]) -> type[GuiConnector]:
        if not issubclass(connector, GuiConnector):
            raise TypeError("Must be a GuiConnector subclass")
        _registered.append(connector)
        return connector

    return register if cls is None else register(cls)


def createGuiConnector(widget: Any, datatype: Any) -> GuiConnector:
    for candidate in _registered:
        if candidate.canRepresent(widget, datatype):
            made = candidate.create(widget, datatype)
            assert made is not None
            return made
    raise RuntimeError(
        f"Unable to create GUI connector from datatype '{datatype}' to widget type "
        f"'{type(widget)}'"
    )
