"""The calibration of a model finds the rule that synthetic cases were made by, and its intervals
hold for cases that come after it."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "accuracy"))
import calibrate
from surface_error import Case

from ugmcl_core.inference.surface_error import place_factor
from ugmcl_core.inference.volume_interval import volume_interval

WEIGHTS = (0.0, 0.3, 0.0, 0.2, 0.0, 0.0, 0.0, -0.1, 0.0)


def made(rng: np.random.Generator, points: int = 400) -> Case:
    """A case whose errors are exponentially distributed, with a mean by its offset and place."""
    offset, place = rng.uniform(0.5, 2.0, points), rng.normal(size=(3, points))
    mean = 0.9 * (offset * place_factor(place, WEIGHTS)) ** 1.5
    agreement = rng.uniform(0.8, 0.95)
    own, off = 50.0, rng.normal(0.0, 0.1)
    return Case(
        error=rng.exponential(mean),
        offset=offset,
        place=place,
        entropy=offset,
        nearby=offset,
        dice=1.2 * agreement - 0.2 + rng.normal(0.0, 0.02),
        agreement=agreement,
        volume=own * math.exp(off),
        volumes=(own, own * math.exp(-0.1), own * math.exp(0.1)),
    )


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    rng = np.random.default_rng(0)
    return [made(rng) for _ in range(40)]


def test_the_rule_of_the_cases_is_found(cases):
    found = calibrate.fitted(cases)
    strong = [n for n, w in enumerate(WEIGHTS) if w]
    assert all(np.sign(found.places[n]) == np.sign(WEIGHTS[n]) for n in strong)
    assert max(abs(w) for n, w in enumerate(found.places) if n not in strong) < 0.03
    assert found.dice_slope == pytest.approx(1.2, abs=0.15)
    rng = np.random.default_rng(1)
    later = [made(rng) for _ in range(40)]
    held = np.concatenate([c.error <= c.bound(found) for c in later]).mean()
    assert held == pytest.approx(0.9, abs=0.03)


def test_further_models_count_for_the_places_alone(cases):
    rng = np.random.default_rng(6)
    further = [replace(c, error=3 * c.error, dice=0.1) for c in (made(rng) for _ in range(120))]
    few = cases[:6]
    alone, both = calibrate.fitted(few), calibrate.fitted(few, further)
    true = np.array(WEIGHTS)
    off = [np.abs(np.array(k.places) - true).sum() for k in (alone, both)]
    assert both.places != alone.places and off[1] < off[0]
    assert (both.dice_slope, both.dice_offset, both.volume_stretch) == (
        alone.dice_slope, alone.dice_offset, alone.volume_stretch)  # fmt: skip
    assert both.factor == pytest.approx(alone.factor, rel=0.2), "not thrice as much"


def test_a_case_cannot_count_for_places_and_be_left_out(tmp_path, monkeypatch):
    (tmp_path / "own.txt").write_text("a\nb\n")
    (tmp_path / "others.txt").write_text("b\nc\n")
    words = ["--images", ".", "--labels", ".", "--cases", str(tmp_path / "own.txt")]
    more = ["--places-of", "m", "--places-cases", str(tmp_path / "others.txt")]
    monkeypatch.setattr(sys, "argv", ["calibrate.py", *words, *more])
    with pytest.raises(SystemExit, match=r"others\.txt: b is in .*own\.txt too"):
        calibrate.main()
    monkeypatch.setattr(sys, "argv", ["calibrate.py", *words, *more[:2]])
    with pytest.raises(SystemExit, match="belong together"):
        calibrate.main()


def test_intervals_hold_most_of_the_later_cases(cases):
    rng = np.random.default_rng(2)
    later = [made(rng, 3) for _ in range(400)]
    rule = calibrate.fitted(cases)
    volume = np.mean([calibrate.needed_stretch(c) <= rule.volume_stretch for c in later])
    dice = [rule.dice(c.agreement) for c in later]
    inside = np.mean([d[1] <= c.dice <= d[2] for c, d in zip(later, dice, strict=True)])
    assert 0.87 < volume <= 1.0 and 0.87 < inside <= 1.0  # of 40 cases, 0.95 give or take 0.035


def test_over_many_calibrations_the_bound_holds_the_next_case_as_often_as_it_says():
    scores = np.random.default_rng(4).standard_cauchy((4000, 40)) ** 2
    bounds = [calibrate.bound(row[:39]) for row in scores]
    assert np.mean(scores[:, 39] <= bounds) == pytest.approx(0.95, abs=0.012)
    assert calibrate.bound(range(19)) == 18
    few = np.abs(np.random.default_rng(5).normal(0, 3, (4000, 10)))
    enough = [calibrate.bound(row) > 1.96 * 3 for row in few]  # those that hold 95 % of all errors
    assert np.mean(enough) == pytest.approx(0.95, abs=0.012)


def test_the_stretch_that_a_case_needs_is_where_its_interval_ends():
    case = made(np.random.default_rng(3), 3)
    stretch = calibrate.needed_stretch(case)
    low, high = volume_interval(case.volumes, stretch)
    assert pytest.approx(case.volume) in (low, high)
