"""How a value is kept in a parameter node: numbers, texts, paths, enumerations and nodes."""

from __future__ import annotations

import abc
import enum
import logging
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar

import slicer

from .annotations import splitAnnotations
from .validators import IsInstance, IsNone, NotNone, Validator, takeValidators

_PATHS = (
    pathlib.Path, pathlib.PosixPath, pathlib.WindowsPath,
    pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath,
)


class UnsupportedType(TypeError):
    """No serializer keeps values of this type."""


class Serializer(abc.ABC):
    @staticmethod
    @abc.abstractmethod
    def canSerialize(kind: Any) -> bool: ...

    @staticmethod
    @abc.abstractmethod
    def create(kind: Any) -> Serializer | None: ...

    @abc.abstractmethod
    def default(self) -> Any: ...

    @abc.abstractmethod
    def isIn(self, node: Any, name: str) -> bool: ...

    @abc.abstractmethod
    def write(self, node: Any, name: str, value: Any) -> None: ...

    @abc.abstractmethod
    def read(self, node: Any, name: str) -> Any: ...

    @abc.abstractmethod
    def remove(self, node: Any, name: str) -> None: ...

    def supportsCaching(self) -> bool:
        return False


class ValidatedSerializer(Serializer):
    """A serializer whose values are checked before they are written."""

    def __init__(self, serializer: Serializer, validators: Sequence[Validator] | None) -> None:
        inner = serializer.validators if isinstance(serializer, ValidatedSerializer) else []
        self.serializer: Serializer = getattr(serializer, "serializer", serializer)
        self.validators: list[Validator] = [*inner, *(validators or [])]

    @staticmethod
    def canSerialize(kind: Any) -> bool:
        return False

    @staticmethod
    def create(kind: Any) -> Serializer | None:
        raise TypeError("ValidatedSerializer wraps another serializer")

    def validate(self, value: Any) -> None:
        for validator in self.validators:
            validator.validate(value)

    def default(self) -> Any:
        return self.serializer.default()

    def isIn(self, node: Any, name: str) -> bool:
        return self.serializer.isIn(node, name)

    def write(self, node: Any, name: str, value: Any) -> None:
        self.validate(value)
        self.serializer.write(node, name, value)

    def read(self, node: Any, name: str) -> Any:
        return self.serializer.read(node, name)

    def remove(self, node: Any, name: str) -> None:
        self.serializer.remove(node, name)

    def supportsCaching(self) -> bool:
        return self.serializer.supportsCaching()


_registered: list[type[Serializer]] = []


def parameterNodeSerializer(cls: Any = None) -> Any:
    """Class decorator that makes a serializer known; with or without parentheses."""

    def register(serializer: type[Serializer]) -> type[Serializer]:
        if not issubclass(serializer, Serializer):
            raise TypeError("must be a Serializer")
        _registered.append(serializer)
        return serializer

    return register if cls is None else register(cls)


def makeSerializer(kind: Any, annotations: Sequence[Any]) -> tuple[Serializer, list[Any]]:
    """The serializer for a type, and the annotations it had no use for."""
    validators, rest = takeValidators(annotations)
    given = [item for item in rest if isinstance(item, Serializer)]
    rest = [item for item in rest if not isinstance(item, Serializer)]
    for candidate in [] if given else _registered:
        if candidate.canSerialize(kind):
            made = candidate.create(kind)
            assert made is not None
            given.append(made)
            break
    if len(given) != 1:
        raise UnsupportedType(f"Unable to create serializer for type: {kind}")
    return ValidatedSerializer(given[0], validators), rest


def serializerOf(annotated: Any) -> Serializer:
    serializer, unused = makeSerializer(*splitAnnotations(annotated))
    if unused:
        logging.warning("Unused annotations: %s", unused)
    return serializer


class TextSerializer(Serializer):
    """Base of those that keep one value as one parameter."""

    def isIn(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, str(value))

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)

    def supportsCaching(self) -> bool:
        return True


@parameterNodeSerializer
class NumberSerializer(TextSerializer):
    def __init__(self, kind: type) -> None:
        self.type = kind

    @staticmethod
    def canSerialize(kind: Any) -> bool:
        return kind in (int, float)

    @staticmethod
    def create(kind: Any) -> Serializer:
        accepted = (int, float) if kind is float else int
        return ValidatedSerializer(NumberSerializer(kind), [NotNone(), IsInstance(accepted)])

    def default(self) -> Any:
        return 0

    def read(self, node: Any, name: str) -> Any:
        return self.type(node.GetParameter(name))


@parameterNodeSerializer
class StringSerializer(TextSerializer):
    @staticmethod
    def canSerialize(kind: Any) -> bool:
        return kind is str

    @staticmethod
    def create(kind: Any) -> Serializer:
        return ValidatedSerializer(StringSerializer(), [NotNone(), IsInstance(str)])

    def default(self) -> str:
        return ""

    def read(self, node: Any, name: str) -> str:
        return node.GetParameter(name)


@parameterNodeSerializer
class PathSerializer(TextSerializer):
    def __init__(self, kind: type) -> None:
        self.type = kind

    @staticmethod
    def canSerialize(kind: Any) -> bool:
        return kind in _PATHS

    @staticmethod
    def create(kind: Any) -> Serializer:
        return ValidatedSerializer(PathSerializer(kind), [NotNone(), IsInstance(kind)])

    def default(self) -> Any:
        return self.type()

    def read(self, node: Any, name: str) -> Any:
        return self.type(node.GetParameter(name))


@parameterNodeSerializer
class BoolSerializer(TextSerializer):
    @staticmethod
    def canSerialize(kind: Any) -> bool:
        return kind is bool

    @staticmethod
    def create(kind: Any) -> Serializer:
        return ValidatedSerializer(BoolSerializer(), [NotNone(), IsInstance(bool)])

    def default(self) -> bool:
        return False

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "True" if value else "False")

    def read(self, node: Any, name: str) -> bool:
        return node.GetParameter(name) == "True"


@parameterNodeSerializer
class NodeSerializer(TextSerializer):
    """A node reference, with an empty parameter beside it that tells unset from None."""

    @staticmethod
    def canSerialize(kind: Any) -> bool:
        return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)

    @staticmethod
    def create(kind: Any) -> Serializer:
        return ValidatedSerializer(NodeSerializer(), [IsInstance(kind)])

    def default(self) -> None:
        return None

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, None if value is None else value.GetID())

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


@parameterNodeSerializer
class NoneSerializer(TextSerializer):
    """Only as a member of Optional."""

    cached: ClassVar[bool] = True

    @staticmethod
    def canSerialize(kind: Any) -> bool:
        return kind is type(None)

    @staticmethod
    def create(kind: Any) -> Serializer:
        return ValidatedSerializer(NoneSerializer(), [IsNone()])

    def default(self) -> None:
        return None

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "True")

    def read(self, node: Any, name: str) -> None:
        return None


@parameterNodeSerializer
class EnumSerializer(TextSerializer):
    """The member's name; the first member is the default."""

    def __init__(self, kind: type[enum.Enum]) -> None:
        if not len(kind):
            raise ValueError("Cannot serialize empty Enum.")
        self.enum = kind

    @staticmethod
    def canSerialize(kind: Any) -> bool:
        return isinstance(kind, type) and issubclass(kind, enum.Enum)

    @staticmethod
    def create(kind: Any) -> Serializer:
        return ValidatedSerializer(EnumSerializer(kind), [IsInstance(kind)])

    def default(self) -> enum.Enum:
        return next(iter(self.enum))

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, value.name)

    def read(self, node: Any, name: str) -> enum.Enum:
        key = node.GetParameter(name)
        try:
            return self.enum[key]
        except KeyError as error:
            raise ValueError(f"{key!r} is not a name in {self.enum!r}") from error
