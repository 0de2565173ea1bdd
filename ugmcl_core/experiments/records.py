"""The record of a training: one JSON file beside its model, with everything that tables need."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import InputError
from ..files import plain, write_json
from ..nn import devices
from .planning import Training

NAME = "record.json"
FORMAT = 1
_PAUSE = 20.0  # times as long as usual, and an iteration was interrupted


def new(
    training: Training, device: str, log: Path, adopted: str | None = None
) -> dict[str, Any]:
    """The record of a finished training, without scores. One that was ``adopted`` (from a folder
    of this name) was made elsewhere: its commit and torch are not known."""
    known = adopted is None
    return {
        "format": FORMAT,
        "training": training.folder,
        "method": training.method.name,
        "options": asdict(training.method),
        "profile": plain(training.profile),
        "seed": training.seed,
        "layout": training.layout,
        "labeled": list(training.labeled),
        "unlabeled": list(training.unlabeled),
        "version": __version__,
        "commit": commit() if known else None,
        "torch": _torch_version() if known else None,
        "python": platform.python_version() if known else None,
        "device": device if known else None,
        "machine": _machine() if known else None,
        "adopted": adopted,
        "finished": at(time.time()),
        "time": wall_time(log.read_text(encoding="utf-8").splitlines()),
        "scores": {},
    }


def read(folder: Path, name: str = NAME) -> dict[str, Any] | None:
    """The record ``name`` in ``folder``, None if there is none; InputError if it cannot be
    used."""
    path = folder / name
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); delete it to make it again") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{path}: is not a record of this version; delete it to make it again")
    return record


def write(folder: Path, record: dict[str, Any], name: str = NAME) -> None:
    """Write the record, complete or not at all; NaN becomes null."""
    write_json(folder / name, record, indent=1, make_parents=True)


def wall_time(lines: Iterable[str]) -> dict[str, float]:
    """Seconds of a training from its log's events, over all its resumptions.

    ``seconds`` counts every iteration that was done, including those repeated after a kill;
    ``seconds_per_iteration`` each iteration once, as it was last done. Preparing cases is not
    counted, nor is a pause of the process (a computer that sleeps, a queue that suspends a job):
    iterations of a report that took over 20 times as long as usual count as usual ones, but for
    the time in which volumes were labeled. Logs of before 2026-12 do not say from which iteration
    on a report counts: there it is the one before, and a first report after a kill is left out.
    """
    reports: list[tuple[range, float, float]] = []  # iterations, their seconds, those of labeling
    last, labeling = 0, 0.0
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:  # the last line of a killed training
            continue
        if event.get("event") == "labeled":
            labeling += event["seconds"]
        elif event.get("event") == "progress":
            done = range(event.get("since", last), event["step"])
            if done:
                reports.append((done, len(done) / event["speed"], labeling))
            last, labeling = event["step"], 0.0
    if not reports:
        return {"seconds": 0.0, "seconds_per_iteration": math.nan}
    usual = statistics.median(seconds / len(done) for done, seconds, _ in reports)
    total, took = 0.0, {}
    for done, seconds, labeling in reports:
        if seconds - labeling > _PAUSE * usual * len(done):
            seconds = usual * len(done) + labeling
        total += seconds
        took.update(dict.fromkeys(done, seconds / len(done)))
    return {
        "seconds": round(total, 3),
        "seconds_per_iteration": round(sum(took.values()) / len(took), 6),
    }


def differences(now: Any, then: dict[str, Any], where: str = "") -> list[str]:
    """In which settings a dataclass differs from its own earlier JSON.

    A setting that did not exist then counts as its default, where it has one; one that does not
    exist any more is a difference. A profile's description does not count.
    """
    found = []
    names = {f.name for f in dataclasses.fields(now)}
    for field in dataclasses.fields(now):
        if field.name == "about":
            continue
        value, name = getattr(now, field.name), where + field.name
        if field.name not in then:
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            known = default is not dataclasses.MISSING
            if known and plain(value) != plain(default):
                found.append(name)
        elif dataclasses.is_dataclass(value):
            found += differences(value, then[field.name], f"{name}.")
        elif plain(value) != then[field.name]:
            found.append(name)
    return found + [where + k for k in then if k not in names]


def unlike(training: Training, options: dict[str, Any], profile: dict[str, Any]) -> list[str]:
    """In which settings the training differs from the method's ``options`` and the ``profile``
    that another one's JSON holds. Without a distance head, its dropout does not count."""
    found = differences(training.method, options, "method.")
    found += differences(training.profile, profile, "profile.")
    if not training.profile.network.distance_head:
        found = [name for name in found if name != "profile.network.distance_dropout"]
    return found


def commit() -> str | None:
    """The commit of the source tree, with ``+`` if it was changed since; None outside git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head, changes = (
            subprocess.run(
                ["git", "-C", str(root), *words],
                capture_output=True,
                text=True,
                timeout=20,
                check=True,
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changes else "")


def at(seconds: float) -> str:
    """A time since the epoch in UTC, to the minute."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _torch_version() -> str:
    import torch

    return torch.__version__


def _machine() -> str:
    """With what its speed depends on most: vector units, and the precision of the CPU."""
    import torch

    units = torch.backends.cpu.get_cpu_capability()
    precision = str(devices.precision(torch.device("cpu"))).removeprefix("torch.")
    cores = f"{os.cpu_count()} CPU cores ({units}, {precision})"
    return f"{platform.system()} {platform.machine()}, {cores}"
