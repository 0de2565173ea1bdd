"""The interval of a volume: what it holds, and what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest
from samples import small_case, tiny_model

from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.inference.volume_interval import moved_volumes, volume_interval

SPACING = (1.0, 2.0, 1.5)


def sphere(radius: float, width: float) -> np.ndarray:
    """Probabilities that fall from 1 to 0 over ``width`` mm around a radius in mm."""
    shape = (60, 30, 40)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * SPACING
    distance = np.linalg.norm(index - np.multiply(shape, SPACING) / 2, axis=-1) - radius
    return np.clip(0.5 - distance / width, 0, 1).astype(np.float32)


def volumes(p: np.ndarray) -> tuple[float, float, float]:
    return moved_volumes(p, p > 0.5, SPACING)


def test_the_surface_moves_as_a_whole():
    own, low, high = volumes(sphere(15.0, 4.0))
    for found, radius in ((own, 15.0), (low, 14.0), (high, 16.0)):
        assert found == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.02)
    narrow = volumes(sphere(15.0, 1.0))
    assert low < narrow[1] <= narrow[2] < high


def test_a_stretch_moves_it_as_many_times_as_far_in_logarithms():
    found = volumes(sphere(15.0, 4.0))
    assert volume_interval(found, 1.0) == pytest.approx(found[1:])
    for moved, bound in zip(found[1:], volume_interval(found, 2.5), strict=True):
        assert np.log(bound / found[0]) == pytest.approx(2.5 * np.log(moved / found[0]))


def test_edges():
    p = sphere(8.0, 2.0)
    mask = p > 0.5
    assert volume_interval(moved_volumes(p, np.zeros_like(mask), SPACING), 2.0) == (0.0, 0.0)
    for value in (0.4, 0.8):  # the volume of the mask lies within, whatever the samples say
        low, high = volume_interval(moved_volumes(np.full_like(p, value), mask, SPACING), 2.0)
        assert low <= mask.sum() * 3.0 / 1000 <= high


def test_a_result_has_it_with_passes_alone(tmp_path):
    segmenter = Segmenter(tiny_model(tmp_path / "tiny"), "cpu")
    (found,) = segmenter.segment(small_case()[0], SegmentSettings(passes=2)).classes
    low, high = found.volume_interval_ml
    assert low <= found.volume_ml <= high
    (found,) = segmenter.segment(small_case()[0], SegmentSettings(passes=0)).classes
    assert found.volume_interval_ml is None
