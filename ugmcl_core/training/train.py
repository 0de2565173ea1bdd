"""Training a model: from cases, a method and a protocol to a model folder."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.cases import Cohort
from ..data.preprocessing import stored_normalization
from ..errors import Canceled, InputError, interruptible
from ..files import Busy, held, plain, unwritable
from ..methods.base import Method
from ..models import manifest
from ..models.card import ClassInfo, ModelCard, as_name
from ..models.model import Model, open_model, save_model
from ..models.model import record as model_record
from ..nn import devices, parallel
from . import checkpoint
from .profiles import Profile, batch_text, stages
from .pseudo_labels import renewal_steps
from .task import TrainingSettings, TrainingTask
from .trainer import Listener, Trainer, holdout_means

Adapt = Callable[["Progress", Callable[[], bool]], tuple[Profile, "Description"] | None]
"""As what a training that is to last some time goes on: the same with another number of
iterations, or None for no change, and at once when what it is given last turns true."""

_LOCK = ".training"
_ADAPTED = (1 / 16, 1 / 4, 1 / 2)  # parts of the first stage after which it may change
COARSE = "coarse"
"""The folder of the coarse start in that of its training."""

__all__ = ["Description", "Progress", "TrainingSettings", "describe", "train"]


@dataclass(frozen=True)
class Progress:
    """``index`` iterations of ``total`` are done and took ``seconds``, ``each`` of the last ones
    so many."""

    index: int
    total: int
    seconds: float
    each: float


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
    adapt: Adapt | None = None,
) -> Model:
    """Train ``method`` and write the model into ``output``/model; returns it.

    ``base`` provides the initial weights; without one, the ``profile`` may have a coarse start,
    which is trained in ``output``/coarse. Progress goes to ``on_event`` and to
    ``output``/log.jsonl. When ``should_stop()`` turns true or Ctrl-C is pressed (KeyboardInterrupt
    follows), the checkpoint and a usable model are written after the current step, and the model's
    card has the number of iterations done; ``resume`` continues from there, or starts again with a
    notice. ``adapt`` may change the length while the first stage runs, unless it is resumed or
    there are several processes, so that it lasts a given time on a computer that becomes faster
    or slower. Raises InputError for cases that cannot be used, and for folders that contain
    another training, or a model without one.

    In a process that torchrun started this trains one model together with the others: each makes
    its part of every batch, and rank 0 alone writes and reports. Where ``output`` is on another
    node's disk, the returned model is a description of what rank 0 wrote there, and a coarse start
    is left out, since its model could not be read.
    """
    settings, output = settings or TrainingSettings(), Path(output)
    if base is not None or parallel.nodes() > 1:
        profile = replace(profile, coarse=None)

    def tasks_of(profile: Profile) -> list[TrainingTask]:
        parts = stages(profile)
        folders, course = [output / COARSE, output][-len(parts) :], profile if parts[1:] else None
        return [
            TrainingTask(cohort, method, part, folder, settings, base, course)
            for part, folder in zip(parts, folders, strict=True)
        ]

    def adapted(
        progress: Progress, canceled: Callable[[], bool]
    ) -> tuple[list[TrainingTask], Description] | None:
        found = adapt(progress, canceled)
        return None if found is None else (tasks_of(found[0]), found[1])

    tasks = tasks_of(profile)
    description = description or describe(base, as_name(output.resolve().name), profile)
    with parallel.taking_part(settings.device) as device, held_for_training(output) as made:
        listen = on_event if on_event and parallel.rank() == 0 else lambda event: None
        stop = should_stop or (lambda: False)
        again = None if adapt is None or parallel.size() > 1 else adapted
        run = _Run(output, tasks, device, description, resume, listen, stop, made, again)
        return run.train()


@contextmanager
def held_for_training(output: Path) -> Iterator[bool]:
    """Keep other trainings out of the folder; yields whether this one created it, and so may
    delete it. Only rank 0 holds it."""
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
                f"{output}: another training ({other}) is writing to it; wait until it ends, or "
                "choose another folder"
            ) from None
        except OSError as error:
            raise unwritable(output, error) from error
        try:
            yield made
        finally:
            if made and [p.name for p in output.glob("*")] == [_LOCK]:  # refused at once
                shutil.rmtree(output, ignore_errors=True)


@dataclass
class _Run:
    """One training, of one or two stages, among the processes that take part. ``adapt`` returns
    the tasks and the description of another length, as `Adapt` does."""

    output: Path
    tasks: Sequence[TrainingTask]
    device: torch.device
    description: Description
    resume: bool
    listen: Listener
    should_stop: Callable[[], bool]
    made: bool
    adapt: Callable[..., tuple[Sequence[TrainingTask], Description] | None] | None

    @property
    def iterations(self) -> int:
        """Of all stages."""
        return sum(t.profile.iterations for t in self.tasks)

    def train(self) -> Model:
        """What `train` does once it holds the folder."""
        began = time.monotonic()
        for count in (self.tasks[0].profile.batch.labeled, self.tasks[0].profile.batch.unlabeled):
            parallel.part(count)
        devices.prepare_cpu()
        self._check_folder()
        model, done, interrupted = None, 0, False
        for number in range(len(self.tasks)):
            task = replace(self.tasks[number], base=model or self.tasks[number].base)
            folder, is_last = task.output / "model", number == len(self.tasks) - 1
            if not is_last and self._is_done(task):
                model, done = open_model(folder), done + task.profile.iterations
                continue
            card, interrupted = self._stage(task, done)
            task = replace(self.tasks[number], base=task.base)  # as it was adapted
            goal = done + task.profile.iterations
            if is_last:
                model = open_model(folder) if parallel.rank() == 0 else Model(card, folder)
            else:  # with its checksum on every rank, as the next stage depends on it
                model = open_model(folder)
            done = int(card.training["iterations"])
            if interrupted or done < goal:
                break
        if parallel.rank() == 0:
            if task.output != self.output:
                model = save_model(self.output / "model", model.card, model.load_weights())
            self._write_manifest(task, model, time.monotonic() - began)
        if interrupted:
            raise KeyboardInterrupt
        return model

    def _check_folder(self) -> None:
        """Raise InputError if the folder contains something that would be lost."""
        begun = any((t.output / checkpoint.NAME).exists() for t in self.tasks)
        if begun and not self.resume:
            raise InputError(
                f"{self.output}: already contains a training; use --resume or another folder"
            )
        if not begun and (self.output / "model" / "model.json").exists():
            raise InputError(
                f"{self.output}: holds a model without the checkpoint of its training, which "
                "would be replaced; choose another folder"
            )

    def _is_done(self, task: TrainingTask) -> bool:
        """Whether a stage was completed before."""
        former = self._former(task)
        return former is not None and former.index >= task.profile.iterations and (
            task.output / "model" / "model.json"
        ).exists()  # fmt: skip

    def _former(self, task: TrainingTask) -> checkpoint.Checkpoint | None:
        """The checkpoint to continue from; InputError for that of another training."""
        former = checkpoint.load(task.output) if self.resume else None
        wanted = task.fingerprint
        if former is not None and former.settings != wanted:
            changed = [k for k in wanted if former.settings.get(k) != wanted[k]]
            raise InputError(
                f"{self.output}: holds a training with different settings ({', '.join(changed)}); "
                "choose another folder or the same settings"
            )
        return former

    def _stage(self, task: TrainingTask, before: int) -> tuple[ModelCard, bool]:
        """Train a stage, after ``before`` iterations of earlier ones; returns the card of its
        model, and whether a signal interrupted it."""
        main, former = parallel.rank() == 0, self._former(task)
        try:
            part = before / self.iterations
            trainer = Trainer(task, self.device, lambda e: self.listen({**e, "done": part}))
            task.output.mkdir(parents=True, exist_ok=True)  # of a rank on another node
            path = self.output / "log.jsonl" if main else Path(os.devnull)
            log = path.open("a", encoding="utf-8")
        except (OSError, InputError) as error:
            if self.made and not before:  # what was prepared before a case was refused, or the
                shutil.rmtree(self.output, ignore_errors=True)  # disk was full
            if isinstance(error, OSError):
                raise unwritable(task.output, error) from error
            raise

        def emit(event: dict[str, Any]) -> None:
            event = self._of_all(event, before, trainer.profile)
            try:
                log.write(json.dumps(plain(event)) + "\n")
                log.flush()
            except OSError as error:
                raise unwritable(path, error) from error
            self.listen(event)

        trainer.emit = emit
        # an invalid description must not surface only after hours of training
        card = replace(model_card(trainer, self.description, before), sha256="0" * 64)
        ModelCard.from_json(card.to_json(), "the model")
        with log, interruptible() as interrupted:
            if not before:
                if self.resume and former is None:
                    text = "there is no checkpoint to continue from; the training starts again"
                    emit({"event": "notice", "text": f"{self.output}: {text}"})
                kinds = (_taken_over, _never_labeled, _of_pieces)
                texts = [text for kind in kinds for text in kind(trainer, self.description)]
                for text in (*_too_short(task), *texts):
                    emit({"event": "notice", "text": text})
            if len(self.tasks) > 1:
                grid = ",".join(f"{v:g}" for v in task.profile.representation.spacing)
                last = before + task.profile.iterations
                emit({"event": "notice", "text": f"to iteration {last} on a grid of {grid} mm"})
            if former is None:
                trainer.forget()
            else:
                trainer.restore(former)

            def stop() -> bool:
                return interrupted() or self.should_stop()

            if former is None and not before and self.adapt is not None:
                trainer.loop(stop, self._resizing(trainer, stop))
            else:
                trainer.loop(stop)
            card = model_card(trainer, self.description, before)
            if main:
                _finish(trainer, card, stop)
        # after what rank 0 wrote, which the others wait for here
        return card, parallel.anywhere(interrupted(), self.device)

    def _resizing(self, trainer: Trainer, stop: Callable[[], bool]) -> Callable[[], bool]:
        """Whether the training has just been resized, as `adapt` would have it: what
        `Trainer.loop` asks after each iteration of the first stage."""
        points, last = list(_ADAPTED), Progress(0, 0, 0.0, 0.0)

        def resized() -> bool:
            nonlocal points, last
            index, seconds = trainer.index, trainer.seconds
            if not points or index < points[0] * trainer.profile.iterations:
                return False
            changed = False
            if index <= _changeable(self.tasks[0]):
                each = (seconds - last.seconds) / (index - last.index)
                last = Progress(index, self.iterations, seconds, each)
                found = self.adapt(last, stop)
                changed = found is not None and self._resized(trainer, *found)
            points = [p for p in points[1:] if index < p * trainer.profile.iterations]
            return changed

        return resized

    def _resized(
        self, trainer: Trainer, tasks: Sequence[TrainingTask], description: Description
    ) -> bool:
        """Go on with the first of ``tasks``, if what is done is a part of it too."""
        former, count = self.tasks[0], self.iterations
        if len(tasks) != len(self.tasks) or not _is_part(trainer.index, former, tasks[0]):
            return False
        try:
            trainer.resize(tasks[0])
        except Canceled:
            return False
        except InputError as error:  # an unlabeled case that the former length does not need
            text = f"still {count} iterations, since an unlabeled case cannot be used: {error}"
            trainer.emit({"event": "notice", "text": text})
            return False
        self.tasks, self.description = tasks, description
        speed = "faster" if self.iterations > count else "slower"
        texts = [f"{self.iterations} iterations instead of {count}: the computer is {speed} now"]
        if _joins(tasks[0]) and not _joins(former):
            texts.append(f"so unlabeled cases join after iteration {tasks[0].alone}")
        elif _joins(former):
            texts += _too_short(tasks[0])
        for text in texts:
            trainer.emit({"event": "notice", "text": text})
        return True

    def _of_all(self, event: dict[str, Any], before: int, profile: Profile) -> dict[str, Any]:
        """An event of a stage as one of the whole training."""
        later = self.iterations - before - profile.iterations
        event = dict(event)
        if later and event["event"] == "done":
            event["event"] = "holdout"
            del event["total"]
        for key in event.keys() & {"step", "since"}:
            event[key] += before
        if "total" in event:
            event["total"] = self.iterations
        if later and "remaining" in event:  # an iteration takes longer, the more voxels it sees
            voxels = (math.prod(t.batch.patch) for t in (self.tasks[-1].profile, profile))
            event["remaining"] += later / event["speed"] * next(voxels) / next(voxels)
        return event

    def _write_manifest(self, task: TrainingTask, model: Model, seconds: float) -> None:
        cohort = task.cohort
        cases = (*cohort.labeled, *cohort.unlabeled, *cohort.holdout)
        manifest.write(
            self.output / manifest.NAME,
            "train",
            options={**task.fingerprint, "iterations_done": model.card.training["iterations"]},
            inputs=[path for case in cases for path in (*case.images, case.label)],
            device=str(self.device),
            seconds=seconds,
            model=model_record(model),
        )


def _changeable(task: TrainingTask) -> int:
    """The iteration after which no other length has the same past (`_is_part`)."""
    profile = task.profile
    if not task.uses_unlabeled:
        return profile.iterations
    renewals = renewal_steps(profile.iterations, profile.warmup, task.method.renewals)
    return profile.warmup or next(iter(renewals[1:]), profile.iterations)


def _joins(task: TrainingTask) -> bool:
    """Whether unlabeled cases take part in any stage."""
    iterations = (task.course or task.profile).iterations
    return task.method.uses_unlabeled and task.gives_unlabeled and task.alone < iterations


def _is_part(index: int, former: TrainingTask, task: TrainingTask) -> bool:
    """Whether the first ``index`` iterations of one training, learning rates aside, are also those
    of another length: labeled and unlabeled patches, and volumes that were labeled."""

    def past(one: TrainingTask) -> tuple[int, list[int]]:
        profile, renewals = one.profile, one.method.renewals
        if not one.uses_unlabeled:
            return index, []
        steps = renewal_steps(profile.iterations, profile.warmup, renewals)
        return min(index, profile.warmup), [step for step in steps if step < index]

    return past(former) == past(task) and index < task.profile.iterations


def _finish(trainer: Trainer, card: ModelCard, should_stop: Callable[[], bool]) -> None:
    """Write checkpoint and model, and emit how the training ended."""
    trainer.save()
    save_model(trainer.output / "model", card, trainer.weights())
    total = trainer.profile.iterations
    if trainer.index < total:
        trainer.emit({"event": "stopped", "step": trainer.index, "total": total})
        return
    means = holdout_means(trainer.holdout_dice(should_stop))
    trainer.emit({"event": "done", "step": trainer.index, "total": trainer.index, **means})
    shutil.rmtree(trainer.output / "cache", ignore_errors=True)


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
    """The classes; where `largest_component` is undecided, the labels decide. What is not a
    base's has the value in label maps that its labels have, unless another class has it."""
    bases = () if trainer.base is None else trainer.base.card.classes
    pairs = zip(description.classes, bases, strict=False)
    both = itertools.takewhile(lambda pair: pair[0].name == pair[1].name, pairs)
    classes = [replace(item, label=own.label) for item, own in both]
    known = len(classes)
    for item, value in zip(description.classes[known:], _values(trainer)[known:], strict=False):
        taken = {c.in_files for c in classes}
        label = next(v for v in itertools.chain([value], itertools.count(1)) if v not in taken)
        classes.append(replace(item, label=None if label == item.value else label))
    for n, item in enumerate(classes):
        if item.largest_component is None:
            several = any(case.several_components[n] for case in trainer.labeled)
            classes[n] = replace(item, largest_component=not several)
    return tuple(classes)


def _too_short(task: TrainingTask) -> list[str]:
    """A notice of unlabeled cases that do not take part, since labels teach more all the time."""
    iterations = (task.course or task.profile).iterations
    if task.alone < iterations:
        return []
    return [
        f"unlabeled cases would join after iteration {task.alone}, and the training ends at "
        f"{iterations}: it learns from the labels alone, which teach it more until then"
    ]


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
    """Notices of what `_classes` decided by labels that show the class."""
    decided = {
        c.value
        for n, c in enumerate(description.classes)
        if c.largest_component is None
        and any(len(case.foreground_voxels[n]) for case in trainer.labeled)
    }
    rule = {True: "one piece of {}, so results keep the surest one",
            False: "several pieces of {}, all of which results keep"}  # fmt: skip
    return [
        f"the labels show {rule[c.largest_component].format(c.name)}"
        for c in _classes(trainer, description)
        if c.value in decided
    ]


def model_card(trainer: Trainer, description: Description, before: int = 0) -> ModelCard:
    """The card of the training's model in its current state, after ``before`` iterations of an
    earlier stage, whose model does not count as a base."""
    r = trainer.profile.representation
    cases = (*trainer.labeled, *trainer.unlabeled)
    sizes = np.array([np.multiply(c.opened().image.shape[1:], c.spacing) for c in cases])
    known = None if trainer.base is None else trainer.base.card.field_of_view_mm
    if known is not None and not trainer.replanned:
        sizes = np.concatenate([sizes, known])
    view = tuple(
        tuple(float(f"{v:.4g}") for v in row) for row in (sizes.min(axis=0), sizes.max(axis=0))
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
            "iterations": before + trainer.index,
            "batch": batch_text(trainer.profile),
            "seed": trainer.settings.seed,
            "labeled": len(trainer.labeled),
            "unlabeled": len(trainer.unlabeled),
            "base": trainer.base.name if trainer.base is not None and not before else None,
            "weights": trainer.profile.optimization.saved,
            **description.provenance,
        },
        license=description.license,
        intended_use=description.intended_use,
    )
