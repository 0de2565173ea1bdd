"""The measures against brute force, written from their definitions and nothing else."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import ball

from ugmcl_core.evaluation import metrics
from ugmcl_core.inference.surface_uncertainty import surface_uncertainty
from ugmcl_core.nn.level_sets import signed_distance

SPACINGS = [(1.0, 1.0, 1.0), (0.625, 0.625, 0.625), (0.7, 1.3, 4.0)]


def blob(seed: int, shape=(13, 11, 9)) -> np.ndarray:
    """A random mask with holes, islands, and voxels at the volume's edge."""
    rng = np.random.default_rng(seed)
    center = rng.uniform(2, 8, 3)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    mask = np.linalg.norm(grid - center, axis=-1) < rng.uniform(2, 5)
    return mask ^ (rng.random(shape) < 0.02)


def surface(mask: np.ndarray) -> np.ndarray:
    """Coordinates of voxels with a face neighbor outside the mask or outside the volume."""
    found = []
    for p in map(tuple, np.argwhere(mask)):
        for axis, step in product(range(3), (-1, 1)):
            q = list(p)
            q[axis] += step
            inside = all(0 <= c < n for c, n in zip(q, mask.shape, strict=True))
            if not inside or not mask[tuple(q)]:
                found.append(p)
                break
    return np.array(found, float)


def brute_distances(a, b, spacing):
    pa, pb = surface(a) * spacing, surface(b) * spacing
    table = np.sqrt(((pa[:, None] - pb[None]) ** 2).sum(-1))
    return table.min(1), table.min(0)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_brute_force(seed, spacing):
    a, b = blob(2 * seed), blob(2 * seed + 1)
    got = metrics.score(a, b, spacing)
    both, one, two = (a & b).sum(), a.sum(), b.sum()
    assert got.dice == pytest.approx(2 * both / (one + two))
    assert got.jaccard == pytest.approx(both / (a | b).sum())
    in_mm = np.array(spacing), got.asd_mm, got.hd95_mm
    for unit, asd, hd95 in ((1.0, got.asd, got.hd95), in_mm):
        forth, back = brute_distances(a, b, unit)
        assert asd == pytest.approx(forth.mean())
        assert hd95 == pytest.approx(np.percentile(np.concatenate([forth, back]), 95))


def test_asd_runs_from_the_prediction_to_the_reference():
    reference = np.zeros((20, 5, 5), bool)
    reference[2:5, 1:4, 1:4] = True
    prediction = reference.copy()
    prediction[15, 2, 2] = True  # a far island: only the prediction's side sees it
    assert metrics.score(prediction, reference, metrics.VOXELS).asd > 0
    assert metrics.score(reference, prediction, metrics.VOXELS).asd == 0


def test_known_distances():
    a, b = np.zeros((2, 30, 9, 9), bool)
    a[5, 4, 4], b[15, 4, 4] = True, True
    got = metrics.score(a, b, (0.5, 1.0, 2.0))
    assert (got.asd, got.hd95, got.asd_mm, got.hd95_mm) == (10, 10, 5, 5)
    assert got.dice == got.jaccard == 0


def test_surroundings_change_nothing():
    a, b = blob(1), blob(2)
    padded = [np.pad(m, ((3, 8), (0, 2), (5, 1))) for m in (a, b)]
    assert metrics.score(*padded, (1, 1, 1)) == metrics.score(a, b, (1, 1, 1))


def test_perfect():
    got = metrics.score(blob(3), blob(3), (1, 2, 3))
    assert got == metrics.Scores(1, 1, 0, 0, 0, 0)


@pytest.mark.parametrize("empty", ["prediction", "reference", "both"])
def test_empty_masks_are_no_success(empty):
    a, b = blob(1), blob(2)
    if empty in ("prediction", "both"):
        a = np.zeros_like(a)
    if empty in ("reference", "both"):
        b = np.zeros_like(b)
    got = metrics.score(a, b, (1, 2, 3))
    assert all(math.isnan(v) for v in (got.asd, got.hd95, got.asd_mm, got.hd95_mm))
    if empty == "both":
        assert math.isnan(got.dice) and math.isnan(got.jaccard)
    else:
        assert got.dice == got.jaccard == 0


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        metrics.score(np.ones((3, 3, 3)), np.ones((3, 3, 4)), (1, 1, 1))


def test_summary_leaves_out_and_counts_what_is_missing():
    rows = [{"dice": 0.8, "asd": 1.0}, {"dice": 0.9, "asd": math.nan}, {"dice": 0.7}]
    got = metrics.summary(rows)
    assert got["dice"].mean == pytest.approx(0.8)
    assert got["dice"].sd == pytest.approx(0.1)
    assert (got["dice"].count, got["dice"].missing) == (3, 0)
    assert (got["asd"].mean, got["asd"].count, got["asd"].missing) == (1.0, 1, 2)
    assert math.isnan(got["asd"].sd)
    assert metrics.summary([]) == {}


numbers = st.lists(st.integers(0, 6), min_size=2, max_size=25)


@settings(max_examples=60, deadline=None)
@given(numbers, st.randoms(use_true_random=False))
def test_auroc_equals_counting_pairs(values, random):
    positives = np.array([random.random() < 0.4 for _ in values])
    scores = np.array(values)
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[positives] for n in scores[~positives]]
    got = metrics.auroc(scores, positives)
    assert got == pytest.approx(np.mean(pairs)) if pairs else math.isnan(got)


@settings(max_examples=60, deadline=None)
@given(numbers, st.randoms(use_true_random=False))
def test_spearman_equals_the_definition(values, random):
    a = np.array(values, float)
    b = np.array([random.randint(0, 5) for _ in values], float)

    def rank(x):  # mean rank: those below, and half of the ties
        return np.array([(x < v).sum() + ((x == v).sum() + 1) / 2 for v in x])

    got = metrics.spearman(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert math.isnan(got)
    else:
        assert got == pytest.approx(np.corrcoef(rank(a), rank(b))[0, 1])
        assert metrics.spearman(np.append(a, math.nan), np.append(b, 1)) == pytest.approx(got)


def test_sdf_error_in_the_band():
    mask = np.zeros((40, 5, 5), bool)
    mask[:20] = True
    x = np.arange(40)[:, None, None] * 2.0 - 39.0  # mm from the plane between voxels 19 and 20
    truth = np.broadcast_to(x, mask.shape)
    spacing = (2.0, 3.0, 3.0)
    assert metrics.sdf_error(truth, mask, spacing) == pytest.approx(0, abs=1e-6)
    assert metrics.sdf_error(truth + 0.5, mask, spacing) == pytest.approx(0.5)
    wrong_far_away = np.where(np.abs(truth) > 5, 99.0, truth)
    assert metrics.sdf_error(wrong_far_away, mask, spacing) == pytest.approx(0, abs=1e-6)
    clamped = np.clip(truth, -3, 3)
    assert metrics.sdf_error(clamped, mask, spacing, scale_mm=3.0) == pytest.approx(0, abs=1e-6)
    assert metrics.sdf_error(clamped, mask, spacing) > 0.5
    assert math.isnan(metrics.sdf_error(truth, np.zeros_like(mask), spacing))


def test_error_auroc_counts_near_the_surface_only():
    reference = np.zeros((40, 6, 6), np.uint8)
    reference[:20] = 2
    labels = reference.copy()
    labels[20:22] = 2
    knows = (labels != reference).astype(float)
    assert metrics.error_auroc(knows, labels, reference, (1, 1, 1)) == 1
    assert metrics.error_auroc(-knows, labels, reference, (1, 1, 1)) == 0
    far = knows.copy()
    far[35:] = 5.0  # sure to be wrong where it is right, but out of the band
    assert metrics.error_auroc(far, labels, reference, (1, 1, 1)) == 1
    assert math.isnan(metrics.error_auroc(knows, reference, reference, (1, 1, 1)))
    assert math.isnan(metrics.error_auroc(knows, labels, 0 * reference, (1, 1, 1)))


def test_surface_uncertainty_is_the_mean_near_the_surface_only():
    mask = ball((40, 30, 30), (20, 15, 15), 9.0)
    spacing = (1.0, 1.5, 2.0)
    unsure = np.random.default_rng(0).random(mask.shape, np.float32)
    band = np.abs(signed_distance(mask, spacing)) <= 5
    expected = unsure[band].mean(dtype=np.float64)
    assert surface_uncertainty(unsure, mask, spacing) == pytest.approx(expected)
    at_the_edge = np.roll(mask, 12, axis=0)
    band = np.abs(signed_distance(at_the_edge, spacing)) <= 5
    found = surface_uncertainty(unsure, at_the_edge, spacing)
    assert found == pytest.approx(unsure[band].mean(dtype=np.float64))


@pytest.mark.parametrize("value", [False, True])
def test_surface_uncertainty_without_a_surface(value):
    mask = np.full((6, 6, 6), value)
    assert math.isnan(surface_uncertainty(np.ones((6, 6, 6)), mask, (1.0, 1.0, 1.0)))
