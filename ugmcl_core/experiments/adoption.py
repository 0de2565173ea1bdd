"""Trainings that `ugmcl train` made already, taken over instead of being made again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import checkpoint
from ..errors import InputError
from ..model import CARD, open_model
from . import records
from .planning import Training
from .running import CHECKPOINT_EVERY, Workplace, alone

LOG = "log.jsonl"


def adopt(source: Path, trainings: Sequence[Training], place: Workplace) -> Training | None:
    """Copy the model and the log of the finished training in ``source`` to where ``trainings``
    has it, with a record; returns which one it is, None if that one has a record already.

    Its checkpoint must have the same method, profile, iterations, seed, cases and base; settings
    that did not exist when it was made count as their defaults. Raises InputError otherwise.
    """
    index, then = _fingerprint(source)
    differing = {t.folder: (t, unlike(t, then)) for t in trainings}
    same = [t for t, wrong in differing.values() if not wrong]
    if not same:
        name = then.get("method", {}).get("name")
        near, wrong = min(
            differing.values(), key=lambda pair: (pair[0].method.name != name, len(pair[1]))
        )
        raise InputError(
            f"{source}: is none of the experiment's trainings; compared with {near.folder} it "
            f"differs in {', '.join(wrong)}"
        )
    training = same[0]
    if index < training.profile.iterations:
        raise InputError(
            f"{source}: has {index} of {training.profile.iterations} iterations; finish it first "
            "(ugmcl train --resume)"
        )
    folder = place.folder(training)
    if records.read(folder) is not None:
        return None
    model = open_model(source / "model")
    model.load_weights()
    if model.card.patch != training.profile.batch.patch:  # which checkpoints do not say
        raise InputError(
            f"{source}: was trained on patches of {model.card.patch} voxels, not of "
            f"{training.profile.batch.patch}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        shutil.rmtree(folder / "model", ignore_errors=True)
        shutil.copytree(source / "model", folder / "model")
        shutil.copyfile(source / LOG, folder / LOG)
        name = source.resolve().name
        record = records.new(training, "", folder / LOG, CHECKPOINT_EVERY, adopted=name)
        record["finished"] = records.at((source / "model" / CARD).stat().st_mtime)
        records.write(folder, record)
        (folder / checkpoint.NAME).unlink(missing_ok=True)
    return training


def unlike(training: Training, then: dict[str, Any]) -> list[str]:
    """In which settings a checkpoint's fingerprint is not this training's."""
    method = dict(then.get("method", {}))
    name = method.pop("name", None)
    if name != training.method.name:
        return [f"method ({name})"]
    wrong = records.unlike(training, method, then.get("profile", {}))
    for key in ("labelled", "unlabelled"):
        if list(getattr(training, key)) != then.get(key):
            wrong.append(f"the {key} cases")
    if then.get("seed") != training.seed:
        wrong.append(f"seed ({then.get('seed')})")
    if then.get("base") is not None:
        wrong.append("base")
    return wrong


def _fingerprint(source: Path) -> tuple[int, dict[str, Any]]:
    """Number of done iterations and settings from the header of a training's checkpoint."""
    from safetensors import SafetensorError, safe_open

    path = source / checkpoint.NAME
    if not path.is_file():
        raise InputError(f"{source}: there is no training here (no {checkpoint.NAME})")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
        return int(header["index"]), json.loads(header["settings"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a usable checkpoint ({error})") from None
