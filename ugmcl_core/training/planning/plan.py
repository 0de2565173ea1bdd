"""A training that plans itself: from the fingerprint of its cases to a profile, with reasons.

    Cohort → fingerprint.take → Fingerprint ┐
    torch.device → limits_of → Limits       ├→ plan → Plan: a Profile, and a Decision for each
    overrides, "patch=96,96,10"             ┘         of its properties

`plan` is a pure function. Where the rules of nnU-Net's planning fit they are followed (Isensee et
al., nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation,
Nature Methods 18, 2021): the grid from the median spacing, strides and kernels from spacing and
patch, the normalization from the kind of image. The rest is designed for two CPU cores, which
nnU-Net does not target: patches of the size of the structure, and a grid that fits them. The
decisions are made in the order of `DECISIONS`, and each sees the ones before it, so that an
override of one changes what follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch

from ...data.augmentation import Augmentation, few_axes, thick_axes
from ...data.batches import BatchSettings
from ...data.cases import Cohort, Representation, check_known
from ...data.dataset_json import modality_of
from ...data.preprocessing import Normalization, Normalizations, spans
from ...errors import InputError
from ...inference.settings import largest_window, smallest_patch
from ...models.card import ClassInfo, ModelCard
from ...nn.network import NetworkSettings, Strides
from ..profiles import COMPACT, CoarseStart, Optimization, Profile, with_iterations
from . import fingerprint, notation
from .architecture import LEAST, kernels_for, strides_for
from .decisions import Decision, Plan, overrides_of
from .fingerprint import Fingerprint, modalities
from .laterality import lie_alike, sided
from .limits import GIB, Limits, limits_of
from .notation import axis_names, by, directions, shown

T = TypeVar("T")
PLAN = "plan"
"""The name of the planned profile where a profile is chosen by name."""

_TINY = 3e-3  # of the voxels: with less a network starts far from finding anything
_RESOLVED = 4.0  # the fewest voxels across the thinnest structure on any grid, ...
_CLEAR = 8.0  # ... and if only the size of whole images calls for a coarser one
_WINDOWS = 16.0  # patches that the voxels of a typical image should fill at most
_WIDER = 1.5  # times the median: slices between which a case has to be interpolated
_CONTEXT = 2.0  # times the structure's extent that a patch shows
_COARSER = (1.6, 2.2)  # times the grid, for a coarse start: coarser for thicker structures
_FIRST = 0.75  # ... and its part of the iterations, about half of the time
_SEEN = 3.0  # the fewest voxels across the thinnest structure on its grid
_SMALLER = 0.6  # part of a patch's voxels beyond which a coarse start saves too little


def plan(
    found: Fingerprint,
    classes: Sequence[ClassInfo],
    limits: Limits,
    given: Mapping[str, str] | None = None,
    values: Sequence[int] = (),
) -> Plan:
    """The plan for cases with this fingerprint; ``given`` holds overrides (`overrides_of`),
    ``values`` the labels of the ``classes``, by default 1, 2, ...

    InputError for an override that cannot be used.
    """
    return _Planner(found, classes, limits, given or {}, values).plan()


def plan_cohort(
    cohort: Cohort,
    classes: Sequence[ClassInfo],
    device: torch.device,
    overrides: Sequence[str] = (),
    ignore: int | None = None,
    progress: Callable[[float, str], None] | None = None,
    values: Sequence[int] = (),
    modality: str = "",
    base: ModelCard | None = None,
    found: Fingerprint | None = None,
) -> Plan:
    """The plan for these cases on ``device``: `fingerprint.take` and `plan`, one after the other;
    with their fingerprint, if it was ``found`` before, only the latter.

    ``values`` are the labels of the ``classes``, by default 1, 2, ...; without classes, those that
    occur in several of the labels are the classes, named by their numbers. ``modality`` is the
    kind of images according to the user; the filters of a ``base`` are kept, so that its weights
    fit. Raises InputError.
    """
    given = overrides_of(overrides)
    if base is not None:
        given.setdefault("filters", str(NetworkSettings(**base.network).filters))
        if given.setdefault("coarse", "0") != "0":
            raise InputError(
                "coarse applies only to trainings from scratch; leave it out with a base model"
            )
    values = tuple(values) or tuple(c.in_files for c in classes)
    found = found or fingerprint.take(cohort, values, ignore, progress)
    said = (modality_of(name) or modality_of(modality) for name in cohort.channels)
    found = found.said_to_be(tuple(said))
    if not classes:
        values = _usual(found)
        for case, facts in zip(cohort.labeled, found.labeled, strict=True):
            check_known([s.value for s in facts.structures], values, case.label)
        names = ["structure"] if values == (1,) else [f"class {v}" for v in values]
        classes = [ClassInfo(n, t, largest_component=None) for n, t in enumerate(names, 1)]
    made = plan(found, classes, limits_of(device), given, values)
    if values == tuple(range(1, len(values) + 1)):
        values = ()  # the default ones are left out
    representation = replace(made.profile.representation, values=values)
    profile = replace(made.profile, representation=representation)
    return replace(made, profile=profile, found=found)


def of_other_kinds(
    cohort: Cohort,
    overrides: Sequence[str] = (),
    progress: Callable[[float, str], None] | None = None,
) -> tuple[tuple[str, str], ...]:
    """The unlabeled cases that a training without a plan leaves out, and why: those that a plan
    would leave out. Of ``overrides`` only ``unlabeled=all`` and ``unlabeled=alike`` apply. Raises
    InputError."""
    value = overrides_of(overrides).get("unlabeled", "alike")
    try:
        notation.alike_or_all(value)
    except ValueError:
        raise InputError(
            f"unlabeled={value}: this is planned as alike; give it in the same form"
        ) from None
    if value == "all" or not cohort.unlabeled:
        return ()
    return tuple(fingerprint.strangers(cohort, progress).items())


def _usual(found: Fingerprint) -> tuple[int, ...]:
    """The label values in at least two cases, or in the only one: any other is more likely a
    slip."""
    least = min(2, len(found.labeled))
    return tuple(v for v in found.values if len(found.of(v)) >= least) or found.values


class _Planner:
    """The decisions one after the other; each method makes one and returns its value."""

    def __init__(
        self,
        found: Fingerprint,
        classes: Sequence[ClassInfo],
        limits: Limits,
        given: Mapping[str, str],
        values: Sequence[int],
    ) -> None:
        self.classes, self.limits, self.given = classes, limits, given
        self.values = tuple(values) or tuple(range(1, len(classes) + 1))
        self.made: list[Decision] = []
        self.left_out = self.unlabeled(found)
        kept = tuple(c for c in found.unlabeled if c.name not in self.left_out)
        self.found = found = replace(found, unlabeled=kept)
        self.size_mm = _median([c.size for c in found.cases])
        # of all structures together
        self.extent_mm = _median([c.extent for c in found.labeled if c.structures])
        each = [found.of(v) for v in found.values]
        self.largest_mm = np.max([_median([s.extent for s in one]) for one in each], axis=0)
        self.radii = [float(np.median([s.radius for s in one])) for one in each]

    def plan(self) -> Plan:
        grid = self.grid()
        patch = self.patch(grid)
        strides, patch = self.strides(grid, patch)
        kernels = self.kernels(grid, patch, strides)
        network = NetworkSettings(
            classes=len(self.classes) + 1,
            filters=self.filters(),
            strides=strides,
            dropout=self.dropout(),
            distance_dropout=False,
            kernels=kernels,
            channels=len(self.found.channels),
        )
        labeled, unlabeled = self.batch(patch)
        representation = Representation(
            grid, self.normalization(), len(self.classes) + 1, scale=self.scale(grid)
        )
        foreground = self.foreground(grid, patch)
        augmentation = self.augmentation(grid, patch)
        profile = Profile(
            name=PLAN,
            about="planned for its cases",
            representation=representation,
            network=network,
            batch=BatchSettings(patch, labeled, unlabeled, foreground, augmentation, True),
            optimization=self.optimization(),
            iterations=COMPACT.iterations,
            warmup=COMPACT.warmup,
            prior=self.prior(grid, patch, foreground),
            coarse=self.coarse(grid, patch, network.multiple),
        )
        iterations = self.iterations()
        return Plan(
            with_iterations(profile, iterations),
            tuple(self.made),
            tuple(self.classes),
            ", ".join(k for k in dict.fromkeys(modalities(self.found.labeled)) if k),
            tuple(self.left_out.items()),
        )

    def decide(
        self, what: str, value: T, why: str, parse: Callable[[str], T], show: Callable[[T], str]
    ) -> T:
        """Note the decision for ``value``, or for an override of it."""
        if what in self.given:
            try:
                value, why = parse(self.given[what]), "given"
            except notation.Beyond as error:
                raise InputError(f"{what}={self.given[what]}: choose {error}") from None
            except ValueError:
                raise InputError(
                    f"{what}={self.given[what]}: this is planned as {show(value)}; give it in "
                    "the same form"
                ) from None
        self.made.append(Decision(what, show(value), why))
        return value

    def unlabeled(self, found: Fingerprint) -> dict[str, str]:
        """The unlabeled cases to leave out, and why."""
        unlike = fingerprint.all_unlike(found.unlabeled, found.labeled)
        count = len(found.unlabeled)
        why = f"all {count} are like the labeled ones" if count else "there are none"
        if unlike:
            why = f"{len(unlike)} of {count} are of another kind, which makes a model worse"
        if found.glanced:
            why += f"; of {found.glanced} only the headers were read"
        value = self.decide("unlabeled", "alike", why, notation.alike_or_all, str)
        return unlike if value == "alike" else {}

    def grid(self) -> tuple[float, float, float]:
        base = _median([c.spacing for c in self.found.cases])
        grid, thick = base.copy(), thick_axes(base)
        most, thinnest = self.limits.voxels, 2.0 * min(self.radii)
        slices = np.round(self.size_mm / base)
        few = [a for a in few_axes(slices) if slices[a] > 1]  # all of which stay
        plane = [a for a in range(3) if a not in few]
        widest = 1.9 * min(base[few], default=math.inf)  # at twice, no kernel spans two voxels

        def coarser(voxels: Callable[[np.ndarray], float], allowed: float, across: float) -> bool:
            """Coarsen the finest axes until ``voxels`` fit; whether anything changed."""
            nonlocal grid
            before = grid
            while voxels(grid) > allowed:
                finest = grid < 1.5 * grid[plane].min()
                finest[few] = False
                wider = np.where(finest, 1.02 * grid, grid)
                if thinnest / wider[plane].min() < across or (wider[finest] > widest).any():
                    break
                grid = wider
            return before is not grid

        why = "the median of the cases"
        if thick:
            thickest = max(c.spacing[a] / base[a] for c in self.found.cases for a in thick)
            made_up = "nothing is made up between them"
            if thickest > _WIDER:
                made_up = f"between some, {thickest:.2g} times as thick, much is made up"
            why += f"; slices are thick, and {made_up}"
        # axes within which a structure fits the image are counted as far as the image goes
        inner = np.minimum(self.largest_mm, self.size_mm)
        if coarser(lambda g: float(np.prod(np.ceil(inner / g))), most, _RESOLVED):
            why = f"larger than the median {by(base)}, so that a patch covers each structure"
        if coarser(lambda g: float(np.prod(self.size_mm / g)), _WINDOWS * most, _CLEAR):
            why = (
                f"larger than the median {by(base)}: an image has about "
                f"{np.prod(self.size_mm / grid) / most:.0f} patches, the thinnest structure "
                f"{thinnest / grid.min():.0f} voxels"
            )
        value = tuple(float(f"{g:.4g}") for g in grid)
        return self.decide("grid", value, why, notation.voxel(self.size_mm), shown)

    def patch(self, grid: tuple[float, ...]) -> tuple[int, int, int]:
        most = self.limits.voxels
        image = np.maximum(1.0, np.round(self.size_mm / grid))
        wanted = np.clip(_CONTEXT * self.extent_mm / grid, 1.0, image)
        extent = spans(self.extent_mm)
        why = f"{_CONTEXT:g} times the structures' {extent} mm"
        whole = smallest_patch(float(np.prod(image)))
        least = max(most / 2, whole if whole <= most else 0.0)
        if np.prod(wanted) < least:
            why = f"the structures of {extent} mm and much around them"
            if least == whole:
                why += ", so that one window segments a typical image"
            while np.prod(wanted) < least and (wanted < image).any():
                wanted = np.minimum(image, 1.02 * wanted)
        if (wanted >= image).all():
            why = "a whole typical image"
        if np.prod(wanted) > most:
            why = f"as many as a step has time for ({most / 1e3:.0f} thousand)"
            while np.prod(wanted) > most:  # the axis that goes furthest beyond the structures
                beyond = wanted * grid / np.maximum(self.largest_mm, 1e-6)
                beyond = np.where(wanted > 2 * LEAST, beyond, 0.0)
                wanted[int(beyond.argmax())] *= 0.98
        value = tuple(max(1, int(n)) for n in np.round(wanted))
        return self.decide("patch", value, why, notation.patch, shown)

    def strides(
        self, grid: tuple[float, ...], patch: tuple[int, ...]
    ) -> tuple[Strides, tuple[int, int, int]]:
        """The strides, and the patch in multiples of them."""
        proposed = strides_for(grid, patch)
        why = f"halved while {LEAST} voxels a side remain"
        if max(grid) >= 2 * min(grid):
            why += ", thick slices once voxels are about cubes"
        strides = self.decide("strides", proposed, why, notation.triples(4), notation.digits)
        multiple = NetworkSettings(strides=strides).multiple
        fit = [_multiple(n, m) for n, m in zip(patch, multiple, strict=True)]
        image = np.maximum(1.0, np.round(self.size_mm / grid))
        padded = np.multiply(np.ceil(image / multiple), multiple)
        if np.prod(image) <= largest_window(patch) and "patch" not in self.given:
            while np.prod(padded) > largest_window(fit):  # still in one window
                axis = int(np.argmin(fit / padded))
                fit[axis] += multiple[axis]
        fit = tuple(fit)
        if fit != patch:
            self.made = [
                replace(d, value=shown(fit)) if d.what == "patch" else d for d in self.made
            ]
        return strides, fit

    def kernels(
        self, grid: tuple[float, ...], patch: tuple[int, ...], strides: Strides
    ) -> Strides:
        proposed = kernels_for(grid, patch, strides)
        flat = sum(min(k) == 1 for k in proposed)
        why = "the same in all directions, as voxels are about cubes"
        if flat:
            why = f"the finest {flat} only within slices, between which little is alike"
        return self.decide("kernels", proposed, why, notation.triples(5), notation.digits)

    def filters(self) -> int:
        value = 32 if self.limits.device == "cuda" and self.limits.memory >= 10 * GIB else 16
        why = "as nnU-Net's on a GPU" if value == 32 else "as the published network's"
        return self.decide("filters", value, why, notation.up_to(256), str)

    def batch(self, patch: tuple[int, ...]) -> tuple[int, int]:
        part = math.prod(patch) / self.limits.voxels
        each, why = 1, "on a CPU small steps teach more"
        if part <= 1 / 4:
            each, why = 2, "patches are small"
        if self.limits.device != "cpu":
            each, why = 2 * each, "a GPU has room for them"
        value = (each, each)
        if not self.found.unlabeled:
            why += "; none is unlabeled, so all are labeled"
        parse = notation.labeled_and_unlabeled
        return self.decide("batch", value, why, parse, lambda v: f"{v[0]}+{v[1]}")

    def dropout(self) -> float:
        why = "the published half slows a short training down"
        return self.decide("dropout", 0.2, why, notation.part, "{:g}".format)

    def optimization(self) -> Optimization:
        o = COMPACT.optimization
        length = COMPACT.iterations
        why = f"AdamW in {length} iterations, as compact; in fewer up to 5 times as much"
        rate = self.decide("rate", o.rate.base, why, notation.number, "{:g}".format)
        return replace(o, rate=replace(o.rate, base=rate, length=length))

    def coarse(
        self, grid: tuple[float, ...], patch: tuple[int, ...], multiple: tuple[int, ...]
    ) -> CoarseStart | None:
        """A start on a grid that is coarser along the finest axes, with the same network."""
        thinnest, finest = 2.0 * min(self.radii), np.array(grid) < 1.5 * min(grid)
        finest[list(few_axes(patch))] = False  # a few slices all stay
        wider = np.clip(thinnest / (_CLEAR * min(grid)), *_COARSER)
        spacing = tuple(float(f"{g:.4g}") for g in np.where(finest, wider * np.array(grid), grid))
        # if the grid is coarser than necessary, a patch shows more context
        image = np.maximum(1.0, np.round(self.size_mm / spacing))
        wanted = np.minimum(np.where(finest, np.array(patch) / _COARSER[0], patch), image)
        sizes = zip(patch, wanted, wanted >= image, multiple, strict=True)
        small = tuple(
            min(n, math.ceil(w / m) * m if is_whole else _multiple(round(w), m))
            for n, w, is_whole, m in sizes
        )
        part = math.prod(small) / math.prod(patch)
        value, why = _FIRST, (
            f"{by(spacing)} mm, in patches of {by(small)}: faster, and shows more"
        )  # fmt: skip
        if thinnest / min(np.array(spacing)[finest], default=min(spacing)) < _SEEN:
            value, why = 0.0, f"they would hide a structure that is {thinnest:.2g} mm thick"
        elif part > _SMALLER:
            value, why = 0.0, "patches are small already"
        value = self.decide("coarse", value, why, notation.part, "{:g}".format)
        return CoarseStart(spacing, small, value) if value else None

    def prior(
        self, grid: tuple[float, ...], patch: tuple[int, ...], foreground: float
    ) -> tuple[float, ...]:
        """Each class's mean share of the voxels of the labeled cases; of a tiny one that of the
        patches, of which the part ``foreground`` lies around a structure. From a share of an image
        alone it would be found late or never."""
        cases = self.found.labeled
        shares = np.array([sum(s.share for s in self.found.of(v)) for v in self.values])
        shares = shares / len(cases)
        part = np.prod(np.minimum(1.0, np.multiply(patch, grid) / self.size_mm))
        shown = foreground * shares / part
        return tuple(np.maximum(shares, np.minimum(shown, _TINY)).tolist())

    def normalization(self) -> Normalizations:
        """One for all channels if their intensities have no unit, else one for each."""
        each, kinds = [], modalities(self.found.labeled)
        odd = [self.not_as_ct(n) if kind == "CT" else "" for n, kind in enumerate(kinds)]
        for kind, other, inside in zip(kinds, odd, self.found.insides, strict=True):
            numbers = (inside.low, inside.high, inside.mean, inside.deviation)
            low, high, mean, deviation = (float(f"{v:.5g}") for v in numbers)
            if kind == "CT" and low < high and deviation > 0 and not other:
                each.append(Normalization("global", low, high, mean, deviation))
            else:
                each.append(COMPACT.representation.normalization)
        whys = [
            "CT, so all images alike, by the range of the structures in all cases"
            if own.kind == "global"
            else f"CT, but the values of {other} are not those of CT (check how it was stored), "
            "so each image by its own range"
            if other
            else f"{kind or 'not CT'}, so each image by its own range, as values have no unit"
            for kind, other, own in zip(kinds, odd, each, strict=True)
        ]
        if len(set(each)) == 1:
            value, why = each[0], whys[0]
        else:
            value = tuple(each)
            named = zip(self.found.channels, whys, strict=True)
            why = "; ".join(f"{name} {text}" for name, text in named)
        parse = notation.normalization(len(each))
        return self.decide("normalization", value, why, parse, notation.normalization_text)

    def not_as_ct(self, channel: int) -> str:
        """The labeled case whose image is no CT by its values, of several the first and how many
        more; "" without one."""
        names = [c.name for c in self.found.labeled if c.images[channel].modality != "CT"]
        more = f" and {len(names) - 1} more" if names[1:] else ""
        return f"{names[0]}{more}" if names else ""

    def scale(self, grid: tuple[float, ...]) -> float:
        radius = float(np.median(self.radii))
        depth, voxels = min(20.0, 0.6 * radius), 2.0 * min(grid)
        value = float(f"{max(depth, voxels):.3g}")
        why = f"most of a structure's depth of {radius:.3g} mm"
        if value < 0.5 * radius:
            why = f"the surface of structures {radius:.3g} mm deep"
        if voxels > depth:
            why = f"two voxels, the least, of structures {radius:.3g} mm deep"
        return self.decide("scale", value, why, notation.length, "{:g}".format)

    def foreground(self, grid: tuple[float, ...], patch: tuple[int, ...]) -> float:
        seen = np.minimum(1.0, np.multiply(patch, grid) / self.size_mm)
        chance = float(np.prod(seen))
        value = 1 / 3 if chance >= 0.5 else 0.5 if chance >= 0.2 else 2 / 3
        why = f"a random patch shows one {chance:.0%} of the time"
        if len(self.found.values) > 1:
            why += "; each structure as often"
        return self.decide("foreground", round(value, 2), why, notation.share, "{:g}".format)

    def augmentation(self, grid: tuple[float, ...], patch: tuple[int, ...]) -> Augmentation:
        thick = thick_axes(grid)
        axes, whys = (0, 1), []
        twins = sorted(set(sided(self.found.labeled, self.classes, self.values)))
        if twins:
            axes = tuple(a for a in axes if a not in twins)
            whys.append(f"not {directions(twins)}, as two structures differ by side alone")
        alike = [a for a in axes if lie_alike(self.found.labeled, self.values, a)]
        if alike:
            axes = tuple(a for a in axes if a not in alike)
            whys.append(f"not {directions(alike)}, as structures lie on one side in all cases")
        why = "; ".join(whys)
        why = why or "left-right and front-back, in training and for results"
        axes = self.decide("mirror", axes, why, notation.axes, lambda v: axis_names(v) or "none")
        degrees, why = 18.0, "about each axis, as compact"
        if thick:
            degrees, why = 30.0, "only within the slices, as these are thick"
        elif few_axes(patch):
            degrees, why = 30.0, "only within the slices, as these are few"
        degrees = self.decide("rotation", degrees, why, notation.angle, "{:g}".format)
        strength, why = 1.0, "gain, gamma, bias field, blur and noise in full, as compact"
        if set(modalities(self.found.labeled)) == {"CT"}:
            strength, why = 0.5, "half for CT, whose scanners differ less than those of MR"
        strength = self.decide("intensity", strength, why, notation.share, "{:g}".format)
        flips = tuple(0.5 if a in axes else 0.0 for a in range(3))
        return replace(
            COMPACT.batch.augmentation,
            rotation=degrees,
            flips=flips,
            intensity=strength,
            reflected=not twins,  # whose mirror images would have the label of the wrong side
        )

    def iterations(self) -> int:
        why = "as compact; if you give minutes, as many as these allow"
        return self.decide("iterations", COMPACT.iterations, why, notation.iterations, str)


def _median(rows: Sequence[Any]) -> np.ndarray:
    return np.median(np.asarray(rows, float), axis=0)


def _multiple(n: int, m: int) -> int:
    """A multiple of ``m`` near ``n``; for a small ``m`` not below ``n``, so that no slice is left
    out."""
    return max(1, math.ceil(n / m) if m <= LEAST else round(n / m)) * m
