"""What ITK does not check in a DICOM series: that it is complete and its slices form a grid.

ITK silently leaves out a file that it cannot read, and spaces the remaining slices evenly between
the first and the last one, at right angles to them.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...errors import InputError
from ..limits import MOST_SKEW

# How far a slice may lie from its evenly spaced position: a missing one shifts others by half a
# step or more,
_UNEVEN = 0.1  # ... in steps,
_ROUNDED = 0.11  # ... or in mm, as scanners round positions, some to 0.1 mm,
_MOST_UNEVEN = 0.45  # ... which for thin slices is much of a step
_TURN = 5e-3  # by how much direction cosines may differ between slices
_PIXEL = 1e-2  # and pixel spacings, as a ratio
_MAGIC_END = 132  # a DICOM file has 128 bytes of anything, then DICM
_LONG_VALUES = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR",
                b"UT", b"UV")  # fmt: skip
_META, _ITEM, _PIXELS, _UNDEFINED = 0x0002, 0xFFFE, (0x7FE0, 0x0010), 0xFFFFFFFF
_SIZES = {(0x0028, n) for n in (0x0002, 0x0008, 0x0010, 0x0011, 0x0100)}
_STANDARD = "1.2.840.10008."
_IMPLICIT, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"
_BYTES = {"1.2.840.10008.1.2.2": ">"}
_SUFFIXES = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class Slice:
    """One file of a series: `position` (3,) in mm, `orientation` (6,), the cosines of the rows and
    the columns, and `pixel` (2,), its spacing in mm; None for what the file does not hold."""

    name: str
    position: np.ndarray | None
    orientation: np.ndarray | None
    pixel: np.ndarray | None


def numbers(text: str | None, count: int) -> np.ndarray | None:
    """The `count` finite numbers of a decimal string such as ``1\\0\\0``, else None."""
    try:
        found = np.array([float(word) for word in (text or "").strip(" \0").split("\\")])
    except ValueError:
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None


def check_folder(folder: Path, listed: Sequence[str], sop_class: str) -> None:
    """Raise InputError if a file in `folder` seems to be a slice but is not among those `listed`:
    one of the slices' `sop_class`, or one named like them that is not a DICOM file at all.

    Other objects beside a series (DICOMDIR, reports, structure sets) hold no image and pass.
    """
    names = {Path(name).name for name in listed}
    patterns = {_pattern(name) for name in names}
    for path in sorted(folder.iterdir()):
        if path.name in names or path.name.startswith(".") or not path.is_file():
            continue
        alike = _pattern(path.name) in patterns or path.suffix.lower() in _SUFFIXES
        try:
            with path.open("rb") as file:
                kind = _sop_class(file.read(1024))
        except OSError as error:
            if not alike:
                continue
            raise InputError(
                f"{path}: cannot be read ({error.strerror or error}); check it"
            ) from None
        if kind in ("", sop_class) or (kind is None and alike) or (kind and not _is_known(kind)):
            raise InputError(
                f"{path}: the DICOM file is damaged or truncated, so the series is incomplete; "
                "get it again"
            )


def _is_known(sop_class: str) -> bool:
    """Whether there is such a class: one of the standard's, or one of a vendor's own."""
    from pydicom._uid_dict import UID_dictionary

    if sop_class.startswith(_STANDARD):
        return sop_class in UID_dictionary
    return re.fullmatch(r"[0-2](\.\d+)+", sop_class) is not None


def check_lengths(path: Path) -> None:
    """Raise InputError if an element of a DICOM file is longer than the file, for which GDCM
    would allocate gigabytes or read for minutes, or if there are fewer pixels than its size says,
    which GDCM pads with garbage. Other files pass."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(128)
        if file.read(4) != b"DICM":
            return
        fits = _elements_fit(file, size)
    if not fits:
        raise InputError(f"{path}: the DICOM file is damaged or truncated; get it again")


def _elements_fit(file: BinaryIO, size: int) -> bool:
    """Walk over the elements from the end of the preamble on, into sequences, up to the pixels."""
    order, explicit, syntax, place = "<", True, "", file.tell()
    sizes: dict[int, int] = {}
    pixels = None
    while place + 8 <= size:
        file.seek(place)
        head = file.read(12).ljust(12, b"\0")
        group, element = struct.unpack_from(f"{order}HH", head)
        if group != _META and syntax:  # the rest of the file is in the syntax that was named
            if syntax == _DEFLATED:
                return True
            order, explicit, syntax = _BYTES.get(syntax, "<"), syntax != _IMPLICIT, ""
            continue
        if explicit and group != _ITEM:
            kind, (length,) = head[4:6], struct.unpack_from(f"{order}H", head, 6)
            place += 8
            if kind in _LONG_VALUES:
                (length,) = struct.unpack_from(f"{order}I", head, 8)
                place += 4
        else:
            kind, (length,) = b"", struct.unpack_from(f"{order}I", head, 4)
            place += 8
        if (group, element) == _PIXELS and length == _UNDEFINED:
            return True  # compressed: ITK counts the fragments
        if kind == b"SQ" or group == _ITEM or length == _UNDEFINED:
            continue  # its elements follow
        if length > size - place:
            return False
        if (group, element) in _SIZES and element not in sizes:  # an icon's come later
            file.seek(place)
            sizes[element] = _number(file.read(min(length, 16)), order, is_text=element == 0x08)
        if (group, element) == _PIXELS:
            pixels = length
        if (group, element) == (_META, 0x10):
            file.seek(place)
            syntax = file.read(length).decode("latin-1").strip(" \0")
        place += length
    return pixels is None or pixels >= math.prod(sizes.values()) // 8


def _number(value: bytes, order: str, *, is_text: bool) -> int:
    """The number that an element holds, 1 if it holds none."""
    try:
        return int(value.strip(b" \0")) if is_text else struct.unpack_from(f"{order}H", value)[0]
    except (ValueError, struct.error):
        return 1


def check_grid(folder: Path, slices: Sequence[Slice], spacing: Sequence[float]) -> None:
    """Raise InputError unless ITK's ``spacing`` (i, j, k) is that of the slices, which
    `check_slices` found even: for some classes of images ITK ignores the pixel spacing."""
    first, last = slices[0], slices[-1]
    wanted = [float(first.pixel[1]), float(first.pixel[0])]
    if len(slices) > 1:
        height = abs(float((last.position - first.position) @ normal_of(first.orientation)))
        wanted.append(height / (len(slices) - 1))
    if not np.allclose(spacing[: len(wanted)], wanted, rtol=_PIXEL, atol=_ROUNDED / len(slices)):
        shown = (" x ".join(f"{v:.4g}" for v in values) for values in (wanted, spacing))
        ours, theirs = shown
        raise InputError(
            f"{folder}: the slices are {ours} mm apart by their header and {theirs} mm by the "
            "reader, which does not support this kind of image; convert the series to NIfTI or "
            "NRRD"
        )


def check_slices(folder: Path, slices: Sequence[Slice]) -> None:
    """Raise InputError unless `slices`, in the order in which they are read, have a pixel spacing,
    are parallel, form a straight stack, and are evenly spaced."""
    first = slices[0]
    for s in slices:
        if s.pixel is None or s.pixel.min() <= 0:
            raise InputError(
                f"{folder}: {s.name} has no Pixel Spacing; export the series with its "
                "geometry"
            )
    if len(slices) < 2:
        raise InputError(
            f"{folder}: holds a single DICOM slice, which has no spacing; get the whole series"
        )
    for s in slices:
        if s.position is None or s.orientation is None or not normal_of(s.orientation).any():
            raise InputError(
                f"{folder}: {s.name} lacks the position of its slice (Image Position and Image "
                "Orientation); export the series with its geometry"
            )
        rows, columns = s.orientation[:3], s.orientation[3:]
        if np.abs([rows @ rows - 1, columns @ columns - 1, rows @ columns]).max() > 2 * _TURN:
            raise InputError(
                f"{folder}: the Image Orientation of {s.name} is not two unit vectors at right "
                "angles; export the series with its geometry"
            )
        if np.abs(s.orientation - first.orientation).max() > _TURN or not _same_pixels(s, first):
            raise InputError(
                f"{folder}: {s.name} has a different orientation or pixel spacing than "
                f"{first.name}; put each stack of slices into a folder of its own"
            )
    normal = normal_of(first.orientation)
    places = np.array([s.position - first.position for s in slices])
    heights = places @ normal
    _check_heights(folder, slices, heights)
    drift = np.linalg.norm(places - np.outer(heights, normal), axis=1)
    length, most = np.ptp(heights), int(np.argmax(drift))
    if drift[most] > max(_UNEVEN * length / (len(slices) - 1), MOST_SKEW * length):
        raise InputError(
            f"{folder}: the slices do not form a straight stack ({slices[most].name} lies "
            f"{drift[most]:.3g} mm off, as with a tilted gantry); resample the series onto a "
            "regular grid"
        )


def _check_heights(folder: Path, slices: Sequence[Slice], heights: np.ndarray) -> None:
    """The same for the positions along the normal, in mm."""
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    step = float(np.median(steps))
    low, high = (
        (slices[order[n]].name, slices[order[n + 1]].name)
        for n in (int(np.argmin(steps)), int(np.argmax(steps)))
    )
    if steps.min() <= _UNEVEN * step:
        raise InputError(
            f"{folder}: {low[0]} and {low[1]} lie at the same position (copies, or several phases "
            "in one series); keep one image for each position in the folder"
        )
    even = np.linspace(heights[0], heights[-1], len(heights))
    mean = np.ptp(heights) / (len(heights) - 1)  # the median of rounded steps may be far from it
    if np.abs(heights - even).max() > max(_UNEVEN * step, min(_ROUNDED, _MOST_UNEVEN * mean)):
        raise InputError(
            f"{folder}: slices are missing or unevenly spaced ({steps.max():.4g} mm from "
            f"{high[0]} to {high[1]}, mostly {step:.4g} mm); get the whole series or resample it"
        )


def normal_of(orientation: np.ndarray) -> np.ndarray:
    """The unit vector at right angles to a slice; zeros where the cosines name no plane."""
    normal = np.cross(orientation[:3], orientation[3:])
    length = np.linalg.norm(normal)
    return normal / length if length > 0 else normal


def _same_pixels(a: Slice, b: Slice) -> bool:
    return bool(np.allclose(a.pixel, b.pixel, rtol=_PIXEL, atol=0))


def _pattern(name: str) -> str:
    """`name` with its numbers left open: IM0012 is named like IM0013."""
    return re.sub(r"\d+", "#", name.lower())


def _sop_class(head: bytes) -> str | None:
    """The SOP class UID (0002,0002) that the `head` of a DICOM file holds; "" if the file ends
    before it, None if it is not a DICOM file or lacks it."""
    if head[128:_MAGIC_END] != b"DICM":
        return None
    place = _MAGIC_END
    while len(head) >= place + 8:
        group, element, kind, length = struct.unpack_from("<HH2sH", head, place)
        if group != 2:
            return None
        place += 8
        if kind in _LONG_VALUES:
            if len(head) < place + 4:
                break
            (length,) = struct.unpack_from("<I", head, place)
            place += 4
        if element == 2:
            value = head[place : place + length]
            return value.decode("latin-1").strip(" \0") if len(value) == length else ""
        place += length
    return ""
