"""The interval of a volume: what it holds, and what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest
from samples import small_case, tiny_model

from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.inference.volume_interval import volume_interval

SPACING = (1.0, 2.0, 1.5)


def sphere(radius: float, width: float) -> np.ndarray:
    """Probabilities that fall from 1 to 0 over ``width`` mm around a radius in mm."""
    shape = (60, 30, 40)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * SPACING
    distance = np.linalg.norm(index - np.multiply(shape, SPACING) / 2, axis=-1) - radius
    return np.clip(0.5 - distance / width, 0, 1).astype(np.float32)


def test_the_surface_moves_as_a_whole():
    p = sphere(15.0, 4.0)
    low, high = volume_interval(p, p > 0.5, SPACING)
    for bound, radius in ((low, 15 - 0.4 * 2), (high, 15 + 0.4 * 2)):
        assert bound == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.02)
    narrow = volume_interval(sphere(15.0, 1.0), p > 0.5, SPACING)
    assert low < narrow[0] <= narrow[1] < high


def test_other_structures_and_edges():
    p = sphere(8.0, 2.0)
    inside = volume_interval(p, p > 0.5, SPACING)
    p[:4, :3, :3] = 0.9  # an island that the largest component leaves out
    mask = (p > 0.5) & (sphere(8.0, 2.0) > 0)
    assert volume_interval(p, mask, SPACING) == inside
    assert volume_interval(p, np.zeros_like(mask), SPACING) == (0.0, 0.0)
    low, high = volume_interval(np.full_like(p, 0.4), mask, SPACING)
    assert low < mask.sum() * 3.0 / 1000 < high, "the volume of the mask lies within"


def test_a_result_has_it_with_passes_alone(tmp_path):
    segmenter = Segmenter(tiny_model(tmp_path / "tiny"), "cpu")
    (found,) = segmenter.segment(small_case()[0], SegmentSettings(passes=2)).classes
    low, high = found.volume_interval_ml
    assert low <= found.volume_ml <= high
    (found,) = segmenter.segment(small_case()[0], SegmentSettings(passes=0)).classes
    assert found.volume_interval_ml is None
