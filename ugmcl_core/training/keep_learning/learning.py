"""Keep learning: a training that stays alive while cases are being corrected.

It starts from a base model and the cases of a case list. A case that is added to the list, and
announced by the control `ADD_CASE`, is prepared in the background and joins the training within
seconds. Every few minutes the averaged model is compared with the one in use, and takes over if
it is not worse:

* With hold-out cases, by their mean Dice.
* Without, by cases that neither has learned from: each new case, before it joins. The models in
use are thus judged by what the person correcting would have got from each.

The learning rate is constant, since nobody knows when the training ends; it rises again from zero
over some steps whenever a case joins, because the optimizer's averages do not know its gradients.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...data.cases import Case, PreparedCase, on_device, prepare_cases
from ...errors import Canceled, InputError, in_one_line, interruptible
from ...evaluation.metrics import known_mean
from ...files import write_json
from ...inference.segmenter import Segmenter
from ...models import manifest
from ...models.model import Model, open_model, record, save_model, update_card
from ...nn import devices
from ...nn.schedules import LearningRate, Step
from .. import checkpoint
from ..finetuning.case_list import read_case_list
from ..finetuning.plan import FinetunePlan, of_base, plan
from ..finetuning.verdict import CHOSEN, CaseMeasures, Report, conclude, measure
from ..memory import Attempt, attempts_for, run_with_fallback
from ..settings import REPORT, FinetuneSettings, KeepLearningSettings
from ..task import TrainingSettings, TrainingTask
from ..train import held_for_training, model_card
from ..trainer import Trainer, holdout_means, of_classes, refuse_twice
from . import courtesy

ADD_CASE, TAKE_MODEL, STOP = CONTROLS = ("add_case", "take_model", "stop")
"""The commands that a training takes: the case list has grown; compare the models now; end with
the report."""
HORIZON = 1000
"""Steps over which the unlabeled terms gain weight."""
DECAY = 0.95
"""Of the averaged model: it forgets within about 20 steps, so that it soon follows a new case. On
six scans, 60 steps from a base of two labels, its Dice was 0.76; with the 0.988 of a fine-tuning
of 1000 iterations 0.73 to 0.75."""
FRESH = 100
"""Steps after which a new case is sampled as often as the others; until then half of the labeled
patches are of new cases."""
REWARM = 20
"""Steps over which the learning rate rises again when a case joins."""
_PROGRESS = 0.001, 0.01
"""The rise of the mean hold-out Dice, and the relative fall of the loss, that count as
progress."""
_REPORT_EVERY, _SAVE_EVERY, _LOOK_EVERY = 2.0, 60.0, 10.0  # seconds
_SHARE = 0.1  # of the time that checks may take at most
_POLL = 0.1  # seconds between looks while it waits

Send = Callable[..., None]


@dataclass
class State:
    """What a checkpoint keeps beside the networks: the step at which each labeled case joined, the
    Dice of the model in use on the hold-out cases, how often a model took over, at which step the
    last one did and whether it did so when they were last compared, the checks without progress,
    and what the new cases showed."""

    joined: dict[str, int] = field(default_factory=dict)
    dice: float | None = None
    taken: int = 0
    taken_at: int = 0
    won: bool = False
    best: float | None = None
    stale: int = 0
    arrivals: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """Mean Dice of a model, and that of each class; NaN where none exists."""

    dice: float
    classes: Sequence[float]


class OpenTrainer(Trainer):
    """A `Trainer` without an end, which new cases join."""

    def __init__(self, task: TrainingTask, device: Any, emit: Callable[..., None]) -> None:
        super().__init__(task, device, emit)
        self.fingerprint = {
            k: v for k, v in self.fingerprint.items() if k not in ("labeled", "unlabeled")
        }
        self.state = State({case.name: 0 for case in self.labeled})
        self._warm_from = 0

    def join(self, case: PreparedCase) -> None:
        """Learn from a labeled case from now on, instead of a former one of the same name."""
        self.labeled = [c for c in self.labeled if c.name != case.name] + [case]
        self.unlabeled = [c for c in self.unlabeled if c.name != case.name]
        self.state.joined[case.name] = self._warm_from = self.index

    @property
    def fresh(self) -> list[PreparedCase]:
        """The cases that joined less than `FRESH` steps ago, after the start."""
        joined = self.state.joined
        return [
            c for c in self.labeled if joined[c.name] and self.index - joined[c.name] < FRESH
        ]

    def sampled(self) -> list[PreparedCase]:
        """The labeled cases, the fresh ones repeated until they make up half of the list."""
        fresh = self.fresh
        others = len(self.labeled) - len(fresh)
        return self.labeled + fresh * (max(1, round(others / len(fresh))) - 1 if fresh else 0)

    def _rate(self, step: Step) -> float:
        return self.profile.optimization.rate.at(step.index - self._warm_from, step.total)

    def save(self) -> None:
        if not all(bool(p.isfinite().all()) for p in self.student.parameters()):
            raise self.diverged("its weights are not finite")
        kept = {"training": self.fingerprint, "state": asdict(self.state)}
        nets = (self.student, self.teacher, self.optimizers)
        checkpoint.save(self.output, self.index, kept, *nets)

    def restore(self, former: checkpoint.Checkpoint) -> None:
        then, now = former.settings.get("training"), self.fingerprint
        if then != now:
            known = then if isinstance(then, dict) else {}
            changed = ", ".join(key for key in now if known.get(key) != now[key])
            raise InputError(
                f"{self.output}: holds a training with different settings ({changed}); choose "
                "another folder or the same settings"
            )
        super().restore(former)
        self.state = State(**former.settings["state"])
        self._warm_from = self.index


def keep_learning(
    request: KeepLearningSettings,
    send: Send,
    progress: Callable[..., None],
    canceled: Callable[[], bool],
    controls: Callable[[], list[str]] = list,
) -> dict[str, Any]:
    """Train until `STOP`, or until nothing more is learned; the `result` of docs/architecture.md.
    ``controls()`` returns the commands since its last call. `send` gets the events `metrics`,
    `check`, `joined`, `waiting` and `log`. Raises InputError, and Canceled after a cancel; the
    run's folder then holds a checkpoint to resume from.
    """
    output = Path(request.output)
    if request.resume and (output / REPORT).is_file():
        return json.loads((output / REPORT).read_text(encoding="utf-8"))
    began = time.monotonic()
    planned = plan_of(request)
    for text in planned.lines:
        send("log", level="info", text=text)
    for text in planned.notices:
        send("log", level="warning", text=text)
    device = str(devices.resolve(request.device))
    attempts = attempts_for(planned.profile, device)
    devices.prepare_cpu()

    def work(attempt: Attempt) -> dict[str, Any]:
        resume = request.resume or attempt is not attempts[0]
        settings = TrainingSettings(
            request.seed, attempt.device, resident=attempt is attempts[0]
        )
        task = TrainingTask(
            planned.cohort, planned.method, attempt.profile, output, settings, planned.base
        )
        with interruptible() as interrupted:

            def stopped() -> bool:
                return canceled() or interrupted()

            learning = Learning(request, planned, send, progress, stopped, controls)
            try:
                return learning.run(task, resume)
            except Canceled:
                if interrupted():
                    raise KeyboardInterrupt from None
                raise

    def warn(text: str) -> None:
        send("log", level="warning", text=text)

    with held_for_training(output), courtesy.courteous(request.cores):
        result = run_with_fallback(attempts, work, warn)
        shutil.rmtree(output / "cache", ignore_errors=True)
        write_json(output / REPORT, result)
        cohort = read_case_list(request.case_list).cohort
        listed = (*cohort.labeled, *cohort.unlabeled, *cohort.holdout)
        manifest.write(
            output / manifest.NAME,
            "keep_learning",
            options={**asdict(request), "iterations_done": result["steps"]},
            inputs=[Path(request.case_list), *(p for c in listed for p in (*c.images, c.label))],
            device=device,
            seconds=time.monotonic() - began,
            model=record(open_model(result["model"])) if result["model"] else None,
        )
    return result


def plan_of(request: KeepLearningSettings) -> FinetunePlan:
    """The plan of a fine-tuning, with this training's constant learning rate and fast-moving
    average. Raises InputError."""
    shared = ("case_list", "output", "base", "method", "seed", "device", "name", "keep_names")
    given = {name: getattr(request, name) for name in shared}
    planned = plan(FinetuneSettings(**given, iterations=HORIZON))
    if planned.method.renewals:
        raise InputError(
            f"method {planned.method.name} labels volumes at fixed steps, and a training that "
            "keeps learning has no fixed length: choose another method"
        )
    optimization = planned.profile.optimization
    rate = LearningRate(optimization.rate.base, "constant", warmup=REWARM)
    optimization = replace(optimization, rate=rate, decay=DECAY)
    profile = replace(planned.profile, optimization=optimization)
    return replace(planned, profile=profile)


class Learning:
    """One training that keeps learning, and the events it sends."""

    def __init__(
        self,
        request: KeepLearningSettings,
        planned: FinetunePlan,
        send: Send,
        progress: Callable[..., None],
        canceled: Callable[[], bool],
        controls: Callable[[], list[str]],
    ) -> None:
        self.request, self.plan = request, planned
        self.send, self.progress = send, progress
        self.canceled, self.controls = canceled, controls
        self.folder = Path(request.output) / "model"
        self.model = open_model(self.folder) if self.folder.is_dir() else planned.base
        self._pool = ThreadPoolExecutor(1, "prepare")
        self._coming: list[tuple[Case, Future[list[PreparedCase]]]] = []
        self._known: dict[str, Case] = {}  # labeled, by name, as they were last read
        self._active = self._checked_at = self._check_seconds = 0.0  # seconds of training
        self._losses: list[float] = []  # since the last check
        self._saved = 0.0  # when the last checkpoint was written
        self._ended = self._asked = False

    def run(self, task: TrainingTask, resume: bool) -> dict[str, Any]:
        """Train on ``task``; see `keep_learning`."""
        former = checkpoint.load(task.output) if resume else None
        if former is None and ((task.output / checkpoint.NAME).exists() or self.folder.exists()):
            raise InputError(
                f"{task.output}: already contains a training; resume it, or choose another folder"
            )
        cohort, late = task.cohort, ()
        if former is not None:  # what came after the process had ended joins like any new case
            known = former.settings.get("state", {}).get("joined", {})
            late = tuple(c for c in cohort.labeled if c.name not in known)
            rest = tuple(c for c in cohort.labeled if c.name in known)
            cohort = replace(cohort, labeled=rest)
        trainer = OpenTrainer(replace(task, cohort=cohort), devices.resolve(
            task.settings.device), self._on_preparing)  # fmt: skip
        self.trainer = trainer
        self.present = copy.deepcopy(trainer.saved_network)  # the base, with heads for all classes
        if self.model is not self.plan.base:
            self.present.load_state_dict(self.model.load_weights())
        if former is not None:
            trainer.restore(former)
            self.send("log", level="info", text=f"resumed at step {trainer.index}")
        self._known = {c.name: c for c in cohort.labeled}
        try:
            for case in late:
                self._expect(case)
            self._learn()
        except Canceled:
            trainer.save()
            raise
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
        trainer.save()
        return self._result()

    def _on_preparing(self, event: dict[str, Any]) -> None:
        if event["event"] == "preparing":
            if self.canceled():
                raise Canceled
            self.progress(0.0, event["text"])
        elif event["event"] == "notice":
            self.send("log", level="warning", text=event["text"])

    def _learn(self) -> None:
        trainer, state = self.trainer, self.trainer.state
        if trainer.holdout and state.dice is None:
            self.progress(0.0, "measuring the hold-out cases")
            state.dice = state.best = self._holdout(self.present).dice
        self._save()
        while not self._ended:
            self._follow()
            self._take_in()
            if self._ended:
                break
            if why := self._obstacle():
                self._wait(why)
            elif self._is_due():
                self._check()
            else:
                self._train()
        if trainer.holdout and self._active > self._checked_at:
            self._check()
        elif not trainer.holdout and state.won and trainer.index > state.taken_at:
            self._take(None)  # it won, and has learned more since

    # What arrives

    def _follow(self) -> None:
        """Carry out the commands; raises Canceled."""
        if self.canceled():
            raise Canceled
        said = self.controls()
        if STOP in said:
            self._ended = True
        self._asked |= TAKE_MODEL in said
        if ADD_CASE in said:
            try:
                listed = read_case_list(self.request.case_list)
                cohort = of_base(listed, self.plan.base).cohort
            except InputError as error:
                self.send("log", level="warning", text=in_one_line(error))
                return
            for case in cohort.labeled:
                if self._known.get(case.name) != case:
                    self._expect(case)

    def _expect(self, case: Case) -> None:
        """Prepare a new case in the background."""
        trainer = self.trainer
        self._known[case.name] = case
        used = sum(c.nbytes for c in (*trainer.labeled, *trainer.unlabeled, *trainer.holdout))
        work = self._pool.submit(
            prepare_cases,
            [case],
            trainer.profile.representation,
            cache=trainer.cache,
            budget=trainer.budget,
            used=used,
            notice=lambda text: self.send("log", level="warning", text=text),
        )
        self._coming.append((case, work))

    def _take_in(self) -> None:
        """Learn from the cases that are prepared."""
        while self._coming and (self._coming[0][1].done() or self._ended):
            case, work = self._coming.pop(0)
            try:
                (prepared,) = work.result()
                refuse_twice([prepared], self.trainer.holdout)
            except InputError as error:
                text = f"{case.name} is left out: {in_one_line(error)}"
                self.send("log", level="warning", text=text)
                continue
            self._join(case, prepared)

    def _join(self, case: Case, prepared: PreparedCase) -> None:
        """Measure the models on a case that neither has learned from, then learn from it. One that
        was corrected again is not measured."""
        trainer, state = self.trainer, self.trainer.state
        dice = math.nan
        if case.name not in state.joined:
            self.progress(0.0, f"measuring {case.name}")
            dice = known_mean(trainer.dice_of(prepared, self.present, self.canceled))
            if not trainer.holdout and trainer.index > state.taken_at:
                candidate = trainer.dice_of(prepared, trainer.saved_network, self.canceled)
                self._decide(dice, Measured(known_mean(candidate), candidate), case.name)
            if not trainer.holdout:
                models = (self.plan.base, self.model)
                before, after = (self._measured(model, [case])[0] for model in models)
                row = {"name": case.name, "before": before, "after": after, "supervised": None}
                state.arrivals.append(row)
        if trainer.settings.resident and (room := devices.room_for_cases(trainer.device)):
            (prepared,) = on_device([prepared], trainer.device, room)
        trainer.join(prepared)
        state.stale, state.best = 0, state.dice
        self._save()
        self.send("joined", name=case.name, step=trainer.index, dice=dice,
                  cases=len(trainer.labeled))  # fmt: skip

    # Training

    def _train(self) -> None:
        """Train until something arrives, a check is due, or a case is no longer fresh."""
        trainer = self.trainer
        labeled, fresh = trainer.sampled(), len(trainer.fresh)
        steps, ahead = (
            (Step(n, HORIZON) for n in itertools.count(trainer.index)) for _ in range(2)
        )
        looked = reported = time.monotonic()
        counted = trainer.index
        with closing(trainer.batches(ahead, labeled=labeled)) as batches:
            for step, batch in zip(steps, batches, strict=False):
                began = time.monotonic()
                terms = trainer.step(step, batch)
                trainer.index = step.index + 1
                now = time.monotonic()
                self._active += now - began
                if now - reported > _REPORT_EVERY:
                    trainer.speed = (trainer.index - counted) / (now - reported)
                    self._report(trainer.checked(terms))
                    reported, counted = now, trainer.index
                if now - self._saved > _SAVE_EVERY:
                    trainer.checked(terms)
                    self._save()
                held = time.monotonic()
                self._follow()
                reported += time.monotonic() - held  # a pause is not part of the speed
                arrived = self._coming and self._coming[0][1].done()
                changed = len(trainer.fresh) != fresh or now - looked > _LOOK_EVERY
                if self._ended or arrived or changed or self._is_due():
                    break
        self._losses.append(sum(trainer.checked(terms).values()))

    def _save(self) -> None:
        self.trainer.save()
        self._saved = time.monotonic()

    def _report(self, losses: dict[str, float]) -> None:
        trainer = self.trainer
        self._losses.append(sum(losses.values()))
        part = min(1.0, (self._active - self._checked_at) / self._interval)
        self.progress(part, f"step {trainer.index}, {len(trainer.labeled)} labeled cases")
        self.send("metrics", step=trainer.index, part="", losses=losses, dice=None,
                  classes=None, speed=trainer.speed)  # fmt: skip

    # Waiting

    def _obstacle(self) -> str:
        """Why it does not train now; "" if it may."""
        if not self.request.on_battery and courtesy.on_battery():
            return "battery"
        if self.trainer.state.stale >= self.request.patience and not self._asked:
            return "case"
        return ""

    def _wait(self, why: str) -> None:
        """Wait until there is no such obstacle, or end after waiting too long for a case."""
        self.send("waiting", why=why, step=self.trainer.index)
        self._save()
        since = looked = time.monotonic()
        while not self._ended:
            time.sleep(_POLL)
            self._follow()
            now = time.monotonic()
            if self._coming or self._asked:
                break
            if why == "case" and now - since > 60 * self.request.wait_minutes:
                self._ended = True
            if why == "battery" and now - looked > _LOOK_EVERY:
                looked = now
                if self._obstacle() != why:
                    break
        self.send("waiting", why="", step=self.trainer.index)

    # Comparing the models

    @property
    def _interval(self) -> float:
        """Seconds of training between two checks."""
        return max(60 * self.request.check_minutes, self._check_seconds / _SHARE)

    def _is_due(self) -> bool:
        return self._asked or self._active - self._checked_at >= self._interval

    def _check(self) -> None:
        """Compare the averaged model with the one in use, and note whether anything was learned
        since the last check."""
        trainer, state = self.trainer, self.trainer.state
        was_asked, self._asked, self._checked_at = self._asked, False, self._active
        losses, self._losses = self._losses, []
        if trainer.holdout:
            began = time.monotonic()
            self.progress(1.0, "measuring the hold-out cases")
            measured = self._holdout(trainer.saved_network)
            self._check_seconds, now = time.monotonic() - began, measured.dice
            self._decide(state.dice, measured)
            learned = now - _PROGRESS[0] >= (state.best or 0.0)
        else:
            if was_asked:
                text = "No case shows which model is better: wait for the next, or hold cases out."
                self.send("log", level="info", text=text)
            now = -float(np.mean(losses)) if losses else math.nan
            learned = state.best is None or now >= state.best - _PROGRESS[1] * state.best
        if learned:
            state.stale, state.best = 0, now
        else:
            state.stale += 1
        self._save()

    def _decide(self, former: float, now: Measured, case: str = "") -> None:
        """Let the averaged model take over, unless its Dice is worse; on ``case``, or the mean of
        the hold-out cases."""
        trainer, state = self.trainer, self.trainer.state
        state.won = now.dice >= former
        if state.won:
            self._take(now.dice if not case else None)
        self.send(
            "check",
            step=trainer.index,
            dice=now.dice,
            former=former,
            case=case,
            taken=state.won,
            model=str(self.folder) if state.won else None,
            cases=len(trainer.labeled),
        )
        classes = of_classes(self.plan.description.classes, now.classes)
        self.send("metrics", step=trainer.index, part="", losses={}, dice=now.dice,
                  classes=classes, speed=trainer.speed)  # fmt: skip

    def _take(self, dice: float | None) -> None:
        """Let the averaged model, with this ``dice`` on the hold-out cases if there are any, take
        over."""
        trainer, state = self.trainer, self.trainer.state
        card = model_card(trainer, self.plan.description)
        self.model = save_model(self.folder, card, trainer.weights())
        self.present.load_state_dict(trainer.saved_network.state_dict())
        state.taken, state.taken_at, state.dice = state.taken + 1, trainer.index, dice

    def _holdout(self, network: Any) -> Measured:
        """Dice over the hold-out cases; raises Canceled."""
        trainer = self.trainer
        found = [trainer.dice_of(case, network, self.canceled) for case in trainer.holdout]
        means = holdout_means(found)
        return Measured(known_mean(means["dice"]), means["classes"])

    # The end

    def _measured(self, model: Model, cases: Sequence[Case]) -> list[CaseMeasures]:
        """The measures of ``cases``; raises Canceled."""
        threads = torch.get_num_threads()
        segmenter = Segmenter(model, str(self.trainer.device))
        torch.set_num_threads(threads)  # not all cores, as the segmenter takes
        r, classes = self.trainer.profile.representation, self.plan.description.classes
        return [measure(segmenter, case, r, classes, self.canceled) for case in cases]

    def _result(self) -> dict[str, Any]:
        """Before and after, the verdict, and the model with its scores."""
        trainer, state = self.trainer, self.trainer.state
        holdout: tuple[Case, ...] = self.plan.cohort.holdout
        kind, cases = "none", state.arrivals
        if holdout:
            kind = "holdout"
            self.progress(0.97, "measuring the hold-out cases")
            before = self._measured(self.plan.base, holdout)
            after = self._measured(self.model, holdout) if state.taken else before
            cases = [
                {"name": c.name, "before": b, "after": a, "supervised": None}
                for c, b, a in zip(holdout, before, after, strict=True)
            ]
        elif cases:
            kind = "arrival"
        names = [c.name for c in self.plan.description.classes]
        verdict, text = conclude(cases, kind, names[len(self.plan.base.card.classes) :])
        if not state.taken:
            text = f"No model took over: none was as good as {self.plan.base.name}. {text}"
        else:
            if holdout:
                text += " " + CHOSEN
            report = Report(kind, cases, verdict, text)
            update_card(self.model, scores=report.scores(self.request.keep_names))
        return {
            "model": str(self.folder) if state.taken else None,
            "report": kind,
            "cases": cases,
            "verdict": verdict,
            "text": text,
            "steps": trainer.index,
            "labeled": len(trainer.labeled),
            "taken": state.taken,
        }
