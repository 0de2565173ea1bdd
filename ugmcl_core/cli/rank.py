"""`ugmcl rank`: which image to annotate next."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import in_one_line
from ..files import plain
from ..inference.settings import MOST_PASSES, SegmentSettings
from .arguments import (
    add_cluster,
    add_device,
    add_images,
    add_model,
    add_on,
    as_given,
    computer_of,
    some_passes,
)

if TYPE_CHECKING:
    from ..inference.ranking import Assessment
    from ..remote.connection import Computer

NAME = "rank"
HELP = "sort images by what a model expects of its results"
DESCRIPTION = """\
Sort unlabeled images by what a model makes of them, the one to annotate next first: images in
which no surface is found, then by rising predicted Dice. This comes from how far Monte Carlo
samples and mirrored views agree with the prediction; it orders cases better than it predicts their
true Dice. The uncertainty is the mean entropy within 5 mm of the predicted surface, 0 to 1."""
EPILOG = """\
examples:
  ugmcl rank scans/
  ugmcl rank a.nrrd b.nrrd c.nrrd --model runs/mine/model --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Images and a model."""
    add_images(parser)
    add_model(parser)
    add_device(parser)
    parser.add_argument(
        "--passes", type=some_passes, default=SegmentSettings.passes, metavar="T",
        help=f"Monte Carlo passes, 1 to {MOST_PASSES} (default: %(default)s)",
    )  # fmt: skip
    add_on(parser)
    add_cluster(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Assess every image; one that fails is reported and left out. 0, 1 if some failed, 2 if all
    did."""
    from ..models.model import resolve
    from ..remote import cluster
    from .images import cases_of, find_images, split
    from .progress import Progress, print_line

    single, together = split(arguments.images)
    images, wrong = find_images(single, lambda line: print_line(f"ugmcl: {line}", sys.stderr))
    if images:
        model = resolve(arguments.model)
        cases, others = cases_of(images, together, model, arguments.channels)
        wrong |= others
    for error in wrong.values():
        print(f"ugmcl: {in_one_line(error)}", file=sys.stderr)
    failed = len(wrong)
    if not images or not cases:
        return 2
    computer = computer_of(arguments)
    if computer is not None:
        rows = _ranked_there(computer, list(cases.values()), arguments)
        _print(rows, arguments.json)
        return 1 if failed or len(rows) < len(cases) else 0

    from ..inference import ranking  # torch: after what can fail without it
    from .segment import loaded

    loaded.cache_clear()  # the model may have changed
    if not arguments.cluster:
        loaded(model.folder, arguments.device)
    tasks = {
        stem: (model.folder, arguments.device, arguments.passes, tuple(p.resolve() for p in paths))
        for stem, paths in cases.items()
    }
    assessments: dict[str, Assessment] = {}
    with Progress("rank") as progress:
        for stem, outcome in cluster.outcomes(
            arguments.cluster, assess_case, tasks, progress, progress.write
        ):
            if isinstance(outcome, BaseException):
                failed += 1
                progress.write(f"{stem} failed: {in_one_line(outcome)}")
                if arguments.debug:
                    traceback.print_exception(outcome)
                continue
            assessed, remarks = outcome
            for remark in remarks:
                progress.write(remark)
            assessments[stem] = assessed
    # in the order given, which decides between equal ones; a cluster ends them in any order
    found = [(as_given(p), assessments[stem]) for stem, p in cases.items() if stem in assessments]
    if not found:
        return 2
    _print([ranking.described(*pair) for pair in ranking.ranked(found)], arguments.json)
    return 1 if failed else 0


def _ranked_there(
    computer: Computer, cases: list[tuple[Path, ...]], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    from ..remote.handler import RemoteHandler
    from ..remote.session import GOING
    from ..worker.protocol import RankRequest
    from .progress import Progress, sending

    images = tuple(tuple(str(path) for path in paths) for paths in cases)
    request = RankRequest(images, arguments.model, arguments.device, arguments.passes)
    handler = RemoteHandler(computer)
    try:
        with Progress("rank") as progress:
            return handler.do(request, sending(progress), GOING)["cases"]
    finally:
        handler.close()


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"cases": plain(rows)}))
        return
    print("predicted Dice  uncertainty  image")
    for row in rows:
        unsure, dice = row["uncertainty"], row["predicted_dice"]
        text = "no surface" if unsure is None else f"{unsure:.3f}"
        image = row["image"] if isinstance(row["image"], str) else ",".join(row["image"])
        print(f"{dice:>14.3f}  {text:>11}  {image}")


def assess_case(
    model: Path, device: str, passes: int, paths: tuple[Path, ...]
) -> tuple[Assessment, list[str]]:
    """How unsure the model in a folder is of a case, and remarks on its files; InputError."""
    from ..data import guarded
    from ..inference import ranking
    from ..nn import devices
    from .segment import loaded

    segmenter = loaded(model, device)
    channels = guarded.read_images(paths, len(segmenter.model.card.channels))
    try:
        assessed = ranking.assess(segmenter, channels, passes)
    finally:
        devices.release_memory()
    return assessed, list(dict.fromkeys(r for v in channels for r in v.remarks))

