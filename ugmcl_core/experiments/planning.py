"""From an experiment's rows to trainings: what defines each, its folder, and which process runs
it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..errors import InputError
from ..methods import METHODS, Method
from ..training import profiles
from ..training.profiles import PAPER, Profile, with_classes
from .datasets import Dataset
from .paper import Row

PUBLISHED_SHARPNESS = 1500.0
"""k of T⁻¹ (Eq. 5) as published, for level sets that are divided by their maxima ..."""

SHARPNESS_PER_MM = 5.0
"""... and what takes its place for level sets in mm."""

TimedIterations = Callable[["Training", "Training"], int | None]
"""The iterations of the second training that fit in the time of the first; None if not known
yet."""


@dataclass(frozen=True)
class Training:
    """Everything that a training's model, and therefore its folder's name, depends on."""

    method: Method
    profile: Profile
    seed: int
    labeled: tuple[str, ...]
    unlabeled: tuple[str, ...]
    layout: str

    @property
    def options(self) -> dict[str, Any]:
        """The method's settings that differ from its defaults."""
        return {
            f.name: getattr(self.method, f.name)
            for f in dataclasses.fields(self.method)
            if getattr(self.method, f.name) != f.default
        }

    @property
    def folder(self) -> str:
        """A readable name and a digest of what it cannot show. Options at their defaults do not
        count, so a new option does not rename the folders of earlier trainings."""
        p = self.profile
        options = [f"{k}-{v:g}" if isinstance(v, float) else f"{k}-{v}".lower()
                   for k, v in sorted(self.options.items())]  # fmt: skip
        total = len(self.labeled) + len(self.unlabeled)
        content = [self.layout, self.method.name, self.options, p.name, p.iterations, self.seed]
        text = json.dumps([*content, self.labeled, self.unlabeled], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        cases = f"{len(self.labeled)}of{total}"
        course = (f"{p.name}-{p.iterations}", f"s{self.seed}")
        return "_".join([self.method.name, *options, cases, *course, digest])


class Replicate(NamedTuple):
    """One repetition of an experiment: its ``seed``, and which ``draw`` of the labeled cases
    (`Dataset.split`)."""

    seed: int
    draw: int = 0

    def __str__(self) -> str:
        return f"{self.seed} (draw {self.draw})" if self.draw else str(self.seed)


@dataclass(frozen=True)
class Planned:
    """One row of one replicate; ``training`` is None while it waits for the records of
    others."""

    row: Row
    replicate: Replicate
    training: Training | None
    waits_for: tuple[Training, ...] = ()


def profile_for(dataset: Dataset, name: str, iterations: int | None) -> Profile:
    """The profile ``name`` on the data set's own grid, classes and normalization."""
    profile = profiles.profile_named(name)
    if iterations is not None and iterations != profile.iterations:
        profile = profiles.with_iterations(profile, iterations)
    profile = with_classes(profile, len(dataset.classes) + 1)
    r = profile.representation
    if dataset.spacing is not None:
        factor = dataset.spacing / PAPER.representation.spacing[0]
        r = replace(r, spacing=tuple(s * factor for s in r.spacing))
    if dataset.normalization is not None and r.normalization.kind == "z-score":
        r = replace(r, normalization=dataset.normalization)
    return replace(profile, representation=r)


def data_for(dataset: Dataset, profile: Profile) -> Dataset:
    """``dataset`` with its images as ``profile`` takes them: normalized by their whole scans only
    where the profile's own normalization left that to them (`profile_for`)."""
    if profile.representation.normalization.kind == "none":
        return dataset
    return replace(dataset, intensity=None)


def method_of(row: Row) -> Method:
    """The row's method with its settings; InputError if this version does not have it."""
    if row.method not in METHODS:
        raise InputError(
            f"row {row.label!r}: there is no method {row.method!r}; see `ugmcl methods`"
        )
    try:
        return METHODS[row.method](**dict(row.options))
    except TypeError as error:
        raise InputError(f"row {row.label!r}: {error}") from None


def plan(
    rows: Sequence[Row],
    dataset: Dataset,
    profile: Profile,
    replicates: Sequence[Replicate],
    timed: TimedIterations,
) -> list[Planned]:
    """Every row of every replicate, one replicate after the other and by priority: the order in
    which they are trained. A row that labels all cases is the same in all draws of a seed, and is
    planned once.

    The iterations of a row at equal wall time come from ``timed``, with its replicate's trainings
    of UG-MCL and of its own method at equal iterations: the same training whichever other
    replicates are planned with it.
    """
    planned = []
    whole: set[tuple[str, int]] = set()
    for replicate in replicates:
        for row in sorted(rows, key=lambda r: r.priority):
            if row.share is None:
                if (row.label, replicate.seed) in whole:
                    continue
                whole.add((row.label, replicate.seed))
            if not row.equal_time:
                training = _training(row, dataset, profile, replicate)
                planned.append(Planned(row, replicate, training))
                continue
            reference = Row("", "ugmcl", share=row.share, count=row.count)
            pair = tuple(_training(r, dataset, profile, replicate) for r in (reference, row))
            iterations = timed(*pair)
            if iterations is None:
                planned.append(Planned(row, replicate, None, pair))
            else:
                longer = profiles.with_iterations(profile, iterations)
                training = _training(row, dataset, longer, replicate)
                planned.append(Planned(row, replicate, training))
    return planned


def _training(row: Row, dataset: Dataset, profile: Profile, replicate: Replicate) -> Training:
    labeled, unlabeled = dataset.split(row.share_of(dataset.standard), replicate.draw)
    method = method_of(row)
    network = replace(profile.network, distance_head=method.uses_distance)
    r = profile.representation
    if r.sdf == "truncated" and getattr(method, "sharpness", 0.0) == PUBLISHED_SHARPNESS:
        method = replace(method, sharpness=SHARPNESS_PER_MM * r.scale)
    profile = replace(profile, network=network)
    return Training(method, profile, replicate.seed, labeled, unlabeled, dataset.layout)


def shard(planned: Sequence[Planned], number: int, count: int) -> list[Training]:
    """The trainings of part ``number`` (from 1) of ``count``: disjoint, together all of them.

    Rows that share a training have it once. A row that waits for others belongs to its part
    whether or not its training is known yet.
    """
    mine: dict[str, Training] = {}
    seen: set[str] = set()
    place = 0
    for item in planned:
        timed = item.row.equal_time or item.training is None
        key = f"{item.row.label} {item.replicate}" if timed else item.training.folder
        if key in seen:
            continue
        seen.add(key)
        if place % count == number - 1 and item.training is not None:
            mine[item.training.folder] = item.training
        place += 1
    return list(mine.values())
