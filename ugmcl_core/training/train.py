"""Training a model: from cases, a method and a protocol to a model folder."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.cases import Cohort
from ..data.preprocessing import stored_normalization
from ..errors import InputError
from ..files import Busy, held, unwritable
from ..methods.base import Method
from ..models import manifest
from ..models.card import ClassInfo, ModelCard, as_name
from ..models.model import Model, save_model
from ..models.model import record as model_record
from ..nn import devices, parallel
from . import checkpoint
from .profiles import Profile, batch_text
from .trainer import Listener, Trainer, TrainingSettings, TrainingTask, interruptible

_LOCK = ".training"

__all__ = ["Description", "TrainingSettings", "describe", "train"]


@dataclass(frozen=True)
class Description:
    """The part of the model card that the profile does not determine; ``provenance`` is added to
    its record of the training."""

    name: str
    description: str = ""
    modality: str = ""
    classes: tuple[ClassInfo, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    license: str = "Made by the user; the user's own terms apply."
    intended_use: str = "Research only; not for clinical use."


def train(
    cohort: Cohort,
    method: Method,
    profile: Profile,
    output: Path | str,
    settings: TrainingSettings | None = None,
    *,
    description: Description | None = None,
    base: Model | None = None,
    resume: bool = False,
    on_event: Listener | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Model:
    """Train ``method`` and write the model into ``output``/model; returns it.

    ``base`` gives the initial weights. Progress goes to ``on_event`` and to ``output``/log.jsonl.
    When ``should_stop()`` turns true or Ctrl-C is pressed (KeyboardInterrupt follows), the
    checkpoint and a usable model are written after the current step, and the model's card has the
    number of iterations done; ``resume`` continues from there, or starts again with a notice.
    Raises InputError for cases that cannot be used and folders that hold another training, or a
    model alone.

    In a process that torchrun started this trains one model together with the others: each makes
    its part of every batch, and rank 0 alone writes and reports. Where ``output`` is on another
    node's disk, the returned model is a description of what rank 0 wrote there.
    """
    settings = settings or TrainingSettings()
    task = TrainingTask(cohort, method, profile, Path(output), settings, base)
    description = description or describe(base, as_name(task.output.resolve().name), profile)
    with parallel.taking_part(settings.device) as device, held_for_training(task.output) as made:
        listen = on_event if on_event and parallel.rank() == 0 else lambda event: None
        stop = should_stop or (lambda: False)
        return _train(task, device, description, resume, listen, stop, made)


@contextmanager
def held_for_training(output: Path) -> Iterator[bool]:
    """Keep other trainings out of the folder; whether this one made it, and so may delete it.
    Rank 0 alone holds it."""
    if parallel.rank() != 0:
        yield False
        return
    made = not output.exists()
    with ExitStack() as stack:
        try:
            output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(output, _LOCK))
        except Busy as other:
            raise InputError(
                f"{output}: another training ({other}) writes into it; wait for its end, or "
                "choose another folder"
            ) from None
        except OSError as error:
            raise unwritable(output, error) from error
        try:
            yield made
        finally:
            if made and [p.name for p in output.glob("*")] == [_LOCK]:  # refused at once
                shutil.rmtree(output, ignore_errors=True)


def _train(
    task: TrainingTask,
    device: torch.device,
    description: Description,
    resume: bool,
    listen: Listener,
    should_stop: Callable[[], bool],
    made: bool,
) -> Model:
    """`train` on ``device``, among the processes that take part."""
    began = time.monotonic()
    for count in (task.profile.batch.labeled, task.profile.batch.unlabeled):
        parallel.part(count)
    main, output = parallel.rank() == 0, task.output
    devices.prepare_cpu()
    fingerprint = task.fingerprint
    former = checkpoint.load(output) if resume else None
    if former is not None and former.settings != fingerprint:
        changed = [k for k in fingerprint if former.settings.get(k) != fingerprint[k]]
        raise InputError(
            f"{output}: holds a training with other settings "
            f"({', '.join(changed)}); choose another folder or the same settings"
        )
    if not resume and (output / checkpoint.NAME).exists():
        raise InputError(f"{output}: holds a training already; use --resume or another folder")
    if former is None and (output / "model" / "model.json").exists():
        raise InputError(
            f"{output}: holds a model without the checkpoint of its training, which would be "
            "replaced; choose another folder"
        )
    try:
        trainer = Trainer(task, device, listen)
        output.mkdir(parents=True, exist_ok=True)  # of a rank on another node
        path = output / "log.jsonl" if main else Path(os.devnull)
        log = path.open("a", encoding="utf-8")
    except (OSError, InputError) as error:
        if made:  # what was prepared before a case was refused, or the disk was full
            shutil.rmtree(output, ignore_errors=True)
        if isinstance(error, OSError):
            raise unwritable(output, error) from error
        raise

    def emit(event: dict[str, Any]) -> None:
        try:
            log.write(json.dumps(event) + "\n")
            log.flush()
        except OSError as error:
            raise unwritable(path, error) from error
        listen(event)

    trainer.emit = emit
    # a description that no card accepts must not surface after hours
    card = replace(model_card(trainer, description), sha256="0" * 64)
    ModelCard.from_json(card.to_json(), "the model")
    with log, interruptible() as interrupted:
        if resume and former is None:
            text = f"{output}: there is no checkpoint to continue from; the training starts again"
            emit({"event": "notice", "text": text})
        kinds = (_taken_over, _never_labeled, _of_pieces)
        for text in (text for kind in kinds for text in kind(trainer, description)):
            emit({"event": "notice", "text": text})
        if former is not None:
            trainer.restore(former)

        def stop() -> bool:
            return interrupted() or should_stop()

        trainer.loop(stop)
        card = model_card(trainer, description)
        model = _finish(trainer, card, stop) if main else Model(card, output / "model")
        if main:
            cohort = task.cohort
            cases = (*cohort.labeled, *cohort.unlabeled, *cohort.holdout)
            manifest.write(
                output / manifest.NAME,
                "train",
                options={**fingerprint, "iterations_done": trainer.index},
                inputs=[path for case in cases for path in (*case.images, case.label)],
                device=str(device),
                seconds=time.monotonic() - began,
                model=model_record(model),
            )
    if parallel.anywhere(interrupted(), device):
        raise KeyboardInterrupt
    return model


def _finish(trainer: Trainer, card: ModelCard, should_stop: Callable[[], bool]) -> Model:
    """Write checkpoint and model, and emit how the training ended."""
    trainer.save()
    model = save_model(trainer.output / "model", card, trainer.weights())
    total = trainer.profile.iterations
    if trainer.index < total:
        trainer.emit({"event": "stopped", "step": trainer.index, "total": total})
        return model
    dice = trainer.holdout_dice(should_stop)
    trainer.emit({"event": "done", "step": trainer.index, "total": trainer.index, "dice": dice})
    shutil.rmtree(trainer.output / "cache", ignore_errors=True)
    return model


def describe(base: Model | None, name: str, profile: Profile) -> Description:
    """The description of a fine-tuned model (its base's), or of one from scratch."""
    if base is not None:
        card = base.card
        return Description(
            name,
            f"Fine-tuned from {card.name}. {card.description}".strip(),
            card.modality,
            card.classes,
            license=card.license,
            intended_use=card.intended_use,
        )
    values = range(1, profile.network.classes)
    classes = tuple(ClassInfo(n, f"class {n}", largest_component=None) for n in values)
    return Description(name, classes=classes)


def _classes(trainer: Trainer, description: Description) -> tuple[ClassInfo, ...]:
    """The classes; where `largest_component` is open, the labels decide it."""
    classes = []
    for n, item in enumerate(description.classes):
        if item.largest_component is None:
            several = any(case.several_components[n] for case in trainer.labeled)
            item = replace(item, largest_component=not several)
        classes.append(item)
    return tuple(classes)


def _taken_over(trainer: Trainer, description: Description) -> list[str]:
    """A notice of how much of a base a training by another plan uses."""
    if not trainer.replanned:
        return []
    some, all_ = trainer.taken_over
    return [f"{some} of {all_} layers begin with the weights of {trainer.base.name}"]


def _never_labeled(trainer: Trainer, description: Description) -> list[str]:
    """Notices of the classes that no label holds."""
    return [
        f"no label holds {c.name} (value {v}), so it is learned as never being there; check the "
        "labels and the classes"
        for n, (c, v) in enumerate(zip(description.classes, _values(trainer), strict=False))
        if not any(len(case.foreground_voxels[n]) for case in trainer.labeled)
    ]


def _values(trainer: Trainer) -> tuple[int, ...]:
    """The label values of the classes 1, 2, ..."""
    r = trainer.profile.representation
    return r.values or tuple(range(1, r.classes))


def _of_pieces(trainer: Trainer, description: Description) -> list[str]:
    """Notices of what `_classes` decided."""
    decided = {c.value for c in description.classes if c.largest_component is None}
    rule = {True: "one piece of {}, of which results keep the largest",
            False: "several pieces of {}, all of which results keep"}  # fmt: skip
    return [
        f"the labels show {rule[c.largest_component].format(c.name)}"
        for c in _classes(trainer, description)
        if c.value in decided
    ]


def model_card(trainer: Trainer, description: Description) -> ModelCard:
    """The card of the training's model as it is now."""
    r = trainer.profile.representation
    cases = (*trainer.labeled, *trainer.unlabeled)
    sizes = np.array([np.multiply(c.opened().image.shape[1:], c.spacing) for c in cases])
    known = None if trainer.base is None else trainer.base.card.field_of_view_mm
    if known is not None and not trainer.replanned:
        sizes = np.concatenate([sizes, known])
    view = tuple(
        tuple(round(float(v), 1) for v in row) for row in (sizes.min(axis=0), sizes.max(axis=0))
    )
    return ModelCard(
        name=description.name,
        description=description.description,
        modality=description.modality,
        classes=_classes(trainer, description),
        channels=trainer.channels,
        spacing=r.spacing,
        patch=trainer.profile.batch.patch,
        normalization=stored_normalization(r.normalization),
        network=trainer.profile.network.to_dict(),
        sdf=r.sdf,
        scale_mm=r.scale,
        field_of_view_mm=view,
        mirror_axes=trainer.profile.batch.augmentation.mirror_axes,
        training={
            "method": trainer.method.name,
            "settings": asdict(trainer.method),
            "profile": trainer.profile.name,
            "iterations": trainer.index,
            "batch": batch_text(trainer.profile),
            "seed": trainer.settings.seed,
            "labeled": len(trainer.labeled),
            "unlabeled": len(trainer.unlabeled),
            "base": trainer.base.name if trainer.base is not None else None,
            "weights": trainer.profile.optimization.saved,
            **description.provenance,
        },
        license=description.license,
        intended_use=description.intended_use,
    )
