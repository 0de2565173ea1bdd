"""parameterPack: several typed values under one parameter, kept as `name.member`."""

from __future__ import annotations

import typing
from typing import Any

from slicer.util import NodeModify

from .annotations import splitAnnotations, splitDottedName, takeDefault, unannotatedType
from .serializers import Serializer, ValidatedSerializer, makeSerializer, parameterNodeSerializer
from .validators import IsInstance, NotNone


class _Member:
    """One value of a pack: checked when assigned, written back when the pack is observed."""

    def __init__(self, name: str, kind: Any, serializer: ValidatedSerializer, default: Any):
        self.basename, self.unalteredType = name, kind
        self.serializer, self.default = serializer, default

    def __get__(self, pack: Any, owner: type | None = None) -> Any:
        return self if pack is None else pack.__dict__[f"_value_{self.basename}"]

    def __set__(self, pack: Any, value: Any) -> None:
        self.serializer.validate(value)
        pack.__dict__[f"_value_{self.basename}"] = value
        save = pack.__dict__.get("_save")
        if save is not None:
            save(pack)


def isParameterPack(obj: Any) -> bool:
    return getattr(obj, "_is_parameterPack", False)


def nestedParameterNames(pack: Any) -> list[str]:
    """Dotted names of all values, through packs inside packs."""
    names = []
    for name, member in unannotatedType(pack).allParameters.items():
        kind = unannotatedType(member.unalteredType)
        inner = [f"{name}.{sub}" for sub in nestedParameterNames(kind)] \
            if isParameterPack(kind) else [name]
        names += inner
    return names


def checkMember(pack: Any, name: str) -> None:
    top, rest = splitDottedName(name)
    if top not in pack.allParameters:
        raise ValueError(f"{pack} has no member '{top}'")
    if rest is not None:
        kind = unannotatedType(pack.allParameters[top].unalteredType)
        if not isParameterPack(kind):
            raise ValueError(f"{kind} is not a parameter pack, it has no '{rest}'")
        checkMember(kind, rest)


def _get_value(self: Any, name: str) -> Any:
    checkMember(self, name)
    top, rest = splitDottedName(name)
    value = getattr(self, top)
    return value if rest is None else value.getValue(rest)


def _set_value(self: Any, name: str, value: Any) -> None:
    checkMember(self, name)
    top, rest = splitDottedName(name)
    if rest is None:
        setattr(self, top, value)
        return
    inner = getattr(self, top)
    inner.setValue(rest, value)
    setattr(self, top, inner)


def _data_type(cls: Any, name: str) -> Any:
    checkMember(cls, name)
    top, rest = splitDottedName(name)
    kind = cls.allParameters[top].unalteredType
    return kind if rest is None else unannotatedType(kind).dataType(rest)


def _fill(self: Any, *args: Any, **kwargs: Any) -> None:
    names = list(self.allParameters)
    if len(args) > len(names):
        raise TypeError("too many arguments for the parameter pack")
    given = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in names or name in given:
            raise TypeError(f"unexpected argument '{name}'")
        given[name] = value
    for name, member in self.allParameters.items():
        setattr(self, name, given.get(name, member.default))


def _equal(self: Any, other: object) -> bool:
    return type(self) is type(other) and all(
        getattr(self, name) == getattr(other, name) for name in self.allParameters
    )


def _text(self: Any) -> str:
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.allParameters)
    return f"{type(self).__name__}({values})"


def _process(cls: Any) -> Any:
    hints = typing.get_type_hints(cls, include_extras=True)
    if not hints:
        raise ValueError("Unable to find any members in parameterPack")
    members = {}
    for name, kind in hints.items():
        bare, annotations = splitAnnotations(kind)
        serializer, rest = makeSerializer(bare, annotations)
        assert isinstance(serializer, ValidatedSerializer)
        default, _ = takeDefault(rest)
        value = getattr(cls, name, serializer.default() if default is None else default.value)
        serializer.validate(value)
        members[name] = _Member(name, kind, serializer, value)
        setattr(cls, name, members[name])
    own_init = cls.__dict__.get("__init__")

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if own_init is None:
            _fill(self, *args, **kwargs)
        else:
            _fill(self)
            own_init(self, *args, **kwargs)

    cls.__init__ = init
    for name, method in (("__eq__", _equal), ("__str__", _text), ("__repr__", _text)):
        if name not in cls.__dict__:
            setattr(cls, name, method)
    for name, value in (
        ("allParameters", members), ("_is_parameterPack", True), ("getValue", _get_value),
        ("setValue", _set_value), ("dataType", classmethod(_data_type)),
    ):
        if hasattr(cls, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterPack")
        setattr(cls, name, value)
    return cls


def parameterPack(cls: Any = None) -> Any:
    """Class decorator, with or without parentheses."""
    return _process if cls is None else _process(cls)


@parameterNodeSerializer
class ParameterPackSerializer(Serializer):
    def __init__(self, kind: Any) -> None:
        self.type = kind

    @staticmethod
    def canSerialize(kind: Any) -> bool:
        return isParameterPack(kind)

    @staticmethod
    def create(kind: Any) -> Serializer:
        return ValidatedSerializer(
            ParameterPackSerializer(kind), [NotNone(), IsInstance(kind)]
        )

    def _members(self) -> dict[str, _Member]:
        return self.type.allParameters

    def default(self) -> Any:
        return self.type()

    def isIn(self, node: Any, name: str) -> bool:
        first, member = next(iter(self._members().items()))
        return member.serializer.isIn(node, f"{name}.{first}")

    def write(self, node: Any, name: str, value: Any) -> None:
        with NodeModify(node):
            for key, member in self._members().items():
                member.serializer.write(node, f"{name}.{key}", getattr(value, key))

    def read(self, node: Any, name: str) -> Any:
        pack = self.type.__new__(self.type)
        for key, member in self._members().items():
            setattr(pack, key, member.serializer.read(node, f"{name}.{key}"))
        pack.__dict__["_save"] = lambda changed: self.write(node, name, changed)
        return pack

    def remove(self, node: Any, name: str) -> None:
        for key, member in self._members().items():
            member.serializer.remove(node, f"{name}.{key}")

    def supportsCaching(self) -> bool:
        return all(m.serializer.supportsCaching() for m in self._members().values())


@parameterPack
class FloatRange:
    """Two numbers in order, for a ctkRangeWidget."""

    _minimum: float
    _maximum: float

    def __init__(self, minimum: float = 0, maximum: float = 0) -> None:
        self.setRange(minimum, maximum)

    @property
    def minimum(self) -> float:
        return self._minimum

    @minimum.setter
    def minimum(self, value: float) -> None:
        self.setRange(value, self._maximum)

    @property
    def maximum(self) -> float:
        return self._maximum

    @maximum.setter
    def maximum(self, value: float) -> None:
        self.setRange(self._minimum, value)

    def setRange(self, minimum: float, maximum: float) -> None:
        if minimum > maximum:
            raise ValueError(f"FloatRange needs minimum <= maximum: {minimum}, {maximum}")
        self._minimum, self._maximum = minimum, maximum
