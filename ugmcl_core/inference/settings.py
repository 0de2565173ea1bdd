"""The settings of a segmentation and the limits that every part of the program shares.

Imports no torch: Slicer reads it in its own process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError

MOST_PASSES = 64
"""Monte Carlo passes; more would only take longer."""

MOST_PATCHES = 2.7
"""A volume of up to this many times a patch's voxels is segmented in one window, ..."""
SMALL_WINDOW, MOST_OF_SMALL = 900_000, 7.0
"""... or up to this many times, if the window has at most so many voxels."""


def largest_window(patch: Sequence[int]) -> float:
    """The voxels of the largest window for a model of this ``patch``."""
    one = math.prod(patch)
    return max(MOST_PATCHES * one, min(MOST_OF_SMALL * one, SMALL_WINDOW))


def smallest_patch(window: float) -> float:
    """The voxels of the smallest patch whose model may have a ``window`` of that many voxels."""
    return window / (MOST_OF_SMALL if window <= SMALL_WINDOW else MOST_PATCHES)


MOST_OVERLAP = 0.9
"""The largest part of a window that its neighbor may cover too; more costs time and gains
nothing."""

UNCERTAINTIES = ("dropout", "flips", "both")
"""The samples whose mean's entropy is the uncertainty (`sliding_window.predict_mirrored`)."""

BAND_MM = 5.0
"""mm from a surface within which voxels count for the measures of distance and uncertainty."""

UNSURE_MM = 2.0
"""A surface point whose error may exceed this is worth a look."""


@dataclass(frozen=True)
class SegmentSettings:
    """How a volume is segmented.

    ``passes`` Monte Carlo passes (0: no uncertainty); ``all_components`` keeps every component of
    classes that normally have one; window ``overlap`` as in `sliding_window.predict`, 0 to
    `MOST_OVERLAP`; the kind of ``uncertainty`` as in `sliding_window.predict_mirrored` (with
    ``flips`` any number of passes above 0 gives the same). InputError for other values.
    """

    passes: int = 8
    all_components: bool = False
    overlap: float | None = None
    uncertainty: str = "dropout"

    def __post_init__(self) -> None:
        check_passes(self.passes)
        if self.overlap is not None and not 0 <= self.overlap <= MOST_OVERLAP:
            raise InputError(f"a window overlap of {self.overlap}: choose 0 to {MOST_OVERLAP}")
        if self.uncertainty not in UNCERTAINTIES:
            raise InputError(
                f"uncertainty {self.uncertainty!r} is not one of {', '.join(UNCERTAINTIES)}"
            )


def check_passes(passes: int, fewest: int = 0) -> None:
    """InputError unless ``passes`` is from ``fewest`` to `MOST_PASSES`."""
    if not fewest <= passes <= MOST_PASSES:
        raise InputError(f"{passes} Monte Carlo passes: choose {fewest} to {MOST_PASSES}")
