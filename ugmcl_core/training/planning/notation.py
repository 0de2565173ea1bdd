"""How the values of a plan are written: `--set` reads the form in which they are shown.

A reader raises ValueError for anything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...data.preprocessing import Normalization, Normalizations
from ...nn.network import NetworkSettings, Strides

_AXES = "RAS"


def shown(values: Sequence[float]) -> str:
    """Numbers with commas: 1.5,1.5,10."""
    return ",".join(f"{v:g}" for v in values)


def by(values: Sequence[float]) -> str:
    """Sizes for people: 1.5 x 1.5 x 10."""
    return " x ".join(f"{v:.4g}" for v in values)


def directions(axes: Sequence[int]) -> str:
    """Axes for people: left-right and front-back."""
    return " and ".join(("left-right", "front-back", "head-foot")[a] for a in axes)


def axis_names(axes: Sequence[int]) -> str:
    """Axes by the letters of their directions: R,A."""
    return ",".join(_AXES[a] for a in axes)


def digits(sizes: Strides) -> str:
    """A triple of digits for each level: 221 222 222 211."""
    return " ".join("".join(map(str, size)) for size in sizes)


def normalization_text(value: Normalizations) -> str:
    """The kind and its numbers, with semicolons between channels."""
    each = (value,) if isinstance(value, Normalization) else value
    numbers = ([v for k, v in n.to_dict().items() if k != "kind"] for n in each)
    return "; ".join(
        ",".join([n.kind, *(f"{v:g}" for v in own)]) for n, own in zip(each, numbers, strict=True)
    )


def alike_or_all(text: str) -> str:
    """The unlabeled cases to use."""
    if text not in ("alike", "all"):
        raise ValueError(text)
    return text


def number(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(text)
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def part(text: str) -> float:
    """A number from 0 to less than 1."""
    value = share(text)
    if value == 1:
        raise ValueError(text)
    return value


def positive(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def floats(text: str) -> tuple[float, ...]:
    """Three numbers above 0, by axis."""
    a, b, c = (number(v) for v in text.split(","))
    return a, b, c


def wholes(text: str) -> tuple[int, ...]:
    """Three whole numbers from 1, by axis."""
    a, b, c = (positive(v) for v in text.split(","))
    return a, b, c


def labeled_and_unlabeled(text: str) -> tuple[int, int]:
    """The sizes of a batch's two parts, as in 2+2."""
    labeled, _, unlabeled = text.partition("+")
    if int(unlabeled) < 0:
        raise ValueError(text)
    return positive(labeled), int(unlabeled)


def triples(count: int) -> Callable[[str], Strides]:
    """Reads ``count`` triples: strides if it is 4, else kernels."""

    def parse(text: str) -> Strides:
        found = tuple(tuple(map(positive, word)) for word in text.split())
        NetworkSettings(**{"strides" if count == 4 else "kernels": found})
        return found

    return parse


def axes(text: str) -> tuple[int, ...]:
    """Reads what `axis_names` shows, or none."""
    if text == "none":
        return ()
    return tuple(_AXES.index(word.strip()) for word in text.upper().split(","))


def normalization(channels: int) -> Callable[[str], Normalizations]:
    """Reads one normalization for all channels, or one for each with semicolons between."""

    def parse(text: str) -> Normalizations:
        each = []
        for part in text.split(";"):
            kind, *numbers = part.strip().split(",")
            try:
                each.append(Normalization(kind, *map(float, numbers)))
            except TypeError as error:
                raise ValueError(text) from error
        if len(each) not in (1, channels):
            raise ValueError(text)
        return each[0] if len(each) == 1 else tuple(each)

    return parse
