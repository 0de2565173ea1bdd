"""How the values of a plan are written: `--set` reads the form in which they are shown.

A reader raises ValueError for anything else, and `Beyond` for what no training can use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...data.limits import LARGEST_GRID, SPACING_LIMITS_MM
from ...data.preprocessing import Normalization, Normalizations
from ...nn.network import NetworkSettings, Strides

_AXES = "RAS"
_MOST_VOXELS = 256**3  # of a patch: a network of few filters takes tens of gigabytes
_MOST_SAMPLES = 256
_MOST_ITERATIONS = (1 << 31) - 1


class Beyond(ValueError):
    """A value that is written as it should be, but that no training can use; the text says which
    ones it can."""


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


def angle(text: str) -> float:
    """Degrees from 0 to 180."""
    value = float(text)
    if not 0 <= value <= 180:
        raise Beyond("0 to 180 degrees")
    return value


def length(text: str) -> float:
    """Millimeters above 0, up to 1 m."""
    value = number(text)
    if value > 1000:
        raise Beyond("more than 0, up to 1000 mm")
    return value


def positive(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def up_to(most: int) -> Callable[[str], int]:
    """Reads a whole number from 1 to ``most``."""

    def parse(text: str) -> int:
        value = positive(text)
        if value > most:
            raise Beyond(f"1 to {most}")
        return value

    return parse


iterations = up_to(_MOST_ITERATIONS)


def voxel(size_mm: Sequence[float]) -> Callable[[str], tuple[float, ...]]:
    """Reads the size of a voxel in mm, by axis, for images of this size."""

    def parse(text: str) -> tuple[float, ...]:
        a, b, c = (number(v) for v in text.split(","))
        low, high = SPACING_LIMITS_MM
        if min(a, b, c) < low or max(a, b, c) > high:
            raise Beyond(f"{low:g} to {high:g} mm for each axis")
        if math.prod(s / v for s, v in zip(size_mm, (a, b, c), strict=True)) > LARGEST_GRID:
            raise Beyond("larger voxels: a typical image may have 512x512x512 of them")
        return a, b, c

    return parse


def patch(text: str) -> tuple[int, ...]:
    """Three whole numbers from 1, by axis."""
    a, b, c = (positive(v) for v in text.split(","))
    if a * b * c > _MOST_VOXELS:
        raise Beyond(f"at most {_MOST_VOXELS} voxels in all, as in 256,256,256")
    return a, b, c


def labeled_and_unlabeled(text: str) -> tuple[int, int]:
    """The sizes of a batch's two parts, as in 2+2."""
    labeled, _, unlabeled = text.partition("+")
    if int(unlabeled) < 0:
        raise ValueError(text)
    if max(positive(labeled), int(unlabeled)) > _MOST_SAMPLES:
        raise Beyond(f"1 to {_MOST_SAMPLES} labeled and 0 to {_MOST_SAMPLES} unlabeled patches")
    return positive(labeled), int(unlabeled)


def triples(count: int) -> Callable[[str], Strides]:
    """Reads ``count`` triples: strides if it is 4, else kernels."""

    def parse(text: str) -> Strides:
        found = tuple(tuple(map(positive, word)) for word in text.split())
        NetworkSettings(**{"strides" if count == 4 else "kernels": found})
        if max(map(max, found)) > 4:
            raise Beyond("strides of 1 to 4")
        return found

    return parse


def axes(text: str) -> tuple[int, ...]:
    """Reads what `axis_names` shows, or none."""
    if text == "none":
        return ()
    found = tuple(_AXES.index(word.strip()) for word in text.upper().split(","))
    if len(set(found)) < len(found):
        raise Beyond("each direction once, or none")
    return found


def normalization(channels: int) -> Callable[[str], Normalizations]:
    """Reads one normalization for all channels, or one for each with semicolons between."""

    def parse(text: str) -> Normalizations:
        each = []
        for part in text.split(";"):
            kind, *numbers = part.strip().split(",")
            try:
                values = tuple(map(float, numbers))
                if not all(map(math.isfinite, values)):
                    raise ValueError(text)
                each.append(Normalization(kind, *values))
                if kind == "robust-z" and not 0 <= each[-1].low < each[-1].high <= 100:
                    raise Beyond("percentiles from 0 to 100")
            except TypeError as error:
                raise ValueError(text) from error
        if len(each) not in (1, channels):
            raise ValueError(text)
        return each[0] if len(each) == 1 else tuple(each)

    return parse
