"""Running an experiment's trainings: each is resumed where it stopped, scored and recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Canceled, InputError
from ..files import held, plain
from ..models.card import as_name
from ..models.model import CARD, open_model
from ..nn import devices
from ..training import checkpoint
from ..training.profiles import batch_text
from ..training.train import Description, TrainingSettings, train
from . import records
from .datasets import Dataset
from .planning import Training
from .scoring import Scoring, score_cases

LOG = "log.jsonl"


@dataclass(frozen=True)
class Workplace:
    """Where trainings lie and how they are scored; ``case_names`` are the cases to score."""

    output: Path
    dataset: Dataset
    scoring: Scoring
    device: str = "auto"

    @property
    def case_names(self) -> tuple[str, ...]:
        return self.dataset.dev if self.scoring.cases == "dev" else self.dataset.report

    def folder(self, training: Training) -> Path:
        """The training's folder."""
        return self.output / training.folder

    def predictions(self, training: Training) -> Path:
        """The folder of its label maps."""
        return self.folder(training) / "predictions" / self.scoring.key


def finished(place: Workplace, training: Training) -> dict[str, Any] | None:
    """The record of a training that is done, scored or not; None if it is not.

    Raises InputError if the folder holds a record of other settings.
    """
    record = records.read(place.folder(training))
    if record is not None and (
        wrong := records.unlike(training, record["options"], record["profile"])
    ):
        raise InputError(
            f"{place.folder(training)}: its record was made with different settings "
            f"({', '.join(wrong)}); move the folder away to train again"
        )
    return record


def scores(place: Workplace, record: dict[str, Any] | None) -> list[dict[str, Any]] | None:
    """The rows of a record for the cases that are to be scored; None if they are not there."""
    found = (record or {}).get("scores", {}).get(place.scoring.key)
    if found is None or found["cases"] != list(place.case_names):
        return None
    return found["rows"]


def state(place: Workplace, training: Training) -> str:
    """In words: done, trained but not scored, the number of iterations, or not started."""
    try:
        record = finished(place, training)
    except InputError as error:
        return str(error)
    if scores(place, record) is not None:
        return "done"
    if record is not None:
        return "trained, not scored"
    total = training.profile.iterations
    done = _iterations(place.folder(training))
    return f"{done} of {total} iterations" if done is not None else "not started"


def do(
    place: Workplace,
    training: Training,
    emit: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train, resume, or do nothing; score; return the record.

    ``emit`` gets the training's events, and ``scoring`` ones. Raises Busy when another process is
    working on it, InputError, and, after a stop that the next call resumes from, KeyboardInterrupt
    (Ctrl-C) or Canceled (``should_stop``).
    """
    folder = place.folder(training)
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        record = finished(place, training)
        if record is None:
            record = _train(place, training, folder, emit, should_stop)
        if scores(place, record) is None:
            _score(place, training, record, emit, should_stop)
            records.write(folder, record)
    return record


def iterations_in_time(place: Workplace, reference: Training, other: Training) -> int | None:
    """How many iterations of ``other`` fit in the wall time of ``reference``, by both records
    (each iteration counted once); None without them."""
    took = []
    for training in (reference, other):
        record = finished(place, training)
        if record is None or record["time"]["seconds_per_iteration"] is None:
            return None
        took.append(record["time"]["seconds_per_iteration"])
    count = reference.profile.iterations * took[0] / took[1]
    return 10 * round(count / 10) if count >= 100 else max(1, round(count))


def _train(
    place: Workplace,
    training: Training,
    folder: Path,
    emit: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    dataset = place.dataset

    def convert(fraction: float, text: str) -> None:
        if should_stop():
            raise Canceled
        emit({"event": "preparing", "fraction": fraction, "text": text})

    cohort = dataset.cohort(training.labeled, training.unlabeled, place.output / "cases", convert)
    train(
        cohort,
        training.method,
        training.profile,
        folder,
        TrainingSettings(seed=training.seed, device=place.device),
        description=Description(
            as_name(training.folder), modality=dataset.modality, classes=dataset.classes
        ),
        resume=(folder / LOG).exists(),
        on_event=emit,
        should_stop=should_stop,
    )
    if should_stop():
        raise Canceled
    record = records.new(training, _device_text(place.device), folder / LOG)
    records.write(folder, record)
    (folder / checkpoint.NAME).unlink(missing_ok=True)  # 150 MB that are no longer needed
    return record


def _score(
    place: Workplace,
    training: Training,
    record: dict[str, Any],
    emit: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool],
) -> None:
    def progress(fraction: float, text: str) -> None:
        if should_stop():
            raise Canceled
        emit({"event": "scoring", "fraction": fraction, "text": text})

    names = place.case_names
    cases = place.dataset.usable(names, place.output / "cases", progress)
    chosen, target = [cases[n] for n in names], place.predictions(training)
    model = open_model(place.folder(training) / "model")
    rows = score_cases(model, chosen, place.scoring, place.device, target, progress)
    record["scores"][place.scoring.key] = {"cases": list(names), "rows": plain(rows)}


def _device_text(name: str) -> str:
    """The device called ``name`` in words for people."""
    device = devices.resolve(name)
    key = f"cuda:{device.index or 0}" if device.type == "cuda" else device.type
    return next(d["text"] for d in devices.listing() if d["name"] == key)


def _iterations(folder: Path) -> int | None:
    """Iterations that the folder's checkpoint has seen, None without a usable one."""
    try:
        return _fingerprint(folder)[0]
    except InputError:
        return None


def adopt(source: Path, trainings: Sequence[Training], place: Workplace) -> Training | None:
    """Copy the model and the log of the finished training in ``source`` to where ``trainings``
    has it, with a record; returns that training, or None if it has a record already.

    Its checkpoint must have the same method, profile, iterations, seed, cases and base; settings
    that did not exist when it was made count as their defaults. Raises InputError otherwise.
    """
    index, then = _fingerprint(source)
    differing = {t.folder: (t, _differences(t, then)) for t in trainings}
    same = [t for t, wrong in differing.values() if not wrong]
    if not same:
        name = then.get("method", {}).get("name")
        near, wrong = min(
            differing.values(), key=lambda pair: (pair[0].method.name != name, len(pair[1]))
        )
        raise InputError(
            f"{source}: is not one of the experiment's trainings; compared with {near.folder} it "
            f"differs in {', '.join(wrong)}; adopt another, or train it"
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
    if model.card.patch != training.profile.batch.patch:  # which checkpoints do not hold
        raise InputError(
            f"{source}: was trained on patches of {model.card.patch} voxels, not of "
            f"{training.profile.batch.patch}; train it"
        )
    batch = batch_text(training.profile)
    if (made := model.card.training.get("batch", batch)) != batch:
        raise InputError(
            f"{source}: was trained on batches of {made} patches, not of {batch}; train it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        shutil.rmtree(folder / "model", ignore_errors=True)
        shutil.copytree(source / "model", folder / "model")
        shutil.copyfile(source / LOG, folder / LOG)
        name = source.resolve().name
        record = records.new(training, "", folder / LOG, adopted=name)
        record["finished"] = records.at((source / "model" / CARD).stat().st_mtime)
        records.write(folder, record)
        (folder / checkpoint.NAME).unlink(missing_ok=True)
    return training


def take_over(source: Path, trainings: Sequence[Training], place: Workplace) -> int:
    """Copy the records of ``trainings`` that a report has put into the folder ``source`` to where
    they are looked for, and return how many: these count as done, without their models. Records
    that are there already stay. Raises InputError.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; give the folder records/ of a report")
    taken = 0
    for training in trainings:
        record = records.read(source, f"{training.folder}.json")
        if record is not None and records.read(place.folder(training)) is None:
            records.write(place.folder(training), record)
            taken += 1
    return taken


def _differences(training: Training, then: dict[str, Any]) -> list[str]:
    """In which settings a checkpoint's fingerprint is not this training's."""
    method = dict(then.get("method", {}))
    name = method.pop("name", None)
    if name != training.method.name:
        return [f"method ({name})"]
    wrong = records.unlike(training, method, then.get("profile", {}))
    for key in ("labeled", "unlabeled"):
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
        raise InputError(
            f"{source}: there is no training here (no {checkpoint.NAME}); check the folder"
        )
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
        return int(header["index"]), json.loads(header["settings"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a usable checkpoint ({error}); train again") from None
