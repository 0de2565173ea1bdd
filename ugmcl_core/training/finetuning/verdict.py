"""Did fine-tuning help? Each case before and after, and what can be concluded from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.cases import Case, Representation, read_pair
from ...evaluation import metrics
from ...evaluation.metrics import known_mean
from ...files import plain
from ...inference.segmenter import Segmenter
from ...inference.settings import SegmentSettings
from ...models.card import ClassInfo
from ..settings import BETTER, FEWEST, NOT_BETTER, UNKNOWN

REPORTED = ("dice", "jaccard", "asd_mm", "hd95_mm")
CHOSEN = (
    "The model was chosen on these same cases, as the better one, so its Dice here may be too "
    "high by chance: other cases show how good it is."
)
_MANY = 6  # cases; with fewer, the interval is wide because they are few
_CALLED = {"holdout": "hold-out", "leave-one-out": "left-out", "arrival": "newly accepted"}

CaseMeasures = dict[str, Any]
"""The `REPORTED` measures, and `classes`, the Dice of each by name."""


@dataclass(frozen=True)
class Report:
    """How good a fine-tuned model is: the ``kind`` of its cases as in `conclude`, their measures,
    the verdict and a text with the reasons."""

    kind: str
    cases: Sequence[dict[str, Any]]
    verdict: str
    text: str

    def scores(self, keep_names: bool) -> dict[str, Any]:
        """For the model's card, which may not say the names of cases; empty without cases."""
        if not self.cases:
            return {}
        left_out = () if keep_names else ("name",)
        cases = [{k: v for k, v in c.items() if k not in left_out} for c in self.cases]
        return plain(
            {"report": self.kind, "verdict": self.verdict, "text": self.text, "cases": cases}
        )


def measure(
    segmenter: Segmenter,
    case: Case,
    representation: Representation,
    classes: Sequence[ClassInfo],
    canceled: Callable[[], bool] | None = None,
) -> CaseMeasures:
    """A labeled case segmented and measured: the means over ``classes``, NaN left out.

    Voxels that nobody annotated count as background in both. A class that the model does not
    have counts like one that it does not find. Raises InputError and Canceled.
    """
    images, labels = read_pair(case)
    truth, known = representation.numbered(labels.array, case.label)
    found = segmenter.segment(images, SegmentSettings(passes=0), canceled=canceled)
    labels_found = found.labels.array * known
    spacing = labels.grid.spacing
    scores = [
        metrics.score(labels_found == value, truth == value, spacing)
        for value in (c.value for c in classes)
    ]
    row: CaseMeasures = {key: known_mean([getattr(s, key) for s in scores]) for key in REPORTED}
    return {**row, "classes": {c.name: s.dice for c, s in zip(classes, scores, strict=True)}}


def conclude(
    cases: Sequence[dict[str, Any]], kind: str, new: Sequence[str] = ()
) -> tuple[str, str]:
    """The verdict on a report's ``cases`` and a text with the reasons; ``kind`` is `holdout`,
    `leave-one-out`, `arrival` (cases that were measured before they were learned from) or `none`;
    ``new`` are the names of the classes that the base does not have.

    `better` requires at least `FEWEST` cases, a mean Dice that rose, and either a rise in every
    case or a 95 % interval of the mean paired difference (Student's t) above zero.
    """
    if kind == "none" or not cases:
        return UNKNOWN, "There is no hold-out case to show whether the model is better."
    what = _CALLED[kind]
    after = [c["after"]["dice"] for c in cases]
    if any(c["before"] is None for c in cases):
        text = (
            f"From scratch: Dice {known_mean(after):.3f} on average of "
            f"{_count(len(cases), what)}; there is no base model to compare with."
        )
        return UNKNOWN, _with_supervised(text, cases)
    pairs = [
        (c["before"]["dice"], c["after"]["dice"])
        for c in cases
        if not math.isnan(c["before"]["dice"] + c["after"]["dice"])
    ]
    if not pairs:
        return UNKNOWN, f"Dice exists for none of {_count(len(cases), what)}."
    change = np.array([b - a for a, b in pairs])
    mean, rose, count = float(change.mean()), int((change > 0).sum()), len(pairs)
    before, now = (float(np.mean(column)) for column in zip(*pairs, strict=True))
    moved = "rose by" if mean > 0 else "fell by" if mean < 0 else "stayed, a change of"
    text = (
        f"Dice {moved} {abs(mean):.3f} on average ({before:.3f} to {now:.3f}); it rose on {rose} "
        f"of {_count(count, what)}."
    )
    if new:
        text += " " + _by_novelty(cases, new)
    if count < FEWEST:
        text += f" Fewer than {FEWEST} cases are not enough evidence."
        return UNKNOWN, _with_supervised(text, cases)
    low, high = interval(change)
    # neither mean can leave 0 to 1, which Student's t does not know
    shown = max(low, -before), min(high, 1.0 - before)
    text += f" 95 % interval of the mean change: {shown[0]:+.3f} to {shown[1]:+.3f}"
    text += f", wide for only {count} cases." if count < _MANY else "."
    better = mean > 0 and (rose == count or low > 0)
    if not better:
        text += " Fine-tuning did not help." if mean <= 0 else " This may be chance."
    elif low <= 0:
        text += " More hold-out cases would make this surer."
    return (BETTER if better else NOT_BETTER), _with_supervised(text, cases)


def compare(
    kind: str,
    names: Sequence[str],
    before: Sequence[CaseMeasures | None],
    after: Sequence[CaseMeasures],
    supervised: Sequence[CaseMeasures | None],
    new: Sequence[str] = (),
) -> tuple[Report, bool]:
    """The report on the model whose cases are measured ``after``, or if hold-out cases show the
    ``supervised`` one to be ahead on that one, and whether that is so. ``kind`` and ``new`` as in
    `conclude`."""
    keeps_supervised = kind == "holdout" and is_ahead(supervised, after)
    cases = [
        {"name": n, "before": b, "after": s if keeps_supervised else a, "supervised": s}
        for n, b, a, s in zip(names, before, after, supervised, strict=True)
    ]
    verdict, text = conclude(cases, kind, new)
    if keeps_supervised:
        text += " " + _kept(after, supervised)
    if kind == "holdout" and is_choice(supervised):
        text += " " + CHOSEN
    return Report(kind, cases, verdict, text), keeps_supervised


def is_ahead(
    supervised: Sequence[CaseMeasures | None], after: Sequence[CaseMeasures]
) -> bool:
    """Whether the model trained on the labels alone has the higher mean Dice, on at least `FEWEST`
    cases."""
    pairs = [(s["dice"], a["dice"]) for s, a in zip(supervised, after, strict=True) if s]
    known = [s - a for s, a in pairs if not math.isnan(s - a)]
    return len(known) >= FEWEST and float(np.mean(known)) > 0.0


def is_choice(supervised: Sequence[CaseMeasures | None]) -> bool:
    """Whether there are enough cases for `is_ahead` to choose between the two models."""
    return sum(row is not None for row in supervised) >= FEWEST


def _kept(after: Sequence[CaseMeasures], supervised: Sequence[CaseMeasures | None]) -> str:
    """What a report adds if `is_ahead` was true."""
    dice, alone = (known_mean(r["dice"] for r in rows if r) for rows in (after, supervised))
    return (
        f"The unlabeled volumes did not help here: Dice {dice:.3f} with them, {alone:.3f} with "
        "the labels alone, whose model is kept."
    )


def _by_novelty(cases: Sequence[dict[str, Any]], new: Sequence[str]) -> str:
    """Old and new classes apart, since the base finds none of the new ones."""

    def mean(when: str, novel: bool) -> float:
        rows = [c[when]["classes"].items() for c in cases]
        return known_mean([dice for row in rows for name, dice in row if (name in new) == novel])

    return (
        f"The base's own classes: {mean('before', False):.3f} to {mean('after', False):.3f}; "
        f"new, which it cannot find ({', '.join(new)}): {mean('after', True):.3f}."
    )


def interval(change: np.ndarray) -> tuple[float, float]:
    """95 % confidence interval of the mean of paired differences (n), Student's t; n > 1."""
    from scipy import stats

    half = stats.t.ppf(0.975, len(change) - 1) * change.std(ddof=1) / math.sqrt(len(change))
    return float(change.mean() - half), float(change.mean() + half)


def _with_supervised(text: str, cases: Sequence[dict[str, Any]]) -> str:
    """``text`` and how supervised fine-tuning on the same labels did."""
    rows = [(c["supervised"], c["after"]) for c in cases if c["supervised"] is not None]
    if not rows:
        return text
    if all(row is after for row, after in rows):
        return text  # it is the model that is kept
    dice = known_mean([row["dice"] for row, _ in rows])
    ahead = known_mean([after["dice"] - row["dice"] for row, after in rows])
    word = "more" if ahead < 0 else "less"
    return (
        f"{text} Supervised fine-tuning on the same labels reached {dice:.3f}, "
        f"{abs(ahead):.3f} {word}."
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what} case{'' if number == 1 else 's'}"
