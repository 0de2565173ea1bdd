"""Annotations of a parameter that are neither validators nor serializers."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import slicer


@dataclass(frozen=True)
class Decimals:
    """Digits shown by the spin box or slider."""

    value: int


@dataclass(frozen=True)
class SingleStep:
    """Step of the spin box or slider."""

    value: float


class Default:
    """The value of a parameter that was never set."""

    def __init__(
        self, value: Any = None, *, generator: Callable[[], Any] | None = None
    ) -> None:
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Default):
            return False
        return (self._value, self._generator) == (other._value, other._generator)

    __hash__ = None  # type: ignore[assignment]


def splitAnnotations(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """The bare type and the tuple of its annotations, empty for a type that has none."""
    if typing.get_origin(kind) is Annotated:
        bare, *annotations = typing.get_args(kind)
        return bare, tuple(annotations)
    return kind, ()


def unannotatedType(kind: Any) -> Any:
    return splitAnnotations(kind)[0]


def findFirstAnnotation(annotations: Sequence[Any], kind: type) -> Any:
    return next((item for item in annotations if isinstance(item, kind)), None)


def splitDottedName(name: str) -> tuple[str, str | None]:
    """"pack.member.x" is ("pack", "member.x")."""
    top, dot, rest = name.partition(".")
    return top, rest if dot else None


def takeDefault(annotations: Sequence[Any]) -> tuple[Default | None, list[Any]]:
    found = [item for item in annotations if isinstance(item, Default)]
    if len(found) > 1:
        raise ValueError("more than one Default")
    rest = [item for item in annotations if not isinstance(item, Default)]
    return (found[0] if found else None), rest


def _is_node(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


def _members(kind: Any) -> list[Any]:
    bare = unannotatedType(kind)
    if typing.get_origin(bare) is typing.Union:
        return [unannotatedType(member) for member in typing.get_args(bare)]
    return [bare]


def isNodeOrUnionOfNodes(kind: Any) -> bool:
    return all(_is_node(member) or member is type(None) for member in _members(kind))


def getNodeTypes(kind: Any) -> tuple[str, ...]:
    """Class names of the node types, as qMRMLNodeComboBox.nodeTypes wants them."""
    if not isNodeOrUnionOfNodes(kind):
        raise TypeError(f"{kind} is not a node type")
    return tuple(member().GetClassName() for member in _members(kind) if _is_node(member))
