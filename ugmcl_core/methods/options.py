"""The options of a method: its dataclass fields, each with a type, a range and a line of help."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin
from typing import get_type_hints as _hints

from ..errors import InputError

if TYPE_CHECKING:
    from .base import Method

M = TypeVar("M", bound="Method")


@dataclass(frozen=True)
class Range:
    """The numbers that an option may be, both ends included."""

    lowest: float
    highest: float = math.inf


Share = Annotated[float, Range(0.0, 1.0)]
Weight = Annotated[float, Range(0.0)]
Positive = Annotated[float, Range(1e-6)]
Count = Annotated[int, Range(1)]
Epochs = Annotated[int, Range(0)]


def option(default: Any, text: str) -> Any:
    """A dataclass field with a default and a line of help."""
    return dataclasses.field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Option:
    """An option as `ugmcl methods NAME` shows it."""

    name: str
    default: Any
    allowed: str
    text: str


def options(kind: type[Method]) -> list[Option]:
    """The options of a method in the order of its fields."""
    hints = _hints(kind, include_extras=True)
    return [
        Option(f.name, f.default, _allowed(hints[f.name]), f.metadata.get("help", ""))
        for f in dataclasses.fields(kind)
    ]


def with_options(kind: type[M], words: Sequence[str]) -> M:
    """``kind`` with the options given as NAME=VALUE; InputError names the first that is wrong."""
    hints = _hints(kind, include_extras=True)
    names = [f.name for f in dataclasses.fields(kind)]
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise InputError(f"option {word!r}: give it as NAME=VALUE")
        if name not in names:
            known = f"known are {', '.join(names)}" if names else "it has none"
            raise InputError(f"method {kind.name} has no option {name!r}; {known}")
        if name in values:
            raise InputError(f"option {name!r} is given twice; keep one")
        values[name] = _parsed(hints[name], text)
        _check(kind, name, hints[name], values[name], text)
    return kind(**values)


def check(method: Method) -> None:
    """InputError for an option of another type or out of its range."""
    hints = _hints(type(method), include_extras=True)
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        _check(type(method), field.name, hints[field.name], value, value)


def _check(kind: type[Method], name: str, hint: Any, value: Any, given: Any) -> None:
    if not _fits(hint, value):
        raise InputError(
            f"method {kind.name}: option {name} must be {_allowed(hint)}, not {given!r}"
        )


def _parsed(hint: Any, text: str) -> Any:
    """``text`` as the hint's type, or as it is where that fails (`_fits` then refuses it)."""
    kind = _plain(hint)
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    return text


def _fits(hint: Any, value: Any) -> bool:
    kind = _plain(hint)
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is bool:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        return False
    bounds = _range(hint)
    return math.isfinite(value) and bounds.lowest <= value <= bounds.highest


def _allowed(hint: Any) -> str:
    kind = _plain(hint)
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if kind is bool:
        return "true or false"
    bounds = _range(hint)
    what = "a whole number" if kind is int else "a number"
    end = "" if math.isinf(bounds.highest) else f" to {bounds.highest:g}"
    return f"{what} from {bounds.lowest:g}{end}"


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _range(hint: Any) -> Range:
    return get_args(hint)[1] if get_origin(hint) is Annotated else Range(-math.inf)
