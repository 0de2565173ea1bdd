"""Two-stream batches: labeled samples first, each step's batch a function of its seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..nn.batch import Batch
from ..nn.level_sets import level_set
from ..nn.schedules import Step
from .augmentation import Augmentation, cut, draw_flips, draw_pose, turn, vary_intensity
from .cases import PreparedCase, Representation


@dataclass(frozen=True)
class BatchSettings:
    """``labeled`` + ``unlabeled`` patches of ``patch`` voxels a step; a ``foreground`` share of
    the labeled ones is centered near a voxel of a random class, the rest is anywhere. If
    ``balanced``, the class is drawn from those of all cases, and a case that shows it replaces one
    that does not, so a class in few cases is seen as often as one in all."""

    patch: tuple[int, int, int]
    labeled: int = 2
    unlabeled: int = 2
    foreground: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    balanced: bool = False

    @property
    def size(self) -> int:
        """The patches of a step."""
        return self.labeled + self.unlabeled


@dataclass(frozen=True)
class BatchSource:
    """What the batches of a training are made from: its prepared cases, how patches are cut, and
    the ``seed``. The ``unlabeled`` cases may all have labels from a model; their samples are then
    labeled. Of each stream's samples this process makes those of ``part(count)``, on ``device``
    (None: the CPU)."""

    labeled: Sequence[PreparedCase]
    unlabeled: Sequence[PreparedCase]
    settings: BatchSettings
    representation: Representation
    seed: int
    part: Callable[[int], range] = range
    device: torch.device | None = None


def pick(key: Sequence[int], cases: int, start: int, count: int) -> list[int]:
    """Items ``start`` to ``start + count`` of an endless shuffled repetition of ``cases``; ``key``
    seeds the shuffling."""
    chosen = []
    for n in range(start, start + count):
        order = np.random.default_rng([*key, n // cases]).permutation(cases)
        chosen.append(int(order[n % cases]))
    return chosen


def first_samples(step: Step, settings: BatchSettings, mixed: bool) -> tuple[int, int]:
    """The numbers of the first labeled and the first unlabeled sample of ``step``: as many as
    the steps before it used, so that no sample is drawn twice. ``mixed``: whether there are
    unlabeled samples after the supervised start."""
    size = settings.size
    if not mixed:
        return step.index * size, 0
    start = min(step.index, step.warmup)
    rest = step.index - start
    return start * size + rest * settings.labeled, rest * settings.unlabeled


def make_batch(source: BatchSource, step: Step) -> Batch:
    """The batch of ``step``. Patches are cut and turned where their case lies.

    Without unlabeled cases, and in the supervised-only steps, all samples are labeled. A sample
    is a function of its number alone, so parts together are the whole. A training that continues
    with another batch size draws from other streams: their numbers would repeat.
    """
    settings, unlabeled = source.settings, source.unlabeled
    size = settings.size
    mixed = bool(unlabeled) and settings.unlabeled > 0
    starts = first_samples(step, settings, mixed)
    mixed = mixed and not step.supervised_only
    known = settings.labeled if mixed else size
    streams = [(source.labeled, 0, known)] + ([(unlabeled, 1, size - known)] if mixed else [])
    images, weak, labels, level_sets, valid, distance_known = [], [], [], [], [], []
    for cases, stream, count in streams:
        start, key = starts[stream], (source.seed, size, stream)
        chosen = pick(key, len(cases), start, count)
        for n in source.part(count):
            rng = np.random.default_rng([*key, start + n, 1])
            case, target = cases[chosen[n]], None
            has_labels = case.fractions is not None
            if has_labels:
                case, target = _aim(cases, case, settings, rng)
            fields = _patch(case, settings, source.representation, rng, has_labels, target)
            fields = [f.to(device=source.device) for f in fields]
            weak.append(fields[0])
            strength = settings.augmentation.intensity
            images.append(vary_intensity(fields[0], rng, strength) if strength else fields[0])
            if has_labels:
                fractions = fields[1]
                labels.append(torch.cat([1.0 - fractions.sum(0, keepdim=True), fractions]))
                level_sets.append(fields[2])
                valid.append(fields[3])
                distance_known.append(fields[4])
    weak_views = torch.stack(weak)
    views = torch.stack(images) if settings.augmentation.intensity else weak_views
    targets = map(torch.stack, (labels, level_sets, valid, distance_known))
    return Batch(views, weak_views, *targets)


def _aim(
    cases: Sequence[PreparedCase],
    case: PreparedCase,
    settings: BatchSettings,
    rng: np.random.Generator,
) -> tuple[PreparedCase, np.ndarray | None]:
    """The labeled case of a patch (``case``, if it shows the class that is drawn), and the voxel
    of that class near which to place the patch, None for anywhere."""
    if rng.random() >= settings.foreground:
        return case, None
    candidates = cases if settings.balanced else [case]
    count = max(len(c.foreground_voxels) for c in candidates)
    showing = [
        [c for c in candidates if len(c.foreground_voxels) > n and len(c.foreground_voxels[n])]
        for n in range(count)
    ]
    known = [n for n in range(count) if showing[n]]
    if not known:
        return case, None
    number = known[int(rng.integers(len(known)))]
    if not any(c is case for c in showing[number]):
        case = showing[number][int(rng.integers(len(showing[number])))]
    voxels = case.foreground_voxels[number]
    return case, voxels[int(rng.integers(len(voxels)))]


def _patch(
    case: PreparedCase,
    settings: BatchSettings,
    representation: Representation,
    rng: np.random.Generator,
    with_labels: bool,
    target: np.ndarray | None = None,
) -> list[Tensor]:
    """The image of a patch, near voxel ``target`` if there is one, and of a labeled case its
    fractions, level set, valid and distance_known; each (N, *patch)."""
    case = case.opened()
    pose = draw_pose(
        rng, settings.augmentation, case.image.shape[1:], settings.patch, case.spacing, target
    )
    turns, axes = draw_flips(rng, settings.augmentation, settings.patch, case.spacing)
    fields, outside = [case.image], [pose.outside]
    if with_labels:
        known = [] if case.distance_known is None else [case.distance_known]
        fields += [case.fractions, case.distance, case.valid, *known]
        # mirrored surroundings show the structure again; others continue the border
        beyond = "reflection" if pose.outside == "reflection" else "border"
        outside += [beyond] * (3 + len(known))
    parts = [turn(f, turns, axes) for f in cut(fields, pose, settings.patch, outside)]
    if with_labels:
        parts[2] = level_set(parts[2], representation.sdf, representation.scale, pose.zoom)
        parts[3] = (parts[3] > 0.99).float()
        known = parts[4] > 0.99 if parts[4:] else 1.0
        parts[4:] = [(parts[3] * known).expand_as(parts[2])]
    return parts


def batches(source: BatchSource, steps: Iterable[Step]) -> Iterator[Batch]:
    """The batches of ``steps``, the next one made by a thread while one is used."""
    with ThreadPoolExecutor(1) as pool:
        ahead = None
        for step in steps:
            current, ahead = ahead, pool.submit(make_batch, source, step)
            if current is not None:
                yield current.result()
        if ahead is not None:
            yield ahead.result()
