"""The requests of the worker protocol (docs/architecture.md), checked before anything runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from reprlib import repr as short
from typing import Any

from ..data import pairing
from ..data.limits import LARGEST_VALUE
from ..errors import InputError
from ..inference.settings import SegmentSettings, check_passes
from ..training.settings import FinetuneSettings, KeepLearningSettings

_FAR = 1e9  # mm; no image reaches as far
Roi = tuple[float, float, float, float, float, float]


Images = tuple[str, ...]
"""The image files of a case, one for each channel; for a single image a request has a string."""


@dataclass(frozen=True)
class SegmentRequest:
    """Segment one case; `roi` in RAS mm of the space of its first file."""

    image: Images
    output: str
    model: str
    device: str = "auto"
    passes: int = SegmentSettings.passes
    roi: Roi | None = None
    all_components: bool = False
    stem: str = ""
    uncertainty: str = SegmentSettings.uncertainty
    overlap: float | None = None
    compress: bool = False

    @property
    def output_stem(self) -> str:
        """The name of the outputs: `stem`, or the first image's own as it was given."""
        return self.stem or pairing.stem(os.path.abspath(self.image[0]))


@dataclass(frozen=True)
class EstimateRequest(FinetuneSettings):
    """Measure the time and memory that such a fine-tuning would take."""


@dataclass(frozen=True)
class RankRequest:
    """Sort cases by the Dice that the model predicts, the lowest first."""

    images: tuple[Images, ...]
    model: str
    device: str = "auto"
    passes: int = SegmentSettings.passes


@dataclass(frozen=True)
class EvaluateRequest:
    """Measure a label map against another; `errors` is a file to write, or empty."""

    prediction: str
    reference: str
    values: tuple[int, ...] | None = None
    errors: str = ""


Request = (
    SegmentRequest
    | FinetuneSettings
    | KeepLearningSettings
    | EstimateRequest
    | RankRequest
    | EvaluateRequest
)
KINDS: dict[str, type[Request]] = {
    "segment": SegmentRequest,
    "finetune": FinetuneSettings,
    "keep_learning": KeepLearningSettings,
    "estimate": EstimateRequest,
    "rank": RankRequest,
    "evaluate": EvaluateRequest,
}


def parse(content: Mapping[str, Any]) -> Request:
    """The request in a decoded line; raises InputError with the fault."""
    command = content.get("command")
    if not isinstance(command, str) or command not in KINDS:
        raise InputError(f"unknown command {short(command)}; known are {', '.join(KINDS)}")
    kind = KINDS[command]
    given = {k: v for k, v in content.items() if k not in ("id", "command")}
    known = {f.name: f for f in fields(kind)}
    if unknown := sorted(set(given) - set(known)):
        raise InputError(f"{command} has no key {short(unknown[0])}; known are {', '.join(known)}")
    values = {}
    for name, field in known.items():
        if name in given:
            values[name] = _CHECKS[field.type](f"{command}: {name}", given[name])
        elif field.default is MISSING:
            raise InputError(f"{command} needs {name}")
    try:
        request = kind(**values)
        _check(request)
    except InputError as error:
        raise InputError(f"{command}: {error}") from None
    return request


def _check(request: Request) -> None:
    if isinstance(request, SegmentRequest):
        stem = request.stem
        if stem and (Path(stem).name != stem or stem in (".", "..") or "\\" in stem):
            raise InputError(f"stem {stem!r} is not a plain file name")
        if not Path(request.output).is_dir():
            raise InputError(f"{request.output}: there is no such folder for the results; make it")
        SegmentSettings(  # checks them
            request.passes, overlap=request.overlap, uncertainty=request.uncertainty
        )
    if isinstance(request, RankRequest):
        check_passes(request.passes, fewest=1)
        if not request.images:
            raise InputError("there are no images; give some")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise InputError(f"{name} must be a string, not {short(value)}")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise InputError(
            f"{name} {short(value)} contains an invalid character; write it again"
        ) from None
    return value


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number, not {short(value)}")
    return value


def _number(name: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < _FAR:
        raise InputError(f"{name} must be a number, not {short(value)}")
    return float(value)


def _number_or_none(name: str, value: Any) -> float | None:
    return None if value is None else _number(name, value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, not {short(value)}")
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InputError(f"{name} must be a list of strings")
    return tuple(_text(name, v) for v in value)


def _images(name: str, value: Any) -> Images:
    if not isinstance(value, list):
        return (_text(name, value),)
    if not value:
        raise InputError(f"{name} must be a path, or a list of paths, one for each channel")
    return _texts(name, value)


def _cases(name: str, value: Any) -> tuple[Images, ...]:
    if not isinstance(value, list):
        raise InputError(f"{name} must be a list of strings")
    return tuple(_images(name, v) for v in value)


def _wholes(name: str, value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise InputError(f"{name} must be a list of whole numbers, or null")
    found = tuple(_whole(name, v) for v in value)
    if wrong := next((v for v in found if not 0 <= v <= LARGEST_VALUE), None):
        raise InputError(f"{name}: {short(wrong)} is not a label from 0 to {LARGEST_VALUE}")
    return found


def _roi(name: str, value: Any) -> Roi | None:
    if value is None:
        return None
    numbers = isinstance(value, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < _FAR for v in value
    )
    if not numbers or len(value) != 6:
        raise InputError(f"{name} must be x0, x1, y0, y1, z0, z1 in mm, or null")
    x0, x1, y0, y1, z0, z1 = (float(v) for v in value)
    if not (x0 < x1 and y0 < y1 and z0 < z1):
        raise InputError(f"{name} must have x0 < x1, y0 < y1 and z0 < z1")
    return x0, x1, y0, y1, z0, z1


# By annotation, which `from __future__ import annotations` keeps as text.
_CHECKS: dict[Any, Callable[[str, Any], Any]] = {
    "str": _text,
    "int": _whole,
    "float": _number,
    "float | None": _number_or_none,
    "bool": _flag,
    "Roi | None": _roi,
    "tuple[str, ...]": _texts,
    "Images": _images,
    "tuple[Images, ...]": _cases,
    "tuple[int, ...] | None": _wholes,
}
