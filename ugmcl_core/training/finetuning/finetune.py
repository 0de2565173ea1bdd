"""Fine-tuning as the panel offers it: a case list, a base model, and a report on unseen cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...data.cases import Case
from ...errors import Canceled
from ...evaluation.metrics import known_mean
from ...files import write_json
from ...inference.segmenter import Segmenter
from ...models import manifest
from ...models.model import Model, record, save_model, update_card
from ...nn import devices
from .. import pseudo_labels
from ..memory import Attempt, attempts_for, run_with_fallback
from ..planning.pace import Pace, adapt_of, iterations_of
from ..profiles import Profile
from ..settings import REPORT, FinetuneSettings, finished
from ..train import Description, TrainingSettings, train
from ..trainer import of_classes
from .length import evaluate_every, lasting, timed
from .plan import FinetunePlan, Part, parts_of, plan
from .verdict import CaseMeasures, Report, compare, measure

Send = Callable[..., None]
_BEFORE, _AFTER = 0.03, 0.95  # parts of the progress bar that the first and last measures take
_CHECKPOINT_EVERY = 25  # iterations, up to a minute's work on two cores


def finetune(
    request: FinetuneSettings,
    send: Send,
    progress: Callable[..., None],
    canceled: Callable[[], bool],
) -> dict[str, Any]:
    """Train, and return the `result` of docs/architecture.md.

    `send` gets the `metrics` and `log` events. Raises InputError, and Canceled after a cancel; the
    run's folder then holds a checkpoint of each training begun, to resume from, and the model in
    its current state.
    """
    output = Path(request.output)
    if request.resume and (output / REPORT).is_file():
        return finished(output, request)
    began = time.monotonic()

    def looking(fraction: float, text: str) -> None:
        if canceled():
            raise Canceled
        progress(0.0, text)

    planned = plan(request, looking)
    for line in planned.lines:
        send("log", level="info", text=line)

    def warn(text: str) -> None:
        send("log", level="warning", text=text)

    pace = timed(planned, request, time.monotonic() - began, warn, canceled)
    iterations = planned.profile.iterations
    if pace is not None:
        iterations = pace.iterations
    elif request.minutes:
        iterations = iterations_of(output) or iterations
    run = _FinetuneRun(request, planned, iterations, send, progress, canceled)
    models, report, keeps_supervised = run.work(pace)
    model = models[""]
    if keeps_supervised:
        better = models["supervised"]
        model = save_model(model.folder, better.card, better.load_weights())
    model = update_card(model, scores=report.scores(request.keep_names))
    result = {"model": str(model.folder), "report": report.kind, "cases": report.cases,
              "verdict": report.verdict, "text": report.text}  # fmt: skip
    write_json(output / REPORT, result)
    cohort = planned.cohort
    listed = (*cohort.labeled, *cohort.unlabeled, *cohort.holdout)
    manifest.write(
        output / manifest.NAME,
        "finetune",
        options=asdict(request),
        inputs=[Path(request.case_list), *(p for c in listed for p in (*c.images, c.label))],
        device=run.device,
        seconds=time.monotonic() - began,
        model=record(model),
    )
    return result


class _FinetuneRun:
    """The trainings and measurements of one request, and the events they send."""

    def __init__(
        self,
        request: FinetuneSettings,
        planned: FinetunePlan,
        iterations: int,
        send: Send,
        progress: Callable[..., None],
        canceled: Callable[[], bool],
    ) -> None:
        self.request, self.of_any_length = request, planned
        self.send, self.progress, self.canceled = send, progress, canceled
        self.device = str(devices.resolve(request.device))
        self.resize(iterations)
        if request.minutes:
            text = f"iterations {iterations}, for {request.minutes:g} minutes"
            send("log", level="info", text=text)
        for text in self.plan.notices:
            self.warn(text)

    def work(self, pace: Pace | None) -> tuple[dict[str, Model], Report, bool]:
        """Measure, train and measure again: the models by the names of their parts, the report,
        and whether that is on the supervised one, as the better one. Raises Canceled."""
        base, cohort, kind = self.plan.base, self.plan.cohort, self.plan.report
        cases = cohort.labeled if kind == "leave-one-out" else cohort.holdout
        before: list[CaseMeasures | None] = [None] * len(cases)
        if base is not None:
            before = self.measured(base, cases, 0.0, _BEFORE)
        models = self.all_trained(pace)
        after, supervised = self.judged(models, cases)
        names = [c.name for c in cases]
        classes = [c.name for c in self.plan.description.classes]
        new = classes[len(base.card.classes) :] if base is not None else []
        return models, *compare(kind, names, before, after, supervised, new)

    def all_trained(self, pace: Pace | None) -> dict[str, Model]:
        """The model of each part, the first of which may change the length of all by ``pace``."""
        told = self.plan.notices
        first = self.trained(0, pace)
        self.resize(first.card.training["iterations"])
        for text in self.plan.notices:
            if text not in told:
                self.warn(text)
        rest = {part.name: self.trained(n) for n, part in enumerate(self.parts[1:], 1)}
        return {"": first, **rest}

    def resize(self, iterations: int) -> None:
        """Have the plan and the parts of trainings of so many iterations each."""
        self.plan = lasting(self.of_any_length, iterations, self.request.minutes)
        self.parts = parts_of(self.plan, Path(self.request.output))

    def warn(self, text: str) -> None:
        self.send("log", level="warning", text=text)

    def trained(self, number: int, pace: Pace | None = None) -> Model:
        """Train one part, with less memory if there is not enough. By ``pace`` it may change its
        length. Raises Canceled."""
        request, part = self.request, self.parts[number]
        seen: dict[str, Any] = {"losses": {}, "speed": None}

        def of_length(attempt: Attempt, iterations: int) -> tuple[Profile, Description]:
            if iterations != self.plan.profile.iterations:
                self.resize(iterations)
            resized = self.parts[number]
            same = attempts_for(resized.profile, self.device)[attempts.index(attempt)]
            return same.profile, resized.description

        def work(attempt: Attempt) -> Model:
            every = evaluate_every(part.profile.iterations) if part.cohort.holdout else 0
            settings = TrainingSettings(
                request.seed,
                attempt.device,
                checkpoint_every=_CHECKPOINT_EVERY,
                evaluate_every=every,
                resident=attempt is attempts[0],
            )
            # a fallback continues from where the previous attempt stopped
            resume = request.resume or attempt is not attempts[0]
            lasts = iterations_of(part.folder) if resume and pace else None
            profile, description = of_length(attempt, lasts or part.profile.iterations)
            return train(
                part.cohort,
                part.method,
                profile,
                part.folder,
                settings,
                base=self.plan.base,
                resume=resume,
                description=description,
                on_event=lambda event: self._on_train_event(event, part, number, seen),
                should_stop=self.canceled,
                adapt=None if pace is None else adapt_of(
                    # that measures the first attempt
                    pace if attempt is attempts[0] else replace(pace, measure=None),
                    partial(of_length, attempt),
                ),
            )

        attempts = attempts_for(part.profile, self.device)
        model = run_with_fallback(attempts, work, self.warn)
        if self.canceled():
            raise Canceled
        return model

    def _on_train_event(
        self, event: dict[str, Any], part: Part, number: int, seen: dict[str, Any]
    ) -> None:
        """Forward a training event; ``seen`` keeps the last losses and the speed."""
        kind = event["event"]
        share = (_AFTER - _BEFORE) / len(self.parts)
        done = _BEFORE + share * number
        prefix = f"{part.name}: " if part.name else ""
        if kind == "preparing":
            if self.canceled():
                raise Canceled
            self.progress(done + share * event.get("done", 0.0), prefix + event["text"])
        elif kind == "notice":
            if not part.name:  # once is enough
                self.send("log", level="info", text=event["text"])
        elif kind == "labeled":
            self.send("log", level="info", text=prefix + pseudo_labels.report(event))
        elif kind == "progress":
            step, total = event["step"], event["total"]
            left = (total - step + total * (len(self.parts) - number - 1)) / event["speed"]
            text = f"{prefix}step {step} of {total}"
            self.progress(done + share * step / total, text, remaining=round(left, 1))
            seen.update(losses=event["losses"], speed=event["speed"])
            self.send("metrics", step=step, part=part.name, dice=None, classes=None, **seen)
        elif event.get("dice"):
            dice = known_mean(event["dice"])
            classes = of_classes(part.description.classes, event["classes"])
            self.send("metrics", step=event["step"], part=part.name, dice=dice, classes=classes,
                      **seen)  # fmt: skip

    def measured(
        self, model: Model, cases: Sequence[Case], start: float, end: float
    ) -> list[CaseMeasures]:
        """The measures of each case, on the CPU where a GPU has not enough memory."""
        if not cases:
            return []
        representation = self.plan.profile.representation
        classes = self.plan.description.classes
        attempts = [Attempt(self.plan.profile, self.device)]
        if self.device != "cpu":
            attempts.append(Attempt(self.plan.profile, "cpu", "the CPU"))

        def work(attempt: Attempt) -> list[CaseMeasures]:
            segmenter = Segmenter(model, attempt.device)
            rows = []
            for number, case in enumerate(cases):
                fraction = start + (end - start) * number / len(cases)
                self.progress(fraction, f"measuring {case.name}")
                rows.append(measure(segmenter, case, representation, classes, self.canceled))
            return rows

        return run_with_fallback(attempts, work, self.warn)

    def judged(
        self, models: dict[str, Model], cases: Sequence[Case]
    ) -> tuple[list[CaseMeasures], list[CaseMeasures | None]]:
        """Each case measured for the new model, and for the supervised one if there is one."""
        compared = self.plan.comparison is not None
        middle = (1.0 + _AFTER) / 2 if compared else 1.0
        spans = [("", _AFTER, middle)] + ([("supervised", middle, 1.0)] if compared else [])
        columns: list[list[Any]] = []
        for kind, start, end in spans:
            if self.plan.report != "leave-one-out":
                columns.append(self.measured(models[kind], cases, start, end))
                continue
            column = []
            for case in cases:
                name = f"{kind} without {case.name}".strip()
                column += self.measured(models[name], [case], start, end)
            columns.append(column)
        return columns[0], columns[1] if compared else [None] * len(cases)
