"""Structures that are each other's mirror image, such as the kidneys, told by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from .model_card import ClassInfo
from .profiles import Profile

_SIDE = re.compile(r"(?<![a-z])(left|right)(?![a-z])")
_OTHER = {"left": "right", "right": "left"}


def contralateral(name: str) -> str | None:
    """The name of the structure on the other side, in lower case; None of what has no side."""
    renamed, count = _SIDE.subn(lambda word: _OTHER[word[0]], name.casefold())
    return renamed if count else None


def has_contralateral(classes: Sequence[ClassInfo]) -> bool:
    """Whether two of the classes are the left and the right one of the same."""
    names = {c.name.casefold() for c in classes}
    return any(contralateral(name) in names for name in names)


def keeping_laterality(profile: Profile, classes: Sequence[ClassInfo]) -> Profile:
    """``profile`` without views that are mirrored left to right where `has_contralateral`: in
    those the left one looks like the right one, and a mean over both views finds neither."""
    if not has_contralateral(classes):
        return profile
    augmentation = profile.batch.augmentation
    augmentation = replace(
        augmentation, flips=(0.0, *augmentation.flips[1:]), quarter_turns=False
    )
    return replace(profile, batch=replace(profile.batch, augmentation=augmentation))


def laterality_notice(
    profile: Profile, classes: Sequence[ClassInfo], known: int = 0
) -> str | None:
    """What a user should know of mirrored patches where one of the ``classes`` has a side; the
    first ``known`` of them a base model has learned before. None where there is nothing."""
    mirrored = profile.batch.augmentation
    others = [other for c in classes[known:] if (other := contralateral(c.name))]
    if not others or not (mirrored.flips[0] or mirrored.quarter_turns):
        return None
    return (
        f"Patches are mirrored left to right: where the images show the {others[0]} too, annotate "
        "it as a class of its own."
    )
