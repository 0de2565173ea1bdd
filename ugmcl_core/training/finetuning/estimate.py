"""The time and memory of a fine-tuning, measured by a few steps of it; writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ...errors import Canceled
from ...nn import devices
from ..memory import attempts_for, run_with_fallback
from ..planning.decisions import left_out_lines
from ..planning.pace import Cost, Pace, measure
from ..profiles import with_iterations
from ..settings import FinetuneSettings
from .length import courses_of, in_all_its_time
from .plan import plan


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
    devices.prepare_cpu()
    courses = courses_of(planned)
    costs: dict[str, Cost] = {}
    for name, course in {c.method.name: c for c in reversed(courses)}.items():
        progress(len(costs) / 2, f"measuring {name}")
        costs[name] = run_with_fallback(
            attempts_for(planned.profile, str(devices.resolve(request.device))),
            lambda attempt, course=course: measure(course, attempt, request.seed, canceled),
            lambda text: send("log", level="warning", text=text),
        )
    iterations, pace = request.iterations, Pace(request.minutes, looked, courses, costs)
    if request.minutes:
        pace = in_all_its_time(planned, pace)
        iterations = pace.iterations
        if own is not None:
            profile = with_iterations(own.profile, iterations)
            own = own.lasting(profile, f"as many as {request.minutes:g} minutes allow here")
    return {
        "seconds": round(pace.needed(iterations), 1),
        "seconds_per_iteration": costs[planned.method.name].iteration,
        "memory_bytes": max(c.memory for c in costs.values()),
        "iterations": iterations,
        "plan": own.record() if own else [],
    }
