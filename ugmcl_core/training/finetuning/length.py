"""How long the trainings of a fine-tuning are, and what their time goes into."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...nn import devices
from .. import profiles
from ..planning.pace import Course, Pace, iterations_of, pace_of
from ..settings import FinetuneSettings
from .plan import FinetunePlan, Part, parts_of, worth_comparing

_LONGEST = 1 << 30  # iterations, far more than any training has


def timed(
    planned: FinetunePlan,
    request: FinetuneSettings,
    spent: float,
    warn: Callable[[str], None],
    canceled: Callable[[], bool],
) -> Pace | None:
    """How many iterations ``request.minutes`` allow, ``spent`` seconds of them gone; None without
    minutes, and for a run that is resumed. Raises Canceled."""
    if not request.minutes or (request.resume and iterations_of(Path(request.output))):
        return None
    found = pace_of(
        planned.profile,
        request.minutes,
        courses_of(planned),
        str(devices.resolve(request.device)),
        request.seed,
        spent=spent,
        canceled=canceled,
        warn=warn,
    )
    return in_all_its_time(planned, found)


def courses_of(planned: FinetunePlan) -> list[Course]:
    """The trainings of a plan, with the measurements before and after them, to be timed."""
    return [
        Course(p.cohort, p.method, planned.base, looks, _reported(planned, p))
        for p in parts_of(planned, Path())
    ]


def _reported(planned: FinetunePlan, part: Part) -> int:
    """The cases that the report measures: by the base before the first part, and by each model."""
    if planned.report == "none":
        return 0
    held_out = len(planned.cohort.holdout)
    before = (held_out or len(planned.cohort.labeled)) if planned.base and not part.name else 0
    return before + (held_out if planned.report == "holdout" else bool(part.name))


def looks(iterations: int) -> int:
    """How often the hold-out cases are looked at in a training, or once more."""
    return iterations // evaluate_every(iterations) + 1


def in_all_its_time(planned: FinetunePlan, pace: Pace) -> Pace:
    """``pace``, or if it is too short for the comparison of ``planned`` (`lasting`), that of a
    training that has the time of both, up to the length from which it would be compared."""

    def compares(iterations: int) -> bool:
        profile = profiles.with_iterations(planned.profile, iterations)
        return worth_comparing(replace(planned, profile=profile)).comparison is not None

    shortest = max(1, pace.within(pace.seconds))
    if planned.comparison is None or compares(shortest):
        return pace
    counts = range(shortest, _LONGEST)
    most = counts[bisect.bisect_left(counts, True, key=compares) - 1]
    return replace(pace, courses=courses_of(replace(planned, comparison=None)), most=most)


def lasting(planned: FinetunePlan, iterations: int, minutes: float) -> FinetunePlan:
    """``planned`` with so many iterations, for as long as ``minutes`` if these are not 0; without
    a comparison for which it is then too short."""
    own, description = planned.own, planned.description
    profile = profiles.with_iterations(planned.profile, iterations)
    if own is not None:
        if minutes:
            own = own.lasting(profile, f"as many as {minutes:g} minutes allow here")
        provenance = {**description.provenance, "plan": own.record()}
        description = replace(description, provenance=provenance)
    planned = replace(planned, profile=profile, own=own, description=description)
    return worth_comparing(planned) if minutes else planned


def evaluate_every(iterations: int) -> int:
    """Iterations between two measurements of the hold-out cases."""
    return max(25, iterations // 8)
