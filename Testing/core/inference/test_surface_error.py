"""The expected offset of a surface against its closed form, and the map that users get."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import tiny_model, write_image
from scipy import ndimage, stats

from ugmcl_core.data import volume
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import BAND_MM, SegmentSettings
from ugmcl_core.inference.surface_error import (
    bound,
    expected_offset,
    place_factor,
    places,
    surface_voxels,
)
from ugmcl_core.models.card import Calibration


def plane(spread: float, normal: tuple, spacing: tuple, shape: tuple) -> tuple:
    """A plane through the middle whose place is normally distributed: its probability, its mask,
    and each voxel's distance to it in mm."""
    normal = np.array(normal) / np.linalg.norm(normal)
    axes = (np.arange(n) * s - (n - 1) * s / 2 for n, s in zip(shape, spacing, strict=True))
    places = np.meshgrid(*axes, indexing="ij")
    distance = sum(a * x for a, x in zip(normal, places, strict=True))
    return stats.norm.cdf(-distance / spread).astype(np.float32), distance < 0, distance


@settings(max_examples=15, deadline=None)
@given(
    spread=st.floats(1.0, 2.0),
    normal=st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -2, 2)]),
    spacing=st.sampled_from([(1.25, 1.25, 1.25), (0.8, 0.8, 1.5)]),
)
def test_the_offset_of_a_plane_is_the_mean_distance_of_where_it_may_be(spread, normal, spacing):
    shape = tuple(round(60 / s) for s in spacing)
    p, mask, distance = plane(spread, normal, spacing, shape)
    found = expected_offset(p, mask, spacing)
    middle = tuple(slice(n // 3, -(n // 3)) for n in shape)
    close = surface_voxels(mask)[middle] & (np.abs(distance[middle]) < 2)
    expected = spread * math.sqrt(2 / math.pi)
    assert found[middle][close] == pytest.approx(expected, rel=0.12)


def test_beside_the_surface_the_offset_is_that_of_its_nearest_point():
    p, mask, _ = plane(1.5, (1, 0, 0), (1.0, 1.0, 1.0), (32, 30, 30))
    p[:, :15] = mask[:, :15]  # one half is sure
    found = expected_offset(p, mask, (1.0, 1.0, 1.0))
    surface = surface_voxels(mask)
    assert surface.sum() == 900 and surface[15].all()
    assert np.array_equal(found, np.broadcast_to(found[15], found.shape))
    assert found[19, 2, 15] < 0.05 and found[19, 27, 15] > 1.0


def test_the_place_of_a_surface_point_is_in_its_own_frame_whatever_the_grid():
    box = np.zeros((40, 36, 30), bool)
    box[5:25, 8:20, 10:16] = True
    surface = surface_voxels(box)
    place = places(surface, (1.0, 2.0, 3.0))
    assert place.shape == (3, surface.sum())
    assert place.mean(axis=1) == pytest.approx(0.0, abs=1e-5)
    assert place.std(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert np.allclose(place, places(surface, (0.5, 1.0, 1.5)), atol=1e-5)


def test_the_offset_is_greater_where_the_model_errs_more():
    p, mask, _ = plane(1.5, (1, 0, 0), (1.0, 1.0, 1.0), (32, 30, 30))
    plain = expected_offset(p, mask, (1.0, 1.0, 1.0))
    weights = (0.0, math.log(2.0), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, math.log(3.0))
    found = expected_offset(p, mask, (1.0, 1.0, 1.0), weights)
    surface = surface_voxels(mask)
    _x, y, z = places(surface, (1.0, 1.0, 1.0))
    expected = plain[surface] * 2.0**y * 3.0 ** (z * z - 1.0)
    assert found[surface] == pytest.approx(expected, rel=1e-4)
    assert found[20] == pytest.approx(found[15])
    assert place_factor(np.zeros((3, 1)), (1.0,) * 9) == pytest.approx(math.exp(-3.0))


@pytest.mark.parametrize("value", [False, True])
def test_without_a_surface_there_is_no_offset(value):
    mask = np.full((9, 8, 7), value)
    assert not expected_offset(np.full(mask.shape, 0.5, np.float32), mask, (1.0, 1.0, 1.0)).any()


def test_the_map_of_a_segmentation_is_the_bound_near_its_surface(tmp_path, monkeypatch):
    scan = volume.read(write_image(tmp_path / "scan.nrrd"))
    segmenter = Segmenter(tiny_model(tmp_path / "tiny"), "cpu")
    real = segmenter.predict

    def blurred_ball(*arguments, **options):
        found, prepared, wide = real(*arguments, **options)
        axes = (torch.linspace(-1.0, 1.0, n) for n in found.foreground.shape[1:])
        radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
        p = (6.0 * (0.6 - radius)).sigmoid()[None]
        return replace(found, foreground=p, sampled=p), prepared, wide

    monkeypatch.setattr(segmenter, "predict", blurred_ball)
    found = segmenter.segment(scan, SegmentSettings(passes=3))
    mask = found.labels.array == 1
    distance = ndimage.distance_transform_edt(~surface_voxels(mask), scan.grid.spacing)
    error = found.surface_error.array
    assert 0 < mask.sum() < mask.size and error.dtype == np.float32
    step = max(scan.grid.spacing)
    assert not error[distance > BAND_MM + step].any()
    assert (error[surface_voxels(mask)] > 0).all()
    shown = (error > 0) & ~surface_voxels(mask)
    assert shown.any() and (distance[shown] <= error[shown] + step).all()
    (info,) = found.classes
    dice, low, high = found.predicted_dice
    assert 0 <= low < dice < high <= 1
    assert info.unsure_surface == pytest.approx((error[surface_voxels(mask)] > 2.0).mean())


def test_the_bound_grows_with_the_offset_by_the_models_own_rule():
    offset = np.array([0.5, 1.0, 2.0], np.float32)
    assert bound(offset, Calibration(3.0, 2.0)) == pytest.approx([0.75, 3.0, 12.0])


def test_a_predicted_dice_and_its_interval_stay_within_bounds():
    rule = Calibration(dice_slope=1.5, dice_offset=-0.5, dice_deviation=0.1)
    assert rule.dice(0.9) == pytest.approx((0.85, 0.654, 1.0))
    assert rule.dice(0.2) == pytest.approx((0.0, 0.0, 0.0))
