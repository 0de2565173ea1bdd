"""From a volume to results on its own grid, with a really trained small model."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from samples import dice, reordered
from scipy import ndimage

from ugmcl_core.data.volume import Grid, Volume, index_box, write
from ugmcl_core.errors import InputError
from ugmcl_core.evaluation import compare
from ugmcl_core.inference import result_files
from ugmcl_core.inference import segmenter as module
from ugmcl_core.inference.settings import BAND_MM, SegmentSettings
from ugmcl_core.inference.sliding_window import Prediction
from ugmcl_core.nn.level_sets import signed_distance


def distance(mask, grid):
    return np.clip(signed_distance(mask, grid.spacing), -10, 10).ravel()


def test_results_lie_on_the_grid_and_fit_each_other(segmenter, case):
    volume, truth = case
    found = segmenter.segment(volume, SegmentSettings(4))
    assert dice(found.labels.array > 0, truth) > 0.75
    assert np.corrcoef(found.sdf[0].array.ravel(), distance(truth, volume.grid))[0, 1] > 0.7
    for result in (found.labels, found.sdf[0], found.uncertainty):
        assert result.grid == volume.grid and result.array.shape == volume.array.shape
    assert found.sdf[0].array.min() >= -10 and found.sdf[0].array.max() <= 10
    assert found.uncertainty.array.min() >= 0 and found.uncertainty.array.max() <= 1
    assert found.classes[0].volume_ml == pytest.approx(
        (found.labels.array == 1).sum() * 1.0 * 1.1 * 2.0 / 1000
    )


def test_a_cases_uncertainty_is_the_one_that_evaluation_finds(segmenter, case, tmp_path):
    image, truth = case
    found = segmenter.segment(image, SegmentSettings(2))
    (tmp_path / "labels").mkdir()
    write(tmp_path / "labels/x.nrrd", Volume(truth.astype(np.uint8), image.grid))
    result_files.write(found, segmenter.model, tmp_path, "x")
    (pair,), _ = compare.find_cases(tmp_path, tmp_path / "labels")
    near = np.abs(signed_distance(found.labels.array, image.grid.spacing)) <= 5
    expected = found.uncertainty.array[near].mean(dtype=np.float64)
    assert found.classes[0].mean_uncertainty == pytest.approx(expected)
    assert compare.evaluate(pair).uncertainty == pytest.approx(expected)


@pytest.mark.parametrize(
    "order,flips",
    [
        (o, f)
        for o in itertools.permutations(range(3))
        for f in itertools.product((False, True), repeat=3)
    ],
)
def test_all_48_axis_orders_give_the_same_result_in_world_space(segmenter, case, order, flips):
    volume, _ = case
    settings = SegmentSettings(0)
    reference = segmenter.segment(volume, settings).labels.array
    other = segmenter.segment(reordered(volume, order, flips), settings).labels
    wanted = reordered(Volume(reference, volume.grid), order, flips)
    assert np.allclose(other.grid.affine, wanted.grid.affine)
    assert dice(other.array > 0, wanted.array > 0) >= 0.99


def test_the_surest_piece_is_the_result_wherever_it_is_shown(segmenter, case, monkeypatch):
    def two_pieces(network, image, *arguments, **options):
        p = torch.zeros(1, *image.shape[1:])
        p[0, 4:8, 4:8, 4:8], p[0, 10:16, 10:16, 4:10] = 0.95, 0.6  # the larger one is doubtful
        return Prediction(p, None, p)

    monkeypatch.setattr(module, "predict_mirrored", two_pieces)
    whole = segmenter.segment(case[0], SegmentSettings(1, all_components=True))
    found = segmenter.segment(case[0], SegmentSettings(1))
    pieces, count = ndimage.label(whole.labels.array)
    assert count == 2 and len(np.unique(pieces[found.labels.array > 0])) == 1
    assert 0 < found.classes[0].volume_ml < whole.classes[0].volume_ml / 2
    away = ndimage.distance_transform_edt(found.labels.array == 0, sampling=case[0].grid.spacing)
    assert away[found.surface_error.array > 0].max() <= BAND_MM + 1e-3


def test_outside_the_region_of_interest_is_background(segmenter, case):
    volume, truth = case
    inside = np.argwhere(truth)
    corners = volume.grid.affine[:3, :3] @ np.array([inside.min(0) - 4, inside.max(0) + 4]).T
    corners = corners.T + volume.grid.affine[:3, 3]
    roi = np.stack([corners.min(0), corners.max(0)], 1).ravel().tolist()
    found = segmenter.segment(volume, SegmentSettings(2), roi=roi)
    far = np.ones(volume.array.shape, bool)
    far[index_box(volume.grid, roi)] = False
    assert far.any() and not found.labels.array[far].any()
    assert (found.sdf[0].array[far] == 10).all() and not found.uncertainty.array[far].any()


@pytest.mark.parametrize(
    "shape,spacing",
    [((5, 6, 4), (2, 2, 4)), ((60, 7, 9), (0.7, 3, 2.5)), ((1, 40, 40), (5, 1, 1))],
)
def test_volumes_smaller_than_a_patch_are_segmented(segmenter, shape, spacing):
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = segmenter.segment(Volume(noise, Grid(shape, spacing)), SegmentSettings(1))
    assert found.labels.array.shape == shape and np.isfinite(found.sdf[0].array).all()


def test_a_much_larger_field_of_view_is_advised_against(segmenter, case):
    volume, _ = case
    assert not segmenter.segment(volume, SegmentSettings(0)).advice
    wide = np.pad(volume.array, ((40, 40), (0, 0), (0, 0)), mode="reflect")
    found = segmenter.segment(
        Volume(wide, replace(volume.grid, shape=wide.shape)), SegmentSettings(0)
    )
    assert any("region of interest" in line for line in found.advice)


def test_wrong_numbers_of_channels_and_passes_are_refused(segmenter, case):
    with pytest.raises(InputError, match="takes one image a case, 2 given"):
        segmenter.segment([case[0], case[0]])
    with pytest.raises(InputError, match="passes"):
        SegmentSettings(65)
