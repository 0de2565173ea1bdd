"""What *Keep learning* is worth: a simulated annotator who corrects scans to their references.

    python Testing/benchmarks/accuracy/simulated_annotation.py DATA --test LIST [--exclude LIST]
        --output DIR [--report FILE] [--cases 6] [--steps-per-minute 40] ...

DATA holds `images` and `labels`. A base model of the profile `coarse` is trained on a few labeled
scans. Then each way of working corrects the same number of scans of a pool, one after the other,
and the model in use is measured on the scans of --test after each of them:

* the order of the scans: at random, or by the predicted Dice of the model in use, lowest first;
* with keep learning (`ugmcl_core.training.keep_learning`), or with a fine-tuning after every few
  corrections, for which the annotator waits.

Time is the annotator's: a correction takes --minutes-per-case, and --minutes-per-ml for each mL
that the result and the reference differ by. The computer trains --steps-per-minute meanwhile. All
three are assumptions, printed with the result. The scans to correct are those of DATA that no list
names.

Everything is kept in --output: the base model's training, each way after each correction, and the
trainings between them. After an interruption the same call goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from ugmcl_core.data.cases import Case, Cohort
from ugmcl_core.data.pairing import by_stem, read_list
from ugmcl_core.data.volume import read, read_labels
from ugmcl_core.evaluation import metrics
from ugmcl_core.files import write_json, write_text
from ugmcl_core.inference.ranking import assess
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.models.model import Model, open_model
from ugmcl_core.training import checkpoint
from ugmcl_core.training.finetuning.finetune import finetune
from ugmcl_core.training.keep_learning.learning import ADD_CASE, STOP, TAKE_MODEL, keep_learning
from ugmcl_core.training.profiles import COARSE, method_named, with_iterations
from ugmcl_core.training.settings import FinetuneSettings, KeepLearningSettings
from ugmcl_core.training.train import TrainingSettings, train

GOALS = (0.88, 0.90)
ORDERS = ("random", "predicted Dice")


@dataclass(frozen=True)
class Setup:
    """The assumptions and sizes of the experiment."""

    labeled: int = 2
    base_method: str = "dual-task"
    base_iterations: int = 150
    holdout: int = 2
    pool: int = 12
    cases: int = 6
    minutes_per_case: float = 1.0
    minutes_per_ml: float = 0.1
    steps_per_minute: float = 40.0
    check_steps: int = 60
    every: int = 3
    finetune_steps: int = 200
    passes: int = 4
    method: str = "ugmcl"
    seed: int = 0


@dataclass(frozen=True)
class Scans:
    """Which scan is used for what."""

    labeled: tuple[Case, ...]
    holdout: tuple[Case, ...]
    pool: tuple[Case, ...]
    test: tuple[Case, ...]


def main() -> int:
    """Run what is not finished yet, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="folder with images and labels")
    parser.add_argument("--test", required=True, help="list of scans to measure the models on")
    parser.add_argument("--exclude", action="append", default=[], help="list of scans to avoid")
    parser.add_argument("--output", type=Path, required=True, help="folder of models and results")
    parser.add_argument("--report", type=Path, help="Markdown file to write the table to")
    for name, default in asdict(Setup()).items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(default), default=default, help=f"{default}")
    words = parser.parse_args()
    setup = Setup(**{name: getattr(words, name) for name in asdict(Setup())})
    scans = scans_of(words.data, words.test, words.exclude, setup)
    words.output.mkdir(parents=True, exist_ok=True)
    same_setup(words.output / "setup.json", setup)
    base = base_model(words.output / "base", scans, setup)
    for order in ORDERS:
        for keeps in (False, True):
            name = f"{order.replace(' ', '-')}-{'keep' if keeps else 'finetune'}"
            path = words.output / f"{name}.json"
            if not path.exists():
                print(f"{name}…", flush=True)
                work = words.output / name
                rows = (keeping if keeps else fine_tuning)(base, scans, setup, order, work)
                write_json(path, {"order": order, "keeps": keeps, "rows": rows})
    text = report(words.output, scans, setup)
    print(text)
    if words.report:
        write_text(words.report, text)
    return 0


def scans_of(data: Path, test: str, exclude: Sequence[str], setup: Setup) -> Scans:
    """The scans by their use: those of no list, shuffled by the seed, in turn."""
    images, labels = by_stem(data / "images"), by_stem(data / "labels")
    judged = read_list(test)
    left_out = {*judged, *(name for path in exclude for name in read_list(path))}
    free = sorted(set(images) & set(labels) - left_out)
    free = [free[n] for n in np.random.default_rng(setup.seed).permutation(len(free))]
    if len(free) < setup.labeled + setup.holdout + setup.pool:
        sys.exit(f"{data}: only {len(free)} scans are in no list")

    def cases(names: Sequence[str]) -> tuple[Case, ...]:
        return tuple(Case(n, images[n], labels[n]) for n in names)

    ends = np.cumsum([setup.labeled, setup.holdout, setup.pool])
    return Scans(cases(free[: ends[0]]), cases(free[ends[0] : ends[1]]),
                 cases(free[ends[1] : ends[2]]), cases(judged))  # fmt: skip


def same_setup(path: Path, setup: Setup) -> None:
    """Keep the setup, or refuse to mix results of two."""
    if path.exists() and json.loads(path.read_text()) != asdict(setup):
        sys.exit(f"{path.parent} holds results of another setup: choose another folder")
    write_json(path, asdict(setup))


def base_model(folder: Path, scans: Scans, setup: Setup) -> Model:
    """The model that all start from, trained on the few labeled scans and the pool without
    labels."""
    if (folder / "model").is_dir():
        found = open_model(folder / "model")
        if found.card.training["iterations"] == setup.base_iterations:
            return found
    cohort = Cohort(scans.labeled, tuple(replace(c, label=None) for c in scans.pool))
    profile = with_iterations(COARSE, setup.base_iterations)
    settings = TrainingSettings(setup.seed, "cpu")
    resume = (folder / "checkpoint.safetensors").exists()
    return train(cohort, method_named(setup.base_method), profile, folder, settings, resume=resume)


class Annotator:
    """Corrects the scans of the pool, and keeps the books."""

    def __init__(self, base: Model, scans: Scans, setup: Setup, order: str, folder: Path) -> None:
        self.scans, self.setup, self.order = scans, setup, order
        self.left, self.done = list(scans.pool), list[Case]()
        self.minutes = 0.0
        self.rows: list[dict[str, Any]] = []
        self.folder, self.state = folder, folder / "state.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.step = 0  # of the training, at the last correction
        if self.state.exists():
            self.go_on()
        else:
            self.use(base)
            self.keep(0.0)

    def go_on(self) -> None:
        """Be where the last correction that was kept ended."""
        kept = json.loads(self.state.read_text())
        self.rows, self.minutes, self.step = kept["rows"], kept["minutes"], kept["step"]
        cases = {c.name: c for c in self.scans.pool}
        self.done = [cases[name] for name in kept["done"]]
        self.left = [c for c in self.left if c not in self.done]
        self.use(open_model(kept["model"]))
        print(f"  goes on after {len(self.done)} corrections", flush=True)

    def use(self, model: Model) -> None:
        """Work with this model from now on."""
        self.model = model
        threads = torch.get_num_threads()
        self.segmenter = Segmenter(model, "cpu")
        torch.set_num_threads(threads)
        self.dice: float | None = None

    def next(self) -> float:
        """Correct the next scan; the minutes that it takes."""
        setup = self.setup
        if self.order == ORDERS[1]:
            sure = [assess(self.segmenter, read(c.image), setup.passes).predicted_dice
                    for c in self.left]  # fmt: skip
            number = int(np.argmin(sure))
        else:
            number = int(np.random.default_rng([setup.seed, len(self.done)]).integers(
                len(self.left)))  # fmt: skip
        case = self.left.pop(number)
        found, truth = self.found(case)
        wrong_ml = float(np.count_nonzero(found != truth)) * read(case.image).grid.voxel_ml
        self.done.append(case)
        self.wrong_ml = wrong_ml
        return setup.minutes_per_case + setup.minutes_per_ml * wrong_ml

    def found(self, case: Case) -> tuple[np.ndarray, np.ndarray]:
        found = self.segmenter.segment(read(case.image), SegmentSettings(passes=0))
        return found.labels.array > 0, read_labels(case.label).array > 0

    def keep(self, wrong_ml: float) -> None:
        """Write down how good the model in use is on the test scans."""
        if self.dice is None:
            pairs = [self.found(c) for c in self.scans.test]
            self.dice = float(np.mean([metrics.dice(*pair) for pair in pairs]))
        self.rows.append({"corrections": len(self.done), "minutes": round(self.minutes, 2),
                          "wrong_ml": wrong_ml, "dice": self.dice})  # fmt: skip
        print("  {corrections} corrections, {minutes:.1f} min: Dice {dice:.4f}".format(
            **self.rows[-1]), flush=True)  # fmt: skip
        write_json(self.state, {
            "done": [c.name for c in self.done], "minutes": self.minutes, "step": self.step,
            "model": str(self.model.folder), "rows": self.rows,
        })  # fmt: skip

    def write_list(self) -> Path:
        """The case list as it is now."""
        rest = [c for c in self.scans.pool if c not in self.done]
        roles = (("labeled", (*self.scans.labeled, *self.done)), ("unlabeled", rest),
                 ("holdout", self.scans.holdout))  # fmt: skip
        cases = [{"name": c.name, "role": role, "image": str(c.image),
                  **({} if role == "unlabeled" else {"label": str(c.label)})}
                 for role, group in roles for c in group]  # fmt: skip
        path = self.folder / "cases.json"
        write_json(path, {"cases": cases})
        return path


def fine_tuning(
    base: Model, scans: Scans, setup: Setup, order: str, folder: Path
) -> list[dict[str, Any]]:
    """Fine-tune the base on all labels after every few corrections, and wait for it."""
    person = Annotator(base, scans, setup, order, folder)
    for number in range(len(person.done) + 1, setup.cases + 1):
        person.minutes += person.next()
        if number % setup.every == 0:
            output = folder / f"run-{number}"
            request = FinetuneSettings(
                str(person.write_list()), str(output), str(base.folder), setup.method,
                setup.finetune_steps, seed=setup.seed, device="cpu",
                resume=(output / "checkpoint.safetensors").exists(),
            )  # fmt: skip
            result = finetune(request, _silent, _silent, lambda: False)
            person.minutes += setup.finetune_steps / setup.steps_per_minute
            before, after = (np.mean([c[k]["dice"] for c in result["cases"]])
                             for k in ("before", "after"))  # fmt: skip
            if after >= before:
                person.use(open_model(result["model"]))
        person.keep(person.wrong_ml)
    return person.rows


def keeping(
    base: Model, scans: Scans, setup: Setup, order: str, folder: Path
) -> list[dict[str, Any]]:
    """Keep learning beside the corrections: a step of the training is a part of a minute."""
    person = Annotator(base, scans, setup, order, folder)
    if len(person.done) == setup.cases:
        return person.rows
    output = folder / "run"
    former = checkpoint.load(output) if output.exists() else None
    request = KeepLearningSettings(
        str(person.write_list()), str(output), str(base.folder), setup.method, setup.seed, "cpu",
        resume=former is not None, check_minutes=1e6, cores=1.0, on_battery=True,
    )  # fmt: skip
    clock = Clock(person, setup, former.index - person.step if former is not None else 0)

    def send(event: str, **content: Any) -> None:
        if event == "check" and content["taken"]:
            person.use(open_model(content["model"]))
        clock.follow(event, content.get("step", 0))

    keep_learning(request, send, _silent, lambda: False, clock.controls)
    return person.rows


class Clock:
    """The controls of a training whose every look is one step, and which did some ``steps`` since
    the last correction before it was interrupted."""

    def __init__(self, person: Annotator, setup: Setup, steps: int) -> None:
        self.person, self.setup = person, setup
        self.steps = 0
        self.joining = self.over = False
        self.begin()
        self.steps = steps

    def begin(self) -> None:
        """The annotator turns to the next scan."""
        self.minutes = self.person.next()
        self.until = self.steps + round(self.minutes * self.setup.steps_per_minute)

    def controls(self) -> list[str]:
        if self.joining:
            return [STOP] if self.over else []
        self.steps += 1
        if self.steps >= self.until:
            self.person.minutes += self.minutes
            self.person.write_list()
            self.joining = True
            return [ADD_CASE]
        if self.steps % self.setup.check_steps == 0:
            return [TAKE_MODEL]
        return []

    def follow(self, event: str, step: int) -> None:
        """A case joined at a step: go on to the next, with the model in use."""
        if event != "joined":
            return
        self.person.step = step
        self.person.keep(self.person.wrong_ml)
        self.over = len(self.person.done) == self.setup.cases
        if not self.over:
            self.joining = False
            self.begin()


def _silent(*_arguments: Any, **_content: Any) -> None:
    """No events."""


def report(output: Path, scans: Scans, setup: Setup) -> str:
    """The table of all ways that are finished, in Markdown."""
    lines = ["# Simulated annotation", "", f"{where()}.", "", _assumptions(scans, setup), ""]
    goals = " | ".join(f"minutes (corrections) until {g:.2f}" for g in GOALS)
    lines += [f"| order | model | {goals} | minutes in all | mL corrected | Dice at the end |",
              "| --- | --- |" + " --- |" * (len(GOALS) + 3)]  # fmt: skip
    start = None
    for order in ORDERS:
        for keeps in (False, True):
            name = f"{order.replace(' ', '-')}-{'keep' if keeps else 'finetune'}"
            path = output / f"{name}.json"
            if not path.exists():
                continue
            rows = json.loads(path.read_text())["rows"]
            start = rows[0]["dice"]
            reached = " | ".join(_reached(rows, goal) for goal in GOALS)
            total = sum(r["wrong_ml"] for r in rows[1:])
            how = "keep learning" if keeps else f"fine-tuning after every {setup.every}"
            end = rows[-1]
            lines.append(f"| {order} | {how} | {reached} | {end['minutes']:.1f} | {total:.0f} | "
                         f"{end['dice']:.4f} |")  # fmt: skip
    if start is not None:
        lines += ["", f"The base model has a mean Dice of {start:.4f}."]
    return "\n".join(lines) + "\n"


def _assumptions(scans: Scans, setup: Setup) -> str:
    return (
        f"Profile coarse, method {setup.method}; base model of {len(scans.labeled)} labeled scans "
        f"and {setup.base_iterations} iterations of {setup.base_method}; {setup.holdout} hold-out "
        "scans; "
        f"{setup.cases} of {len(scans.pool)} scans corrected; mean Dice on {len(scans.test)} "
        "scans. "
        f"Assumed: a correction takes {setup.minutes_per_case:g} min and "
        f"{setup.minutes_per_ml:g} min for each mL that is wrong, and the computer trains "
        f"{setup.steps_per_minute:g} steps a minute. Keep learning compares the models every "
        f"{setup.check_steps} steps; a fine-tuning has {setup.finetune_steps}. One seed "
        f"({setup.seed})."
    )


def _reached(rows: list[dict[str, Any]], goal: float) -> str:
    first = next((r for r in rows if r["dice"] >= goal), None)
    return "not reached" if first is None else f"{first['minutes']:.1f} ({first['corrections']})"


def where() -> str:
    """Processor, threads, date, commit."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s), "
        f"torch {torch.__version__}, {time.strftime('%Y-%m-%d')}, commit {commit or 'unknown'}"
    )


if __name__ == "__main__":
    sys.exit(main())
