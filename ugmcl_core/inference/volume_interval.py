"""The volume of a structure with the interval that holds the true one in 95 % of the cases.

The samples (Monte Carlo passes, mirrored views) put the surface in different places. Dropout says
little about how the errors at two places are correlated, and a model that draws too large tends to
do so everywhere. So the whole surface is assumed to move at once, to where the samples' mean
probability is 3/4 and 1/4. The samples cannot show how much farther it has to move: the logarithms
of both distances are stretched by a factor that was calibrated on the errors of other scans
(`Calibration.volume_stretch`).
"""

from __future__ import annotations

import math

import numpy as np

_QUARTILE = 0.25


def volume_interval(volumes: tuple[float, float, float], stretch: float) -> tuple[float, float]:
    """The bounds of a structure's volume, in the unit of its `moved_volumes`, by the ``stretch``;
    they enclose its own volume. 0 and 0 if it has none."""
    own, low, high = volumes
    if not own:
        return 0.0, 0.0
    return own * (low / own) ** stretch, own * (high / own) ** stretch


def moved_volumes(
    probability: np.ndarray, mask: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[float, float, float]:
    """In mL: the volume of the predicted ``mask`` (I, J, K), and those where its mean
    ``probability`` (I, J, K), 0 beyond its reach, exceeds 3/4 and 1/4, which are no larger and no
    smaller; at ``spacing`` mm."""
    p = probability
    milliliters = math.prod(spacing) / 1000.0
    own = float(np.count_nonzero(mask)) * milliliters
    low, high = (float(np.count_nonzero(p > level)) * milliliters
                 for level in (1.0 - _QUARTILE, _QUARTILE))  # fmt: skip
    return own, min(low, own), max(high, own)
