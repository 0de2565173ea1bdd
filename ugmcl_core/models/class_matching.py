"""Which class of a model a labeled structure is: one rule for the panel and for case lists.

Imports no torch: Slicer reads it in its own process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from .card import Terminology

UNTYPED_CODES = ("85756007", "T-D0050")
"""SCT and SRT for "Tissue", with which Slicer tags every new segment: it distinguishes nothing."""


class HasClass(Protocol):
    """Anything with the name and the terminology of a class, such as `card.ClassInfo`."""

    @property
    def name(self) -> str: ...

    @property
    def terminology(self) -> Terminology | Mapping[str, Any] | None: ...


C = TypeVar("C", bound=HasClass)


def match_class(
    name: str, terminology: Terminology | Mapping[str, Any] | None, classes: Sequence[C]
) -> C | None:
    """The one of ``classes`` that a structure is, or None.

    First by terminology: the only class that has the structure's `specific_code`. Otherwise by
    name: the first class with the same `name_key`. A code that no class has, or several have, is
    ignored.
    """
    if (code := specific_code(terminology)) is not None:
        same = [known for known in classes if specific_code(known.terminology) == code]
        if len(same) == 1:
            return same[0]
    key = name_key(name)
    return next((known for known in classes if name_key(known.name) == key), None)


def match_classes(listed: Sequence[HasClass], classes: Sequence[C]) -> list[C | None]:
    """The one of ``classes`` that each of ``listed`` is, or None, as in `match_class`.

    Where several would match the same class and exactly one has its name, that one gets it. The
    rest is then matched with the remaining classes, so that elimination distinguishes two classes
    of one code; several that would match one class there stay unmatched.
    """
    matches = [match_class(item.name, item.terminology, classes) for item in listed]
    for known in classes:
        alike = [n for n, match in enumerate(matches) if match is known]
        named = [n for n in alike if name_key(listed[n].name) == name_key(known.name)]
        if len(named) == 1:
            for n in set(alike) - set(named):
                matches[n] = None
    left = [known for known in classes if not any(match is known for match in matches)]
    again = [
        match_class(item.name, item.terminology, left) if match is None else None
        for item, match in zip(listed, matches, strict=True)
    ]
    for n, match in enumerate(again):
        if match is not None and sum(other is match for other in again) == 1:
            matches[n] = match
    return matches


def name_key(name: str) -> str:
    """A key that is equal for names that differ only in case, spaces and underscores."""
    return " ".join(name.casefold().replace("_", " ").split())


def specific_code(terminology: Terminology | Mapping[str, Any] | None) -> tuple[str, str] | None:
    """(scheme, code) of a terminology entry (a mapping has these keys); None without one and for
    `UNTYPED_CODES`."""
    if terminology is None:
        return None
    if isinstance(terminology, Terminology):
        scheme, code = terminology.scheme, terminology.code
    else:
        scheme, code = terminology["scheme"], terminology["code"]
    return None if code in UNTYPED_CODES else (scheme, code)
