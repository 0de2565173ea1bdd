"""Intervals, paired tests and Holm's correction against hand computations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import special

from ugmcl_core.experiments import statistics, tables
from ugmcl_core.experiments.paper import Row
from ugmcl_core.experiments.planning import Replicate
from ugmcl_core.experiments.results import Result, Results

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


def test_the_interval_of_one_seed_is_the_t_interval_of_its_cases():
    values = np.array([0.80, 0.85, 0.90, NAN, 0.87])
    known = values[np.isfinite(values)]
    half = 3.182446 * known.std(ddof=1) / 2.0  # t(0.975, 3 degrees), n = 4
    low, high = statistics.interval(values[None])
    assert (low, high) == pytest.approx((known.mean() - half, known.mean() + half))
    assert all(map(math.isnan, statistics.interval(np.full((1, 3), NAN))))
    assert all(map(math.isnan, statistics.interval(np.array([[0.9]]))))


def test_the_interval_counts_the_spread_of_the_seeds():
    """Values that depend on the seed alone: t(0.975, 1 degree) = 12.7062 of its standard error."""
    by_seed = np.repeat([[0.0], [1.0]], 5, axis=1)
    low, high = statistics.interval(by_seed)
    assert (low, high) == pytest.approx((0.5 - 12.7062 * 0.5, 0.5 + 12.7062 * 0.5), rel=1e-4)
    assert statistics.interval(by_seed[:1]) == (0.0, 0.0)


def simulated(random, cases, seeds):
    """Two equal methods: cases, seeds, and what a seed does to a case all vary."""
    case = random.normal(0.9, 0.03, cases)
    return [
        case + random.normal(0, 0.005, (seeds, 1)) + random.normal(0, 0.008, (seeds, cases))
        for _ in range(2)
    ]


def test_intervals_of_ten_cases_cover_what_they_claim():
    """A percentile bootstrap covers 0.89 here."""
    random = np.random.default_rng(1)
    hits = [
        low <= 0.9 <= high
        for low, high in (
            statistics.interval(random.normal(0.9, 0.03, (1, 10))) for _ in range(2000)
        )
    ]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.015)


def test_equal_methods_differ_by_the_seeds_test_as_rarely_as_it_claims():
    """The tests over cases alone call a third of such pairs significant."""
    random = np.random.default_rng(2)
    found = [statistics.compare(*simulated(random, 10, 3)) for _ in range(400)]
    assert np.mean([c.t_test < 0.05 for c in found]) > 0.15
    assert np.mean([c.seeds_and_cases < 0.05 for c in found]) < 0.08
    alone = statistics.compare(*simulated(random, 10, 1))
    assert math.isnan(alone.seeds_and_cases) and alone.t_test > 0


def test_the_deviation_is_that_of_the_cases():
    values = np.array([[0.8, 0.9, 1.0, NAN], [0.6, 0.9, 1.0, NAN]])
    assert statistics.deviation(values) == pytest.approx(np.std([0.7, 0.9, 1.0], ddof=1))
    assert math.isnan(statistics.deviation(values[:, :1]))


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


def test_pairs_of_seeds_are_compared_without_what_they_share():
    """The seeds differ by 0.2, the pairs by exactly 0.01 and 0.03, in each case alike: one degree
    of freedom, whose t is 12.7062."""
    reference = np.array([[0.5], [0.7]]) + np.linspace(0.0, 0.2, 10)
    found = statistics.paired(reference + np.array([[0.01], [0.03]]), reference)
    assert found == pytest.approx(
        (0.02, 0.02 - 12.7062 * 0.01, 0.02 + 12.7062 * 0.01, 2 / np.pi * np.arctan(0.5)), rel=1e-4
    )
    one = statistics.paired(reference[:1] + 0.01, reference[:1])
    assert one[0] == pytest.approx(0.01) and math.isnan(one[3])


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


def result(label, dice_by_seed, method="supervised", cases=("a", "b")):
    scored = {
        Replicate(seed): [{"case": c, "dice": d} for c, d in zip(cases, dice, strict=True)]
        for seed, dice in dice_by_seed.items()
    }
    return Result(Row(label, method), {}, scored)


def test_an_unfinished_row_is_compared_in_the_seeds_that_both_rows_have():
    whole = result("whole", {1: (0.8, 0.9), 2: (0.2, 0.3), 3: (0.4, 0.3)})
    begun, other = result("begun", {1: (0.9, 0.9)}), result("other", {4: (0.9, 0.9)})
    results = Results((whole, begun, other), ("a", "b"))
    assert results.difference(begun, whole).difference == pytest.approx(0.05)
    assert results.difference(whole, begun).difference == pytest.approx(-0.05)
    everything = np.mean([0.8, 0.9, 0.2, 0.3, 0.4, 0.3])
    assert results.difference(other, whole).difference == pytest.approx(0.9 - everything)


def test_rows_are_compared_with_the_supervised_ones_in_pairs():
    rows = (
        result("Supervised", {1: (0.80, 0.90), 2: (0.60, 0.70)}),
        result("Supervised (equal labels)", {1: (0.79, 0.89), 2: (0.57, 0.67)}, "mean-teacher"),
        result("MT", {1: (0.81, 0.89), 2: (0.59, 0.67)}, "mean-teacher"),
        result("Dual-task supervised", {2: (0.65, 0.75), 3: (0.1, 0.1)}, "dual-task"),
    )
    title, text = tables._against_supervised(Results(rows, ("a", "b")))
    assert title == "## Compared with supervised"
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()[2:5]]
    labels = [cell[0].removesuffix(" †") for cell in cells]
    assert labels == ["Supervised (equal labels)", "MT", "Dual-task supervised"]
    # by hand: the mean of the pairs, and each of them; none of other seeds, none with itself
    starts = [[cell.split(" (")[0] for cell in row[1:]] for row in cells]
    assert starts == [["-2.00", ""], ["-1.00", "+1.00"], ["+5.00", ""]]
    assert [c.endswith("; +0.00, -2.00)") for c in cells[1][1:]] == [True, False]
    assert cells[1][2].endswith("; +1.00, +1.00)")
    assert ";" not in cells[2][1]
