"""Intervals, paired tests and Holm's correction against hand computations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import special

from ugmcl_core.experiments import statistics

NAN = math.nan


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04 -> never falling
    assert statistics.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert statistics.holm([0.2]) == [0.2]
    assert statistics.holm([]) == []


def test_holm_leaves_nan_out():
    first, second, third = statistics.holm([0.01, NAN, 0.04])
    assert (first, third) == pytest.approx((0.02, 0.04)) and math.isnan(second)


def test_bootstrap_of_cases_is_the_exact_distribution():
    """Three cases: the 27 equally likely draws have 10 different means, whose exact percentiles
    many random draws approach."""
    values = np.array([0.0, 1.0, 3.0])
    means = sorted(np.mean(draw) for draw in itertools.product(values, repeat=3))
    # P(mean = 0) = 1/27 > 2.5 % and P(mean = 3) = 1/27 > 2.5 %
    low, high = statistics.bootstrap(values[None])
    assert (low, high) == (means[0], means[-1]) == (0.0, 3.0)


def test_bootstrap_draws_seeds_and_cases_apart():
    """Values that depend on the seed alone: drawing cases cannot vary them, drawing seeds does."""
    by_seed = np.repeat([[0.0], [1.0]], 5, axis=1)
    assert statistics.bootstrap(by_seed) == (0.0, 1.0)  # each with a probability of 1/4
    assert statistics.bootstrap(by_seed[:1]) == (0.0, 0.0)
    by_case = by_seed.T  # 5 seeds, 2 cases
    assert statistics.bootstrap(by_case) == (0.0, 1.0)


def test_bootstrap_width_is_that_of_the_normal_approximation():
    random = np.random.default_rng(0)
    values = random.normal(0.8, 0.05, (1, 200))
    low, high = statistics.bootstrap(values)
    half = 1.96 * values.std() / math.sqrt(200)
    assert (high - low) / 2 == pytest.approx(half, rel=0.05)
    assert (high + low) / 2 == pytest.approx(values.mean(), abs=0.1 * half)


def test_bootstrap_leaves_nan_out():
    assert statistics.bootstrap(np.array([[2.0, NAN, 2.0]])) == (2.0, 2.0)
    assert all(map(math.isnan, statistics.bootstrap(np.full((1, 3), NAN))))


def t_test_by_hand(gap: np.ndarray) -> float:
    """Two-sided p of the paired t-test from the incomplete beta function."""
    n = len(gap)
    t = gap.mean() / (gap.std(ddof=1) / math.sqrt(n))
    return float(special.betainc((n - 1) / 2, 0.5, (n - 1) / (n - 1 + t * t)))


def wilcoxon_by_hand(gap: np.ndarray) -> float:
    """Exact two-sided p of the signed-rank test by all 2^n signs (no ties, no zeros)."""
    ranks = np.argsort(np.argsort(np.abs(gap))) + 1
    seen = ranks[gap > 0].sum()
    sums = [
        sum(r for r, up in zip(ranks, signs, strict=True) if up)
        for signs in itertools.product((False, True), repeat=len(gap))
    ]
    return min(
        1.0, 2 * min(np.mean([s <= seen for s in sums]), np.mean([s >= seen for s in sums]))
    )


def test_paired_tests_by_hand():
    random = np.random.default_rng(3)
    values = random.normal(0.85, 0.04, (2, 8))
    reference = random.normal(0.88, 0.04, (3, 8))
    found = statistics.compare(values, reference)
    gap = values.mean(axis=0) - reference.mean(axis=0)
    assert found.difference == pytest.approx(gap.mean())
    assert found.low < gap.mean() < found.high
    assert found.t_test == pytest.approx(t_test_by_hand(gap))
    assert found.wilcoxon == pytest.approx(wilcoxon_by_hand(gap))


@pytest.mark.filterwarnings("ignore:Precision loss")  # all differences are equal
def test_a_pairing_is_not_lost_in_the_interval():
    """Cases differ much, methods by exactly 0.01: the interval of the difference is a point."""
    values = np.linspace(0.5, 0.9, 10)[None]
    found = statistics.compare(values + 0.01, values)
    assert (found.low, found.high) == pytest.approx((0.01, 0.01))


def test_cases_without_a_value_leave_the_pair():
    values = np.array([[0.8, NAN, 0.7, 0.9]])
    reference = np.array([[0.7, 0.9, 0.65, NAN]])
    found = statistics.compare(values, reference)
    assert found.difference == pytest.approx((0.1 + 0.05) / 2)
    assert found.t_test == pytest.approx(t_test_by_hand(np.array([0.1, 0.05])))
    alone = statistics.compare(values[:, :1], reference[:, :1])
    assert alone.difference == pytest.approx(0.1) and math.isnan(alone.t_test)


def test_nothing_is_significant_about_equal_rows():
    found = statistics.compare(np.array([[0.8, 0.9]]), np.array([[0.8, 0.9]]))
    assert found.difference == 0.0 and math.isnan(found.t_test) and math.isnan(found.wilcoxon)


def test_values_of_cases_are_means_over_their_classes():
    def row(case, label, dice, largest):
        return {"case": case, "label": label, "dice": dice, "largest": {"dice": largest}}

    rows = [row("b", 1, 0.5, 0.6), row("a", 1, 0.8, 0.9), row("a", 2, 0.6, 0.7),
            row("b", 2, None, None), row("c", 1, None, None)]  # fmt: skip
    found = statistics.case_values(rows, ["a", "b", "c"], "dice")
    np.testing.assert_allclose(found, [0.7, 0.5, NAN])
    np.testing.assert_allclose(
        statistics.case_values(rows, ["b", "a"], "dice", largest=True), [0.6, 0.8]
    )
    assert statistics.mean(np.array([[0.7, NAN], [0.5, 0.6]])) == pytest.approx(0.6)
