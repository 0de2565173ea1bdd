"""`ugmcl train`: a model from labeled and unlabeled images."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files import plain
from ..models.card import as_name, images_of_a_case
from ..training.settings import DEFAULT_METHOD
from .arguments import (
    Meaning,
    add_channels,
    add_classes,
    add_cohort,
    add_device,
    add_ignore_label,
    add_iterations,
    add_minutes,
    add_on,
    add_overrides,
    add_seed,
    cohort_of,
    computer_of,
    count,
    lists_of,
    meaning_of,
    named_classes,
    whole,
)

if TYPE_CHECKING:
    from ..data.cases import Cohort
    from ..methods.base import Method
    from ..models.card import ClassInfo
    from ..models.model import Model
    from ..remote.connection import Computer
    from ..training.planning.decisions import Plan
    from ..training.profiles import Profile
    from ..training.train import Adapt, Description

NAME = "train"
HELP = "train or fine-tune a model"
DESCRIPTION = """\
Train a model from the images of one folder and the labels of another. An image without a label of
the same name, or outside the labeled list, is unlabeled: semi-supervised methods learn from it
too. Files named CASE_0000, CASE_0001, ... as for nnU-Net, or as --channels has it, are the images
of one case. A model from scratch is trained by a plan that is made for these cases, see
`ugmcl plan`. The model is written to OUTPUT/model, with a checkpoint beside it; Ctrl-C leaves a
usable model, and --resume continues where it stopped. With --on, the training goes on there when
the connection is lost or this program is ended, other than by Ctrl-C; --resume then follows it
again, or fetches its model."""
EPILOG = """\
examples:
  ugmcl train --images images --labels labels --output runs/first --minutes 25
  ugmcl train --images images --labels labels --output runs/second --set patch=96,96,10
  ugmcl train --images images --labels labels --base la-lge-mri --iterations 300 --output runs/mine
  ugmcl train --images images --labels labels --base la-lge-mri --profile plan --output runs/new
  ugmcl train --images images --labels labels --labeled-list 16.txt --exclude-list test.txt \\
      --method ugmcl --option beta=0.5 --profile paper --device cuda --output runs/paper
  ugmcl train --images images --labels labels --channels t1,t1c,t2,flair --output runs/brats
  torchrun --nproc-per-node 2 -m ugmcl_core train --images images --labels labels \\
      --profile paper --output runs/two-gpus
  ugmcl train --images images --labels labels --output runs/first --on me@gpu-box
  ugmcl train --images images --labels labels --output runs/first --on me@gpu-box --resume"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Cases, how to train, and what the model's card needs."""
    parser.add_argument(
        "--images",
        required=True,
        metavar="DIR",
        help="folder of images, or of a data set with imagesTr",
    )
    parser.add_argument(
        "--labels",
        required=True,
        metavar="DIR",
        help="folder of label maps with the names and on the grids of their images",
    )
    add_channels(
        parser,
        "one image a case, or those that nnU-Net's names, CASE_0000, CASE_0001, ..., or the data "
        "set's description show; with --base those of the base",
    )
    add_cohort(parser)
    parser.add_argument(
        "--method", default=DEFAULT_METHOD, help="see `ugmcl methods` (default: %(default)s)"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method, see `ugmcl methods METHOD`; repeatable",
    )
    parser.add_argument(
        "--profile",
        help="plan (made for the cases), compact (two CPU cores), coarse (quick comparisons) or "
        "paper (a GPU) (default: plan; with --base compact, on the grid of the base; plan with "
        "--base takes over the weights that fit)",
    )
    add_overrides(parser)
    parser.add_argument(
        "--base", metavar="MODEL", help="start from this model, by name or folder: fine-tuning"
    )
    length = parser.add_mutually_exclusive_group()
    add_iterations(length)
    add_minutes(length)
    parser.add_argument(
        "--batch",
        type=samples,
        metavar="L+U",
        help="labeled + unlabeled samples a step, over all processes (default: the profile's)",
    )
    add_seed(parser, 2022)
    add_device(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of this training")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the training in --output; start one if there is none",
    )
    add_on(parser)
    parser.add_argument(
        "--name", default="", help="name of the new model (default: that of --output)"
    )
    add_classes(
        parser,
        "those of a dataset.json beside the images; else those in the labels by a plan, "
        "otherwise one; with --base those of the base",
    )
    add_ignore_label(parser)
    parser.add_argument(
        "--modality",
        default="",
        help="kind of image, such as CT or LGE-MRI, for the plan and the model's card",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")


def samples(text: str) -> tuple[int, int]:
    """Labeled and unlabeled samples, as in ``2+2``."""
    labeled, plus, unlabeled = text.partition("+")
    if not plus:
        raise argparse.ArgumentTypeError(f"{text!r} is not LABELED+UNLABELED, such as 2+2")
    return count(labeled), whole(unlabeled)


def run(arguments: argparse.Namespace) -> int:
    """Train and print where the model is; of several processes only the first prints."""
    if (computer := computer_of(arguments)) is not None:
        return _run_there(computer, arguments)
    if os.environ.get("RANK", "0") == "0":
        return _run(arguments)
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from ..models.model import resolve
    from ..remote.trainings import refuse_elsewhere
    from .progress import Progress

    refuse_elsewhere(Path(arguments.output), arguments.resume)
    lists = lists_of(arguments)
    base = resolve(arguments.base) if arguments.base else None

    from ..training.profiles import laterality_notice  # torch: after what can fail without it
    from ..training.train import TrainingSettings, train

    _check(arguments)
    began = time.monotonic()
    asked = _asked(arguments, lists, base)
    iterations, adapt = _length(arguments, asked, began)
    profile, description = asked.lasting(iterations)
    cohort, method, classes = asked.cohort, asked.method, asked.classes
    last: dict[str, Any] = {}
    with Progress("train") as progress:
        used = len(cohort.unlabeled) if method.uses_unlabeled else 0
        several = f" of {images_of_a_case(cohort.channels)}" if cohort.channels[1:] else ""
        progress.write(
            f"{method.name}, {len(cohort.labeled)} labeled and {used} unlabeled cases{several}"
        )
        for line in asked.lines(profile):
            progress.write(line)
        if text := laterality_notice(profile, classes, len(classes) if base else 0):
            progress.write(text)

        def on_event(event: dict[str, Any]) -> None:
            last.update(event)
            progress.show(event)

        try:
            model = train(
                cohort,
                method,
                profile,
                Path(arguments.output),
                TrainingSettings(seed=arguments.seed, device=arguments.device),
                description=description,
                base=base,
                resume=arguments.resume,
                on_event=on_event,
                adapt=adapt,
            )
        except KeyboardInterrupt:
            progress.stopped(arguments.output)
            raise
    _report(arguments, model, last.get("dice"))
    return 0


@dataclass(frozen=True)
class _Asked:
    """The training that the arguments ask for, of any length. A ``plan`` has been applied to both
    ``profile`` and ``cohort``; without one, ``left_out`` are the unlabeled cases of another kind,
    which the cohort no longer has. ``why``: the reason for a length other than the profile's."""

    name: str
    cohort: Cohort
    method: Method
    profile: Profile
    classes: tuple[ClassInfo, ...]
    modality: str
    base: Model | None
    plan: Plan | None
    left_out: Sequence[tuple[str, str]]
    why: str

    def lasting(self, iterations: int) -> tuple[Profile, Description]:
        """The profile and the description of so long a training."""
        from ..training import profiles
        from ..training.train import describe

        profile = profiles.with_iterations(self.profile, iterations)
        plan, made = self._plan(profile), describe(self.base, self.name, profile)
        return profile, replace(
            made,
            classes=self.classes,
            modality=self.modality or (plan.modality if plan else made.modality),
            provenance={} if plan is None else {"plan": plan.record()},
        )

    def lines(self, profile: Profile) -> list[str]:
        """What was decided for a training by ``profile``, which may differ in its length."""
        from ..training.planning.decisions import left_out_lines

        plan = self._plan(profile)
        return left_out_lines(self.left_out) if plan is None else plan.lines

    def _plan(self, profile: Profile) -> Plan | None:
        plan = self.plan
        return plan.lasting(profile, self.why) if plan is not None and self.why else plan


def _asked(
    arguments: argparse.Namespace, lists: Sequence[list[str] | None], base: Model | None
) -> _Asked:
    """What they ask for; ``lists`` are those of `lists_of`. Raises InputError."""
    from ..models.network import check_model
    from ..nn import devices
    from ..training import profiles
    from ..training.planning.plan import PLAN, of_other_kinds, plan_cohort
    from .progress import Progress

    method = profiles.method_named(arguments.method, arguments.option)
    name = arguments.profile or ("compact" if base else PLAN)
    profile = None if name == PLAN else profiles.profile_named(name)
    meaning = meaning_of(arguments, fine_tuned=base is not None)
    cohort = cohort_of(arguments, NAME, lists, base)
    modality = meaning.modality_of(cohort)
    device = devices.resolve(arguments.device)
    if base is not None:
        profiles.check_channels(base, cohort.channels)
        check_model(base)
    plan, left_out = None, ()
    with Progress("train") as progress:
        if profile is None:
            plan = plan_cohort(
                cohort if method.uses_unlabeled else replace(cohort, unlabeled=()),
                meaning.classes or (base.card.classes if base is not None else ()),
                device,
                arguments.overrides,
                meaning.ignored,
                progress,
                meaning.values,
                modality,
                base.card if base else None,
            )
            cohort = plan.used(cohort)
        elif method.uses_unlabeled:
            left_out = of_other_kinds(cohort, arguments.overrides, progress)
            cohort = cohort.without(dict(left_out))
    profile, classes = _profile(arguments, base, plan, profile, meaning)
    why = "given" if arguments.iterations else ""
    if arguments.minutes:
        why = f"as many as {arguments.minutes:g} minutes allow here"
    name = _name(arguments)
    return _Asked(name, cohort, method, profile, classes, modality, base, plan, left_out, why)


def _profile(
    arguments: argparse.Namespace,
    base: Model | None,
    plan: Plan | None,
    profile: Profile | None,
    meaning: Meaning,
) -> tuple[Profile, tuple[ClassInfo, ...]]:
    """Those of the ``plan``, otherwise the ``profile`` for the base or the classes; with the
    arguments applied. Raises InputError."""
    from ..training import profiles

    if plan is not None:
        profile, classes = plan.profile, plan.classes
    elif base is not None:
        profile = profiles.fine_tuning(base, profile, profile.iterations)
        classes = base.card.classes
    else:
        classes, values = meaning.classes or named_classes("structure"), meaning.values
        profile = profiles.with_classes(profile, len(classes) + 1)
        if values != tuple(range(1, len(values) + 1)):
            representation = replace(profile.representation, values=values)
            profile = replace(profile, representation=representation)
    if arguments.batch is not None:
        labeled, unlabeled = arguments.batch
        batch = replace(profile.batch, labeled=labeled, unlabeled=unlabeled)
        profile = replace(profile, batch=batch)
    if (ignored := meaning.ignored) is not None:
        if ignored in (profile.representation.values or range(1, profile.network.classes)):
            raise InputError(f"--ignore-label {ignored} is the label of a class; choose another")
        representation = replace(profile.representation, ignore=ignored)
        profile = replace(profile, representation=representation)
    if plan is None:  # a plan looks at the structures, not only at their names
        profile = profiles.keeping_laterality(profile, classes)
    return profile, classes


def _length(
    arguments: argparse.Namespace, asked: _Asked, began: float
) -> tuple[int, Adapt | None]:
    """The iterations, and how a training that is to last some minutes from ``began`` on changes
    them; None if it is resumed, since it keeps its length."""
    from ..nn import devices
    from ..training.planning import pace
    from .progress import print_line

    if not arguments.minutes:
        return arguments.iterations or asked.profile.iterations, None
    adapt = None
    iterations = pace.iterations_of(Path(arguments.output)) if arguments.resume else None
    if iterations is None:
        course = pace.Course(asked.cohort, asked.method, asked.base)
        timed = pace.pace_of(
            asked.profile,
            arguments.minutes,
            [course],
            str(devices.resolve(arguments.device)),
            arguments.seed,
            spent=time.monotonic() - began,
        )
        iterations, adapt = timed.iterations, pace.adapt_of(timed, asked.lasting)
    if asked.plan is None:
        print_line(f"train: iterations {iterations}: {asked.why}", sys.stderr)
    return iterations, adapt


def _report(
    arguments: argparse.Namespace, model: Model, dice: Sequence[float] | None
) -> None:
    """Print where the model is, and its Dice on the hold-out cases if there are any."""
    from .progress import percent

    if arguments.json:
        made = {"model": str(model.folder), "iterations": model.card.training["iterations"]}
        print(json.dumps(plain({**made, "holdout_dice": dice})))
        return
    print(f"model written to {model.folder}")
    if dice:
        print(f"hold-out Dice {percent(dice)} over {len(dice)} cases")


def _name(arguments: argparse.Namespace) -> str:
    return as_name(arguments.name or Path(arguments.output).resolve().name)


_LISTS = ("labeled_list", "exclude_list", "holdout_list")


def _run_there(computer: Computer, arguments: argparse.Namespace) -> int:
    """Train on another computer with the same arguments."""
    from ..remote import cases, runs, trainings
    from ..remote.handler import RemoteHandler
    from ..remote.session import GOING
    from .progress import Progress, print_line, sending

    _check(arguments)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("--on is for a single process: start torchrun on that computer")
    lists = {n: Path(p) for n in _LISTS if (p := getattr(arguments, n))}
    for path in lists.values():
        if not path.is_file():
            raise InputError(f"{path}: no such file; check its name")
    files = {}
    output = Path(arguments.output).expanduser()
    if not arguments.resume or trainings.Record.read(output) is None:
        files = {
            name: cases.images_of(getattr(arguments, name), kind)
            for kind, name in enumerate(("images", "labels"))
        }
        files["lists"] = {f"{n}.txt": p for n, p in lists.items()}

    def say(log: str, text: str) -> None:
        print_line(text, sys.stderr if log == runs.ERRORS else sys.stdout)

    handler = RemoteHandler(computer)
    try:
        with Progress("train") as progress:
            try:
                return trainings.train(
                    handler,
                    _words(arguments, lists),
                    {name: several for name, several in files.items() if several},
                    arguments.base or "",
                    output,
                    arguments.resume,
                    sending(progress),
                    say,
                    GOING,
                )
            except KeyboardInterrupt:
                progress.stopped(arguments.output)
                raise
    finally:
        handler.close()


def _words(arguments: argparse.Namespace, lists: Iterable[str]) -> list[str]:
    """The arguments as words, with the paths of the other computer (`trainings.train`)."""
    given: dict[str, Any] = {
        "images": "{cases}/images",
        "labels": "{cases}/labels",
        "output": "{output}",
        "name": _name(arguments),
        "base": "{base}" if arguments.base else None,
        "channels": None if arguments.channels is None else str(arguments.channels),
        "minutes": arguments.minutes or None,
        "batch": "+".join(map(str, arguments.batch)) if arguments.batch else None,
        **{name: f"{{cases}}/lists/{name}.txt" for name in lists},
    }
    for name in ("label_geometry", "method", "profile", "iterations", "seed", "device", "classes",
                 "ignore_label", "modality"):  # fmt: skip
        given[name] = getattr(arguments, name)
    words = [f"--{k.replace('_', '-')}={v}" for k, v in given.items() if v not in (None, "")]
    words += [f"--option={text}" for text in arguments.option]
    words += [f"--set={text}" for text in arguments.overrides]
    flags = ("empty_labels", "json", "debug")
    return words + [f"--{f.replace('_', '-')}" for f in flags if getattr(arguments, f)]


def _check(arguments: argparse.Namespace) -> None:
    """Raise InputError for arguments that exclude each other."""
    name = arguments.profile or ("compact" if arguments.base else "plan")
    if arguments.base and arguments.classes and name != "plan":
        raise InputError(
            "--classes is for a training by a plan: give it without --base, or with --profile plan"
        )
    names = {text.partition("=")[0].strip() for text in arguments.overrides}
    if names - {"unlabeled"} and name != "plan":
        raise InputError(
            "--set overrides a plan: give it without --base and --profile, or with --profile "
            "plan; only --set unlabeled=all is for all"
        )
    known = len(named_classes(arguments.classes)) if arguments.classes else 0
    if arguments.ignore_label is not None and arguments.ignore_label <= known:
        raise InputError(
            f"--ignore-label {arguments.ignore_label} is the label of a class; choose another"
        )
    if arguments.minutes and os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("--minutes is for a single process; with several, give --iterations")
