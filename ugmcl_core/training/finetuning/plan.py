"""What a fine-tuning does, checked before anything is trained: case list, base, method and profile
to the trainings of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...data.cases import Cohort, read_pair
from ...data.preprocessing import canonical_axes, to_canonical
from ...errors import InputError
from ...methods import DualTask, Method, Supervised
from ...models.card import ClassInfo, as_name
from ...models.model import Model, resolve
from ...models.network import check_model
from ...nn import devices
from .. import profiles
from ..planning.base_model import contradiction
from ..planning.decisions import Plan, left_out_lines
from ..planning.fingerprint import Fingerprint, look
from ..planning.laterality import sided, unmirrored
from ..planning.plan import of_other_kinds, plan_cohort
from ..profiles import COMPACT, Profile, keeping_laterality, laterality_notice, with_classes
from ..settings import FinetuneSettings
from ..task import TrainingTask
from ..train import Description, describe
from .case_list import CaseList, join_classes, read_case_list

_LOOKED_AT = 3  # labeled cases, to see whether they fit a base


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
    classes, values = _classes(request, listed, base)
    if base is not None:
        listed = of_base(listed, base)
        check_model(base)

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

    iterations = COMPACT.iterations if request.minutes else request.iterations
    own, misfit, left_out = None, "", ()
    if base is None or request.replan:
        own = planned_by()
        own = own.lasting(profiles.with_iterations(own.profile, iterations), "given")
        profile, left_out = own.profile, own.left_out
    else:
        profile, misfit = _like_base(base, listed, classes, values, iterations)
        if method.uses_unlabeled:
            left_out = of_other_kinds(listed.cohort, request.overrides, progress)
    known = replace(profile.representation, values=values, ignore=listed.ignore)
    profile = replace(profile, representation=known)
    name = as_name(request.name or Path(request.output).resolve().name)
    description = replace(
        describe(base, name, profile),
        classes=classes,
        **({} if own is None else {"modality": own.modality}),
        provenance=_provenance(request, listed, base),
    )
    cohort = listed.cohort.without(dict(left_out))
    report, unjudged = _report(request, cohort)
    comparison, uncompared = _comparison(request, method, report)
    folds: tuple[Plan, ...] = ()
    if report == "leave-one-out":
        _refuse_same(cohort if method.uses_unlabeled else replace(cohort, unlabeled=()))
        if own is not None:
            folds = tuple(planned_by(own.found.without(c.name)) for c in cohort.labeled)
    notices = (
        misfit,
        laterality_notice(profile, classes, len(base.card.classes) if base else 0),
        _without_unlabeled(method, cohort),
        unjudged,
        _too_high(base, report),
        uncompared,
    )
    planned = FinetunePlan(
        cohort, base, method, comparison, profile, description, report,
        tuple(text for text in notices if text), own, left_out, folds,
    )  # fmt: skip
    return planned if request.minutes else worth_comparing(planned)


def _classes(
    request: FinetuneSettings, listed: CaseList, base: Model | None
) -> tuple[tuple[ClassInfo, ...], tuple[int, ...]]:
    """The classes to learn, those of the base first, and their label values in the list's cases.
    Raises InputError."""
    try:
        if base is None and listed.classes is None:
            raise InputError("without a base model, the list needs classes")
        classes, values = join_classes(base.card.classes if base else (), listed.classes)
        if listed.ignore in values:
            raise InputError(f"ignore {listed.ignore} is the label of a class; choose another")
    except InputError as error:
        raise InputError(f"{request.case_list}: {error}") from None
    return classes, values


def _like_base(
    base: Model,
    listed: CaseList,
    classes: tuple[ClassInfo, ...],
    values: tuple[int, ...],
    iterations: int,
) -> tuple[Profile, str]:
    """The profile to fine-tune ``base`` with, and in what the first labeled cases contradict it
    ("" for nothing)."""
    # new classes start untrained, so they need the full learning rate
    gentleness = 1.0 if len(classes) > len(base.card.classes) else profiles.GENTLE
    profile = profiles.fine_tuning(base, COMPACT, iterations, gentleness)
    seen = [look(c, values, listed.ignore)[0] for c in listed.cohort.labeled[:_LOOKED_AT]]
    # by the names of the structures, then by what they look like
    profile = keeping_laterality(with_classes(profile, len(classes) + 1), classes)
    profile = unmirrored(profile, sided(seen, classes, values))
    return profile, contradiction(base.card, seen)


def _report(request: FinetuneSettings, cohort: Cohort) -> tuple[str, str]:
    """How the model is judged, and a notice if that is not as it was asked for."""
    if cohort.holdout:
        return "holdout", ""
    if not request.leave_one_out:
        return "none", ""
    if len(cohort.labeled) > 1:
        return "leave-one-out", ""
    return "none", "Leaving one out needs two labeled cases: there will be no report."


def _comparison(
    request: FinetuneSettings, method: Method, report: str
) -> tuple[Method | None, str]:
    """The supervised part of ``method``, to compare with; otherwise None, with a notice if that
    was asked for."""
    if not request.compare:
        return None, ""
    if report == "none":
        return None, "There is no hold-out case to compare with supervised fine-tuning on."
    if not method.uses_unlabeled:
        return None, f"{method.name} is supervised already, so there is nothing to compare."
    return (DualTask() if method.uses_distance else Supervised()), ""


def _without_unlabeled(method: Method, cohort: Cohort) -> str:
    if not method.uses_unlabeled or cohort.unlabeled:
        return ""
    return "There are no unlabeled volumes: the model learns from labeled ones alone."


def _too_high(base: Model | None, report: str) -> str:
    if report == "none" or base is None or not base.card.training.get("parents"):
        return ""
    return (
        f"{base.name} was fine-tuned itself: if it learned from the hold-out cases, the "
        "scores before and after are too high."
    )


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


def worth_comparing(planned: FinetunePlan) -> FinetunePlan:
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
