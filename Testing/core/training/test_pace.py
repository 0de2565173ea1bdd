"""The iterations that a time allows, as measured and as the computer turns out."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest

from ugmcl_core.data.cases import Case, Cohort
from ugmcl_core.errors import Canceled, InputError
from ugmcl_core.methods import METHODS
from ugmcl_core.training.planning.pace import Cost, Course, Pace, adapt_of


def course(method, labeled=2, unlabeled=3, holdout=1):
    cases = [tuple(Case(str(n), None) for n in range(k)) for k in (labeled, unlabeled, holdout)]
    return Course(Cohort(*cases), METHODS[method]())


COSTS = {
    "ugmcl": Cost(2.0, 1.0, 0.5, 3.0, 0, first=0.5),
    "dual-task": Cost(1.0, 9.0, 0.3, 3.0, 0, first=0.3),
}


def pace(minutes, spent, *methods, **costs):
    return Pace(minutes, spent, [course(m) for m in methods], {**COSTS, **costs})


def never():
    return False


def test_the_time_that_is_left_after_the_cases_goes_into_iterations():
    # 97 % of 600 s, less 10 s that are gone, 3 cases of 2 s and 3 of 1 s, and one look at the
    # hold-out case
    assert pace(10, 10.0, "ugmcl").iterations == int((582 - 10 - 9 - 3) / 0.5)
    # a second training, which uses no unlabeled case, shares the time
    assert pace(10, 10.0, "ugmcl", "dual-task").iterations == int((560 - 3 - 3) / 0.8)


def test_too_short_a_time_is_refused_with_the_least_that_will_do():
    with pytest.raises(InputError, match=r"0\.1 minutes are not enough .* give at least 1"):
        pace(0.1, 0.0, "ugmcl").iterations  # noqa: B018
    assert pace(1, 0.0, "ugmcl").iterations >= 20


def test_what_is_left_takes_as_long_as_what_was_done_lately():
    measured = pace(10, 10.0, "ugmcl")
    planned = measured.iterations
    # 22 s until the cases were prepared, then 70 iterations at twice the speed, with everything
    # that comes later, such as the look at the hold-out case, at twice the speed too
    faster = 70 + (582 - 22 - 70 * 0.25 - 3 / 2) / 0.25
    assert measured.again(planned, 70, 0.25, 22 + 70 * 0.25) == pytest.approx(faster, abs=1)
    slower = 70 + (582 - 22 - 70 * 1.0 - 3 * 2) / 1.0
    assert measured.again(planned, 70, 1.0, 22 + 70 * 1.0) == pytest.approx(slower, abs=1)
    # the other training is to have as many
    both = pace(10, 10.0, "ugmcl", "dual-task")
    left = 582 - 22 - 70 * 0.25
    total = (left / 0.5 - 3 - 3 - 3 + 70 * 0.5) / 0.8
    assert both.again(both.iterations, 70, 0.25, 22 + 70 * 0.25) == pytest.approx(total, abs=1)


def test_a_little_difference_changes_nothing():
    measured = pace(10, 10.0, "ugmcl")
    planned = measured.iterations
    assert measured.again(planned, 70, 0.48, 19 + 70 * 0.48) == planned
    adapt = adapt_of(measured, time.monotonic() - 52.6, pytest.fail)
    assert adapt(70, planned, 0.48, never) is None


def test_a_very_slow_computer_ends_the_first_stage_with_the_next_iteration():
    cost = replace(COSTS["ugmcl"], start=0.6)
    measured = pace(10, 10.0, "ugmcl", ugmcl=cost)
    assert measured.again(measured.iterations, 70, 9.0, 640.0) == math.ceil(71 / 0.6)


def test_where_the_speed_has_changed_it_is_measured_again():
    """A second stage, which takes longer, was measured well: the first one's time says little."""
    early = replace(COSTS["ugmcl"], iteration=1.0, first=1.0, start=0.6)
    now = replace(early, first=0.5, iteration=0.8)
    asked = []

    def measured(canceled):
        if canceled():
            raise Canceled
        asked.append(now)
        return {"ugmcl": now}

    measuring = replace(pace(10, 10.0, "ugmcl", ugmcl=early), measure=measured)
    began = time.monotonic() - 57.0
    adapt = adapt_of(measuring, began, lambda length: length)
    assert adapt(70, measuring.iterations, 0.5, lambda: True) is None
    found = adapt(70, measuring.iterations, 0.5, never)
    # of 9 s for the cases that are prepared twice, one half is over; a look is still to come
    left = 582 - 57 - 9 / 2 - 3 + 70 * 0.5
    assert found == pytest.approx(left / 0.8, abs=1) and asked == [now]
