"""The time and memory of a fine-tuning, measured by a few steps of it; writes nothing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..data.augmentation import floats
from ..data.cases import Case, Cohort, PreparedCase
from ..errors import Canceled
from ..inference.sliding_window import predict
from ..methods import Method
from ..nn import devices
from ..nn.schedules import Step
from .finetune import FinetunePlan, evaluate_every, parts_of, plan
from .memory import Attempt, Peak, attempts_for, run_with_fallback
from .settings import FinetuneSettings
from .trainer import Trainer, TrainingSettings, TrainingTask

_STEPS, _SECONDS = 4, 10.0  # at most so many timed steps of a kind, and no new one after this


@dataclass(frozen=True)
class Cost:
    """Seconds: of preparing one case, of one iteration on average over the course, of a network
    going over one case; ``memory`` in bytes."""

    case: float
    iteration: float
    prediction: float
    memory: int


def estimate(
    request: FinetuneSettings,
    send: Callable[..., None],
    progress: Callable[..., None],
    canceled: Callable[[], bool],
) -> dict[str, Any]:
    """The `result` of docs/architecture.md for what `finetune` would do with this request.

    Some steps of each method run on the first labeled and unlabeled case, on the true window and
    device, the first step of each not counted. Raises InputError and Canceled.
    """
    planned = plan(request)
    parts = parts_of(planned, Path(request.output))
    devices.prepare_cpu()
    costs: dict[str, Cost] = {}
    for method in {p.method.name: p.method for p in parts}.values():
        progress(len(costs) / 2, f"measuring {method.name}")
        costs[method.name] = run_with_fallback(
            attempts_for(planned.profile, str(devices.resolve(request.device))),
            lambda attempt, method=method: measure(
                planned, method, attempt, request.seed, canceled
            ),
            lambda text: send("log", level="warning", text=text),
        )
    cohort = planned.cohort
    views = 2 ** len(planned.profile.batch.augmentation.mirror_axes)
    judged = len(cohort.labeled if planned.report == "leave-one-out" else cohort.holdout)
    seconds = 0.0
    for part in parts:
        cost = costs[part.method.name]
        unlabeled = part.cohort.unlabeled if part.method.uses_unlabeled else ()
        cases = len(part.cohort.labeled) + len(unlabeled) + len(part.cohort.holdout)
        looks = len(part.cohort.holdout) * request.iterations // evaluate_every(request.iterations)
        seconds += cost.case * cases + cost.iteration * request.iterations
        seconds += cost.prediction * looks
    reports = bool(planned.base) + 1 + bool(planned.comparison)
    own = costs[planned.method.name]
    seconds += judged * reports * (own.case + views * own.prediction)
    return {
        "seconds": round(seconds, 1),
        "seconds_per_iteration": own.iteration,
        "memory_bytes": max(c.memory for c in costs.values()),
    }


def measure(
    planned: FinetunePlan,
    method: Method,
    attempt: Attempt,
    seed: int,
    canceled: Callable[[], bool],
) -> Cost:
    """The cost of one method on the first case of each kind; raises Canceled."""
    devices.release_memory()
    device = torch.device(attempt.device)
    cohort = Cohort(planned.cohort.labeled[:1], planned.cohort.unlabeled[:1])
    nowhere = Path(tempfile.gettempdir())  # nothing exceeds the budget, so nothing is written
    settings = TrainingSettings(seed, attempt.device, memory=1 << 62, resident=False)
    task = TrainingTask(cohort, method, attempt.profile, nowhere, settings, planned.base)
    profile = task.profile
    room = devices.room_for_cases(device)
    with Peak(device) as peak:
        began = time.monotonic()
        trainer = Trainer(task, device)
        case = (time.monotonic() - began) / (len(trainer.labeled) + len(trainer.unlabeled))
        first = [profile.warmup] + ([0] if profile.warmup else [])
        late, *early = [_seconds(trainer, index, canceled) for index in first]
        part = profile.warmup / profile.iterations
        iteration = late if not early else part * early[0] + (1 - part) * late
        image = floats(trainer.labeled[0].opened().image)
        began = time.monotonic()
        with devices.autocast(device):
            predict(trainer.student, image, profile.batch.patch, canceled=canceled)
        prediction = time.monotonic() - began
    kept = _bytes_of(trainer.labeled, planned.cohort.labeled)
    kept += _bytes_of(trainer.unlabeled, planned.cohort.unlabeled)
    return Cost(case, iteration, prediction, peak.bytes + min(room, kept))


def _bytes_of(seen: Sequence[PreparedCase], cases: Sequence[Case]) -> int:
    """Bytes of all ``cases`` if each takes as much as those ``seen``."""
    return sum(c.nbytes for c in seen) * len(cases) // max(1, len(seen))


def _seconds(trainer: Trainer, index: int, canceled: Callable[[], bool]) -> float:
    """Seconds of an iteration from ``index`` on, batches made beside it as in the loop."""
    profile = trainer.profile
    steps = [Step(index, profile.iterations, profile.warmup)] * (_STEPS + 1)
    began, done = 0.0, 0
    for number, (step, batch) in enumerate(zip(steps, trainer.batches(steps), strict=True)):
        if canceled():
            raise Canceled
        terms = trainer.step(step, batch)
        float(sum(terms.values()))  # waits for a GPU, which computes asynchronously
        if number == 0:
            began = time.monotonic()
            continue
        done = number
        if time.monotonic() - began > _SECONDS:
            break
    return (time.monotonic() - began) / done
