"""How uncertain a predicted surface is: one number for a case."""

from __future__ import annotations

import math

import numpy as np

from .settings import BAND_MM
from .surface_error import near_surface


def surface_uncertainty(
    uncertainty: np.ndarray,
    mask: np.ndarray,
    spacing: tuple[float, float, float],
    band_mm: float = BAND_MM,
) -> float:
    """Mean of `uncertainty` (I, J, K) within `band_mm` of the surface of
    the predicted `mask` (I, J, K); `spacing` in mm. NaN for a mask without surface."""
    where, distance = near_surface(mask, spacing, band_mm)
    near = distance <= band_mm
    return float(uncertainty[where][near].mean(dtype=np.float64)) if near.any() else math.nan
