"""From a volume to the model's grid and exactly back."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import reordered

from ugmcl_core.data.preprocessing import Normalization, canonical_axes, prepare, resize, spans
from ugmcl_core.data.volume import Grid, Volume
from ugmcl_core.errors import InputError

MR = Normalization()


def ball(grid):
    """A soft ellipsoid defined in RAS, so that it lies at the same place on every grid."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    ras = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return (np.linalg.norm((ras - [3, -2, 4]) / [9, 6, 12], axis=-1) < 1).astype(np.float32)


@pytest.fixture
def oblique():
    angle = 0.3
    axes = ((np.cos(angle), -np.sin(angle), 0), (np.sin(angle), np.cos(angle), 0), (0, 0, 1))
    grid = Grid((44, 38, 26), (0.9, 1.1, 1.7), (-18, -20, -18), axes)
    return Volume(
        ball(grid) * 100 + np.random.default_rng(0).normal(0, 9, grid.shape).astype(np.float32),
        grid,
    )


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((False, True), repeat=3)))
def test_all_48_axis_orders_give_the_network_the_same_image(oblique, order, flips):
    reference = prepare(oblique, (1.25,) * 3, MR)
    other = reordered(oblique, order, flips)
    source = _source(order, flips, other, (1, 2, 3))
    assert np.allclose(other.grid.affine @ [1, 2, 3, 1], oblique.grid.affine @ [*source, 1])
    prepared = prepare(other, (1.25,) * 3, MR)
    assert torch.allclose(prepared.image, reference.image, atol=1e-4)
    there = prepared.restore(prepared.image)[0].numpy()
    here = reference.restore(reference.image)[0].numpy()
    assert np.allclose(there, reordered(Volume(here, oblique.grid), order, flips).array, atol=1e-4)


def _source(order, flips, volume, index):
    """The index in the original of voxel ``index`` of a reordered volume."""
    source = [0, 0, 0]
    for a in range(3):
        source[order[a]] = volume.array.shape[a] - 1 - index[a] if flips[a] else index[a]
    return source


@pytest.mark.parametrize(
    "spacing,shape",
    [
        ((0.625,) * 3, (60, 50, 44)),
        ((1, 1, 4), (40, 40, 12)),
        ((2.5, 2.5, 2.5), (14, 12, 16)),
        ((1, 1, 1), (9, 8, 7)),
    ],
)
def test_a_mask_survives_the_way_there_and_back(spacing, shape):
    extent = np.multiply(shape, spacing)
    grid = Grid(shape, spacing, tuple((-extent / 2 + [3, -2, 4]).tolist()))
    mask = ball(grid)
    noise = np.random.default_rng(1).normal(0, 0.1, shape).astype(np.float32)
    prepared = prepare(Volume(mask + noise, grid), (1.25,) * 3, MR)
    assert np.allclose(prepared.spacing, 1.25, rtol=0.1)
    there = resize(torch.from_numpy(mask)[None], prepared.image.shape[1:])
    back = prepared.restore(there)[0].numpy() > 0.5
    dice = 2 * (back & (mask > 0.5)).sum() / (back.sum() + mask.sum())
    # halving the resolution loses at most what one voxel of 1.25 mm at the surface allows
    assert dice > (0.95 if min(spacing) < 1 else 0.98)


@pytest.mark.parametrize("spacing", [0.8, 2.1])
@pytest.mark.parametrize("flips", [(False,) * 3, (True, False, True)])
def test_rows_and_parts_are_those_of_the_whole(oblique, spacing, flips):
    volume = reordered(oblique, (2, 0, 1), flips)
    prepared = prepare(volume, (spacing,) * 3, MR)
    whole = prepared.restore(prepared.image)
    axis = prepared.order[0]
    rows = slice(3, 8)
    assert torch.allclose(
        prepared.restore(prepared.image, rows), whole.narrow(1 + axis, 3, 5), atol=1e-4
    )
    inside = tuple(slice(n // 4, n - n // 5) for n in prepared.image.shape[1:])
    part = prepared.part(inside)
    assert torch.equal(part.image, prepared.image[(slice(None), *inside)])
    back = part.restore(part.image)
    there = whole[(slice(None), *part.box)]
    assert back.shape == there.shape and 0.1 < back.numel() / whole.numel() < 0.3
    edge = (slice(None), *(slice(3, -3),) * 3)  # beyond lies what the part does not know
    assert torch.allclose(back[edge], there[edge], atol=1e-4)
    some = part.restore(part.image, rows)
    assert torch.allclose(some, back.narrow(1 + axis, 3, 5), atol=1e-4)


@settings(max_examples=40)
@given(
    spacing=st.floats(0.6, 4.0),
    order=st.permutations(range(3)),
    flips=st.tuples(*(st.booleans(),) * 3),
    share=st.floats(0.0, 0.3),
)
def test_the_nearest_voxel_is_half_a_voxel_away_at_most(spacing, order, flips, share):
    grid = Grid((30, 26, 20), (0.9, 1.1, 1.7))
    random = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    volume = reordered(Volume(random, grid), tuple(order), flips)
    whole = prepare(volume, (spacing,) * 3, MR)
    inside = [slice(int(share * n), n) for n in whole.image.shape[1:]]
    part = whole.part(inside)
    for prepared, corner in ((whole, (0, 0, 0)), (part, [s.start for s in inside])):
        for a, own in enumerate(np.indices(prepared.image.shape[1:])):
            axis, count = whole.order[a], whole.region[whole.order[a]]
            centers = (np.arange(count) + 0.5) * whole.image.shape[1 + a] / count - 0.5
            centers = centers[::-1] if whole.flips[a] else centers
            centers = centers[prepared.box[axis]].clip(corner[a])  # a voxel cut by the part's edge
            away = np.moveaxis(prepared.nearest(own), axis, -1) + corner[a] - centers
            assert away.shape[-1] == prepared.region[axis] and np.abs(away).max() <= 0.5 + 1e-3


def test_linear_images_come_back_exactly():
    grid = Grid((20, 24, 16), (0.625,) * 3)
    ramp = np.fromfunction(lambda i, j, k: 2.0 * i - j + 3.0 * k, grid.shape).astype(np.float32)
    prepared = prepare(Volume(ramp, grid), (1.25,) * 3, Normalization("window", -1000, 1000))
    back = prepared.restore(prepared.image)[0].numpy() * 1000
    inner = (slice(4, -4),) * 3
    assert np.allclose(back[inner], ramp[inner], atol=1e-2)


def test_the_region_of_interest_goes_back_to_its_place(oblique):
    roi = (-6, 12, -9, 7, -5, 13)
    prepared = prepare(oblique, (1.25,) * 3, MR, roi)
    region = prepared.restore(torch.ones(1, *prepared.image.shape[1:]))[0].numpy()
    full = prepared.place(region, -7.0)
    assert full.shape == oblique.grid.shape
    assert (full[prepared.box] == 1).all()
    assert (full == -7).sum() == full.size - region.size


def test_normalization_ignores_scale_and_offset():
    x = np.random.default_rng(0).gamma(2, 30, (20, 20, 20))
    for kind in ("robust-z", "z-score"):
        n = Normalization(kind)
        assert np.allclose(n(x), n(3 * x + 500), atol=1e-3)
        assert n(x).dtype == np.float32
        assert abs(n(x).mean()) < 1e-3 and abs(n(x).std() - 1) < 1e-3


def test_robust_normalization_ignores_a_few_wild_voxels():
    x = np.random.default_rng(0).normal(100, 10, (20, 20, 20))
    wild = x.copy()
    wild.ravel()[:8] = 1e6
    inside = np.arange(x.size).reshape(x.shape) >= 8
    assert np.abs(MR(wild) - MR(x))[inside].max() < 0.05
    assert np.abs(Normalization("z-score")(wild) - Normalization("z-score")(x))[inside].max() > 0.5


def test_padding_with_a_constant_does_not_change_the_contrast():
    x = np.random.default_rng(0).gamma(2, 30, (20, 20, 20)) + 1
    padded = np.pad(x, 10)
    assert np.allclose(MR(padded)[10:-10, 10:-10, 10:-10], MR(x), atol=1e-3)
    assert np.isfinite(MR(np.pad(np.ones((4, 4, 4)), 3))).all()


def test_a_window_maps_its_ends_to_plus_and_minus_one():
    values = np.array([-500.0, -100.0, 50.0, 200.0, 900.0])
    assert np.allclose(Normalization("window", -100, 200)(values), [-1, -1, 0, 1, 1])


def test_constant_images_are_refused():
    """Whatever the unit of its values: rounding differs by their size."""
    rounding = 1 + 1e-7 * np.random.default_rng(0).normal(size=(8, 8, 8))
    for value in (0.0, 7.0, -1e-9, 1e6, 1e12):
        for kind in ("robust-z", "z-score", "z-score-nonzero"):
            constant = Volume(np.full((8, 8, 8), value, np.float32), Grid((8, 8, 8)))
            noisy = Volume((value * rounding).astype(np.float32), Grid((8, 8, 8)))
            for image in (constant, noisy):
                with pytest.raises(InputError, match="constant"):
                    prepare(image, (1, 1, 1), Normalization(kind))


@pytest.mark.parametrize("unit", [1e-12, 1e-9, 1e-6, 1.0, 1e9])
@pytest.mark.parametrize("kind", ["robust-z", "z-score", "z-score-nonzero", "unit"])
def test_images_of_any_unit_are_normalized_alike(unit, kind):
    """A diffusion in m²/s is of 1e-9."""
    image = np.random.default_rng(0).gamma(2.0, 30.0, (12, 12, 12)).astype(np.float32)
    n = Normalization(kind)
    assert np.allclose(n(np.float32(unit) * image), n(image), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 6, 6), (6, 1, 6), (6, 6, 1), (1, 1, 6), (1, 1, 1)])
def test_a_flipped_axis_of_one_voxel(shape):
    axes = tuple(map(tuple, -np.eye(3)))
    array = np.random.default_rng(0).random(shape, np.float32)
    volume = Volume(array, Grid(shape, (3.0, 3.0, 3.0), axes=axes))
    prepared = prepare(volume, (3.0, 3.0, 3.0), Normalization("none"))
    assert np.array_equal(prepared.image[0].numpy(), array[::-1, ::-1, ::-1])
    assert np.array_equal(prepared.restore(prepared.image)[0].numpy(), array)


def test_less_than_a_voxel_of_the_model_is_refused():
    array = np.random.default_rng(0).random((20, 20, 20), np.float32)
    volume = Volume(array, Grid(array.shape, (0.1, 0.1, 0.1)))
    with pytest.raises(InputError, match=r"spans 2 x 2 x 2 mm, less than one voxel"):
        prepare(volume, (2.5, 2.5, 2.5), MR)
    with pytest.raises(InputError, match="less than one voxel"):
        prepare(volume, (1.5, 1.5, 1.5), MR, (0.5, 0.6, 0.5, 0.6, 0.5, 0.6))
    long = prepare(volume, (0.9, 2.5, 2.5), Normalization("none"))
    assert long.image.shape == (1, 2, 1, 1)


def test_axes_are_matched_to_the_body():
    order, flips = canonical_axes(Grid((2, 3, 4), axes=((0, 0, 1), (-1, 0, 0), (0, 1, 0))))
    assert order == (2, 0, 1) and flips == (False, True, False)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("size", [(5, 8), (5, 4), (11, 8), (1, 4)])
def test_a_single_slice_is_resampled_like_several_equal_ones(axis, size):
    plane = torch.rand(2, 9, 7, generator=torch.Generator().manual_seed(1))
    slices = plane.unsqueeze(axis + 1)
    one, several = list(size), list(size)
    one.insert(axis, 1)
    several.insert(axis, 3)
    wanted = resize(slices.repeat_interleave(3, axis + 1), several).select(axis + 1, 1)
    found = resize(slices, one).select(axis + 1, 0)
    assert torch.allclose(found, wanted, atol=1e-6) and len(found.unique()) > 2


def test_extents_are_readable_at_any_size():
    assert spans((256.4, 30.46, 0.2)) == "256 x 30 x 0.2"
    assert spans((2e-4, 1.0, 1584.0)) == "0.0002 x 1 x 1584"
