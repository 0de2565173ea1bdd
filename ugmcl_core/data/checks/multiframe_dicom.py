"""Multi-frame DICOM: where the frames lie, and the grid that they form.

ITK reads the frames in the order of the file and, unless they lie evenly in that order, with a
spacing of 1 mm. Here they are checked as the files of a series are, and sorted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from .dicom import Slice, check_slices, normal_of

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


@dataclass(frozen=True)
class FrameGrid:
    """``order`` sorts the frames along their normal; ``spacing`` (i, j, k) in mm, ``origin`` and
    ``direction`` (3, 3; column a is index axis a) in LPS, as ITK has them."""

    order: np.ndarray
    spacing: tuple[float, float, float]
    origin: np.ndarray
    direction: np.ndarray


def frame_grid(path: Path, count: int) -> FrameGrid:
    """The grid of the ``count`` frames of a multi-frame file.

    Raises InputError if the file holds no position for each frame, or if the frames form no
    regular grid: a gap, several phases at one place, several orientations or pixel spacings. Also
    for frames with rescale slopes or intercepts of their own, of which ITK applies one, and for
    segmentations, of which it makes 255 of every segment.
    """
    import pydicom

    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
    except (OSError, ValueError, pydicom.errors.InvalidDicomError) as error:
        raise InputError(
            f"{path}: the DICOM header cannot be read ({error}); get it again"
        ) from None
    if getattr(dataset, "SOPClassUID", "") == _SEGMENTATION:
        raise InputError(
            f"{path}: is a DICOM segmentation; convert it to .seg.nrrd, as Slicer does"
        )
    frames = getattr(dataset, "PerFrameFunctionalGroupsSequence", None) or ()
    slices = [
        Slice(
            f"frame {n + 1}",
            _numbers(groups, "PlanePositionSequence", "ImagePositionPatient", 3),
            _numbers(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6),
            _numbers(groups, "PixelMeasuresSequence", "PixelSpacing", 2),
        )
        for n, groups in enumerate(_groups(dataset, count))
    ]
    placed = all(s.position is not None and s.orientation is not None for s in slices)
    if not placed or len(frames) != count:
        raise InputError(
            f"{path}: a multi-frame DICOM file without the positions of its frames; export it "
            "with its geometry, or as one file for each slice"
        )
    for what, none in (("Slope", 1), ("Intercept", 0)):
        found = {
            _text(groups, "PixelValueTransformationSequence", f"Rescale{what}", none)
            for groups in _groups(dataset, count)
        }
        if len(found) > 1:
            raise InputError(
                f"{path}: its frames have rescale {what.lower()}s of their own "
                f"({', '.join(sorted(found)[:2])}, ...); export it as one file for each slice"
            )
    heights = np.array([s.position for s in slices]) @ normal_of(slices[0].orientation)
    order = np.argsort(heights, kind="stable")
    check_slices(path, [slices[n] for n in order])
    first = slices[order[0]]
    rows, columns = first.orientation[:3], first.orientation[3:]
    step = float(np.ptp(heights)) / (count - 1)
    return FrameGrid(
        order,
        (float(first.pixel[1]), float(first.pixel[0]), step),
        first.position,
        np.column_stack([rows, columns, normal_of(first.orientation)]),
    )


def _groups(dataset: Any, count: int) -> Iterator[tuple[Any, Any]]:
    """The functional groups of each frame: its own, and those that all share."""
    shared = next(iter(getattr(dataset, "SharedFunctionalGroupsSequence", None) or ()), None)
    own = list(getattr(dataset, "PerFrameFunctionalGroupsSequence", None) or ())
    for n in range(count):
        yield own[n] if n < len(own) else None, shared


def _value(groups: tuple[Any, Any], sequence: str, name: str) -> Any:
    for group in groups:
        item = next(iter(getattr(group, sequence, None) or ()), None)
        if (value := getattr(item, name, None)) is not None:
            return value
    return None


def _text(groups: tuple[Any, Any], sequence: str, name: str, none: float) -> str:
    value = _value(groups, sequence, name)
    return f"{none if value is None else float(value):g}"


def _numbers(groups: tuple[Any, Any], sequence: str, name: str, count: int) -> np.ndarray | None:
    try:
        found = np.array([float(v) for v in _value(groups, sequence, name) or ()])
    except (TypeError, ValueError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None
