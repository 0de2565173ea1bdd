"""`ugmcl finetune`: train from a case list, mostly from a base model, and report on unseen
cases."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import plain
from ..training.settings import FinetuneSettings
from .arguments import (
    add_device,
    add_iterations,
    add_minutes,
    add_on,
    add_overrides,
    add_seed,
    computer_of,
)

if TYPE_CHECKING:
    from .progress import Progress

NAME = "finetune"
HELP = "fine-tune a model on the cases of a list"
DESCRIPTION = """\
Fine-tune a model on labeled and unlabeled volumes and report whether it helped: Dice and
distances of each hold-out case before and after, and a verdict. The Slicer panel writes the same
CASES.json:

  {"cases": [{"name": "a", "role": "labeled", "image": "a.nrrd", "label": "a-label.nrrd"},
             {"name": "b", "role": "unlabeled", "image": "b.nrrd"},
             {"name": "c", "role": "holdout", "image": "c.nrrd", "label": "c-label.nrrd"}],
   "classes": [{"value": 1, "name": "left atrium"}], "ignore": 255}

Paths are absolute or relative to the file. "classes" are those of the labels (default: the
base's); new ones get a head of their own. A case of several images has the list of their files
as "image", and "channels": ["t1", "flair"] names them. "ignore" is the label of voxels that nobody
annotated. The model is written to OUTPUT/model, the report to OUTPUT/report.json; Ctrl-C leaves a
usable model, and --resume continues. With --on, the run goes on there when the connection is lost
or this program is ended, other than by Ctrl-C; --resume then follows it again."""
EPILOG = """\
examples:
  ugmcl finetune cases.json --base la-lge-mri --output runs/mine
  ugmcl finetune cases.json --base la-lge-mri --output runs/mine --iterations 600 --compare
  ugmcl finetune cases.json --base runs/mine/model --output runs/next --leave-one-out
  ugmcl finetune cases.json --base la-lge-mri --output runs/mine --estimate
  ugmcl finetune cases.json --from-scratch --output runs/new --minutes 25
  ugmcl finetune cases.json --base la-lge-mri --replan --output runs/new --minutes 25
  ugmcl finetune cases.json --base la-lge-mri --output runs/mine --on me@gpu-box"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The fields of `FinetuneSettings`."""
    parser.add_argument("case_list", metavar="CASES.json", help="the case list, see above")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument(
        "--base", default="", metavar="MODEL", help="start from this model, by name or folder"
    )
    start.add_argument(
        "--from-scratch",
        action="store_true",
        help="start from nothing, by a plan made for the cases (see `ugmcl plan`)",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of this run")
    parser.add_argument(
        "--method",
        default=FinetuneSettings.method,
        help="see `ugmcl methods` (default: %(default)s)",
    )
    length = parser.add_mutually_exclusive_group()
    add_iterations(length, default=FinetuneSettings.iterations)
    add_minutes(length)
    add_overrides(parser)
    parser.add_argument(
        "--replan",
        action="store_true",
        help="with --base: make a plan for the cases, as from scratch, instead of staying on the "
        "grid of the base; its weights are kept where they fit",
    )
    add_seed(parser, FinetuneSettings.seed)
    add_device(parser)
    parser.add_argument("--resume", action="store_true", help="continue the run in --output")
    parser.add_argument(
        "--name", default="", help="name of the new model (default: that of --output)"
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="also train supervised on the same labels, and report both",
    )
    parser.add_argument(
        "--leave-one-out",
        action="store_true",
        help="without hold-out cases, judge by a training without each labeled case in turn",
    )
    parser.add_argument(
        "--keep-names", action="store_true", help="write the cases' names into the model's card"
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="only measure the time and memory that it would take here; writes nothing",
    )
    add_on(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")


def run(arguments: argparse.Namespace) -> int:
    """Fine-tune, or estimate, and print the result."""
    from .progress import Progress

    kind = "estimate" if arguments.estimate else "finetune"
    given = {f.name: getattr(arguments, f.name) for f in fields(FinetuneSettings)}
    given["overrides"] = tuple(arguments.overrides)
    settings = FinetuneSettings(**given)
    with Progress(kind) as progress:
        try:
            result = _done(arguments, settings, progress)
        except KeyboardInterrupt:
            progress.stopped(arguments.output)
            raise
    if arguments.json:
        print(json.dumps(plain(result)))
    else:
        print(_estimated(result) if arguments.estimate else _text(result))
    return 0


def _done(
    arguments: argparse.Namespace, settings: FinetuneSettings, progress: Progress
) -> dict[str, Any]:
    """The result of the training, which runs here or on another computer."""
    from ..remote.trainings import refuse_elsewhere
    from .progress import sending

    send = sending(progress)
    computer = computer_of(arguments)
    if computer is None:
        refuse_elsewhere(Path(arguments.output), arguments.resume)
        if arguments.estimate:
            from ..training.finetuning.estimate import estimate as work
        else:
            from ..training.finetuning.finetune import finetune as work

        def advance(fraction: float, text: str, remaining: float | None = None) -> None:
            send("progress", fraction=fraction, text=text, remaining=remaining)

        return work(settings, send, advance, lambda: False)

    from ..remote.handler import RemoteHandler
    from ..remote.session import GOING
    from ..worker.protocol import EstimateRequest

    kind = EstimateRequest if arguments.estimate else FinetuneSettings
    handler = RemoteHandler(computer)
    try:
        return handler.do(kind(**vars(settings)), send, GOING)
    finally:
        handler.close()


def _estimated(result: dict[str, Any]) -> str:
    lines = [f"{d['what']} {d['value']} ({d['means']}): {d['why']}" for d in result["plan"]]
    lines.append(
        f"about {result['seconds'] / 60:.0f} min ({result['seconds_per_iteration']:.2f} s an "
        f"iteration), {result['memory_bytes'] / 2**30:.1f} GiB of memory"
    )
    return "\n".join(lines)


def _text(result: dict[str, Any]) -> str:
    """A line for each case, the verdict, and where the model is."""
    lines = []
    for case in result["cases"]:
        parts = [
            f"{what} {_measures(case[what])}"
            for what in ("before", "after", "supervised")
            if case[what] is not None
        ]
        lines.append(f"{case['name']}: {'; '.join(parts)}")
    lines += [f"{result['verdict']}: {result['text']}", f"model written to {result['model']}"]
    return "\n".join(lines)


def _measures(row: dict[str, Any]) -> str:
    """Of the case, and with several structures the Dice of each."""

    def number(value: float | None, places: int) -> str:
        return "-" if value is None or value != value else f"{value:.{places}f}"

    classes = row.get("classes") or {}
    each = ", ".join(f"{name} {number(dice, 3)}" for name, dice in classes.items())
    each = f" ({each})" if len(classes) > 1 else ""
    return f"Dice {number(row['dice'], 3)}{each}, 95HD {number(row['hd95_mm'], 1)} mm"
