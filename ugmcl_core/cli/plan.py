"""`ugmcl plan`: how a training from scratch on these cases would be made, and why."""

from __future__ import annotations

import argparse
import json

from .arguments import (
    add_channels,
    add_classes,
    add_cohort,
    add_device,
    add_ignore_label,
    add_overrides,
    cohort_of,
    lists_of,
    meaning_of,
)

NAME = "plan"
HELP = "show how a training on these cases would be made"
DESCRIPTION = """\
Look at the cases and show the plan by which `ugmcl train` and `ugmcl finetune --from-scratch` make
a model of them: one line for each decision, with its value and the reason. Any of them can be
overridden with --set NAME=VALUE, here and there; those after it follow. Nothing is written."""
EPILOG = """\
examples:
  ugmcl plan images labels
  ugmcl plan images labels --set grid=1.5,1.5,10 --set mirror=none --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Cases, and what `ugmcl train` takes to plan."""
    parser.add_argument("images", metavar="IMAGES", help="folder of images")
    parser.add_argument(
        "labels", metavar="LABELS", help="folder of label maps with the names of their images"
    )
    add_channels(parser, "as `ugmcl train` finds them")
    add_cohort(parser)
    add_classes(parser, "those of a dataset.json beside the images, else those in the labels")
    add_ignore_label(parser)
    parser.add_argument("--modality", default="", help="kind of image, such as CT or LGE-MRI")
    add_overrides(parser)
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan."""
    from .progress import Progress

    lists = lists_of(arguments)
    meaning = meaning_of(arguments)

    from ..nn import devices
    from ..training.planning.plan import plan_cohort  # torch: after what can fail without it

    cohort = cohort_of(arguments, NAME, lists)
    with Progress("plan") as progress:
        made = plan_cohort(
            cohort,
            meaning.classes,
            devices.resolve(arguments.device),
            arguments.overrides,
            meaning.ignored,
            progress,
            values=meaning.values,
            modality=meaning.modality_of(cohort),
        )
    if arguments.json:
        names = [c.name for c in made.classes]
        found = {"classes": names, "channels": cohort.channels, "modality": made.modality}
        print(json.dumps({**found, "plan": made.record()}))
    else:
        print("\n".join(made.lines))
    return 0
