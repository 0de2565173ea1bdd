"""What a report may conclude, and how its measures treat what nobody annotated."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from samples import small_case, tiny_model
from scipy import stats

from ugmcl_core.data import volume
from ugmcl_core.data.cases import Case, Representation
from ugmcl_core.data.preprocessing import Normalization
from ugmcl_core.evaluation import metrics
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.training.finetuning.verdict import (
    BETTER,
    NOT_BETTER,
    REPORTED,
    UNKNOWN,
    conclude,
    interval,
    measure,
)


def rows(before, after, supervised=None):
    def row(dice):
        return None if dice is None else {"dice": dice, "classes": {"old": dice, "new": dice / 2}}

    supervised = supervised or [None] * len(after)
    return [
        {"name": str(n), "before": row(b), "after": row(a), "supervised": row(s)}
        for n, (b, a, s) in enumerate(zip(before, after, supervised, strict=True))
    ]


@pytest.mark.parametrize(
    ("before", "after", "verdict", "words"),
    [
        ([0.8, 0.8, 0.8], [0.85, 0.84, 0.86], BETTER, "rose by 0.050 .*3 of 3 hold-out"),
        ([0.8, 0.8, 0.8], [0.81, 0.84, 0.99], BETTER, "More hold-out cases"),
        ([0.8, 0.8, 0.8], [0.9, 0.9, 0.79], NOT_BETTER, "2 of 3.*may be chance"),
        ([0.8] * 9, [0.9, 0.91] * 4 + [0.79], BETTER, "8 of 9"),
        ([0.8, 0.8, 0.8], [0.7, 0.7, 0.9], NOT_BETTER, "fell by 0.033.*did not help"),
        ([0.8, 0.8, 0.8], [0.8, 0.8, 0.8], NOT_BETTER, "did not help"),
        ([0.8, 0.8], [0.9, 0.9], UNKNOWN, "Fewer than 3 cases"),
        ([0.8, 0.8, math.nan], [0.9, 0.9, 0.9], UNKNOWN, "Fewer than 3 cases"),
        ([None] * 3, [0.9, 0.9, 0.9], UNKNOWN, "From scratch: Dice 0.900 .* 3 hold-out"),
        ([], [], UNKNOWN, "no hold-out case"),
    ],
)
def test_verdicts(before, after, verdict, words):
    found, text = conclude(rows(before, after), "holdout")
    assert found == verdict
    assert re.search(words, text), text


def test_the_supervised_comparison_and_new_classes_are_told():
    cases = rows([0.8] * 3, [0.9] * 3, [0.93] * 3)
    _, text = conclude(cases, "leave-one-out", new=["new"])
    assert "left-out cases" in text
    assert "same labels reached 0.930, 0.030 more" in text
    assert "own classes: 0.800 to 0.900" in text and "(new): 0.450" in text


def test_an_interval_stays_within_what_dice_can_be_and_few_cases_are_named():
    _, text = conclude(rows([0.62, 0.9, 0.65], [0.95, 0.91, 0.66]), "holdout")
    low, high = map(float, re.search(r"change: (\S+) to (\S+),", text).groups())
    assert -0.723 - 1e-3 <= low < 0.117 < high <= 0.277 + 1e-3
    assert "wide for only 3 cases" in text
    _, text = conclude(rows([0.8] * 9, [0.9, 0.91] * 4 + [0.79]), "holdout")
    assert "wide for" not in text


def test_the_interval_is_students():
    change = np.array([0.05, 0.01, 0.12, -0.02])
    expected = stats.ttest_1samp(change, 0.0).confidence_interval(0.95)
    assert interval(change) == pytest.approx((expected.low, expected.high))


def test_measures_leave_out_what_nobody_annotated(tmp_path):
    model = tiny_model(tmp_path / "tiny")
    image, labels = small_case()
    annotated = labels.array.astype(np.uint8) * 5
    annotated[:, 15:] = 99
    volume.write(tmp_path / "image.nrrd", image)
    volume.write(tmp_path / "label.nrrd", volume.Volume(annotated, labels.grid))
    case = Case("x", tmp_path / "image.nrrd", tmp_path / "label.nrrd")
    known = Representation((2.5,) * 3, Normalization(), values=(5,), ignore=99)
    segmenter = Segmenter(model, "cpu")
    row = measure(segmenter, case, known, model.card.classes)
    found = segmenter.segment(image, SegmentSettings(0)).labels.array[:, :15] == 1
    expected = metrics.dice(found, labels.array[:, :15] == 1)
    assert set(row) == {*REPORTED, "classes"}
    assert row["dice"] == row["classes"]["left atrium"] == pytest.approx(expected)
