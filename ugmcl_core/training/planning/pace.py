"""How long a training takes: measured by a few steps of it, and the iterations that a time allows.

cases → a few steps of each method → `Cost` → `Pace` → iterations → training → as many as the time
that is left allows, where the computer turns out to be faster or slower. Writes nothing.
"""

from __future__ import annotations

import bisect
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ...data.augmentation import floats
from ...data.cases import Case, Cohort, PreparedCase, prepare_case
from ...errors import Canceled, InputError, is_out_of_memory
from ...inference.localization import is_large, work
from ...inference.sliding_window import predict
from ...methods.base import Method
from ...models.model import Model
from ...nn import devices
from ...nn.schedules import Step
from .. import checkpoint, pseudo_labels
from ..memory import Attempt, Peak, attempts_for, run_with_fallback
from ..profiles import Profile, stages
from ..task import TrainingSettings, TrainingTask
from ..train import COARSE, Adapt, Description, Progress
from ..trainer import Trainer

_STEPS, _SECONDS = 4, 10.0  # timed steps of a kind: at most this many, none begun after this
_FEWEST = 20  # iterations; with fewer nothing is learned
_LITTLE = 0.1  # part of the iterations that is not worth a change
_RESERVE = 0.97  # part of the time that is planned for: the model must be written, and steps vary


@dataclass(frozen=True)
class Cost:
    """Seconds: of preparing one case with labels and one ``unlabeled``, of one iteration, averaged
    over the training, of one of its ``first`` iterations, and of one pass over a case (a result
    averages ``views`` of these); ``memory`` in bytes; ``patches`` of an iteration;
    `TrainingTask.has_learned`; ``larger``: how many times the work of a case with labels a pass
    over an unlabeled one is;
    ``start``: the part of the iterations that its first stage has (`profiles.stages`)."""

    case: float
    unlabeled: float
    iteration: float
    prediction: float
    memory: int
    views: int = 1
    patches: int = 4
    has_learned: bool = False
    larger: float = 1.0
    first: float = 0.0
    start: float = 1.0


@dataclass(frozen=True)
class Course:
    """One training of a run, to be measured. So many ``looks`` at each hold-out case, in a single
    view, belong to a number of iterations; ``reported`` cases are measured as results are made."""

    cohort: Cohort
    method: Method
    base: Model | None = None
    looks: Callable[[int], int] = lambda iterations: 1
    reported: int = 0


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
        first=costs[0].first,
        start=shares[0],
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
        profile.batch.size, task.has_learned, works[1] / works[0], *(early or [late]),
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
    began, paused, done = 0.0, 0.0, 0
    # volumes that will be labeled cost what labeled ones do
    unlabeled = [] if trainer.method.renewals else None
    batches = trainer.batches(steps, unlabeled)
    for number, (step, batch) in enumerate(zip(steps, batches, strict=True)):
        asked = time.monotonic()
        if canceled():
            raise Canceled
        paused += time.monotonic() - asked
        terms = trainer.step(step, batch)
        float(sum(terms.values()))  # waits for a GPU, which computes asynchronously
        if number == 0:
            began, paused = time.monotonic(), 0.0
            continue
        done = number
        if time.monotonic() - began - paused > _SECONDS:
            break
    return (time.monotonic() - began - paused) / done


@dataclass(frozen=True)
class Pace:
    """The ``minutes`` that ``courses``, each of as many iterations, have together, ``spent``
    seconds of them gone before they begin; ``costs`` by the name of the method, and the ``most``
    iterations that are wanted. ``measure`` has what the costs are now, or raises Canceled once
    what it is given is true; None where a training under way leaves no room for that."""

    minutes: float
    spent: float
    courses: Sequence[Course]
    costs: Mapping[str, Cost]
    measure: Callable[[Callable[[], bool]], Mapping[str, Cost]] | None = None
    most: int = sys.maxsize

    @property
    def seconds(self) -> float:
        """What the courses may take."""
        return _RESERVE * 60.0 * self.minutes - self.spent

    @property
    def iterations(self) -> int:
        """Those of each course for which the time suffices; InputError if it does for none."""
        found = self.within(self.seconds)
        if found < _FEWEST:
            needed = self.minutes + (self.needed(_FEWEST) - self.seconds) / 60.0
            raise InputError(
                f"{self.minutes:g} minutes are not enough for these cases: give at least "
                f"{math.ceil(needed)}"
            )
        return found

    def again(self, index: int, taken: float) -> int:
        """`iterations` when ``index`` of the first course are done, which took ``taken``
        seconds, with costs that are those of now."""
        cost = self.costs[self.courses[0].method.name]
        found = self.within(self.seconds - taken + index * cost.first)
        return max(found, _FEWEST, math.ceil((index + 1) / cost.start))

    def scaled(self, ratio: float) -> Pace:
        """With iterations that take ``ratio`` times as long."""
        costs = {
            name: replace(cost, first=ratio * cost.first, iteration=ratio * cost.iteration)
            for name, cost in self.costs.items()
        }
        return replace(self, costs=costs)

    def within(self, seconds: float) -> int:
        """The most iterations, of those that are wanted, that take no longer; -1 for none."""
        each = sum(self.costs[c.method.name].iteration for c in self.courses)
        counts = range(min(self.most, max(0, int(seconds / each))) + 1)
        return bisect.bisect_right(counts, seconds, key=self.needed) - 1

    def needed(self, iterations: int) -> float:
        """Seconds of all courses with so many iterations each."""
        total = 0.0
        for course in self.courses:
            cost, cohort = self.costs[course.method.name], course.cohort
            looks = course.looks(iterations) * len(cohort.holdout)
            cases = len(cohort.labeled) + len(cohort.holdout) + course.reported
            total += cost.case * cases + cost.iteration * iterations
            total += cost.prediction * (looks + cost.views * course.reported)
            total += unlabeled_seconds(course, cost, iterations)
        return total


def pace_of(
    profile: Profile,
    minutes: float,
    courses: Sequence[Course],
    device: str,
    seed: int,
    *,
    spent: float = 0.0,
    canceled: Callable[[], bool] = lambda: False,
    warn: Callable[[str], None] = lambda text: None,
) -> Pace:
    """The pace of ``courses`` by ``profile``, which share ``minutes``, ``spent`` seconds of them
    gone already. Raises Canceled."""
    began = time.monotonic()
    devices.prepare_cpu()
    attempts = attempts_for(profile, device)

    def costs(attempts: Sequence[Attempt], canceled: Callable[[], bool]) -> dict[str, Cost]:
        found = {
            name: run_with_fallback(
                attempts, lambda attempt, c=course: measure(c, attempt, seed, canceled), warn
            )
            for name, course in {c.method.name: c for c in courses}.items()
        }
        devices.release_memory()
        return found

    known = costs(attempts, canceled)
    again = partial(costs, attempts[:1]) if torch.device(device).type == "cpu" else None
    return Pace(minutes, spent + time.monotonic() - began, courses, known, again)


def adapt_of(pace: Pace, made: Callable[[int], tuple[Profile, Description]]) -> Adapt:
    """The length of the first course of ``pace`` as the computer allows it while it runs; ``made``
    has the training of each length. Where its iterations are not what was measured, this is done
    again: the stages of a training do not all suffer alike from other programs. A pause is no
    part of the time."""

    def adapt(
        progress: Progress, canceled: Callable[[], bool]
    ) -> tuple[Profile, Description] | None:
        nonlocal pace
        ratio = progress.each / pace.costs[pace.courses[0].method.name].first
        now = pace.scaled(ratio)
        if _is_little(now.again(progress.index, progress.seconds), progress.total):
            return None
        if pace.measure is not None and not _is_little(ratio, 1.0):
            now = _measured(pace, canceled) or now
        if canceled():
            return None
        pace = now
        found = pace.again(progress.index, progress.seconds)
        return None if _is_little(found, progress.total) else made(found)

    return adapt


def _is_little(value: float, former: float) -> bool:
    """Whether the difference is not worth a change."""
    return abs(value - former) <= _LITTLE * former


def _measured(pace: Pace, canceled: Callable[[], bool]) -> Pace | None:
    """``pace`` with the costs of now, less the time that it takes; None if it is canceled or
    there is not enough memory beside the training."""
    began, paused = time.monotonic(), 0.0

    def asked() -> bool:  # which may wait
        nonlocal paused
        before = time.monotonic()
        found = canceled()
        paused += time.monotonic() - before
        return found

    try:
        costs = pace.measure(asked)
    except Canceled:
        return None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    return replace(pace, costs=costs, spent=pace.spent + time.monotonic() - began - paused)


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
