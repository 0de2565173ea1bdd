"""Fine-tuning as the panel offers it: a case list, a base model, and a report on unseen cases."""

from __future__ import annotations

import bisect
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..data.cases import Case, Cohort, read_pair
from ..data.preprocessing import canonical_axes, to_canonical
from ..errors import Canceled, InputError
from ..evaluation.metrics import known_mean
from ..files import plain, write_json
from ..inference.segmenter import Segmenter
from ..methods import DualTask, Method, Supervised
from ..models import manifest
from ..models.card import as_name
from ..models.model import Model, record, resolve, save_model, update_card
from ..models.network import check_model
from ..nn import devices
from . import profiles, pseudo_labels
from .case_list import CaseList, join_classes, read_case_list
from .memory import Attempt, attempts_for, run_with_fallback
from .planning.fingerprint import Fingerprint, look
from .planning.pace import Course, Pace, adapt_of, iterations_of, pace_of
from .planning.plan import (
    Plan,
    contradiction,
    left_out_lines,
    of_other_kinds,
    plan_cohort,
    sided,
    unmirrored,
)
from .profiles import COMPACT, Profile, keeping_laterality, laterality_notice, with_classes
from .settings import REPORT, FinetuneSettings, finished
from .train import Description, TrainingSettings, describe, train
from .trainer import TrainingTask, of_classes
from .verdict import CHOSEN, CaseMeasures, conclude, is_ahead, is_choice, kept_text, measure

Send = Callable[..., None]
_BEFORE, _AFTER = 0.03, 0.95  # parts of the progress bar that the first and last measures take
_LOOKED_AT = 3  # labeled cases, to see whether they fit a base
_LONGEST = 1 << 30  # iterations, far more than any training has
_CHECKPOINT_EVERY = 25  # iterations, up to a minute's work on two cores


@dataclass(frozen=True)
class FinetunePlan:
    """A fine-tuning, checked: what is trained on what, and the cases that judge it.

    ``report`` is `holdout`, `leave-one-out` or `none`; ``comparison`` is the supervised method to
    compare with, or None; ``own`` is the plan of a training from scratch or planned anew;
    ``left_out`` are unlabeled cases unlike the labeled ones, and why; ``folds`` are the plans of
    the trainings without one labeled case, each made without looking at it.
    """

    cohort: Cohort
    base: Model | None
    method: Method
    comparison: Method | None
    profile: Profile
    description: Description
    report: str
    notices: tuple[str, ...]
    own: Plan | None = None
    left_out: tuple[tuple[str, str], ...] = ()
    folds: tuple[Plan, ...] = ()

    @property
    def lines(self) -> list[str]:
        """One for each decision of a plan, and one for each case that is left out."""
        return self.own.lines if self.own else left_out_lines(self.left_out)


@dataclass(frozen=True)
class Part:
    """One training of a fine-tuning; the model itself has no ``name``."""

    name: str
    folder: Path
    cohort: Cohort
    method: Method
    profile: Profile
    description: Description


def plan(
    request: FinetuneSettings, progress: Callable[[float, str], None] | None = None
) -> FinetunePlan:
    """Check a request before anything is trained; raises InputError. The cases of a training from
    scratch are looked at for its plan, with ``progress``."""
    listed = read_case_list(request.case_list)
    method = profiles.method_named(request.method)
    base = resolve(request.base) if request.base else None
    try:
        if base is None and listed.classes is None:
            raise InputError("without a base model, the list needs classes")
        classes, values = join_classes(base.card.classes if base else (), listed.classes)
        if listed.ignore in values:
            raise InputError(f"ignore {listed.ignore} is the label of a class; choose another")
    except InputError as error:
        raise InputError(f"{request.case_list}: {error}") from None
    iterations, own = COMPACT.iterations if request.minutes else request.iterations, None
    misfit, left_out = "", ()
    if base is not None:
        listed = of_base(listed, base)
        check_model(base)
    if base is None or request.replan:
        def planned_by(found: Fingerprint | None = None) -> Plan:
            return plan_cohort(
                listed.cohort if method.uses_unlabeled else replace(listed.cohort, unlabeled=()),
                classes,
                devices.resolve(request.device),
                request.overrides,
                listed.ignore,
                progress,
                values,
                base=base.card if base else None,
                found=found,
            )

        own = planned_by()
        own = own.lasting(profiles.with_iterations(own.profile, iterations), "given")
        profile = own.profile
    else:
        # new classes start untrained, so they need the full learning rate
        gentleness = 1.0 if len(classes) > len(base.card.classes) else profiles.GENTLE
        profile = profiles.fine_tuning(base, COMPACT, iterations, gentleness)
        seen = [look(c, values, listed.ignore)[0] for c in listed.cohort.labeled[:_LOOKED_AT]]
        misfit = contradiction(base.card, seen)
        if method.uses_unlabeled:
            left_out = of_other_kinds(listed.cohort, request.overrides, progress)
    if own is None:  # which looked at the structures, not only at their names
        profile = keeping_laterality(with_classes(profile, len(classes) + 1), classes)
        profile = unmirrored(profile, sided(seen, classes, values))
    known = replace(profile.representation, values=values, ignore=listed.ignore)
    profile = replace(profile, representation=known)
    name = as_name(request.name or Path(request.output).resolve().name)
    description = replace(
        describe(base, name, profile),
        classes=classes,
        **({} if own is None else {"modality": own.modality}),
        provenance=_provenance(request, listed, base),
    )
    left_out = own.left_out if own else left_out
    cohort = listed.cohort.without(dict(left_out))
    notices = [misfit] if misfit else []
    if text := laterality_notice(profile, classes, len(base.card.classes) if base else 0):
        notices.append(text)
    if method.uses_unlabeled and not cohort.unlabeled:
        notices.append("There are no unlabeled volumes: the model learns from labeled ones alone.")
    report, folds = "holdout" if cohort.holdout else "none", ()
    if not cohort.holdout and request.leave_one_out:
        if len(cohort.labeled) > 1:
            report = "leave-one-out"
            _refuse_same(cohort if method.uses_unlabeled else replace(cohort, unlabeled=()))
            if own is not None:
                folds = tuple(planned_by(own.found.without(c.name)) for c in cohort.labeled)
        else:
            notices.append("Leaving one out needs two labeled cases: there will be no report.")
    if report != "none" and base is not None and base.card.training.get("parents"):
        notices.append(
            f"{base.name} was fine-tuned itself: if it learned from the hold-out cases, the "
            "scores before and after are too high."
        )
    comparison = None
    if request.compare and report == "none":
        notices.append("There is no hold-out case to compare with supervised fine-tuning on.")
    elif request.compare and (comparison := _comparison(method)) is None:
        notices.append(f"{method.name} is supervised already, so there is nothing to compare.")
    planned = FinetunePlan(
        cohort, base, method, comparison, profile, description, report, tuple(notices), own,
        left_out, folds,
    )  # fmt: skip
    return planned if request.minutes else _worth_comparing(planned)


def _refuse_same(cohort: Cohort) -> None:
    """Raise InputError if a labeled image is also that of another case, in whatever file: what
    was learned without the one would know the other."""
    names: dict[bytes, str] = {}
    for case in (*cohort.labeled, *cohort.unlabeled):
        digest = hashlib.sha256()
        for image in read_pair(replace(case, label=None))[0]:
            array = to_canonical(image.array, *canonical_axes(image.grid))
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, np.float32).tobytes())
        other = names.setdefault(digest.digest(), case.name)
        if other != case.name and other in {c.name for c in cohort.labeled}:
            raise InputError(
                f"{other} and {case.name} have the same image, so leaving one out would judge a "
                "model by what it has learned: leave one of them out of the list"
            )


def of_base(listed: CaseList, base: Model) -> CaseList:
    """``listed`` with the names of the base's channels, if it has none of its own; InputError
    for cases with others."""
    cohort, known = listed.cohort, base.card.channels
    if not listed.named and len(known) > 1:
        if len(cohort.channels) == 1:  # one file may hold all of them
            cohort = replace(cohort.with_changes(stacked=len(known)), channels=known)
        elif len(cohort.channels) == len(known):
            cohort = replace(cohort, channels=known)
    profiles.check_channels(base, cohort.channels)
    return replace(listed, cohort=cohort)


def _worth_comparing(planned: FinetunePlan) -> FinetunePlan:
    """``planned`` without its comparison where that would be the same training once more: one
    whose unlabeled cases would be labeled, but are none, or join after its end."""
    course = TrainingTask(
        planned.cohort, planned.method, planned.profile, Path(), base=planned.base
    )
    if planned.comparison is None or not planned.method.renewals or course.uses_unlabeled:
        return planned
    text = "The training is too short for unlabeled cases, so there is nothing to compare."
    if not planned.cohort.unlabeled:
        text = "Without unlabeled volumes there is nothing to compare."
    return replace(planned, comparison=None, notices=(*planned.notices, text))


def _comparison(method: Method) -> Method | None:
    """The supervised part of a method, to compare with; None if that is all of it."""
    if not method.uses_unlabeled:
        return None
    return DualTask() if method.uses_distance else Supervised()


def _provenance(request: FinetuneSettings, listed: Any, base: Model | None) -> dict[str, Any]:
    """The part of the new model's card on its origin, in addition to what every card has."""
    parents = []
    if base is not None:
        parents = [{"name": base.name, "sha256": base.card.sha256}]
        former = base.card.training.get("parents", [])
        parents += former if isinstance(former, list) else []
    content: dict[str, Any] = {"parents": parents, "holdout": len(listed.cohort.holdout)}
    if request.keep_names:
        groups = ("labeled", "unlabeled", "holdout")
        content["cases"] = {g: [c.name for c in getattr(listed.cohort, g)] for g in groups}
    return content


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
        return _worth_comparing(replace(planned, profile=profile)).comparison is not None

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
    return _worth_comparing(planned) if minutes else planned


def evaluate_every(iterations: int) -> int:
    """Iterations between two measurements of the hold-out cases."""
    return max(25, iterations // 8)


def parts_of(plan: FinetunePlan, output: Path) -> list[Part]:
    """The trainings of a plan, the model itself first."""
    made = (plan.profile, plan.description)
    parts = [Part("", output, plan.cohort, plan.method, *made)]
    methods = [plan.method] + ([plan.comparison] if plan.comparison else [])
    if plan.report == "holdout":
        folder = output / "supervised"
        parts += [Part("supervised", folder, plan.cohort, m, *made) for m in methods[1:]]
    elif plan.report == "leave-one-out":
        for number, left in enumerate(plan.cohort.labeled):
            rest = tuple(c for c in plan.cohort.labeled if c is not left)
            fold = replace(plan.cohort, labeled=rest)
            made = _made_for(plan, number)
            for method in methods:
                kind = "" if method is plan.method else "supervised "
                folder = f"{kind.strip() or 'fold'}-{number + 1}"
                name = f"{kind}without {left.name}"
                parts.append(Part(name, output / folder, fold, method, *made))
    return parts


def _made_for(plan: FinetunePlan, number: int) -> tuple[Profile, Description]:
    """The profile and the description of the training without the labeled case ``number``."""
    if not plan.folds:
        return plan.profile, plan.description
    last = next(d for d in plan.own.decisions if d.what == "iterations")
    profile = profiles.with_iterations(plan.folds[number].profile, plan.profile.iterations)
    own = plan.folds[number].lasting(profile, last.why)
    known = replace(profile.representation, ignore=plan.profile.representation.ignore)
    provenance = {**plan.description.provenance, "plan": own.record()}
    return (
        replace(profile, representation=known),
        replace(plan.description, provenance=provenance, modality=own.modality),
    )


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
    if pace is not None:
        iterations = pace.iterations
    else:
        former = iterations_of(output) if request.minutes else None
        iterations = former or planned.profile.iterations
    run = _FinetuneRun(request, planned, iterations, send, progress, canceled)
    planned = run.plan
    if request.minutes:
        text = f"iterations {iterations}, for {request.minutes:g} minutes"
        send("log", level="info", text=text)
    for text in planned.notices:
        send("log", level="warning", text=text)
    judged = planned.cohort.holdout
    if planned.report == "leave-one-out":
        judged = planned.cohort.labeled
    before: list[CaseMeasures | None] = [None] * len(judged)
    if planned.base is not None:
        before = run.measured(planned.base, judged, 0.0, _BEFORE)
    models: dict[str, Model] = {}
    models[""] = run.trained(0, pace)
    run.resize(models[""].card.training["iterations"])
    for text in run.plan.notices:
        if text not in planned.notices:
            send("log", level="warning", text=text)
    for number, part in enumerate(run.parts[1:], 1):
        models[part.name] = run.trained(number)
    after, supervised = run.judged(models, judged)
    keeps_supervised = planned.report == "holdout" and is_ahead(supervised, after)
    cases = [
        {"name": c.name, "before": b, "after": s if keeps_supervised else a, "supervised": s}
        for c, b, a, s in zip(judged, before, after, supervised, strict=True)
    ]
    names = [c.name for c in planned.description.classes]
    old = len(planned.base.card.classes) if planned.base else len(names)
    verdict, text = conclude(cases, planned.report, names[old:])
    if keeps_supervised:
        text += " " + kept_text(after, supervised)
    if planned.report == "holdout" and is_choice(supervised):
        text += " " + CHOSEN
    scores = {"report": planned.report, "verdict": verdict, "text": text,
              "cases": cases if request.keep_names else [nameless(c) for c in cases]}  # fmt: skip
    model = models[""]
    if keeps_supervised:
        better = models["supervised"]
        model = save_model(model.folder, better.card, better.load_weights())
    model = update_card(model, scores=plain(scores) if cases else {})
    result = {"model": str(model.folder), "report": planned.report, "cases": cases,
              "verdict": verdict, "text": text}  # fmt: skip
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


def nameless(case: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in case.items() if k != "name"}


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
