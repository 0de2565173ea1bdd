"""How long a training from scratch takes to a good model.

    make bench ROWS=accuracy DATA=DIR
    python Testing/benchmarks/accuracy/time_to_accuracy.py DIR [--labeled 16] [--method dual-task]
        [--coarse 2000] [--iterations 1000] [--every 100] [--output DIR]

DIR holds `images`, `labels`, `labelled-16.txt` (the first --labeled of which are learned from),
`dev-10.txt` (on which the model is measured) and `report-20.txt` (left out). A training of
--iterations by the profile `compact` starts with the weights of one of --coarse iterations on a
grid of 2 mm, with the same network, or from nothing if that is 0. Every --every iterations the
mean Dice of the development scans is measured, on the grid of the training; minutes are those of
the iterations and of the labeling of volumes. Takes an hour or more; ended early, it goes on with
the same command.
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
from ugmcl_core.models.model import Model, open_model
from ugmcl_core.training.profiles import COARSE, COMPACT, Profile, method_named, with_iterations
from ugmcl_core.training.train import TrainingSettings, train

GOALS = (85.0, 88.0, 90.0, 91.0)
ON_TWO_MM = replace(COARSE, network=COMPACT.network)
"""The network of `compact` where a step takes a quarter of the time."""


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
    parser.add_argument("--coarse", type=int, default=2000)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--seed", type=int, default=2022)
    parser.add_argument("--output", type=Path, default=Path("out/time-to-accuracy"))
    words = parser.parse_args()
    lists = [words.data / f"{n}.txt" for n in ("labelled-16", "report-20", "dev-10")]
    labeled, excluded, tested = map(read_list, lists)
    cohort = find_cohort(
        words.data / "images", words.data / "labels", labeled[: words.labeled], excluded, tested
    )
    kind = f"{words.method}-{words.labeled}-{words.coarse}-{words.iterations}-{words.seed}"
    output, clock, base = words.output / kind, Clock(), None
    for name, profile, iterations in (
        ("coarse", ON_TWO_MM, words.coarse),
        ("fine", COMPACT, words.iterations),
    ):
        if iterations:
            profile = with_iterations(profile, iterations)
            base = trained(output / name, profile, cohort, words, base, clock)
    print(table(clock, words))
    return 0


def trained(
    output: Path,
    profile: Profile,
    cohort: Cohort,
    words: argparse.Namespace,
    base: Model | None,
    clock: Clock,
) -> Model:
    """The model of one stage, whose time is added to ``clock``."""
    path = output / "clock.json"
    own = Clock.opened(path)
    last = time.monotonic()

    def on_event(event: dict[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if event["event"] in ("progress", "labeled"):  # not preparing cases, not measuring Dice
            own.seconds += now - last
        if dice := event.get("dice"):
            own.reached.append((own.seconds, 100 * sum(dice) / len(dice)))
            minutes = (clock.seconds + own.seconds) / 60
            print(f"{output.name} {event['step']}: {minutes:.1f} min, {own.reached[-1][1]:.1f} %",
                  flush=True)  # fmt: skip
        write_json(path, asdict(own))
        last = time.monotonic()

    if (output / "done").exists():
        model = open_model(output / "model")
    else:
        output.mkdir(parents=True, exist_ok=True)
        settings = TrainingSettings(words.seed, "cpu", evaluate_every=words.every)
        method = method_named(words.method, [])
        model = train(
            cohort, method, profile, output, settings, base=base, resume=True, on_event=on_event
        )
        (output / "done").touch()
    clock.reached += [(clock.seconds + seconds, dice) for seconds, dice in own.reached]
    clock.seconds += own.seconds
    return model


def table(clock: Clock, words: argparse.Namespace) -> str:
    """Markdown: minutes to each Dice, and the last."""
    first = {g: next((s for s, dice in clock.reached if dice >= g), None) for g in GOALS}
    shown = ["" if s is None else f"{s / 60:.0f} min" for s in first.values()]
    what = f"`{words.method}`, {words.labeled} labels, {words.coarse} iterations on 2 mm, then "
    cores = torch.get_num_threads()
    lines = [
        f"| training | {' | '.join(f'{g:.0f} %' for g in GOALS)} | last |",
        f"| --- |{' --- |' * (len(GOALS) + 1)}",
        f"| {what}{words.iterations} on 1.25 mm | {' | '.join(shown)} "
        f"| {clock.reached[-1][1]:.1f} % after {clock.seconds / 60:.0f} min |",
        "",
        f"{cores} threads on {os.cpu_count()} cores, torch {torch.__version__}, load "
        f"{os.getloadavg()[0]:.1f} at the end",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
