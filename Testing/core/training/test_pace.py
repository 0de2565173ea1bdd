"""The iterations that a time allows."""

from __future__ import annotations

import pytest

from ugmcl_core.data.cases import Case, Cohort
from ugmcl_core.errors import InputError
from ugmcl_core.methods import METHODS
from ugmcl_core.training.planning.pace import Cost, Course, iterations_for


def course(method, labeled=2, unlabeled=3, holdout=1):
    cases = [tuple(Case(str(n), None) for n in range(k)) for k in (labeled, unlabeled, holdout)]
    return Course(Cohort(*cases), METHODS[method]())


COSTS = {"ugmcl": Cost(2.0, 1.0, 0.5, 3.0, 0), "dual-task": Cost(1.0, 9.0, 0.3, 3.0, 0)}


def test_the_time_that_is_left_after_the_cases_goes_into_iterations():
    # 97 % of 600 s, less 10 s that are gone, 3 cases of 2 s and 3 of 1 s, and one look at the
    # hold-out case
    assert iterations_for(10, [course("ugmcl")], COSTS, 10.0) == int((582 - 10 - 9 - 3) / 0.5)
    # a second training, which uses no unlabeled case, shares the time
    both = [course("ugmcl"), course("dual-task")]
    assert iterations_for(10, both, COSTS, 10.0) == int((560 - 3 - 3) / 0.8)


def test_too_short_a_time_is_refused_with_the_least_that_will_do():
    with pytest.raises(InputError, match=r"0\.1 minutes are not enough .* give at least 1"):
        iterations_for(0.1, [course("ugmcl")], COSTS, 0.0)
    assert iterations_for(1, [course("ugmcl")], COSTS, 0.0) >= 20
