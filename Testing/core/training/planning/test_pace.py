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
from ugmcl_core.training.train import Progress


def course(method, labeled=2, unlabeled=3, holdout=1):
    cases = [tuple(Case(str(n), None) for n in range(k)) for k in (labeled, unlabeled, holdout)]
    return Course(Cohort(*cases), METHODS[method]())


COSTS = {
    "ugmcl": Cost(2.0, 1.0, 0.5, 3.0, 0, first=0.5),
    "dual-task": Cost(1.0, 9.0, 0.3, 3.0, 0, first=0.3),
}


def pace(minutes, spent, *methods, **costs):
    return Pace(minutes, spent, [course(m) for m in methods], {**COSTS, **costs})


def test_the_time_that_is_left_after_the_cases_goes_into_iterations():
    # 97 % of 600 s, less 10 s that are gone, 3 cases of 2 s and 3 of 1 s, and one look at the
    # hold-out case
    assert pace(10, 10.0, "ugmcl").iterations == int((582 - 10 - 9 - 3) / 0.5)
    # a second training, which uses no unlabeled case, shares the time
    assert pace(10, 10.0, "ugmcl", "dual-task").iterations == int((560 - 3 - 3) / 0.8)


def test_looks_and_a_report_take_their_part_of_the_time():
    """A look is a pass over each hold-out case, a case of the report is read and seen in all
    views."""
    cost = replace(COSTS["ugmcl"], views=4)
    whole = replace(course("ugmcl", holdout=2), looks=lambda n: 1 + n // 200, reported=3)
    found = Pace(10, 0.0, [whole], {"ugmcl": cost})
    cases = (2 + 2 + 3) * 2.0 + 3 * 1.0
    expected = next(
        n for n in range(1200, 0, -1)
        if cases + 0.5 * n + 3.0 * (2 * (1 + n // 200) + 3 * 4) <= 582
    )  # fmt: skip
    assert found.iterations == expected < int((582 - cases) / 0.5) - 100
    assert found.needed(expected) <= 582 < found.needed(expected + 1)


def test_no_more_iterations_than_are_wanted():
    found = replace(pace(10, 10.0, "ugmcl"), most=500)
    assert found.iterations == found.scaled(0.5).again(70, 17.5) == 500
    assert found.scaled(10.0).again(70, 350.0) < 500


def test_too_short_a_time_is_refused_with_the_least_that_will_do():
    with pytest.raises(InputError, match=r"0\.1 minutes are not enough .* give at least 1"):
        pace(0.1, 0.0, "ugmcl").iterations  # noqa: B018
    assert pace(1, 0.0, "ugmcl").iterations >= 20


def test_what_is_left_takes_as_long_as_what_was_done_lately():
    measured = pace(10, 10.0, "ugmcl")
    # of 582 s, 10 were spent before, 9 and 3 are for the cases and the look at the hold-out case
    for each in (0.25, 1.0):
        found = measured.scaled(each / 0.5).again(70, 70 * each)
        assert found == int((582 - 10 - 9 - 3) / each)
    # 70 iterations took twice as long as all that follow will
    assert measured.again(70, 70.0) == int((582 - 10 - 9 - 3 - 70 * 0.5) / 0.5)
    # the other training is to have as many
    both = pace(10, 10.0, "ugmcl", "dual-task")
    assert both.scaled(0.5).again(70, 70 * 0.25) == int((560 - 3 - 3) / 0.4)


def adapted(pace, progress, canceled=lambda: False):
    """The length that a training is told to have, None for its own."""
    return adapt_of(pace, lambda length: length)(progress, canceled)


def test_a_little_difference_changes_nothing():
    measured = pace(10, 10.0, "ugmcl")
    planned = measured.iterations
    for each, length in ((0.47, None), (0.25, 2 * planned), (1.0, planned // 2)):
        found = adapted(measured, Progress(70, planned, 70 * each, each))
        assert found == (length and pytest.approx(length, abs=1))


def test_a_very_slow_computer_ends_the_first_stage_with_the_next_iteration():
    cost = replace(COSTS["ugmcl"], start=0.6)
    measured = pace(10, 10.0, "ugmcl", ugmcl=cost)
    found = adapted(measured, Progress(70, measured.iterations, 640.0, 9.0))
    assert found == math.ceil(71 / 0.6)
    assert adapted(measured, Progress(5, measured.iterations, 640.0, 120.0)) == 20


def test_where_the_speed_has_changed_it_is_measured_again():
    """A second stage, which takes longer, was measured well: the first one's time says little.
    What the measuring takes is spent, a pause meanwhile is not."""
    early = replace(COSTS["ugmcl"], iteration=1.0, first=1.0, start=0.6)
    now = replace(early, first=0.5, iteration=0.8)
    waits = []

    def measured(canceled):
        time.sleep(0.5)
        if canceled():
            raise Canceled
        return {"ugmcl": now}

    def paused():
        waits.append(1)
        time.sleep(1.0)
        return False

    measuring = replace(pace(1, 10.0, "ugmcl", ugmcl=early), measure=measured)
    progress = Progress(10, measuring.iterations, 5.0, 0.5)
    assert adapted(measuring, progress, lambda: True) is None
    found = adapted(measuring, progress, paused)
    assert found == int((58.2 - 10 - 0.5 - 9 - 3) / 0.8) and waits
    same = Progress(10, measuring.iterations, 20.0, 1.0)
    assert adapted(replace(measuring, measure=pytest.fail), same) is not None, "it took longer"


def test_a_lack_of_memory_beside_the_training_leaves_what_was_measured():
    def failing(canceled):
        raise MemoryError

    measuring = replace(pace(10, 10.0, "ugmcl"), measure=failing)
    found = adapted(measuring, Progress(70, measuring.iterations, 35.0, 0.25))
    assert found == adapted(replace(measuring, measure=None),
                            Progress(70, measuring.iterations, 35.0, 0.25))  # fmt: skip


def test_a_pause_is_no_part_of_a_step(tmp_path, monkeypatch):
    from training_samples import TINY, write_phantoms

    from ugmcl_core.data.cases import find_cohort
    from ugmcl_core.training.memory import attempts_for
    from ugmcl_core.training.planning.pace import measure

    root, _ = write_phantoms(tmp_path, 2)
    cohort = find_cohort(root / "images", root / "labels", ["p0"])
    waits = []

    def canceled():
        waits.append(time.sleep(2.0) if len(waits) == 2 else None)
        return False

    cost = measure(Course(cohort, METHODS["dual-task"]()), attempts_for(TINY, "cpu")[0], 1,
                   canceled)  # fmt: skip
    assert len(waits) > 3 and cost.iteration < 0.5
