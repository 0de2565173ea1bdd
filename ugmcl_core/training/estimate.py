"""The time and memory of a fine-tuning, measured by a few steps of it; writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import Canceled
from ..nn import devices
from .finetune import evaluate_every, parts_of, plan
from .memory import attempts_for, run_with_fallback
from .planning.pace import Cost, Course, Pace, measure, unlabeled_seconds
from .planning.plan import left_out_lines
from .profiles import with_iterations
from .settings import FinetuneSettings


def estimate(
    request: FinetuneSettings,
    send: Callable[..., None],
    progress: Callable[..., None],
    canceled: Callable[[], bool],
) -> dict[str, Any]:
    """The `result` of docs/architecture.md for what `finetune` would do with this request. Some
    steps of each method run on the first labeled and unlabeled case, with the real window and
    device; the first step of each is not counted. Raises InputError and Canceled.
    """
    began = time.monotonic()

    def looking(fraction: float, text: str) -> None:
        if canceled():
            raise Canceled
        progress(0.0, text)

    planned = plan(request, looking)
    own = planned.own
    for line in left_out_lines(planned.left_out):
        send("log", level="info", text=line)
    looked = time.monotonic() - began
    parts = parts_of(planned, Path(request.output))
    devices.prepare_cpu()
    costs: dict[str, Cost] = {}
    for method in {p.method.name: p.method for p in parts}.values():
        progress(len(costs) / 2, f"measuring {method.name}")
        costs[method.name] = run_with_fallback(
            attempts_for(planned.profile, str(devices.resolve(request.device))),
            lambda attempt, method=method: measure(
                Course(planned.cohort, method, planned.base), attempt, request.seed, canceled
            ),
            lambda text: send("log", level="warning", text=text),
        )
    iterations = request.iterations
    if request.minutes:
        courses = [Course(p.cohort, p.method, planned.base) for p in parts]
        iterations = Pace(request.minutes, looked, courses, costs).iterations
        if own is not None:
            profile = with_iterations(own.profile, iterations)
            own = own.lasting(profile, f"as many as {request.minutes:g} minutes allow here")
    cohort = planned.cohort
    judged = len(cohort.labeled if planned.report == "leave-one-out" else cohort.holdout)
    seconds = 0.0
    for part in parts:
        cost = costs[part.method.name]
        cases = len(part.cohort.labeled) + len(part.cohort.holdout)
        looks = len(part.cohort.holdout) * iterations // evaluate_every(iterations)
        seconds += cost.case * cases + cost.iteration * iterations
        seconds += cost.prediction * looks
        seconds += unlabeled_seconds(
            Course(part.cohort, part.method, planned.base), cost, iterations
        )
    reports = bool(planned.base) + 1 + bool(planned.comparison)
    cost = costs[planned.method.name]
    seconds += judged * reports * (cost.case + cost.views * cost.prediction)
    return {
        "seconds": round(seconds, 1),
        "seconds_per_iteration": cost.iteration,
        "memory_bytes": max(c.memory for c in costs.values()),
        "iterations": iterations,
        "plan": own.record() if own else [],
    }
