"""What the numbers of an experiment say: means, confidence intervals, paired tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

REPEATS = 10_000
_SEED = 2022


@dataclass(frozen=True)
class Comparison:
    """A row against the reference on seed-averaged cases: mean difference of Dice with its 95 %
    interval, p values of the paired t-test and of Wilcoxon's signed-rank test, and both after
    Holm's correction (`holm`, filled in over all rows of a table)."""

    difference: float
    low: float
    high: float
    t_test: float
    wilcoxon: float
    t_test_holm: float = math.nan
    wilcoxon_holm: float = math.nan


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


def bootstrap(values: np.ndarray, repeats: int = REPEATS) -> tuple[float, float]:
    """95 % percentile interval of the mean of ``values`` (S, N), seeds and cases drawn anew with
    replacement, each apart from the other. With one seed it is that of the cases alone."""
    return _interval(_means(values, *_draws(*values.shape, repeats)))


def compare(values: np.ndarray, reference: np.ndarray) -> Comparison:
    """``values`` (S, N) against ``reference`` (S', N) of the same cases in the same order.

    The interval draws the cases of both together and the seeds of each apart; the tests are over
    the cases, each averaged over its seeds first. Cases without a value in either are left out;
    the tests' p values are NaN for fewer than two cases and where all differences are 0.
    """
    from scipy import stats

    averaged = [_over_seeds(v) for v in (values, reference)]
    known = np.isfinite(averaged[0]) & np.isfinite(averaged[1])
    a, b = (v[known] for v in averaged)
    if a.size < 2:
        return Comparison(float((a - b).mean()) if a.size else math.nan, *[math.nan] * 4)
    values, reference = values[:, known], reference[:, known]
    seeds, cases = _draws(*values.shape, REPEATS)
    others, _ = _draws(*reference.shape, REPEATS, stream=1)
    gap = _means(values, seeds, cases) - _means(reference, others, cases)
    low, high = _interval(gap)
    if np.array_equal(a, b):
        return Comparison(0.0, low, high, math.nan, math.nan)
    return Comparison(
        float((a - b).mean()),
        low,
        high,
        float(stats.ttest_rel(a, b).pvalue),
        float(stats.wilcoxon(a, b).pvalue),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the given order; NaN takes no part and stays."""
    adjusted = [math.nan] * len(p_values)
    known = sorted((p, n) for n, p in enumerate(p_values) if not math.isnan(p))
    highest = 0.0
    for place, (p, n) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - place)))
        adjusted[n] = highest
    return adjusted


def _over_seeds(values: np.ndarray) -> np.ndarray:
    """(S, N) to (N,): the mean over the seeds that have a value."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), math.nan)


def _draws(seeds: int, cases: int, repeats: int, stream: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Indices of drawn seeds (repeats, seeds) and cases (repeats, cases)."""
    random = np.random.default_rng([_SEED, stream])
    chosen = random.integers(cases, size=(repeats, cases))
    return random.integers(seeds, size=(repeats, seeds)), chosen


def _means(values: np.ndarray, seeds: np.ndarray, cases: np.ndarray) -> np.ndarray:
    """The mean of each draw, without NaN."""
    drawn = values[seeds[:, :, None], cases[:, None, :]]
    known = np.isfinite(drawn)
    count = known.sum(axis=(1, 2))
    total = np.where(known, drawn, 0.0).sum(axis=(1, 2))
    return np.where(count > 0, total / np.maximum(count, 1), math.nan)


def _interval(means: np.ndarray) -> tuple[float, float]:
    known = means[np.isfinite(means)]
    if not known.size:
        return math.nan, math.nan
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
