"""The card of a model: everything about it but its weights, as `model.json` stores it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..data.limits import LARGEST_VALUE
from ..errors import InputError

FORMAT = 1
"""Version of the layout of `model.json`; a reader refuses every other one."""

PLACES = 9
"""The weights of a calibration's places: of x, y, z, xx, xy, xz, yy, yz and zz."""

SDF_CONVENTIONS = ("truncated", "published")
PREPARATIONS = ("ugmcl", "nnunet")
LARGEST_LABEL = 255
CLASS_COLORS = ((0.86, 0.36, 0.31), (0.95, 0.84, 0.57), (0.44, 0.68, 0.82), (0.56, 0.80, 0.50))
"""The colors of classes that come without one, in turn."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Terminology:
    """A code for an anatomical structure, for example SCT 82471001, Left atrium."""

    scheme: str
    code: str
    meaning: str


@dataclass(frozen=True)
class ClassInfo:
    """One foreground class.

    `value` is its number in the program and its channel in the network (1, 2, ... in the order of
    the card), `label` its value in the label maps that the model learned from and in those that
    are written, where that is another one (see `in_files`), `color` RGB from 0 to 1, and
    `largest_component` means that the structure is one piece, so other islands than the one that
    the model is surest of are errors. None, which never occurs in a card, leaves the decision to
    the training's labels.
    """

    value: int
    name: str
    color: tuple[float, float, float] = (0.86, 0.36, 0.31)
    terminology: Terminology | None = None
    largest_component: bool | None = True
    label: int | None = None

    @property
    def in_files(self) -> int:
        """Its value in label maps that are read and written."""
        return self.value if self.label is None else self.label


@dataclass(frozen=True)
class Calibration:
    """Turns a model's uncertainty into calibrated numbers.

    Nine of ten surface points lie within ``factor`` r ** ``exponent`` mm, with r the expected
    offset of `inference.surface_error`, where ``places`` are the weights of its `place_factor`.
    The interval of a volume is that of `inference.volume_interval` with ``volume_stretch``. A
    case's Dice is expected at ``dice_slope`` times `inference.agreement` plus ``dice_offset``,
    plus or minus 1.96 times ``dice_deviation``. The defaults, for models that were not calibrated,
    are those of la-lge-mri (Testing/benchmarks/accuracy/calibrate.py), except that all places are
    alike and the interval of the Dice is twice as wide.
    """

    factor: float = 1.9
    exponent: float = 2.1
    dice_slope: float = 1.57
    dice_offset: float = -0.53
    dice_deviation: float = 0.07
    places: tuple[float, ...] = (0.0,) * PLACES
    volume_stretch: float = 1.0

    def dice(self, agreement: float) -> tuple[float, float, float]:
        """The predicted Dice of a case and the bounds of its 95 % interval, all within 0 to 1."""
        middle = self.dice_slope * agreement + self.dice_offset
        half = 1.96 * self.dice_deviation
        bounded = (min(1.0, max(0.0, d)) for d in (middle, middle - half, middle + half))
        return tuple(bounded)


@dataclass(frozen=True)
class ModelCard:
    """What a model is, what it expects, and what it was made from.

    `spacing` (mm) and `patch` (voxels) are those of the model's grid, by array axis.
    `channels` names the images of a case, in the order of the network's input.
    `normalization` is {"kind": ..., numbers}, of all channels, or one of these for each. `sdf` and
    `scale_mm` define what -1 to 1 of the distance head mean. `network` holds the arguments of
    `network.NetworkSettings`.
    `field_of_view_mm` is the range of extents seen in training, ((least by axis), (most by
    axis)), or None.
    `mirror_axes` are the canonical axes (0 to 2) along which training saw mirrored images, so that
    inference can average over mirrored views.
    `preparation` of images is "ugmcl" (`data.preprocessing`) or "nnunet" (`data.nnunet`), with
    which all axes are those of the file.
    `calibration` is None for a model that was not calibrated.
    `training` and `scores` are records for a reader, not used by the program.
    """

    name: str
    description: str
    modality: str
    classes: tuple[ClassInfo, ...]
    channels: tuple[str, ...]
    spacing: tuple[float, float, float]
    patch: tuple[int, int, int]
    normalization: dict[str, Any] | tuple[dict[str, Any], ...]
    network: dict[str, Any]
    sdf: str = "truncated"
    scale_mm: float = 10.0
    field_of_view_mm: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    mirror_axes: tuple[int, ...] = ()
    preparation: str = PREPARATIONS[0]
    calibration: Calibration | None = None
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    license: str = ""
    intended_use: str = ""
    sha256: str = ""
    format: int = FORMAT

    def to_json(self) -> str:
        """The text of `model.json`."""
        content = asdict(self)
        if self.preparation == PREPARATIONS[0]:  # so that earlier versions read it
            del content["preparation"]
        for item in content["classes"]:
            if item["label"] is None:
                del item["label"]
        return json.dumps({"format": content.pop("format"), **content}, indent=2) + "\n"

    @staticmethod
    def from_json(text: str, where: str = "model.json") -> ModelCard:
        """The card that `text` holds; `where` names the file in errors.

        Raises InputError with one line for anything that is not a card of this format version.
        """
        try:
            content = json.loads(text)
            json.dumps(content, ensure_ascii=False).encode()  # a lone surrogate is not text
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} is not valid JSON ({error}): get the model again") from None
        if not isinstance(content, dict):
            raise InputError(f"{where} is not a model card (no JSON object): get the model again")
        if content.get("format") != FORMAT or isinstance(content.get("format"), bool):
            raise InputError(
                f"{where} has format version {content.get('format')!r}; this version of ugmcl "
                f"reads {FORMAT}: use a matching version of the model or of ugmcl"
            )
        try:
            return _card(content)
        except _Wrong as error:
            raise InputError(
                f"{where} is not a usable model card ({error}): get the model again"
            ) from None


def class_info(value: Any) -> ClassInfo:
    """The class that an object of a JSON file describes: ``value``, ``name`` and, if given,
    ``color``, ``terminology`` and ``largest_component`` (else None); raises InputError."""
    try:
        found = _class(value)
        return found if "largest_component" in value else replace(found, largest_component=None)
    except _Wrong as error:
        raise InputError(str(error)) from None


def images_of_a_case(channels: Sequence[str]) -> str:
    """The images of a case, in words for the user."""
    if len(channels) == 1:
        return "one image a case"
    return f"{len(channels)} images a case ({', '.join(channels)})"


def as_name(text: str) -> str:
    """`text` as a name that a card accepts: other characters become dashes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100] or "model"


class _Wrong(Exception):
    """The fault of one field; `from_json` adds the file."""


def _card(content: dict[str, Any]) -> ModelCard:
    known = {f.name for f in fields(ModelCard)}
    if unknown := sorted(set(content) - known):
        raise _Wrong(f"unknown field {unknown[0]!r}")
    optional = {
        "field_of_view_mm": None,
        "mirror_axes": (),
        "preparation": PREPARATIONS[0],
        "calibration": None,
        "training": {},
        "scores": {},
        "license": "",
        "intended_use": "",
        "sdf": "truncated",
        "scale_mm": 10.0,
    }
    content = {**optional, **content}
    if missing := sorted(known - set(content)):
        raise _Wrong(f"field {missing[0]!r} is missing")

    name = _text(content, "name")
    if not _NAME.match(name):
        raise _Wrong(f"name {name!r} may only hold letters, digits, dot, dash and underscore")
    sdf = _text(content, "sdf")
    if sdf not in SDF_CONVENTIONS:
        raise _Wrong(f"sdf is {sdf!r}, not one of {', '.join(SDF_CONVENTIONS)}")
    preparation = _text(content, "preparation")
    if preparation not in PREPARATIONS:
        raise _Wrong(f"preparation is {preparation!r}, not one of {', '.join(PREPARATIONS)}")
    sha256 = _text(content, "sha256")
    if not _SHA256.match(sha256):
        raise _Wrong("sha256 is not 64 hexadecimal digits")
    channels = _channels(content["channels"])
    return ModelCard(
        name=name,
        description=_text(content, "description"),
        modality=_text(content, "modality"),
        classes=_classes(content["classes"]),
        channels=channels,
        spacing=_numbers(content["spacing"], "spacing", 3),
        patch=_sizes(content["patch"]),
        normalization=_normalization(content, len(channels)),
        network=_object(content, "network"),
        sdf=sdf,
        scale_mm=_numbers([content["scale_mm"]], "scale_mm", 1)[0],
        field_of_view_mm=_extents(content["field_of_view_mm"]),
        mirror_axes=_axes(content["mirror_axes"]),
        preparation=preparation,
        calibration=_calibration(content["calibration"]),
        training=_object(content, "training"),
        scores=_object(content, "scores"),
        license=_text(content, "license"),
        intended_use=_text(content, "intended_use"),
        sha256=sha256,
    )


def _text(content: dict[str, Any], key: str) -> str:
    if not isinstance(content[key], str):
        raise _Wrong(f"{key} is not a string")
    return content[key]


def _object(content: dict[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(content[key], dict):
        raise _Wrong(f"{key} is not an object")
    return content[key]


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _numbers(value: Any, what: str, count: int) -> tuple[Any, ...]:
    """`count` positive finite numbers, as floats."""
    if not isinstance(value, list | tuple) or len(value) != count:
        raise _Wrong(f"{what} is not a list of {count} numbers")
    if not all(_is_number(v) and v > 0 for v in value):
        raise _Wrong(f"{what} holds something that is not a positive number")
    return tuple(float(v) for v in value)


def _sizes(value: Any) -> tuple[int, int, int]:
    numbers = _numbers(value, "patch", 3)
    if any(n != int(n) for n in numbers):
        raise _Wrong("patch holds something that is not a whole number")
    a, b, c = (int(n) for n in numbers)
    return a, b, c


def _axes(value: Any) -> tuple[int, ...]:
    axes = list(value) if isinstance(value, list | tuple) else [None]
    if any(a not in (0, 1, 2) for a in axes) or len(set(axes)) < len(axes):
        raise _Wrong("mirror_axes holds something else than different axes 0, 1, 2")
    return tuple(axes)


def _extents(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise _Wrong("field_of_view_mm is not a pair of three extents each")
    least, most = (_numbers(v, "field_of_view_mm", 3) for v in value)
    if any(a > b for a, b in zip(least, most, strict=True)):
        raise _Wrong("field_of_view_mm has a least extent above the most")
    return least, most


def _calibration(value: Any) -> Calibration | None:
    if value is None:
        return None
    later = {"places": Calibration.places, "volume_stretch": Calibration.volume_stretch}
    value = {**later, **value} if isinstance(value, dict) else {}
    if set(value) != {f.name for f in fields(Calibration)}:
        raise _Wrong(f"calibration needs {', '.join(f.name for f in fields(Calibration))}")
    for key in ("factor", "exponent", "dice_deviation", "volume_stretch"):
        _numbers([value[key]], f"{key} of calibration", 1)
    places = value.pop("places")
    if not isinstance(places, list | tuple) or len(places) != PLACES:
        raise _Wrong(f"places of calibration is not a list of {PLACES} numbers")
    if not all(_is_number(v) for v in (*places, *value.values())):
        raise _Wrong("calibration holds something that is not a number")
    numbers = {key: float(number) for key, number in value.items()}
    return Calibration(**numbers, places=tuple(float(v) for v in places))


def _normalization(
    content: dict[str, Any], channels: int
) -> dict[str, Any] | tuple[dict[str, Any], ...]:
    value = content["normalization"]
    several = isinstance(value, list | tuple) and channels > 1
    if several and len(value) != channels:
        raise _Wrong(f"normalization is of {len(value)} channels, and there are {channels}")
    for each in value if several else [value]:
        _object({"normalization": each}, "normalization")
        if not isinstance(each.get("kind"), str):
            raise _Wrong("normalization has no kind")
        if not all(_is_number(v) for k, v in each.items() if k != "kind"):
            raise _Wrong("normalization holds something that is not a number")
    return tuple(value) if several else value


def _channels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise _Wrong("channels is not a list of one name per input channel")
    return tuple(value)


def _classes(value: Any) -> tuple[ClassInfo, ...]:
    if not isinstance(value, list) or not value:
        raise _Wrong("classes is not a list of at least one class")
    classes = tuple(_class(v) for v in value)
    if [c.value for c in classes] != list(range(1, len(classes) + 1)):
        raise _Wrong("the values of the classes are not 1, 2, ... in this order")
    if len({c.in_files for c in classes}) < len(classes):
        raise _Wrong("two classes have the same label")
    if len({c.name for c in classes}) < len(classes):
        raise _Wrong("two classes have the same name")
    return classes


def _class(value: Any) -> ClassInfo:
    if not isinstance(value, dict):
        raise _Wrong("a class is not an object")
    content = {"color": list(ClassInfo.color), "terminology": None, "largest_component": True,
               "label": None, **value}  # fmt: skip
    if set(content) != {f.name for f in fields(ClassInfo)}:
        raise _Wrong("a class needs value, name, color, terminology and largest_component")
    number, name, color = content["value"], content["name"], content["color"]
    whole = isinstance(number, int) and not isinstance(number, bool)
    if not whole or not 1 <= number <= LARGEST_LABEL:
        raise _Wrong(f"class value {number!r} is not a whole number from 1 to {LARGEST_LABEL}")
    if not isinstance(name, str) or not name.strip():
        raise _Wrong(f"class {number} has no name")
    if (
        not isinstance(color, list | tuple)
        or len(color) != 3
        or not all(_is_number(v) and 0 <= v <= 1 for v in color)
    ):
        raise _Wrong(f"the color of class {name} is not three numbers from 0 to 1")
    if not isinstance(content["largest_component"], bool):
        raise _Wrong(f"largest_component of class {name} is neither true nor false")
    r, g, b = (float(v) for v in color)
    terminology, label = _terminology(content["terminology"], name), content["label"]
    whole = isinstance(label, int) and not isinstance(label, bool)
    if label is not None and not (whole and 1 <= label <= LARGEST_VALUE):
        raise _Wrong(f"the label of class {name} is not a whole number from 1 to {LARGEST_VALUE}")
    return ClassInfo(number, name, (r, g, b), terminology, content["largest_component"], label)


def _terminology(value: Any, name: str) -> Terminology | None:
    if value is None:
        return None
    keys = ("scheme", "code", "meaning")
    if not isinstance(value, dict) or set(value) != set(keys):
        raise _Wrong(f"the terminology of class {name} needs scheme, code and meaning")
    return Terminology(*(_text(value, key) for key in keys))
