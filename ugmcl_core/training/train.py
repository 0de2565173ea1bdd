"""Training a model: from cases, a method and a protocol to a model folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import devices
from ..data.cases import Cohort
from ..errors import InputError
from ..methods.base import Method
from ..models.card import ClassInfo, ModelCard, as_name
from ..models.model import Model, save_model
from ..nn import parallel
from . import checkpoint
from .profiles import Profile
from .trainer import Listener, Run, TrainingSettings, interruptible

__all__ = ["Description", "TrainingSettings", "describe", "train"]


@dataclass(frozen=True)
class Description:
    """What the model card says and the protocol does not know; ``provenance`` is added to what
    the card tells of the training."""

    name: str
    description: str = ""
    modality: str = ""
    classes: tuple[ClassInfo, ...] = ()
    channels: tuple[str, ...] = ("image",)
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
    checkpoint and a usable model are written after the step under way, and the model's card says
    how many iterations it has seen; ``resume`` goes on from there, or starts anew and says so.
    Raises InputError for cases that cannot be used and folders that hold another training, or a
    model alone.

    In a process that torchrun started this trains one model together with the others: each makes
    its part of every batch, and rank 0 alone writes and reports. Where ``output`` is on another
    node's disk, the returned model is a description of what rank 0 wrote there.
    """
    settings = settings or TrainingSettings()
    with parallel.taking_part(settings.device) as device:
        return _train(
            cohort,
            method,
            profile,
            Path(output),
            settings,
            device,
            description,
            base,
            resume,
            on_event if on_event and parallel.rank() == 0 else lambda event: None,
            should_stop or (lambda: False),
        )


def _train(
    cohort: Cohort,
    method: Method,
    profile: Profile,
    output: Path,
    settings: TrainingSettings,
    device: torch.device,
    description: Description | None,
    base: Model | None,
    resume: bool,
    listen: Listener,
    should_stop: Callable[[], bool],
) -> Model:
    """`train` on ``device``, among the processes that take part."""
    for count in (profile.batch.labeled, profile.batch.unlabeled):
        parallel.part(count)
    main = parallel.rank() == 0
    network = replace(profile.network, distance_head=method.uses_distance)
    profile = replace(profile, network=network)
    devices.prepare_cpu()
    fingerprint = _fingerprint(cohort, method, profile, settings, base)
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
    description = description or describe(base, as_name(output.resolve().name), profile)
    made = main and not output.exists()
    try:
        run = Run(cohort, method, profile, settings, device, base, output, fingerprint, listen)
        output.mkdir(parents=True, exist_ok=True)
        path = output / "log.jsonl" if main else Path(os.devnull)
        log = path.open("a", encoding="utf-8")
    except (OSError, InputError) as error:
        if made:  # what was prepared before a case was refused, or the disk was full
            shutil.rmtree(output, ignore_errors=True)
        if isinstance(error, OSError):
            raise _unwritable(output, error) from error
        raise

    def tell(event: dict[str, Any]) -> None:
        try:
            log.write(json.dumps(event) + "\n")
            log.flush()
        except OSError as error:
            raise _unwritable(path, error) from error
        listen(event)

    run.tell = tell
    # a description that no card accepts must not surface after hours
    ModelCard.from_json(replace(_card(run, description), sha256="0" * 64).to_json(), "the model")
    with log, interruptible() as interrupted:
        if resume and former is None:
            text = f"{output}: there is no checkpoint to go on from; the training starts anew"
            tell({"event": "notice", "text": text})
        for text in _of_pieces(run, description):
            tell({"event": "notice", "text": text})
        if former is not None:
            run.restore(former)

        def stop() -> bool:
            return interrupted() or should_stop()

        run.loop(stop)
        card = _card(run, description)
        model = _finish(run, card, stop) if main else Model(card, output / "model")
    if parallel.anywhere(interrupted(), device):
        raise KeyboardInterrupt
    return model


def _unwritable(path: Path, error: OSError) -> InputError:
    why = error.strerror or error  # NumPy gives a short write no other words than its own
    return InputError(f"{path}: cannot be written ({why}); check the folder and the free space")


def _finish(run: Run, card: ModelCard, should_stop: Callable[[], bool]) -> Model:
    """Write checkpoint and model, and tell how the training ended."""
    run.save()
    model = save_model(run.output / "model", card, run.weights())
    if run.index < run.profile.iterations:
        run.tell({"event": "stopped", "step": run.index, "total": run.profile.iterations})
        return model
    dice = run.holdout_dice(should_stop)
    run.tell({"event": "done", "step": run.index, "total": run.index, "dice": dice})
    shutil.rmtree(run.output / "cache", ignore_errors=True)
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
            card.channels,
            license=card.license,
            intended_use=card.intended_use,
        )
    return Description(
        name,
        classes=tuple(
            ClassInfo(value, f"class {value}", largest_component=None)
            for value in range(1, profile.network.classes)
        ),
    )


def _fingerprint(
    cohort: Cohort,
    method: Method,
    profile: Profile,
    settings: TrainingSettings,
    base: Model | None,
) -> dict[str, Any]:
    """What must be equal for a checkpoint to be continued, as JSON gives it back.

    The size of a batch is not: a training that ran out of memory goes on with a smaller one.
    """
    protocol = asdict(profile)
    for key in ("patch", "labeled", "unlabeled"):
        del protocol["batch"][key]
    return json.loads(
        json.dumps(
            {
                "method": {"name": method.name, **asdict(method)},
                "profile": protocol,
                "seed": settings.seed,
                "base": base.card.sha256 if base is not None else None,
                "labeled": [c.name for c in cohort.labeled],
                "unlabeled": [c.name for c in cohort.unlabeled],
            }
        )
    )


def _classes(run: Run, description: Description) -> tuple[ClassInfo, ...]:
    """The classes, those of which nobody said so one piece where every label shows one."""
    return tuple(
        replace(c, largest_component=not any(case.several_components[n] for case in run.labeled))
        if c.largest_component is None
        else c
        for n, c in enumerate(description.classes)
    )


def _of_pieces(run: Run, description: Description) -> list[str]:
    """What `_classes` has concluded, for whom it surprises."""
    asked = {c.value for c in description.classes if c.largest_component is None}
    rule = {True: "one piece of {}, of which results keep the largest",
            False: "several pieces of {}, all of which results keep"}  # fmt: skip
    return [
        f"the labels show {rule[c.largest_component].format(c.name)}"
        for c in _classes(run, description)
        if c.value in asked
    ]


def _card(run: Run, description: Description) -> ModelCard:
    """The card of the run's model as it is now."""
    r = run.profile.representation
    sizes = np.array(
        [
            np.multiply(c.opened().image.shape[1:], c.spacing)
            for c in (*run.labeled, *run.unlabeled)
        ]
    )
    if run.base is not None and run.base.card.field_of_view_mm is not None:
        sizes = np.concatenate([sizes, run.base.card.field_of_view_mm])
    view = tuple(
        tuple(round(float(v), 1) for v in row) for row in (sizes.min(axis=0), sizes.max(axis=0))
    )
    return ModelCard(
        name=description.name,
        description=description.description,
        modality=description.modality,
        classes=_classes(run, description),
        channels=description.channels,
        spacing=r.spacing,
        patch=run.profile.batch.patch,
        normalization=r.normalization.to_dict(),
        network=run.profile.network.to_dict(),
        sdf=r.sdf,
        scale_mm=r.scale,
        field_of_view_mm=view,
        mirror_axes=run.profile.batch.augmentation.mirror_axes,
        training={
            "method": run.method.name,
            "settings": asdict(run.method),
            "profile": run.profile.name,
            "iterations": run.index,
            "seed": run.settings.seed,
            "labeled": len(run.labeled),
            "unlabeled": len(run.unlabeled),
            "base": run.base.name if run.base is not None else None,
            "weights": run.profile.optimization.saved,
            **description.provenance,
        },
        license=description.license,
        intended_use=description.intended_use,
    )
