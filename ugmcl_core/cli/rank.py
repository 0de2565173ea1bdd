"""`ugmcl rank`: which image to annotate next."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from typing import TYPE_CHECKING

from ..errors import Canceled, in_one_line
from ..inference.settings import MOST_PASSES, SegmentSettings
from .arguments import add_device, add_images, add_model, as_given, some_passes

if TYPE_CHECKING:
    from ..inference.ranking import Assessment

NAME = "rank"
HELP = "sort images by how unsure a model is of them"
DESCRIPTION = """\
Sort unlabeled images by what a model makes of them, the one to annotate next first: images in
which no surface is found, then by falling uncertainty (mean entropy within 5 mm of the predicted
surface, 0 to 1). The predicted Dice comes from how far Monte Carlo samples agree with the
prediction; it orders cases better than it predicts their true Dice."""
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
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Assess every image; one that fails is reported and left out. 0, 1 if some failed, 2 if all
    did."""
    from ..data import guarded
    from ..models.model import resolve
    from ..nn import devices
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

    from ..inference import ranking  # torch: after what can fail without it
    from ..inference.segmenter import Segmenter

    segmenter = Segmenter(model, arguments.device)
    found: list[tuple[str | list[str], Assessment]] = []
    with Progress("rank") as progress:
        for number, (stem, paths) in enumerate(cases.items()):
            progress(number / len(cases), stem)
            try:
                channels = guarded.read_images(paths, len(model.card.channels))
                for remark in dict.fromkeys(r for v in channels for r in v.remarks):
                    progress.write(remark)
                assessed = ranking.assess(segmenter, channels, arguments.passes)
                found.append((as_given(paths), assessed))
            except Canceled:
                raise
            except Exception as error:
                failed += 1
                progress.write(f"{stem} failed: {in_one_line(error)}")
                if arguments.debug:
                    traceback.print_exc()
            devices.release_memory()
    if not found:
        return 2
    order = ranking.ranked(found)
    if arguments.json:
        print(json.dumps({"cases": [ranking.described(*pair) for pair in order]}))
    else:
        print(_table(order))
    return 1 if failed else 0


def _table(order: list[tuple[str | list[str], Assessment]]) -> str:
    lines = ["uncertainty  predicted Dice  image"]
    for path, item in order:
        unsure = (
            "no surface" if item.uncertainty != item.uncertainty else f"{item.uncertainty:.3f}"
        )
        shown = path if isinstance(path, str) else ",".join(path)
        lines.append(f"{unsure:>11}  {item.predicted_dice:>14.3f}  {shown}")
    return "\n".join(lines)
