"""T(y) and its inverse against an independent computation."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from ugmcl_core.nn.level_sets import distance_to_store, level_set, signed_distance, to_mask

masks = arrays(bool, st.tuples(*[st.integers(2, 7)] * 3))
spacings = st.tuples(*[st.floats(0.4, 4.0)] * 3)


def level(phi, sdf):
    """T(y) of a signed distance in mm, as a training sees it."""
    stored = torch.from_numpy(distance_to_store(phi, sdf, 10.0))
    return level_set(stored, sdf, 10.0).numpy()


def by_scipy(mask, spacing):
    """½ (D(mask) - D(complement)) from SciPy's unsigned transforms: with d_in the distance of a
    voxel to the nearest background voxel and d_out to the nearest foreground voxel, the signed
    maps' inner shells drop out and ½ (d_out - d_in) is left, less the distance to the shell."""
    inside = np.argwhere(mask & ~_eroded(mask))
    outside = np.argwhere(~mask & ~_eroded(~mask))
    index = np.stack(np.meshgrid(*map(np.arange, mask.shape), indexing="ij"), -1)

    def nearest(points):
        gaps = (index[..., None, :] - points) * np.array(spacing)
        return np.sqrt((gaps**2).sum(-1)).min(-1)

    to_mask_shell, to_complement_shell = nearest(inside), nearest(outside)
    signed_mask = np.where(mask, -to_mask_shell, to_mask_shell)
    signed_complement = np.where(mask, to_complement_shell, -to_complement_shell)
    return 0.5 * (signed_mask - signed_complement)


def _eroded(mask):
    """Voxels whose 26 neighbors inside the volume are all set: the rest are the shell."""
    padded = np.pad(mask, 1, constant_values=True)
    result = np.ones_like(mask)
    n = mask.shape
    for i in range(3):
        for j in range(3):
            for k in range(3):
                result &= padded[i : i + n[0], j : j + n[1], k : k + n[2]]
    return result


@settings(max_examples=60, deadline=None)
@given(mask=masks, spacing=spacings)
def test_the_zero_level_is_the_mask_and_no_voxel_is_lost(mask, spacing):
    phi = signed_distance(mask, spacing)
    assert np.array_equal(phi < 0, mask)
    assert np.array_equal(level(phi, "truncated") < 0, mask)
    assert np.array_equal(level(phi, "published") < 0, mask)


@settings(max_examples=60, deadline=None)
@given(mask=masks, spacing=spacings)
def test_the_way_from_mask_to_level_set_and_back_is_exact(mask, spacing):
    for found, k in (
        (level(signed_distance(mask, spacing), "published"), 1500.0),
        (level(signed_distance(mask, spacing), "truncated"), 50.0),
    ):
        assert np.array_equal((to_mask(torch.from_numpy(found), k) > 0.5).numpy(), mask)


def test_distances_are_euclidean_millimeters_from_between_the_voxels():
    mask = np.zeros((21, 15, 9), bool)
    mask[5:15] = True
    phi = signed_distance(mask, (2.0, 1.0, 3.0))
    # planes between voxels 4 and 5, and between 14 and 15
    along = np.arange(21) * 2.0
    wanted = np.maximum(9.0 - along, along - 29.0)
    assert np.allclose(phi, wanted[:, None, None], atol=1e-5)


def test_far_from_flat_surfaces_it_agrees_with_scipy_within_half_a_voxel():
    x = np.stack(np.meshgrid(*[np.arange(30)] * 3, indexing="ij"), -1) - 14.5
    mask = np.linalg.norm(x / [11, 7, 9], axis=-1) < 1
    spacing = (1.0, 1.3, 0.8)
    edt = distance_transform_edt(~mask, spacing) - distance_transform_edt(mask, spacing)
    phi = signed_distance(mask, spacing)
    assert np.abs(phi - (edt - 0.5 * np.sign(edt))).max() < 1.3


@settings(max_examples=25, deadline=None)
@given(
    mask=arrays(bool, st.tuples(*[st.integers(3, 6)] * 3)),
    spacing=spacings,
    order=st.permutations(range(3)),
)
def test_it_agrees_with_a_brute_force_search(mask, spacing, order):
    if not mask.any() or mask.all():
        return
    in_memory = mask.transpose(order).copy()  # files and arrays made here lie differently
    phi = signed_distance(in_memory.transpose(np.argsort(order)), spacing)
    brute = by_scipy(mask, spacing)
    # ITK's shell holds the voxels with a face, edge or corner neighbor across
    assert np.allclose(phi, brute, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    mask=masks,
    spacing=spacings,
    around=st.lists(st.tuples(*[st.integers(0, 8)] * 2), min_size=3, max_size=3),
    reach=st.floats(0.1, 20.0),
    order=st.permutations(range(3)),
)
def test_a_reach_clips_and_changes_nothing_else(mask, spacing, around, reach, order):
    mask = np.pad(mask, around).transpose(order)
    found, whole = signed_distance(mask, spacing, reach), signed_distance(mask, spacing)
    assert np.allclose(found, np.clip(whole, -reach, reach), atol=1e-5)  # rounds otherwise


def test_an_absent_class_is_outside_everywhere():
    phi = signed_distance(np.zeros((4, 4, 4), bool), (1, 1, 1))
    assert (level(phi, "published") == 1).all() and (level(phi, "truncated") == 1).all()


def test_published_normalization_spans_minus_one_to_one():
    mask = np.zeros((20, 20, 20), bool)
    mask[6:12, 5:15, 4:16] = True
    found = level(signed_distance(mask, (1, 1, 1)), "published")
    assert found.min() == -1 and found.max() == 1


def test_the_published_sharpness_saturates_and_stays_finite():
    z = torch.tensor([-1.0, -0.005, 0.0, 0.005, 1.0], dtype=torch.bfloat16)
    m = to_mask(z, 1500.0)
    assert m.dtype == torch.float32
    assert torch.allclose(m, torch.tensor([1.0, 0.9994, 0.5, 0.0006, 0.0]), atol=2e-4)
