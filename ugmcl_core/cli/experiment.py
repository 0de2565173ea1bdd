"""`ugmcl experiment`: the paper's tables and figures."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, in_one_line
from ..files import Busy
from .arguments import (
    add_cluster,
    add_device,
    add_iterations,
    add_labeled_list,
    add_profile,
    whole,
    words,
)

if TYPE_CHECKING:
    from ..experiments.datasets import Dataset
    from ..experiments.paper import Experiment, Row
    from ..experiments.planning import Planned, Training
    from ..experiments.running import Workplace
    from ..training.profiles import Profile

_GRACE = 60.0  # seconds in which trainings on a cluster write their checkpoints after Ctrl-C

NAME = "experiment"
HELP = "run the paper's experiments and show their tables and figures"
DESCRIPTION = """\
Train and score what a table or figure of the paper compares, and show it beside the published
values. Trainings lie in folders of OUTPUT, which are named by what defines them: what is done is
skipped, what was interrupted continues, and experiments share trainings. With --cluster, the
workers of a Dask cluster share out the trainings. Without one, run the same command with --shard
1/4, 2/4, ... in several processes, on several GPUs or machines to split the work (copy the
folders together afterwards), with --list to see the state, with --render to show the results so
far. Cases are scored with the last checkpoint. --score report opens the report (or test) cases:
use it only when all settings are fixed."""
EPILOG = """\
examples:
  ugmcl experiment table3 --data LA --profile compact --iterations 600 --output runs
  ugmcl experiment table3 --data LA --profile paper --device cuda:0 --shard 1/2 --output runs
  ugmcl experiment table3 --data LA --iterations 600 --output runs --cluster local:2
  ugmcl experiment table3 --data LA --iterations 600 --output runs --list
  ugmcl experiment figure5 --data LA --iterations 600 --output runs --render"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The experiment, its cases and profile, and what to do."""
    parser.add_argument(
        "name", metavar="NAME", help="table1 to table4, figure3 to figure6, few-labels"
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of the data set")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the trainings")
    parser.add_argument(
        "--layout",
        default="auto",
        metavar="LAYOUT",
        help="la, la-h5, brats, brats-4 (with all four MR sequences) or folder (default: auto, "
        "detected; brats-4 only when given)",
    )
    add_profile(parser)
    add_iterations(parser, "every training")
    parser.add_argument(
        "--seeds",
        type=different,
        default=(2022,),
        metavar="S,...",
        help="train every row with each of these (default: 2022)",
    )
    parser.add_argument(
        "--draws",
        type=different,
        default=(0,),
        metavar="D,...",
        help="train every row with each of these choices of the labeled cases: 0 is the first in "
        "the list, any other number draws at random (default: 0)",
    )
    parser.add_argument(
        "--only",
        type=words,
        default=(),
        metavar="ROW,...",
        help="train, list or render these rows alone, by method or by label (default: all)",
    )
    parser.add_argument(
        "--shard",
        type=part,
        default=(1, 1),
        metavar="I/N",
        help="do the I-th of N parts of the trainings, from 1 (default: 1/1)",
    )
    parser.add_argument(
        "--score",
        choices=("dev", "report"),
        default="dev",
        help="score the development cases, or at the very end the report cases (default: dev)",
    )
    parser.add_argument(
        "--paper-stride",
        action="store_true",
        help="segment with the paper's windows, every 18x18x4 voxels (slow)",
    )
    form = ", one name a line (default: the layout's)"
    text = "the labeled training cases, in the order in which more are labeled, or --draws draws"
    add_labeled_list(parser, f"{text} them{form}")
    for role, name in (("dev", "development"), ("report", "report or test")):
        text = f"the {name} cases, not trained on{form}"
        parser.add_argument(f"--{role}-list", metavar="FILE", help=text)
    parser.add_argument(
        "--split-seed",
        type=whole,
        default=2022,
        metavar="S",
        help="draws the parts of BraTS (default: 2022)",
    )
    parser.add_argument(
        "--adopt",
        action="append",
        default=[],
        metavar="DIR",
        help="take over the finished training that `ugmcl train` made in DIR; its method, "
        "profile, iterations, seed and cases must be those of one of the experiment's "
        "(repeatable)",
    )
    parser.add_argument(
        "--records",
        action="append",
        default=[],
        metavar="DIR",
        help="count the trainings whose records are in DIR, the folder records/ of an earlier "
        "report, as done, without their models (repeatable)",
    )
    add_device(parser)
    add_cluster(parser)
    parser.add_argument(
        "--list", action="store_true", help="show the trainings and their state; train nothing"
    )
    parser.add_argument(
        "--render", action="store_true", help="show the results so far; train nothing"
    )
    parser.add_argument(
        "--render-to",
        metavar="DIR",
        help="folder for tables, figures and records (default: OUTPUT/rendered)",
    )
    parser.add_argument(
        "--cases",
        type=words,
        default=(),
        metavar="NAME,...",
        help="cases that figure5 and figure6 show (default: those with the lowest, the median and "
        "the highest Dice of UG-MCL)",
    )


def different(text: str) -> tuple[int, ...]:
    """Distinct whole numbers, separated by commas."""
    numbers = tuple(whole(part.strip()) for part in text.split(","))
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} names a number twice")
    return numbers


def part(text: str) -> tuple[int, int]:
    """I/N with 1 <= I <= N."""
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    number, total = (int(g) for g in match.groups()) if match else (0, 0)
    if not 1 <= number <= total:
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N, such as 1/4")
    return number, total


def run(arguments: argparse.Namespace) -> int:
    """List, render, or do this shard's trainings and render; 1 if a training failed."""
    from ..experiments import datasets, paper

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "an experiment's trainings run in one process each: start it without torchrun and "
            "split it with --shard, or adopt what torchrun -m ugmcl_core train made (--adopt)"
        )
    experiment = paper.experiment_named(arguments.name)
    rows = paper.only(experiment, arguments.only)
    data, output = Path(arguments.data).expanduser(), Path(arguments.output).expanduser()
    if arguments.cluster:  # workers may have another working directory
        data, output = data.resolve(), output.resolve()
    dataset = _dataset(arguments, experiment, data)

    # torch: after what can fail without it
    from ..experiments import planning, report, running, scoring

    report.check(experiment)

    profile = planning.profile_for(dataset, arguments.profile, arguments.iterations)
    dataset = planning.data_for(dataset, profile)
    place = running.Workplace(
        output, dataset, scoring.Scoring(arguments.score, arguments.paper_stride), arguments.device
    )
    replicates = [
        planning.Replicate(seed, draw) for seed in arguments.seeds for draw in arguments.draws
    ]

    def planned(some: tuple[Row, ...]) -> list[Planned]:
        return planning.plan(
            some,
            dataset,
            profile,
            replicates,
            lambda reference, other: running.iterations_in_time(place, reference, other),
        )

    if dataset.layout in datasets.BRATS_CHANNELS:
        datasets.write_lists(dataset, output / f"brats-split-{arguments.split_seed}")
    # `--only` trains a part; the table that follows still shows all that exists
    every = tuple(
        r for r in experiment.rows
        if r in rows or dataset.has_labels_for(r.share_of(dataset.standard))
    )  # fmt: skip
    for source in arguments.adopt:
        _adopt(Path(source), planned(every), place)
    for source in arguments.records:
        _take_over(Path(source).expanduser(), lambda: planned(every), place)
    if arguments.list:
        _list(planned(rows), place)
        return 0
    failed = 0
    if arguments.score == "report":
        print(
            "ugmcl: these are the report cases: settings should be fixed by now, and not be "
            "changed for what they show",
            file=sys.stderr,
        )
    if not arguments.render:
        failed = _run(lambda: planned(rows), place, arguments)
        rows = every
    _render(experiment, rows, planned(rows), place, profile, arguments)
    return 1 if failed else 0


def _dataset(
    arguments: argparse.Namespace, experiment: Experiment, folder: Path
) -> Dataset:
    """The data set in ``folder`` with the lists that are given; InputError if it is not the
    experiment's or has no cases to score."""
    from ..data.pairing import read_list
    from ..experiments import datasets, paper

    given = (arguments.labeled_list, arguments.dev_list, arguments.report_list)
    lists = datasets.Lists(*(tuple(read_list(p)) if p else None for p in given))
    dataset = datasets.find(folder, arguments.layout, lists, arguments.split_seed)
    paper.check_layout(experiment, dataset.layout)
    if not (dataset.dev if arguments.score == "dev" else dataset.report):
        raise InputError(
            f"{arguments.data}: there are no {arguments.score} cases to score; give "
            f"--{arguments.score}-list, or score others with --score"
        )
    return dataset


def _adopt(source: Path, planned: list[Planned], place: Workplace) -> None:
    from ..experiments import running

    trainings = [p.training for p in planned if p.training is not None]
    try:
        training = running.adopt(source, trainings, place)
    except Busy:
        raise InputError(
            f"{source}: another process is working on this training; adopt it later"
        ) from None
    found = "there already" if training is None else f"adopted as {training.folder}"
    print(f"ugmcl: {source}: {found}", file=sys.stderr)


def _take_over(source: Path, planned: Callable[[], list[Planned]], place: Workplace) -> None:
    from ..experiments import running

    count = 0
    while new := running.take_over(
        source, [p.training for p in planned() if p.training is not None], place
    ):  # trainings at equal time become known by the records of others
        count += new
    print(f"ugmcl: {source}: {count} records taken over", file=sys.stderr)


def _list(planned: list[Planned], place: Workplace) -> None:
    from ..experiments import running

    for item in planned:
        if item.training is None:
            waits = " and ".join(t.folder for t in item.waits_for)
            print(f"{item.row.label}, seed {item.replicate}: waits for {waits}")
        else:
            state = running.state(place, item.training)
            print(f"{item.row.label}, seed {item.replicate}: {state} ({item.training.folder})")


def _run(
    planned: Callable[[], list[Planned]], place: Workplace, arguments: argparse.Namespace
) -> int:
    """Run the shard's trainings; returns how many failed."""
    from ..experiments import planning

    def mine() -> list[Training]:
        """Planned again each time: a training may have waited for the record of another one."""
        return planning.shard(planned(), *arguments.shard)

    if arguments.cluster:
        failed = _run_on_cluster(mine, place, arguments)
    else:
        failed = _run_here(mine, place, arguments.score)
    for item in planned():
        if item.training is None:
            print(
                f"ugmcl: {item.row.label}, seed {item.replicate}, waits for "
                f"{' and '.join(t.folder for t in item.waits_for)}: run again when they are done",
                file=sys.stderr,
            )
    return failed


def _run_here(mine: Callable[[], list[Training]], place: Workplace, score: str) -> int:
    """One after the other."""
    from ..experiments import running
    from .progress import Progress

    handled: set[str] = set()
    failed = 0
    while True:
        known = mine()
        training = next((t for t in known if t.folder not in handled), None)
        if training is None:
            return failed
        handled.add(training.folder)
        with Progress(training.folder) as progress:
            try:
                if running.state(place, training) == "done":
                    progress.write("done")
                    continue
                progress.write(f"starting ({len(handled)} of {len(known)})")
                running.do(place, training, progress.show)
                progress.write(f"done ({score} cases scored)")
            except Busy:
                progress.write("skipped: another process is working on it")
            except InputError as error:
                failed += 1
                progress.write(f"failed: {in_one_line(error)}")


def _run_on_cluster(
    mine: Callable[[], list[Training]], place: Workplace, arguments: argparse.Namespace
) -> int:
    """On the workers of a cluster, which see the folders under the same paths."""
    from ..experiments import running
    from ..remote import cluster
    from .progress import Progress

    handled: set[str] = set()
    failed = 0
    with Progress("experiment") as progress:

        def new() -> dict[str, tuple[Workplace, Training]]:
            """The trainings that have become known, without those that are done."""
            left = [t for t in mine() if t.folder not in handled]
            handled.update(t.folder for t in left)
            tasks = {}
            for training in left:
                if running.state(place, training) == "done":
                    progress.write(f"{training.folder}: done")
                else:
                    tasks[training.folder] = place, training
            return tasks

        if not (tasks := new()):
            return 0
        with cluster.connected(arguments.cluster) as client:
            for name, outcome in cluster.run(
                client, train_on_worker, tasks, progress, progress.write, new, _GRACE
            ):
                if isinstance(outcome, Busy):
                    progress.write(f"{name}: skipped: another process is working on it")
                elif isinstance(outcome, BaseException):
                    failed += 1
                    progress.write(f"{name}: failed: {in_one_line(outcome)}")
                else:
                    progress.write(f"{name}: done ({arguments.score} cases scored)")
    return failed


def train_on_worker(place: Workplace, training: Training) -> None:
    """Train and score on a worker of a cluster. Raises as `running.do` does."""
    from ..experiments import running
    from ..remote import cluster

    def emit(event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            cluster.report(event["step"] / event["total"])

    running.do(place, training, emit, cluster.is_unwanted)


def _render(
    experiment: Experiment,
    rows: tuple[Row, ...],
    planned: list[Planned],
    place: Workplace,
    profile: Profile,
    arguments: argparse.Namespace,
) -> None:
    from ..experiments import report

    target = arguments.render_to or place.output / "rendered"
    protocol = (
        f"Profile {profile.name}, {profile.iterations} iterations, "
        f"seed{'s' if len(arguments.seeds) > 1 else ''} "
        f"{', '.join(map(str, arguments.seeds))}."
    )
    if arguments.draws != (0,):
        protocol += f" Draws of the labeled cases: {', '.join(map(str, arguments.draws))}."

    for path in report.render(
        experiment, rows, planned, place, profile, protocol, Path(target), arguments.cases
    ):
        print(path)
