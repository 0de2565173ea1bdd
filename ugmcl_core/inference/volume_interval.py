"""The volume of a structure with the interval that the samples of a prediction leave open.

The samples (Monte Carlo passes, mirrored views) put the surface in different places. Dropout says
little of how the errors at two places go together, and a model that draws too large tends to do so
everywhere: so the whole surface is taken to move at once. The bounds are then the volumes where
the samples' mean probability exceeds a level above and one below 1/2. The levels are calibrated:
the mean probability falls more slowly across the surface than its place is unknown, so that with
0.975 and 0.025 the interval would be 80 % of the volume wide.
"""

from __future__ import annotations

import math

import numpy as np

from .surface_error import near_surface

_TAIL = 0.3
"""Below 1/2 by as much as the upper level is above it: the narrowest of 0.025, 0.1, 0.15, ..., 0.4
whose interval held the true volume of all ten scans (25 % of the volume wide; with 0.35 it held
nine; Testing/benchmarks/accuracy/surface_error.py). On 20 others it held 18."""
_REACH_MM = 10.0  # beyond the predicted surface, from where on it is another structure


def volume_interval(
    probability: np.ndarray, mask: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[float, float]:
    """The bounds in mL of the 95 % interval of a structure's volume, from its mean ``probability``
    and its predicted ``mask``, both (I, J, K), at ``spacing`` mm; 0 and 0 for an empty mask.

    They hold the volume of the mask itself.
    """
    if not mask.any():
        return 0.0, 0.0
    where, distance = near_surface(mask, spacing, _REACH_MM)
    p, inside = probability[where], mask[where]
    reachable = inside | (distance <= _REACH_MM)
    milliliters = math.prod(spacing) / 1000.0
    bounds = [float(np.count_nonzero(reachable & (p > u))) for u in (1.0 - _TAIL, _TAIL)]
    own = float(np.count_nonzero(inside))
    return min(bounds[0], own) * milliliters, max(bounds[1], own) * milliliters
