"""The only training loop: methods differ in their losses alone.

Every step's batch, dropout and noise are functions of the seed and the step's number, so a resumed
training gives the numbers of an uninterrupted one on the same machine's CPU; on a GPU some sums
have no fixed order. With several processes (`parallel`) every rank runs this loop on its part of
each batch.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.augmentation import floats
from ..data.batches import BatchSource, batches
from ..data.cases import (
    Case,
    Cohort,
    PreparedCase,
    in_memory,
    on_device,
    prepare_cases,
    within_budget,
)
from ..data.components import keep_surest
from ..errors import Canceled, InputError
from ..evaluation.metrics import known_mean
from ..inference.localization import is_large
from ..inference.sliding_window import class_map, lead, predict
from ..models.card import ClassInfo
from ..models.model import Model
from ..nn import devices, parallel
from ..nn.batch import Batch
from ..nn.network import (
    DualTaskVNet,
    load_weights,
    start_at,
    take_over,
    with_new_classes,
    without_auxiliary,
)
from ..nn.schedules import Step
from ..nn.teacher import Teacher
from . import checkpoint, pseudo_labels
from .profiles import Profile
from .pseudo_labels import PseudoLabel, label_volume, renewal_steps
from .task import TrainingTask

Listener = Callable[[dict[str, Any]], None]
_SHAPES = 16  # unlabeled volumes whose sizes are taken as representative of all
_LABELS = "pseudo-labels-{}.npz"  # of the volumes that were labeled before an iteration
_REPORT_EVERY = 2.0  # seconds
_FIRST_CHECKPOINT, _NEXT_CHECKPOINT = 60.0, 120.0  # seconds: the most that a kill may lose


class Trainer:
    """A training under way: networks, optimizers, prepared cases, the number of iterations done
    and the ``seconds`` that those of this process took. ``emit`` receives its events."""

    def __init__(
        self, task: TrainingTask, device: torch.device, emit: Listener = lambda event: None
    ) -> None:
        self.method, self.profile, self.settings = task.method, task.profile, task.settings
        self.device, self.base, self.channels = device, task.base, task.channels
        self.output, self.fingerprint, self.emit = task.output, task.fingerprint, emit
        self.index, self.speed, self.seconds = 0, 0.0, 0.0
        profile, settings, base = self.profile, self.settings, self.base
        deepest = profile.batch.patch[0] // profile.network.multiple[0]
        self.half_precision = settings.half_precision and devices.has_half_gradients(
            device, deepest
        )
        self.seed = _seed(settings.seed, base)
        torch.manual_seed(self.seed)
        network, weights = DualTaskVNet(profile.network), None
        self.replanned, self.taken_over = task.replanned, (0, 0)
        if (base is None or task.replanned) and profile.prior:
            start_at(network, profile.prior)
        if task.replanned:
            self.taken_over = take_over(network, base.load_weights())
        elif base is not None:
            weights = with_new_classes(base.load_weights(), profile.network.classes)
            load_weights(network, weights, same_heads=False)
        self.student = self._placed(network)
        o = profile.optimization
        # Methods that use no teacher keep one as well: its average may become the model.
        self.teacher = Teacher(self.student, o.decay, o.average_buffers)
        self.optimizers = self._optimizers(weights)
        self.cache = self.output / "cache"
        if parallel.size() > 1:  # each rank's own, since they all prepare at the same time
            self.cache = self.cache / f"rank{parallel.rank()}"
        self.budget, self.used = settings.memory // parallel.neighbors(), 0
        cohort = task.cohort if task.uses_unlabeled else replace(task.cohort, unlabeled=())
        self.labeled, self.unlabeled, self.holdout = self._prepare(cohort)

    def _placed(self, network: nn.Module) -> nn.Module:
        """``network`` on the device, and the same on every rank."""
        network = parallel.with_shared_statistics(network, self.device)
        network = network.to(self.device, memory_format=torch.channels_last_3d)
        parallel.equal_start(network)
        return network

    def _optimizers(self, base: Mapping[str, Tensor] | None) -> dict[str, torch.optim.Optimizer]:
        """The optimizers of the student, which gets its auxiliary module, and of a
        discriminator."""
        auxiliary = self.method.auxiliary(self.student, base)
        if auxiliary is not None:
            self.student.auxiliary = self._placed(auxiliary)
        if not self.method.adversarial:
            return {"optimizer": _optimizer(self.student.parameters(), self.profile)}
        own = without_auxiliary(self.student.named_parameters()).values()
        discriminator = torch.optim.Adam(auxiliary.parameters(), 1e-4, betas=(0.9, 0.99))
        return {"optimizer": _optimizer(own, self.profile), "discriminator": discriminator}

    def _prepare(self, cohort: Cohort) -> list[list[PreparedCase]]:
        holdout = cohort.holdout if parallel.rank() == 0 else ()
        known, new, held_out = map(self._prepared, (cohort.labeled, cohort.unlabeled, holdout))
        refuse_twice([*known, *new], held_out)
        placed = self._resident([*known, *new])
        return [placed[: len(known)], placed[len(known) :], held_out]

    def _prepared(self, cases: Sequence[Case]) -> list[PreparedCase]:
        """``cases``, in the memory that those before have left."""
        done = self.index / self.profile.iterations
        group = prepare_cases(
            cases,
            self.profile.representation,
            cache=self.cache,
            budget=self.budget,
            used=self.used,
            progress=lambda f, text: self.emit(
                {"event": "preparing", "fraction": f, "text": text, "done": done}
            ),
            notice=lambda text: self.emit({"event": "notice", "text": text}),
        )
        self.used += sum(c.nbytes for c in group)
        return group

    def _resident(self, cases: list[PreparedCase]) -> list[PreparedCase]:
        """``cases``, on the GPU if there is one, while they fit."""
        room = devices.room_for_cases(self.device) if self.settings.resident else 0
        return on_device(cases, self.device, room) if room else cases

    def resize(self, task: TrainingTask) -> None:
        """Go on as ``task``, which is this training with another length. Where that has unlabeled
        cases that this one had not, they are prepared first: InputError, and Canceled by a
        listener, leave it as it was."""
        if task.uses_unlabeled and not self.unlabeled:
            used = self.used
            try:
                new = self._prepared(task.cohort.unlabeled)
                refuse_twice(new, self.holdout)
            except (InputError, Canceled):
                self.used = used
                raise
            self.unlabeled = self._resident(new)
        elif not task.uses_unlabeled:
            self.used -= sum(c.nbytes for c in self.unlabeled)
            self.unlabeled = []
        if every := self.settings.evaluate_every:  # as many looks in all
            every = max(1, round(every * task.profile.iterations / self.profile.iterations))
            self.settings = replace(self.settings, evaluate_every=every)
        self.profile, self.fingerprint = task.profile, task.fingerprint
        self.teacher.decay = task.profile.optimization.decay

    def forget(self) -> None:
        """Remove the labels that an earlier training, whose checkpoint is gone, gave volumes."""
        for path in self.cache.glob(_LABELS.format("*")):
            path.unlink(missing_ok=True)

    def restore(self, former: checkpoint.Checkpoint) -> None:
        checkpoint.restore(former, self.student, self.teacher, self.optimizers)
        self.index = former.index
        parallel.agree(self.index, self.device, "checkpoints")

    def save(self) -> None:
        """Write the checkpoint; InputError, and the former one is left, if the weights are not
        finite."""
        if not all(bool(p.isfinite().all()) for p in self.student.parameters()):
            raise self.diverged("its weights are not finite")
        checkpoint.save(
            self.output, self.index, self.fingerprint, self.student, self.teacher, self.optimizers
        )

    def batches(
        self,
        steps: Iterable[Step],
        unlabeled: Sequence[PreparedCase] | None = None,
        labeled: Sequence[PreparedCase] | None = None,
    ) -> Iterator[Batch]:
        """This rank's part of the batch of each step, from the ``labeled`` and ``unlabeled`` cases
        (default: the training's). The next one is made while one is used."""
        source = BatchSource(
            self.labeled if labeled is None else labeled,
            self.unlabeled if unlabeled is None else unlabeled,
            self.profile.batch,
            self.profile.representation,
            self.seed,
            parallel.part,
            self.device if self.device.type == "cuda" else None,  # others: not from two threads
        )
        return batches(source, steps)

    def loop(
        self, should_stop: Callable[[], bool], resized: Callable[[], bool] = lambda: False
    ) -> None:
        """Run the remaining iterations, or until ``should_stop()``. ``resized()``, asked after
        each, is true if it has called `resize`."""
        try:
            while self._loop(should_stop, resized):
                pass
        except Canceled:  # while volumes were being labeled
            return

    def _loop(self, should_stop: Callable[[], bool], resized: Callable[[], bool]) -> bool:
        """`loop` until ``resized()``, in which case it is true; raises Canceled for a stop between
        two iterations."""
        total = self.profile.iterations
        clock, clocked = time.monotonic(), self.index
        began = saved = clock
        patience = _FIRST_CHECKPOINT
        for step, batch in self._work(should_stop):
            terms = self.step(step, batch)
            self.index = step.index + 1
            now = time.monotonic()
            if now - clock > _REPORT_EVERY or self.index == total:
                self.speed = (self.index - clocked) / max(now - clock, 1e-9)
                self._report(terms, clocked)
                clock, clocked = now, self.index
            self.seconds += time.monotonic() - began  # a report waits for a GPU
            every = self.settings.evaluate_every
            if every and self.index % every == 0 and self.index < total:
                found = self.holdout_dice(should_stop)
                self.emit({"event": "holdout", "step": self.index, **holdout_means(found)})
            due = now - saved > patience or self.index % self.settings.checkpoint_every == 0
            if parallel.rank() == 0 and due:
                self.checked(terms)
                self.save()
                saved, patience = time.monotonic(), _NEXT_CHECKPOINT
            paused = time.monotonic()
            if parallel.anywhere(should_stop(), self.device):
                return False
            if resized():
                return True
            began = time.monotonic()
            clock += began - paused  # a pause does not count in the speed
        return False

    def _work(self, should_stop: Callable[[], bool]) -> Iterator[tuple[Step, Batch]]:
        """The iterations that are left, each with its batch. Raises Canceled."""
        total, warmup = self.profile.iterations, self.profile.warmup
        renewals = renewal_steps(total, warmup, self.method.renewals) if self.unlabeled else []
        while self.index < total:
            unlabeled = None
            if renewals:
                last = max((n for n in renewals if n <= self.index), default=None)
                began = time.monotonic()
                unlabeled = [] if last is None else self._pseudo_labeled(last, should_stop)
                self.seconds -= time.monotonic() - began  # of no iteration
                if last is not None and not unlabeled:  # no volume is believed
                    unlabeled = self.labeled  # in its place, so that no sample is drawn twice
            end = next((n for n in renewals if n > self.index), total)
            left = range(self.index, end)  # a range, since there may be a billion
            steps, ahead = ((Step(n, total, warmup) for n in left) for _ in range(2))
            yield from zip(steps, self.batches(ahead, unlabeled), strict=True)

    def _pseudo_labeled(self, renewal: int, should_stop: Callable[[], bool]) -> list[PreparedCase]:
        """The trusted unlabeled cases, with the labels that the averaged model gave them at
        iteration ``renewal``, read from disk if they exist already. Raises Canceled."""
        method, r = self.method, self.profile.representation
        chosen = np.random.default_rng([self.seed, renewal]).permutation(len(self.unlabeled))
        shapes = [c.opened().image.shape[1:] for c in self.unlabeled[:_SHAPES]]
        most = pseudo_labels.affordable(self.profile, method.renewals, shapes)
        cases = [self.unlabeled[n] for n in sorted(chosen[: min(method.volumes, most)])]
        path = self.cache / _LABELS.format(renewal)
        labels = pseudo_labels.load(path, [c.opened().image.shape[1:] for c in cases])
        if labels is None:
            if parallel.rank() == 0:
                self.save()  # so that a resumed training starts here, with the model that labels
            began = time.monotonic()
            labels = self._labels_of(cases, should_stop)
            pseudo_labels.save(path, labels)
            for former in set(self.cache.glob(_LABELS.format("*"))) - {path}:
                former.unlink(missing_ok=True)
            kept = pseudo_labels.believed(labels, method.admitted)
            self.emit(
                {
                    "event": "labeled",
                    "step": self.index,
                    "volumes": len(kept),
                    "left_out": len(cases) - len(kept),
                    "belief": float(np.mean([labels[n].belief for n in kept])) if kept else None,
                    "seconds": round(time.monotonic() - began, 3),
                }
            )
        believed = pseudo_labels.believed(labels, method.admitted)
        # all arrays of a case lie in one place, as a patch is cut from all of them at once
        made = (pseudo_labels.labeled_case(in_memory(cases[n]), labels[n], r) for n in believed)
        return self._resident(
            within_budget(made, self.cache / "pseudo", self.budget - self.used)
        )

    def _labels_of(
        self, cases: Sequence[PreparedCase], should_stop: Callable[[], bool]
    ) -> list[PseudoLabel]:
        """What the averaged model finds in ``cases``; raises Canceled."""
        one_piece = self.one_piece
        canceled = should_stop if parallel.size() == 1 else None  # all ranks go on, or none
        batch = self.profile.batch
        axes = batch.augmentation.mirror_axes
        with devices.autocast(self.device, self.settings.half_precision):
            return [
                label_volume(
                    self.teacher.network, c.opened(), batch.patch, axes, one_piece, canceled
                )
                for c in cases
            ]

    def step(self, step: Step, batch: Batch) -> dict[str, Tensor]:
        """One iteration; the terms of the objective."""
        seed = self.seed * 1_000_003 + step.index + (parallel.rank() << 40)
        torch.manual_seed(seed % 2**63)
        batch = _placed(batch, self.device)
        optimizer = self.optimizers["optimizer"]
        rate = self._rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        self.student.train()
        with devices.autocast(self.device, self.half_precision):
            terms = self.method.losses(self.student, self.teacher.network, batch, step)
        self._descend(optimizer, terms, self.profile.optimization.clip)
        if self.device.type == "cpu":
            parallel.average_statistics(self.student)
        self.teacher.update(self.student, step.index)
        if self.method.adversarial:
            with devices.autocast(self.device, self.half_precision):
                further = self.method.discriminator_losses(self.student, batch, step)
            if further:
                self._descend(self.optimizers["discriminator"], further)
            terms = {**terms, **further}
        return {k: v.detach() for k, v in terms.items()}

    def _rate(self, step: Step) -> float:
        """The learning rate."""
        return self.profile.optimization.rate.at(step.index, step.total)

    def _descend(
        self, optimizer: torch.optim.Optimizer, terms: dict[str, Tensor], clip: float = 0.0
    ) -> None:
        """One step of ``optimizer`` on the sum of ``terms``."""
        optimizer.zero_grad(set_to_none=True)
        sum(terms.values()).backward()
        parameters = optimizer.param_groups[0]["params"]
        parallel.average_gradients(parameters)
        if clip:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()

    def checked(self, terms: dict[str, Tensor]) -> dict[str, float]:
        """The terms as numbers; InputError if one is not finite, before anything is done with
        it."""
        losses = {k: float(v) for k, v in terms.items()}
        if not all(map(math.isfinite, losses.values())):
            raise self.diverged("its loss is not a finite number")
        return losses

    def diverged(self, why: str) -> InputError:
        return InputError(
            f"{self.output}: the training diverged at iteration {self.index} ({why}); lower the "
            "learning rate"
        )

    def _report(self, terms: dict[str, Tensor], since: int) -> None:
        losses = self.checked(terms)
        total = self.profile.iterations
        self.emit(
            {
                "event": "progress",
                "step": self.index,
                "since": since,  # the iteration from which on the speed is measured
                "total": total,
                "losses": losses,
                "speed": self.speed,
                "remaining": (total - self.index) / self.speed,
            }
        )

    def holdout_dice(self, should_stop: Callable[[], bool]) -> list[list[float]] | None:
        """`dice_of` each hold-out case; None if there are none, or if ``should_stop()`` turns true
        meanwhile: many large cases take longer than a step.
        """
        if not self.holdout:
            return None
        try:
            return [self.dice_of(case, self.saved_network, should_stop) for case in self.holdout]
        except Canceled:
            return None

    def dice_of(
        self, case: PreparedCase, network: DualTaskVNet, should_stop: Callable[[], bool]
    ) -> list[float]:
        """Dice of ``network`` for each class of one case, on the model's grid, NaN for a class
        that the case lacks; raises Canceled."""
        case = case.opened()
        image, patch = floats(case.image), self.profile.batch.patch
        with devices.autocast(self.device, self.settings.half_precision):
            overlap = 0.0 if is_large(image.shape[1:], patch) else None
            found = predict(network, image, patch, overlap=overlap, canceled=should_stop)
        return _dice(found.foreground.cpu().numpy(), case, self.one_piece)

    @property
    def one_piece(self) -> list[bool]:
        """Whether each class is one piece in all labels, so that of a result one component
        counts."""
        return [
            not any(case.several_components[n] for case in self.labeled)
            for n in range(self.profile.representation.classes - 1)
        ]

    @property
    def saved_network(self) -> DualTaskVNet:
        """The network that becomes the model."""
        saved = self.profile.optimization.saved
        return self.teacher.network if saved == "teacher" else self.student

    def weights(self) -> dict[str, Tensor]:
        """The state of the network that becomes the model, without an auxiliary module."""
        return without_auxiliary(self.saved_network.state_dict().items())


def refuse_twice(learned: Sequence[PreparedCase], held_out: Sequence[PreparedCase]) -> None:
    """Raise InputError if a hold-out image is also trained on, in whatever file: a model that
    merely remembers it would look good."""

    def content(case: PreparedCase) -> bytes:
        image = np.ascontiguousarray(case.opened().image)
        return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()

    names = {content(case): case.name for case in learned} if held_out else {}
    for case in held_out:
        if (other := names.get(content(case))) is not None:
            raise InputError(
                f"hold-out case {case.name} has the same image as {other}, which is used for "
                "training: leave one of them out"
            )


def _seed(seed: int, base: Model | None) -> int:
    """The training's seed. It depends on the base, so that a model that is fine-tuned again with
    the same seed does not see the same patches again."""
    if base is None:
        return seed
    digest = hashlib.sha256(f"{seed} {base.card.sha256}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def _optimizer(parameters: Iterable[nn.Parameter], profile: Profile) -> torch.optim.Optimizer:
    o, parameters = profile.optimization, list(parameters)
    options = {"weight_decay": o.weight_decay}
    if all(p.device.type == "cuda" for p in parameters):
        options["fused"] = True  # one kernel for all parameters
    if o.optimizer == "adamw":
        return torch.optim.AdamW(parameters, o.rate.base, **options)
    if o.optimizer == "sgd":
        return torch.optim.SGD(parameters, o.rate.base, momentum=0.9, **options)
    raise InputError(f"unknown optimizer {o.optimizer!r}: use sgd or adamw")


def _placed(batch: Batch, device: torch.device) -> Batch:
    """The batch on ``device``, images in the memory format that is fastest for convolutions."""

    def view(image: Tensor) -> Tensor:
        return image.to(device).contiguous(memory_format=torch.channels_last_3d)

    image = view(batch.image)
    return replace(
        batch,
        image=image,
        weak=image if batch.weak is batch.image else view(batch.weak),
        labels=batch.labels.to(device),
        level_set=batch.level_set.to(device),
        valid=batch.valid.to(device),
        distance_known=batch.distance_known.to(device),
    )


def holdout_means(found: list[list[float]] | None) -> dict[str, Any]:
    """What an event says of `Trainer.holdout_dice`: ``dice``, the mean over the classes of each
    case, and ``classes``, the mean over the cases of each class; NaN where none exists."""
    if found is None:
        return {"dice": None, "classes": None}
    return {"dice": [known_mean(case) for case in found],
            "classes": [known_mean(one) for one in zip(*found, strict=True)]}  # fmt: skip


def of_classes(classes: Sequence[ClassInfo], means: Sequence[float]) -> dict[str, float] | None:
    """The mean of each class by its name; None for one class, whose mean is that of all."""
    if len(classes) < 2:
        return None
    return {c.name: mean for c, mean in zip(classes, means, strict=True)}


def _dice(
    foreground: np.ndarray, case: PreparedCase, one_piece: Sequence[bool]
) -> list[float]:
    """Dice of the argmax, of classes in ``one_piece`` its surest component, against the majority
    label of each voxel, for each class; NaN for one that the case lacks."""
    found, truth = class_map(foreground), class_map(np.asarray(case.fractions, np.float32))
    known, ahead = np.asarray(case.valid[0]) > 0.5, lead(foreground)
    for value, whole in enumerate(one_piece, 1):
        if whole:
            keep_surest(found, value, ahead)
    scores = []
    for value in range(1, len(foreground) + 1):
        a, b = (found == value) & known, (truth == value) & known
        overlap = 2.0 * float((a & b).sum()) / max(1.0, float(a.sum() + b.sum()))
        scores.append(overlap if b.any() else math.nan)
    return scores
