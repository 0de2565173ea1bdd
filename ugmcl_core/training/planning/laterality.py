"""Structures that a mirrored view would show as others, or where none lies.

`..profiles` knows them by the names of the classes, this file by where they lie in the cases.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...models.card import ClassInfo
from ..profiles import Profile, contralateral
from .fingerprint import CaseFacts

_TWINS = 0.7  # likeness from which on two structures are mirror images whatever their names
_ASIDE = 0.2  # of the image's extent: how far a structure is from the middle, ...
_APART = 0.15  # ... and of all structures' extent: how far apart two must be to be on one side


def sided(
    cases: Sequence[CaseFacts], classes: Sequence[ClassInfo], values: Sequence[int]
) -> list[int]:
    """The axes along which a mirrored view would show one structure as another: in most of the
    labeled ``cases`` the two lie side by side and look like each other's mirror image. Where the
    ``classes``, labeled with ``values``, are named left and right, less likeness suffices."""
    axes = []
    shown = [{s.value for s in c.structures} for c in cases]
    names = dict(zip(values, (c.name.casefold() for c in classes), strict=True))
    for first, second in itertools.permutations(values, 2):
        named = contralateral(names[first]) == names[second]
        both = sum({first, second} <= found for found in shown)
        for axis in range(3):
            pairs = [
                t for c in cases for t in c.twins
                if (t.first, t.second, t.axis) == (first, second, axis)
                and (named or t.likeness >= _TWINS)
            ]  # fmt: skip
            if len(pairs) > both / 2:  # on the same sides in most of the cases
                axes.append(axis)
        if named and 0 not in axes and (not both or len(cases) == 1):
            axes.append(0)  # no case, or one alone, shows whether they look alike
    return axes


def lie_alike(cases: Sequence[CaseFacts], values: Sequence[int], axis: int) -> bool:
    """Whether along ``axis``, clearly and in all of at least two cases, a structure lies on the
    same side of the image's middle, or two structures lie in the same order."""
    shown = [({s.value: s.center[axis] for s in c.structures}, c) for c in cases]
    offsets = [
        [(found[v] / c.size[axis] - 0.5) / _ASIDE for found, c in shown if v in found]
        for v in values
    ] + [
        [(found[w] - found[v]) / c.extent[axis] / _APART
         for found, c in shown if {v, w} <= found.keys()]
        for v, w in itertools.combinations(values, 2)
    ]  # fmt: skip
    return any(
        len(each) > 1 and (min(each) > 0 or max(each) < 0) and abs(np.median(each)) >= 1.0
        for each in offsets
    )


def unmirrored(profile: Profile, axes: Sequence[int]) -> Profile:
    """``profile`` without views that are mirrored along ``axes``."""
    if not axes:
        return profile
    augmentation = profile.batch.augmentation
    flips = tuple(0.0 if a in axes else f for a, f in enumerate(augmentation.flips))
    augmentation = replace(augmentation, flips=flips, quarter_turns=False, reflected=False)
    return replace(profile, batch=replace(profile.batch, augmentation=augmentation))
