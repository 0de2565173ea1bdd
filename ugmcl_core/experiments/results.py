"""The records of an experiment's rows, gathered for tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import statistics
from .paper import Row
from .planning import Planned, Replicate
from .running import Workplace, finished, scores


@dataclass(frozen=True)
class Result:
    """One row: its records by replicate, the scored ones, and the missing replicates."""

    row: Row
    records: dict[Replicate, dict[str, Any]]
    scored: dict[Replicate, list[dict[str, Any]]]
    missing: tuple[Replicate, ...] = ()

    @property
    def labeled(self) -> tuple[int, int]:
        """How many cases were labeled, of how many; the same in every replicate."""
        record = next(iter(self.records.values()))
        count = len(record["labeled"])
        return count, count + len(record["unlabeled"])

    def values(
        self, cases: Sequence[str], measure: str = "dice", largest: bool = False
    ) -> np.ndarray:
        """(S, N): the measure of each case in each replicate, NaN where it does not exist."""
        return np.stack(
            [statistics.case_values(r, cases, measure, largest) for r in self.scored.values()]
        )

    def of(self, replicates: Sequence[Replicate]) -> Result:
        """The same row with the scores of these replicates alone, in this order."""
        return replace(self, scored={n: self.scored[n] for n in replicates})

    def independent(
        self, cases: Sequence[str], measure: str = "dice", largest: bool = False
    ) -> np.ndarray:
        """`values` for intervals and tests. Where there are several draws of the labeled cases,
        the seeds of each are averaged: the same labels with another seed are no further draw."""
        values, draws = self.values(cases, measure, largest), [n.draw for n in self.scored]
        if len(set(draws)) < 2:
            return values
        each = [values[[d == draw for d in draws]] for draw in dict.fromkeys(draws)]
        return np.stack([statistics.over_seeds(v) for v in each])


@dataclass(frozen=True)
class Results:
    """All rows of an experiment, in its order, and of which cases."""

    rows: tuple[Result, ...]
    cases: tuple[str, ...]
    predictions: dict[str, Path] = field(default_factory=dict)

    @property
    def present(self) -> list[Result]:
        """The rows with at least one scored training."""
        return [r for r in self.rows if r.scored]

    def reference_of(self, result: Result) -> Result | None:
        """The row that ``result`` is compared with; None where it is missing or itself."""
        for other in self.present:
            if other.row.reference and other.row.group == result.row.group:
                return None if other.row is result.row else other
        return None

    def named(self, label: str) -> Result | None:
        """The present row of that label."""
        return next((r for r in self.present if r.row.label == label), None)

    def comparisons(self, measure: str = "dice") -> dict[str, statistics.Comparison]:
        """Every present row against its reference, by label, Holm-corrected over all of them."""
        found: dict[str, statistics.Comparison] = {}
        for result in self.present:
            reference = self.reference_of(result)
            if reference is not None:
                found[result.row.label] = self.difference(result, reference, measure)
        corrected = {
            f"{test}_holm": statistics.holm([getattr(c, test) for c in found.values()])
            for test in ("t_test", "wilcoxon", "seeds_and_cases")
        }
        return {
            label: replace(c, **{name: p[n] for name, p in corrected.items()})
            for n, (label, c) in enumerate(found.items())
        }

    def difference(
        self, result: Result, reference: Result, measure: str = "dice"
    ) -> statistics.Comparison:
        """``result`` against ``reference``, not corrected: in the replicates that both have, so
        that an unfinished row is not compared with other seeds; in all, if they share none."""
        pairs = self.pairs(result, reference, measure)
        rows = pairs or [r.independent(self.cases, measure) for r in (result, reference)]
        return statistics.compare(*rows)

    def pairs(
        self, result: Result, reference: Result, measure: str = "dice"
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """`Result.independent` of both rows in the replicates that both have, whose trainings
        belong together in pairs; None without one."""
        both = [n for n in result.scored if n in reference.scored]
        if not both:
            return None
        a, b = (r.of(both).independent(self.cases, measure) for r in (result, reference))
        return a, b


def gather(place: Workplace, rows: Sequence[Row], planned: Sequence[Planned]) -> Results:
    """The existing results of ``rows``. Raises InputError for records of other settings."""
    found = []
    predictions: dict[str, Path] = {}
    for row in rows:
        records: dict[Replicate, dict[str, Any]] = {}
        scored: dict[Replicate, list[dict[str, Any]]] = {}
        missing = []
        for item in (p for p in planned if p.row is row):
            record = finished(place, item.training) if item.training else None
            measured = scores(place, record)
            if item.training is None or record is None or measured is None:
                missing.append(item.replicate)
                continue
            records[item.replicate], scored[item.replicate] = record, measured
            predictions.setdefault(row.label, place.predictions(item.training))
        found.append(Result(row, records, scored, tuple(missing)))
    return Results(tuple(found), place.case_names, predictions)
