"""Finding the structure in a field of view much larger than the training's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from samples import dice, reordered

from ugmcl_core.data.preprocessing import Normalization, prepare
from ugmcl_core.data.volume import Grid, Volume
from ugmcl_core.inference import localization
from ugmcl_core.inference.localization import box_around, candidates, surroundings
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.inference.sliding_window import Prediction


def test_candidates_are_the_surest_components_and_the_middle():
    p = np.zeros((30, 20, 10))
    p[2:4, 2:4, 2:4], p[10:20, 5:15, 2:8], p[25:29, 2:8, 1:9] = 0.99, 0.9, 0.51
    found = candidates(p)
    assert np.allclose(found[0], (14.5, 9.5, 4.5)) and np.allclose(found[1], (2.5, 2.5, 2.5))
    assert np.allclose(found[2], (26.5, 4.5, 4.5)), "larger than the former, but doubtful"
    assert np.allclose(found[-1], (14.5, 9.5, 4.5))
    assert len(candidates(np.zeros((4, 4, 4)))) == 1


@pytest.mark.parametrize(
    "order,flips", [((0, 1, 2), (False,) * 3), ((2, 0, 1), (True, False, True))]
)
def test_a_box_lies_around_its_center_in_any_axis_order(order, flips):
    grid = Grid((60, 50, 40), (1.0, 1.5, 2.0))
    array = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    volume = reordered(Volume(array, grid), order, flips)
    whole = prepare(volume, (1.25,) * 3, Normalization())
    world = np.array([40.0, 30.0, 50.0, 1.0])  # RAS, inside
    index = np.linalg.inv(grid.affine) @ world
    center = np.array(
        [(index[a] + 0.5) / grid.shape[a] * whole.image.shape[1 + a] - 0.5 for a in range(3)]
    )
    box = box_around(center, whole, (20.0, 18.0, 24.0))
    part = volume.grid.cropped(box)
    middle = part.affine @ [*((n - 1) / 2 for n in part.shape), 1.0]
    assert np.abs(middle - world)[:3].max() <= 1.1
    inverse = [order.index(a) for a in range(3)]
    assert [round(part.extent[i]) for i in inverse] == [20, 18, 24]


def test_a_box_at_the_border_is_moved_inside():
    whole = prepare(
        Volume(np.random.default_rng(0).normal(size=(30, 30, 30)), Grid((30, 30, 30))),
        (1.0,) * 3,
        Normalization(),
    )
    assert box_around(np.array([0, 15.6, 29]), whole, (10, 10, 100)) == (
        slice(0, 10),
        slice(11, 21),
        slice(0, 30),
    )


def field(width, probability, depth, place=10):
    """A find of that half width around that voxel of the first axis."""
    foreground, level = torch.zeros(1, 20, 20, 20), torch.ones(1, 20, 20, 20)
    box = (0, slice(place - width, place + width), *[slice(10 - width, 10 + width)] * 2)
    foreground[box], level[box] = probability, -depth
    return Prediction(foreground, level)


@pytest.fixture
def like(monkeypatch):
    """`likeness` of an image for which the network predicts what is given, for it and for its
    mirrored views."""

    def likeness_of(*predictions, mirror_axes=(0, 1)):
        left = iter(predictions)
        monkeypatch.setattr(localization, "predict", lambda *_, **__: next(left))
        card = SimpleNamespace(patch=(16, 16, 16), mirror_axes=mirror_axes)
        return localization.likeness(None, torch.zeros(1, 20, 20, 20), card)

    return likeness_of


def test_a_find_that_its_mirrored_views_share_counts_more_than_a_larger_surer_one(like):
    shared = like(field(3, 0.8, 0.9), field(3, 0.8, 0.9), field(3, 0.8, 0.9))
    assert shared == pytest.approx(0.9)
    # seen 3 voxels aside in one view: half of it is common
    assert like(field(3, 0.8, 0.9), field(3, 0.8, 0.9, 13), field(3, 0.8, 0.9)) == pytest.approx(
        0.9 * 0.75
    )
    elsewhere = like(field(5, 0.99, 0.95), field(3, 0.99, 0.95, 15), field(1, 0.99, 0.95))
    assert elsewhere < shared
    assert like(field(3, 0.8, 0.5), field(3, 0.8, 0.5), field(3, 0.8, 0.5)) < shared
    assert like(field(0, 0.0, 0.0)) == 0.0


def test_without_mirrored_images_in_training_a_sure_and_deep_find_counts_most(like):
    sure = like(field(3, 0.97, 0.9), mirror_axes=())
    assert sure == pytest.approx(0.94 * 0.9)
    assert sure > like(field(8, 0.97, 0.5), mirror_axes=())
    assert like(field(8, 0.97, 0.5), mirror_axes=()) > like(field(8, 0.6, 0.5), mirror_axes=())
    flat = Prediction(field(3, 0.97, 0.9).foreground, None)
    assert like(flat, mirror_axes=()) == pytest.approx(0.94, abs=1e-4)


def test_the_structure_is_found_in_a_volume_eight_times_as_large(segmenter, case):
    volume, truth = case
    width = ((70, 30), (40, 60), (20, 20))
    inside = tuple(slice(a, a + n) for (a, _), n in zip(width, volume.array.shape, strict=True))
    shape = [n + sum(w) for n, w in zip(volume.array.shape, width, strict=True)]
    padded = np.random.default_rng(0).normal(100, 8, shape).astype(np.float32)
    padded[inside] = volume.array
    wide = Volume(padded, Grid(padded.shape, volume.grid.spacing, axes=volume.grid.axes))
    found = segmenter.segment(wide, SegmentSettings(0))
    assert dice(found.labels.array[inside] > 0, truth) > 0.5
    outside = np.ones(padded.shape, bool)
    outside[inside] = False
    assert found.labels.array[outside].mean() < 0.001  # nothing but the structure is kept
    assert any("looked for" in line for line in found.advice)


@pytest.fixture
def finder(monkeypatch):
    """A stand-in for the network, that finds voxels above 1, and the windows that it saw."""
    seen = []

    def finding(network, part, patch, distance):
        assert not distance
        seen.append(part)
        return Prediction((part > 1).float(), None)

    monkeypatch.setattr(localization, "predict", finding)
    return torch.nn.Linear(1, 1), seen


def test_a_large_volume_is_looked_at_once_and_closely_around_the_find(finder):
    network, seen = finder
    image = torch.zeros(1, 60, 50, 40)
    image[0, 30:34, 20:25, 12:15] = 2.0
    image[0, 50, 45, 35] = 2.0  # of a class of one piece, not the largest
    patch = (16, 10, 8)
    assert surroundings(network, image, patch, [True]) == (
        slice(22, 42), slice(15, 30), slice(8, 19)
    )  # fmt: skip
    assert len(seen) < 10, "windows of a constant image are not looked at"
    assert surroundings(network, image, patch, [False]) == (
        slice(22, 59), slice(15, 50), slice(8, 40)
    )  # fmt: skip
    nothing = surroundings(network, torch.zeros(1, 60, 50, 40), patch, [True])
    assert nothing == (slice(22, 38), slice(20, 30), slice(16, 24))


@pytest.fixture
def looks(monkeypatch):
    """A stand-in for the network, to which the first channels of an image are the probabilities in
    one view and the others those in all views, and the windows that all views saw."""
    seen = []

    def all_views(network, part, patch, axes, *, distance, canceled):
        assert patch == (16, 10, 8) and axes == (0, 2) and not distance
        seen.append(tuple(part.shape[1:]))
        return Prediction(part[len(part) // 2 :], None)

    def one_view(network, part, patch, distance):
        return Prediction(part[: len(part) // 2], None)

    monkeypatch.setattr(localization, "predict", one_view)
    monkeypatch.setattr(localization, "predict_mirrored", all_views)
    return seen


def found_in(image, one_piece):
    return surroundings(torch.nn.Linear(1, 1), image, (16, 10, 8), one_piece, (0, 2))


@pytest.mark.parametrize(("gland", "other", "first"), [
    (0.95, 0.6, True), (0.6, 0.95, False), (0.45, 0.4, False)])  # fmt: skip
def test_of_two_finds_in_a_large_field_the_one_that_all_views_are_sure_of_counts(
    looks, gland, other, first
):
    image = torch.zeros(2, 60, 50, 40)
    image[0, 10:14, 20:25, 12:15], image[0, 40:44, 30:36, 25:28] = 0.9, 0.9  # larger
    image[1, 10:14, 20:25, 12:15], image[1, 40:44, 30:36, 25:28] = gland, other
    assert found_in(image, [True]) == ((slice(2, 22), slice(15, 30), slice(8, 19)) if first else
                                       (slice(32, 52), slice(25, 41), slice(21, 32)))  # fmt: skip
    assert looks == [(16, 10, 8)] * 2


def test_a_structure_longer_than_a_window_is_looked_at_as_a_whole(looks):
    image = torch.zeros(2, 80, 50, 40)
    image[:, 4:44, 8:18, 4:12], image[:, 56:74, 30:40, 22:30] = 0.9, 0.75
    where = found_in(image, [True])
    assert where == (slice(0, 52), slice(3, 23), slice(0, 16))
    assert sorted(looks) == [(18, 10, 8), (40, 10, 8)]


def test_many_specks_are_not_all_looked_at(looks):
    image = torch.zeros(2, 60, 50, 40)
    image[:, ::6, ::6, ::6] = 0.9
    found_in(image, [True])
    assert len(looks) == 4
    looks.clear()
    image[:, 20:30, 20:30, 20:30] = 0.9
    assert found_in(image, [True])[0] == slice(12, 39) and not looks


def test_each_class_in_one_piece_is_looked_for_by_itself(looks):
    image = torch.zeros(6, 60, 50, 40)
    image[:, 4:9, 4:9, 4:9] = 0.03
    image[0, 4:9, 4:9, 4:9] = image[3, 4:9, 4:9, 4:9] = 0.9  # the first has one find,
    image[1, 30:35, 20:25, 20:25] = image[4, 30:35, 20:25, 20:25] = 0.9  # the second two, of
    image[1, 50:56, 40:45, 30:35], image[4, 50:56, 40:45, 30:35] = 0.9, 0.55  # which one fades,
    image[2, 40:43, 4:8, 4:8], image[2, 4:6, 40:43, 4:8] = 0.9, 0.9  # the third may have several
    assert found_in(image, [True, True, False]) == (slice(0, 51), slice(0, 48), slice(0, 29))
    assert len(looks) == 2


def test_what_is_found_closely_is_what_the_whole_volume_shows(segmenter, case, monkeypatch):
    volume, truth = case
    whole = segmenter.segment(volume, SegmentSettings(2))
    monkeypatch.setattr(localization, "_LARGE", 0.1)
    part = segmenter.segment(volume, SegmentSettings(2))
    assert dice(part.labels.array > 0, whole.labels.array > 0) > 0.95
    assert dice(part.labels.array > 0, truth) > 0.5
    near = whole.labels.array > 0
    assert np.abs(part.sdf[0].array - whole.sdf[0].array)[near].mean() < 1.0
    for field in (part.sdf[0], part.uncertainty, part.surface_error):
        assert field.array.shape == volume.array.shape
