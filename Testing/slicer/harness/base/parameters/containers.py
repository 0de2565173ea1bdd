"""Lists, tuples, dictionaries and unions of what the other serializers keep."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, MutableMapping, MutableSequence
from typing import Any

from slicer.util import NodeModify

from .serializers import (
    NoneSerializer,
    NumberSerializer,
    Serializer,
    ValidatedSerializer,
    parameterNodeSerializer,
    serializerOf,
)


class ObservedList(MutableSequence):
    """A list that writes itself back whenever it changes."""

    def __init__(self, items: list[Any], save: Callable[[list[Any]], None]) -> None:
        self._list, self._save = items, save

    def __repr__(self) -> str:
        return f"ObservedList({self._list})"

    def __eq__(self, other: object) -> bool:
        return self._list == (other._list if isinstance(other, ObservedList) else other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._list)

    def __getitem__(self, index: Any) -> Any:
        return self._list[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._list[index] = value
        self._save(self._list)

    def __delitem__(self, index: Any) -> None:
        del self._list[index]
        self._save(self._list)

    def insert(self, index: int, value: Any) -> None:
        self._list.insert(index, value)
        self._save(self._list)

    def __add__(self, other: Any) -> Any:
        raise NotImplementedError("An ObservedList cannot be added, but += is supported.")

    __radd__ = __add__

    def sort(self, **options: Any) -> None:
        self._list.sort(**options)
        self._save(self._list)


class ObservedDict(MutableMapping):
    """A dictionary that writes itself back whenever it changes."""

    def __init__(self, items: dict[Any, Any], save: Callable[[dict[Any, Any]], None]) -> None:
        self._dict, self._save = items, save

    def __repr__(self) -> str:
        return f"ObservedDict({self._dict})"

    def __len__(self) -> int:
        return len(self._dict)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._dict)

    def __getitem__(self, key: Any) -> Any:
        return self._dict[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._dict[key] = value
        self._save(self._dict)

    def __delitem__(self, key: Any) -> None:
        del self._dict[key]
        self._save(self._dict)


@parameterNodeSerializer
class ListSerializer(Serializer):
    """`name_len` and `name_0`, `name_1`, ..."""

    def __init__(self, element: Serializer) -> None:
        self._element, self._count = element, NumberSerializer(int)

    @staticmethod
    def canSerialize(kind: Any) -> bool:
        return typing.get_origin(kind) is list

    @staticmethod
    def create(kind: Any) -> Serializer:
        return ListSerializer(serializerOf(typing.get_args(kind)[0]))

    def default(self) -> list[Any]:
        return []

    def _length(self, node: Any, name: str) -> int:
        return self._count.read(node, f"{name}_len") if self.isIn(node, name) else 0

    def isIn(self, node: Any, name: str) -> bool:
        return self._count.isIn(node, f"{name}_len")

    def write(self, node: Any, name: str, value: Any) -> None:
        values = list(value)
        with NodeModify(node):
            existed = self.isIn(node, name)
            before = list(self.read(node, name)) if existed else []
            try:
                for index, item in enumerate(values):
                    self._element.write(node, f"{name}_{index}", item)
            except Exception:
                # A list is written whole or not at all.
                for index in range(len(before), len(values)):
                    self._element.remove(node, f"{name}_{index}")
                for index, item in enumerate(before):
                    self._element.write(node, f"{name}_{index}", item)
                raise
            for index in range(len(values), len(before)):
                self._element.remove(node, f"{name}_{index}")
            self._count.write(node, f"{name}_len", len(values))

    def read(self, node: Any, name: str) -> ObservedList:
        count = self._length(node, name)
        items = [self._element.read(node, f"{name}_{index}") for index in range(count)]
        return ObservedList(items, lambda changed: self.write(node, name, changed))

    def remove(self, node: Any, name: str) -> None:
        with NodeModify(node):
            for index in range(self._length(node, name)):
                self._element.remove(node, f"{name}_{index}")
            self._count.remove(node, f"{name}_len")

    def supportsCaching(self) -> bool:
        return self._element.supportsCaching()


@parameterNodeSerializer
class TupleSerializer(Serializer):
    def __init__(self, members: list[Serializer]) -> None:
        self._members = members

    @staticmethod
    def canSerialize(kind: Any) -> bool:
        return typing.get_origin(kind) is tuple

    @staticmethod
    def create(kind: Any) -> Serializer:
        return TupleSerializer([serializerOf(member) for member in typing.get_args(kind)])

    def default(self) -> tuple[Any, ...]:
        return tuple(member.default() for member in self._members)

    def isIn(self, node: Any, name: str) -> bool:
        return self._members[0].isIn(node, f"{name}_0")

    def write(self, node: Any, name: str, value: Any) -> None:
        values = tuple(value)
        if len(values) != len(self._members):
            raise ValueError("Unexpected number of tuple values")
        with NodeModify(node):
            for index, (member, item) in enumerate(zip(self._members, values, strict=True)):
                member.write(node, f"{name}_{index}", item)

    def read(self, node: Any, name: str) -> tuple[Any, ...]:
        return tuple(
            member.read(node, f"{name}_{index}") for index, member in enumerate(self._members)
        )

    def remove(self, node: Any, name: str) -> None:
        with NodeModify(node):
            for index, member in enumerate(self._members):
                member.remove(node, f"{name}_{index}")

    def supportsCaching(self) -> bool:
        return all(member.supportsCaching() for member in self._members)


@parameterNodeSerializer
class DictSerializer(Serializer):
    """A list of pairs, which keeps the order."""

    def __init__(self, key: Serializer, value: Serializer) -> None:
        self._pairs = ListSerializer(TupleSerializer([key, value]))

    @staticmethod
    def canSerialize(kind: Any) -> bool:
        return typing.get_origin(kind) is dict

    @staticmethod
    def create(kind: Any) -> Serializer:
        key, value = typing.get_args(kind)
        return DictSerializer(serializerOf(key), serializerOf(value))

    def default(self) -> dict[Any, Any]:
        return {}

    def isIn(self, node: Any, name: str) -> bool:
        return self._pairs.isIn(node, name)

    def write(self, node: Any, name: str, value: Any) -> None:
        self._pairs.write(node, name, list(value.items()))

    def read(self, node: Any, name: str) -> ObservedDict:
        items = dict(self._pairs.read(node, name))
        return ObservedDict(items, lambda changed: self.write(node, name, changed))

    def remove(self, node: Any, name: str) -> None:
        self._pairs.remove(node, name)

    def supportsCaching(self) -> bool:
        return self._pairs.supportsCaching()


@parameterNodeSerializer
class UnionSerializer(Serializer):
    """typing.Optional and typing.Union; `X | None` is refused, as in the genuine package."""

    def __init__(self, members: list[Serializer]) -> None:
        self._members = [ValidatedSerializer(member, []) for member in members]

    @staticmethod
    def canSerialize(kind: Any) -> bool:
        return typing.get_origin(kind) is typing.Union

    @staticmethod
    def create(kind: Any) -> Serializer:
        return UnionSerializer([serializerOf(member) for member in typing.get_args(kind)])

    def default(self) -> Any:
        last = self._members[-1].serializer
        if len(self._members) == 2 and isinstance(last, NoneSerializer):
            return None
        return self._members[0].default()

    def isIn(self, node: Any, name: str) -> bool:
        return any(
            member.isIn(node, f"{name}_{index}") for index, member in enumerate(self._members)
        )

    def write(self, node: Any, name: str, value: Any) -> None:
        problem: Exception = TypeError(f"Unable to write {value!r} of type {type(value)}")
        for index, member in enumerate(self._members):
            if not member.serializer.canSerialize(type(value)):
                continue
            try:
                member.validate(value)
            except (TypeError, ValueError) as error:
                problem = error
                continue
            with NodeModify(node):
                self.remove(node, name)
                member.write(node, f"{name}_{index}", value)
            return
        raise problem

    def read(self, node: Any, name: str) -> Any:
        for index, member in enumerate(self._members):
            if member.isIn(node, f"{name}_{index}"):
                return member.read(node, f"{name}_{index}")
        raise KeyError(f"Unable to find value for name: {name}")

    def remove(self, node: Any, name: str) -> None:
        with NodeModify(node):
            for index, member in enumerate(self._members):
                member.remove(node, f"{name}_{index}")

    def supportsCaching(self) -> bool:
        return all(member.supportsCaching() for member in self._members)
