"""The statistics of an experiment: means, confidence intervals, paired tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """A row against the reference in one measure: the mean difference with its 95 % interval, and
    p values.

    ``t_test`` and ``wilcoxon`` are paired over the cases, each averaged over its seeds: they say
    whether these trained models differ, not whether the methods do. ``seeds_and_cases`` counts
    the spread over seeds as well; NaN with one seed. The three ``_holm`` are corrected over the
    rows of a table.
    """

    difference: float
    low: float
    high: float
    t_test: float
    wilcoxon: float
    seeds_and_cases: float
    t_test_holm: float = math.nan
    wilcoxon_holm: float = math.nan
    seeds_and_cases_holm: float = math.nan


def case_values(
    rows: Sequence[dict[str, Any]], cases: Sequence[str], measure: str, largest: bool = False
) -> np.ndarray:
    """``measure`` of each of ``cases`` (N,) from a record's rows: the mean over a case's classes,
    those without a value left out; NaN where none has one."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for row in rows:
        value = (row["largest"] if largest else row)[measure]
        if value is not None and row["case"] in found:
            found[row["case"]].append(value)
    return np.array([np.mean(v) if v else math.nan for v in found.values()], float)


def mean(values: np.ndarray) -> float:
    """Mean over seeds and cases (S, N), without NaN; NaN if nothing is left."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def deviation(values: np.ndarray) -> float:
    """Standard deviation over cases of (S, N) averaged over their seeds; NaN below two cases."""
    averaged = over_seeds(values)
    known = averaged[np.isfinite(averaged)]
    return float(known.std(ddof=1)) if known.size > 1 else math.nan


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of ``values`` (S, N) by Student's t, see `_spread`. With one seed
    it is the t interval over the cases; NaN below two cases.

    A percentile bootstrap over ten cases would cover 89 % instead of 95 %.
    """
    from scipy import stats

    known = values[:, np.isfinite(over_seeds(values))]
    center = mean(known)
    error, freedom = _spread(over_seeds(known), [known])
    half = float(stats.t.ppf(0.975, freedom)) * error if freedom else math.nan
    return center - half, center + half


def compare(values: np.ndarray, reference: np.ndarray) -> Comparison:
    """``values`` (S, N) against ``reference`` (S', N) of the same cases in the same order.

    The interval and ``seeds_and_cases`` pair the cases and add the seeds' spread of both rows,
    see `_spread`; the other tests are over the cases alone. Cases without a value in either are
    left out; p values are NaN for fewer than two cases and where all differences are 0.
    """
    from scipy import stats

    averaged = [over_seeds(v) for v in (values, reference)]
    known = np.isfinite(averaged[0]) & np.isfinite(averaged[1])
    a, b = (v[known] for v in averaged)
    difference = float((a - b).mean()) if a.size else math.nan
    if a.size < 2:
        return Comparison(difference, *[math.nan] * 5)
    error, freedom = _spread(a - b, [values[:, known], reference[:, known]])
    half = float(stats.t.ppf(0.975, freedom)) * error
    low, high = difference - half, difference + half
    if np.array_equal(a, b):
        return Comparison(0.0, low, high, math.nan, math.nan, math.nan)
    both = math.nan
    if min(len(values), len(reference)) > 1 and error > 0:
        both = float(2.0 * stats.t.sf(abs(difference) / error, freedom))
    t_test, wilcoxon = (float(f(a, b).pvalue) for f in (stats.ttest_rel, stats.wilcoxon))
    return Comparison(difference, low, high, t_test, wilcoxon, both)


def paired(values: np.ndarray, reference: np.ndarray) -> tuple[float, float, float, float]:
    """``values`` less ``reference``, (S, N) each, of trainings that belong together in pairs, as
    those of the same seed and labeled cases: the mean difference, its 95 % interval, and p over
    pairs and cases (NaN for one pair, or without any spread).

    Unlike in `compare`, what both trainings of a pair owe to their seed and their labels cancels.
    """
    from scipy import stats

    difference = values - reference
    known = difference[:, np.isfinite(difference).all(axis=0)]
    error, freedom = _spread(known.mean(axis=0), [known])
    center = mean(known)
    half = float(stats.t.ppf(0.975, freedom)) * error if freedom else math.nan
    p = math.nan
    if len(known) > 1 and error > 0:
        p = float(2.0 * stats.t.sf(abs(center) / error, freedom))
    return center, center - half, center + half, p


def _spread(by_case: np.ndarray, rows: Sequence[np.ndarray]) -> tuple[float, float]:
    """Standard error and degrees of freedom (Satterthwaite, 1946) of the mean of ``by_case``
    (N,), whose cases and whose ``rows``' seeds (S, N) are both random: the variances of the
    means over cases and over the seeds of each row add up. 0 degrees below two cases."""
    if by_case.size < 2:
        return math.nan, 0.0
    parts = [(by_case.var(ddof=1) / by_case.size, by_case.size - 1)]
    for values in rows:
        if len(values) > 1:
            by_seed = np.array([mean(seed) for seed in values])
            parts.append((by_seed.var(ddof=1) / len(values), len(values) - 1))
    variance = sum(v for v, _ in parts)
    below = sum(v * v / n for v, n in parts)
    freedom = variance * variance / below if below > 0 else parts[0][1]
    return math.sqrt(variance), freedom


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the given order; NaN takes no part and stays."""
    adjusted = [math.nan] * len(p_values)
    known = sorted((p, n) for n, p in enumerate(p_values) if not math.isnan(p))
    highest = 0.0
    for place, (p, n) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - place)))
        adjusted[n] = highest
    return adjusted


def over_seeds(values: np.ndarray) -> np.ndarray:
    """(S, N) to (N,): the mean over the seeds that have a value."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), math.nan)
