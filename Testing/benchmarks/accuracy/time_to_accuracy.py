"""How long a training from scratch takes to a good model.

    make bench ROWS=accuracy DATA=DIR
    python Testing/benchmarks/accuracy/time_to_accuracy.py DIR [--labeled 16] [--method dual-task]
        [--profile plan] [--iterations 2000] [--coarse 0.75] [--every 100] [--output DIR]

DIR holds `images`, `labels`, `labelled-16.txt` (the first --labeled of which are learned from),
`dev-10.txt` (on which the model is measured) and `report-20.txt` (left out). The first --coarse of
the --iterations are on a coarser grid: of 2 mm for `compact`, that of the plan for `plan`. Every
--every iterations the mean Dice of the development scans is measured, on the grid of the training;
minutes are those of the iterations and of the labeling of volumes. Takes an hour or more; ended
early, it goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from ugmcl_core.data.cases import Cohort, find_cohort
from ugmcl_core.data.pairing import read_list
from ugmcl_core.files import write_json
from ugmcl_core.methods import Method
from ugmcl_core.training.planning.plan import PLAN, plan_cohort
from ugmcl_core.training.profiles import (
    COARSE,
    COMPACT,
    CoarseStart,
    Profile,
    method_named,
    stages,
    with_iterations,
)
from ugmcl_core.training.train import TrainingSettings, train

GOALS = (85.0, 88.0, 90.0, 91.0)
ON_TWO_MM = COARSE.representation.spacing, COARSE.batch.patch
"""The grid and the patch of a coarse start of `compact`."""


@dataclass
class Clock:
    """``seconds`` of training so far, and the mean Dice (%) that was ``reached`` after some."""

    seconds: float = 0.0
    reached: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def opened(cls, path: Path) -> Clock:
        """As an earlier call left it."""
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()


def main() -> int:
    """Train what is not trained yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DIR")
    parser.add_argument("--labeled", type=int, default=16)
    parser.add_argument("--method", default="dual-task")
    parser.add_argument("--profile", choices=("compact", PLAN), default="compact")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--coarse", type=float, default=0.75)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--seed", type=int, default=2022)
    parser.add_argument("--output", type=Path, default=Path("out/time-to-accuracy"))
    words = parser.parse_args()
    lists = [words.data / f"{n}.txt" for n in ("labelled-16", "report-20", "dev-10")]
    labeled, excluded, tested = map(read_list, lists)
    cohort = find_cohort(
        words.data / "images", words.data / "labels", labeled[: words.labeled], excluded, tested
    )
    method = method_named(words.method, [])
    if words.profile == PLAN:
        used = cohort if method.uses_unlabeled else replace(cohort, unlabeled=())
        device, coarse = torch.device("cpu"), f"coarse={words.coarse:g}"
        profile = plan_cohort(used, (), device, [coarse]).profile
    else:
        start = CoarseStart(*ON_TWO_MM, words.coarse) if words.coarse else None
        profile = replace(COMPACT, coarse=start)
    profile = with_iterations(profile, words.iterations)
    kind = f"{words.profile}-{words.method}-{words.labeled}-{words.iterations}-{words.coarse:g}"
    clock = trained(words.output / f"{kind}-{words.seed}", profile, cohort, method, words)
    print(table(clock, profile, words))
    return 0


def trained(
    output: Path, profile: Profile, cohort: Cohort, method: Method, words: argparse.Namespace
) -> Clock:
    """Train, or go on with it; the time of all that was done in the folder ``output``."""
    path = output / "clock.json"
    clock = Clock.opened(path)
    last = time.monotonic()

    def on_event(event: dict[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if event["event"] in ("progress", "labeled"):  # not preparing cases, not measuring Dice
            clock.seconds += now - last
        if dice := event.get("dice"):
            clock.reached.append((clock.seconds, 100 * sum(dice) / len(dice)))
            print(f"{event['step']}: {clock.seconds / 60:.1f} min, {clock.reached[-1][1]:.1f} %",
                  flush=True)  # fmt: skip
        write_json(path, asdict(clock))
        last = time.monotonic()

    output.mkdir(parents=True, exist_ok=True)
    if not (output / "done").exists():
        settings = TrainingSettings(words.seed, "cpu", evaluate_every=words.every)
        train(cohort, method, profile, output, settings, resume=True, on_event=on_event)
        (output / "done").touch()
    return clock


def table(clock: Clock, profile: Profile, words: argparse.Namespace) -> str:
    """Markdown: minutes to each Dice, and the last."""
    first = {g: next((s for s, dice in clock.reached if dice >= g), None) for g in GOALS}
    shown = ["" if s is None else f"{s / 60:.0f} min" for s in first.values()]
    each = [f"{p.iterations} on {p.representation.spacing[0]:.3g} mm" for p in stages(profile)]
    what = f"`{words.method}`, {words.labeled} labels, `{profile.name}`, {', then '.join(each)}"
    cores = torch.get_num_threads()
    lines = [
        f"| training | {' | '.join(f'{g:.0f} %' for g in GOALS)} | last |",
        f"| --- |{' --- |' * (len(GOALS) + 1)}",
        f"| {what} | {' | '.join(shown)} "
        f"| {clock.reached[-1][1]:.1f} % after {clock.seconds / 60:.0f} min |",
        "",
        f"{cores} threads on {os.cpu_count()} cores, torch {torch.__version__}, load "
        f"{os.getloadavg()[0]:.1f} at the end",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
