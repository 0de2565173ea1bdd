"""How long a training takes: measured by a few steps of it, and the iterations that a time allows.

Writes nothing.
"""

from __future__ import annotations

import bisect
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...data.augmentation import floats
from ...data.cases import Case, Cohort, PreparedCase, prepare_case
from ...errors import Canceled, InputError
from ...inference.localization import is_large, work
from ...inference.sliding_window import predict
from ...methods.base import Method
from ...models.model import Model
from ...nn import devices
from ...nn.schedules import Step
from .. import checkpoint, pseudo_labels
from ..memory import Attempt, Peak, attempts_for, run_with_fallback
from ..profiles import Profile, stages, with_iterations
from ..train import COARSE
from ..trainer import Trainer, TrainingSettings, TrainingTask

_STEPS, _SECONDS = 4, 10.0  # timed steps of a kind: at most this many, none begun after this
_FEWEST = 20  # iterations; with fewer nothing is learned
_RESERVE = 0.97  # part of the time that is planned for: the model must be written, and steps vary


@dataclass(frozen=True)
class Cost:
    """Seconds: of preparing one case with labels and one ``unlabeled``, of one iteration, averaged
    over the training, and of one pass over a case (a result averages ``views`` of these);
    ``memory`` in bytes; ``patches`` of an iteration; `TrainingTask.has_learned`; ``larger``: how
    many times the work of a case with labels a pass over an unlabeled one is."""

    case: float
    unlabeled: float
    iteration: float
    prediction: float
    memory: int
    views: int = 1
    patches: int = 4
    has_learned: bool = False
    larger: float = 1.0


@dataclass(frozen=True)
class Course:
    """One training of a run, to be measured."""

    cohort: Cohort
    method: Method
    base: Model | None = None


def measure(
    course: Course, attempt: Attempt, seed: int, canceled: Callable[[], bool] = lambda: False
) -> Cost:
    """The cost of a training on its first case of each kind; raises Canceled.

    Some steps of each stage run with the real window and device; the first one is not counted.
    """
    profile = attempt.profile
    parts = stages(profile if course.base is None else replace(profile, coarse=None))
    costs = [_measure(course, replace(attempt, profile=p), seed, canceled) for p in parts]
    shares = [p.iterations / profile.iterations for p in parts]
    return replace(
        costs[-1],
        case=sum(c.case for c in costs),
        unlabeled=sum(c.unlabeled for c in costs),
        iteration=sum(s * c.iteration for s, c in zip(shares, costs, strict=True)),
        memory=max(c.memory for c in costs),
    )


def _measure(
    course: Course, attempt: Attempt, seed: int, canceled: Callable[[], bool]
) -> Cost:
    """`measure` of one stage."""
    devices.release_memory()
    device = torch.device(attempt.device)
    whole = course.cohort
    cohort = replace(whole, labeled=whole.labeled[:1], unlabeled=whole.unlabeled[:1], holdout=())
    nowhere = Path(tempfile.gettempdir())  # nothing exceeds the budget, so nothing is written
    settings = TrainingSettings(seed, attempt.device, memory=1 << 62, resident=False)
    task = TrainingTask(cohort, course.method, attempt.profile, nowhere, settings, course.base)
    profile = task.profile
    room = devices.room_for_cases(device)
    with Peak(device) as peak:
        trainer = Trainer(task, device)
        (case, shape), (unlabeled, other) = (
            _seconds_to_prepare(cases, profile) for cases in (cohort.labeled, cohort.unlabeled)
        )
        first = [profile.warmup] + ([0] if profile.warmup else [])
        late, *early = [_seconds(trainer, index, canceled) for index in first]
        part = profile.warmup / profile.iterations
        iteration = late if not early else part * early[0] + (1 - part) * late
        views = 2 ** len(profile.batch.augmentation.mirror_axes)
        prediction = _seconds_to_predict(trainer, views, canceled)
        works = [work(one, profile.batch.patch, views) for one in (shape, other or shape)]
    kept = _bytes_of(trainer.labeled, whole.labeled)
    kept += _bytes_of(trainer.unlabeled, whole.unlabeled)
    return Cost(
        case, unlabeled, iteration, prediction, peak.bytes + min(room, kept), views,
        profile.batch.size, task.has_learned, works[1] / works[0],
    )  # fmt: skip


def _seconds_to_prepare(
    cases: Sequence[Case], profile: Profile
) -> tuple[float, tuple[int, ...]]:
    """Seconds of the first of ``cases``, which was prepared before, so that all is loaded, and its
    shape; 0 and () without cases."""
    began, shape = time.monotonic(), ()
    for case in cases[:1]:
        shape = prepare_case(case, profile.representation).image.shape[1:]
    return time.monotonic() - began, shape


def _seconds_to_predict(trainer: Trainer, views: int, canceled: Callable[[], bool]) -> float:
    """Seconds for one of ``views`` of the first labeled case; of a large one a patch is timed."""
    patch = trainer.profile.batch.patch
    image, share = floats(trainer.labeled[0].opened().image), 1.0
    shape = image.shape[1:]
    if is_large(shape, patch):
        image = image[(slice(None), *(slice(0, n) for n in patch))]
        share = work(shape, patch, views) / (views * math.prod(image.shape[1:]))
    began = time.monotonic()
    with devices.autocast(trainer.device):
        predict(trainer.student, image, patch, canceled=canceled)
    return share * (time.monotonic() - began)


def _bytes_of(seen: Sequence[PreparedCase], cases: Sequence[Case]) -> int:
    """Bytes of all ``cases`` if each takes as much as those ``seen``."""
    return sum(c.nbytes for c in seen) * len(cases) // max(1, len(seen))


def _seconds(trainer: Trainer, index: int, canceled: Callable[[], bool]) -> float:
    """Seconds of an iteration from ``index`` on, batches made beside it as in the loop."""
    profile = trainer.profile
    steps = [Step(index, profile.iterations, profile.warmup)] * (_STEPS + 1)
    began, done = 0.0, 0
    # volumes that will be labeled cost what labeled ones do
    unlabeled = [] if trainer.method.renewals else None
    batches = trainer.batches(steps, unlabeled)
    for number, (step, batch) in enumerate(zip(steps, batches, strict=True)):
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


def fit(
    profile: Profile,
    minutes: float,
    courses: Sequence[Course],
    device: str,
    seed: int,
    *,
    spent: float = 0.0,
    canceled: Callable[[], bool] = lambda: False,
    warn: Callable[[str], None] = lambda text: None,
) -> Profile:
    """``profile`` with the iterations for which ``minutes`` suffice, ``spent`` seconds of them
    gone already; ``courses`` are the trainings that share the time, each of as many iterations.

    Raises InputError for a time that is gone before the cases are prepared, and Canceled.
    """
    began = time.monotonic()
    costs = {
        name: run_with_fallback(
            attempts_for(profile, device),
            lambda attempt, course=course: measure(course, attempt, seed, canceled),
            warn,
        )
        for name, course in {c.method.name: c for c in courses}.items()
    }
    devices.release_memory()
    spent += time.monotonic() - began
    return with_iterations(profile, iterations_for(minutes, courses, costs, spent))


def iterations_for(
    minutes: float, courses: Sequence[Course], costs: Mapping[str, Cost], spent: float
) -> int:
    """The iterations of each of ``courses`` for which ``minutes`` suffice, ``spent`` seconds of
    them gone; ``costs`` by method. InputError if there is no time for any."""
    left, each = _RESERVE * 60.0 * minutes - spent, 0.0
    for course in courses:
        cost, cohort = costs[course.method.name], course.cohort
        left -= cost.case * (len(cohort.labeled) + len(cohort.holdout))
        left -= cost.prediction * len(cohort.holdout)
        each += cost.iteration

    def seconds(iterations: int) -> float:
        of_unlabeled = (unlabeled_seconds(c, costs[c.method.name], iterations) for c in courses)
        return iterations * each + sum(of_unlabeled)

    iterations = bisect.bisect_right(range(max(0, int(left / each)) + 1), left, key=seconds) - 1
    if iterations < _FEWEST:
        needed = minutes + (seconds(_FEWEST) - left) / 60.0
        raise InputError(
            f"{minutes:g} minutes are not enough for these cases: give at least "
            f"{math.ceil(needed)}"
        )
    return iterations


def unlabeled_seconds(course: Course, cost: Cost, iterations: int) -> float:
    """Approximate time that the unlabeled cases of a training take beside its ``iterations``: to
    prepare them, and to label them as whole volumes (`Method.renewals`; see
    `pseudo_labels.affordable`). None where they do not take part."""
    method, cohort = course.method, course.cohort
    alone = 0
    if not cost.has_learned:
        alone = method.alone(iterations, cost.patches / len(cohort.labeled))
    if not method.uses_unlabeled or alone >= iterations:
        return 0.0
    preparing = cost.unlabeled * len(cohort.unlabeled)
    if not method.renewals:
        return preparing
    times = len(pseudo_labels.renewal_steps(iterations, alone, method.renewals))
    each = cost.views * cost.prediction * cost.larger
    affordable = pseudo_labels.SHARE * cost.iteration * iterations / method.renewals
    volumes = min(method.volumes, len(cohort.unlabeled)) * each  # at most this many at a time
    return preparing + times * min(volumes, max(affordable, pseudo_labels.FEWEST * each))


def iterations_of(folder: Path) -> int | None:
    """The iterations of the training that ``folder`` holds a checkpoint of, for one that is
    resumed and measured in minutes; None without."""
    former = checkpoint.load(folder) or checkpoint.load(folder / COARSE)
    if former is None:
        return None
    whole = former.settings.get("course") or former.settings["profile"]
    return int(whole["iterations"])
