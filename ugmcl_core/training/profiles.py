"""Profiles: everything that defines a training apart from the cases and the method."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..data.augmentation import Augmentation
from ..data.batches import BatchSettings
from ..data.cases import Representation
from ..data.preprocessing import Normalization, normalization_of
from ..errors import InputError
from ..methods import METHODS, Method
from ..methods.options import with_options
from ..models.card import ClassInfo, ModelCard, images_of_a_case
from ..models.model import Model
from ..nn.network import NetworkSettings
from ..nn.schedules import LearningRate


@dataclass(frozen=True)
class Optimization:
    """``optimizer`` is ``sgd`` (momentum 0.9) or ``adamw``; ``clip`` bounds the gradient's norm
    (0: off); ``decay`` is the teacher's EMA; see `teacher.Teacher` for ``average_buffers``."""

    optimizer: str = "sgd"
    rate: LearningRate = LearningRate()  # noqa: RUF009
    weight_decay: float = 1e-4
    clip: float = 0.0
    decay: float = 0.99
    average_buffers: bool = False
    saved: str = "student"  # or "teacher": whose weights become the model


@dataclass(frozen=True)
class CoarseStart:
    """The first ``share`` of a training's iterations: on a grid of ``spacing`` mm with patches of
    ``patch`` voxels, which show about as much as the training's own patches in fewer voxels."""

    spacing: tuple[float, float, float]
    patch: tuple[int, int, int]
    share: float


@dataclass(frozen=True)
class Profile:
    """A training protocol. ``warmup`` of the ``iterations`` are supervised only. ``prior`` are the
    foreground classes' shares of the voxels, at which a new network starts, or empty. With a
    ``coarse`` start, which a training from scratch may have, all counts are of the whole."""

    name: str
    about: str
    representation: Representation
    network: NetworkSettings
    batch: BatchSettings
    optimization: Optimization
    iterations: int
    warmup: int = 0
    prior: tuple[float, ...] = ()
    coarse: CoarseStart | None = None


PAPER = Profile(
    name="paper",
    about="the published protocol: 0.625 mm grid, 112x112x80 patches, 6000 iterations; for a GPU",
    representation=Representation((0.625,) * 3, Normalization("z-score"), sdf="published"),
    network=NetworkSettings(),
    batch=BatchSettings((112, 112, 80), augmentation=Augmentation(quarter_turns=True)),
    optimization=Optimization(),
    iterations=6000,
)

COMPACT = Profile(
    name="compact",
    about="1.25 mm grid, 96x80x48 patches, strong augmentation; one to two hours on two CPU cores",
    representation=Representation((1.25,) * 3, Normalization("robust-z", 1.0, 99.0)),
    network=NetworkSettings(distance_dropout=False),
    batch=BatchSettings(
        (96, 80, 48),
        foreground=1 / 3,
        augmentation=Augmentation(
            affine=0.7, shift=0.08, flips=(0.5, 0.5, 0.0), surroundings=True, intensity=1.0
        ),
    ),
    optimization=Optimization(
        "adamw",
        LearningRate(1e-3, "cosine", warmup=100),
        1e-2,
        clip=5.0,
        decay=0.995,
        average_buffers=True,
        saved="teacher",
    ),
    iterations=2400,
    warmup=700,
)

COARSE = replace(
    COMPACT,
    name="coarse",
    about="2 mm grid, 64x48x32 patches, 8 filters, otherwise as compact; minutes on one CPU core, "
    "to compare methods",
    representation=replace(COMPACT.representation, spacing=(2.0,) * 3),
    network=replace(COMPACT.network, filters=8),
    batch=replace(COMPACT.batch, patch=(64, 48, 32)),
    iterations=1000,
    warmup=300,
)

PROFILES = {p.name: p for p in (PAPER, COMPACT, COARSE)}


def batch_text(profile: Profile) -> str:
    """The labeled and unlabeled patches of a batch, as in a model's card: 2+2."""
    return f"{profile.batch.labeled}+{profile.batch.unlabeled}"


def with_classes(profile: Profile, classes: int) -> Profile:
    """``profile`` for ``classes`` classes, the background included."""
    return replace(
        profile,
        network=replace(profile.network, classes=classes),
        representation=replace(profile.representation, classes=classes),
    )


def values_of(classes: Sequence[ClassInfo]) -> tuple[int, ...]:
    """The values of the classes in label maps; () for 1, 2, ..., as `Representation` has it."""
    values = tuple(c.in_files for c in classes)
    return () if values == tuple(range(1, len(values) + 1)) else values


def profile_of(card: ModelCard, like: Profile) -> Profile:
    """The protocol ``like`` on the grid, network and conventions of a model: for fine-tuning."""
    representation = replace(
        like.representation,
        spacing=card.spacing,
        sdf=card.sdf,
        scale=card.scale_mm,
        normalization=normalization_of(card.normalization),
        classes=len(card.classes) + 1,
        values=values_of(card.classes),
    )
    network, batch = NetworkSettings(**card.network), replace(like.batch, patch=card.patch)
    return replace(like, representation=representation, network=network, batch=batch)


def check_channels(base: Model, channels: Sequence[str]) -> None:
    """Raise InputError unless cases with these channels are what ``base`` takes. The name of a
    single image is ignored; those of several are compared, ignoring case."""
    own = base.card.channels
    given, wanted = ([name.casefold() for name in names] for names in (channels, own))
    if len(own) != len(channels):
        raise InputError(
            f"model {base.name} takes {images_of_a_case(own)}, and the cases have "
            f"{images_of_a_case(channels)}; choose another base, or train from scratch"
        )
    if len(own) > 1 and given != wanted:
        raise InputError(
            f"model {base.name} takes {', '.join(own)} in this order, and the cases have "
            f"{', '.join(channels)}; name the channels of the cases in the model's order"
        )


GENTLE = 0.3
"""Part of the profile's learning rate for fine-tuning, where the start is good already. In one
comparison (docs/results/few-labels) 0.1 was too little, and 1 was 0.3 points ahead for a base of 2
labels; a better base has more to lose."""


def method_named(name: str, options: Sequence[str] = ()) -> Method:
    """The method `name` with `options` as NAME=VALUE; raises InputError if there is none."""
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}; known are {', '.join(METHODS)}")
    return with_options(METHODS[name], options)


def profile_named(name: str) -> Profile:
    """The profile `name`; raises InputError if there is none."""
    if name not in PROFILES:
        raise InputError(f"unknown profile {name!r}; known are {', '.join(PROFILES)}")
    return PROFILES[name]


def with_iterations(profile: Profile, iterations: int) -> Profile:
    """`profile` rescaled to `iterations`: the supervised start, the warm-up and the steps of the
    learning rate. If it gets shorter, so does the memory of a teacher that becomes the model,
    which would otherwise still contain much of the untrained start at the end."""
    part = iterations / profile.iterations
    o = profile.optimization
    rate = replace(o.rate, warmup=round(o.rate.warmup * part))
    if rate.kind == "step":
        rate = replace(rate, step_size=max(1, round(rate.step_size * part)))
    decay = o.decay
    if o.saved == "teacher" and part < 1:
        decay = max(0.5, 1.0 - (1.0 - o.decay) / part)
    warmup, optimization = round(profile.warmup * part), replace(o, rate=rate, decay=decay)
    return replace(profile, iterations=iterations, warmup=warmup, optimization=optimization)


def stages(profile: Profile) -> tuple[Profile, ...]:
    """The trainings that `profile` consists of, each with the weights of the one before: that on
    the grid of its coarse start, if it has one, and that on its own."""
    start, own = profile.coarse, replace(profile, coarse=None)
    first = round(start.share * profile.iterations) if start is not None else 0
    if start is None or not 0 < first < profile.iterations:
        return (own,)
    warmup = min(profile.warmup, first)
    coarse = replace(
        with_iterations(own, first),
        representation=replace(own.representation, spacing=start.spacing),
        batch=replace(own.batch, patch=start.patch),
        warmup=warmup,
    )
    rate = replace(own.optimization.rate, length=0)  # the network is well trained by then
    fine = replace(own, optimization=replace(own.optimization, rate=rate))
    fine = with_iterations(fine, profile.iterations - first)
    return coarse, replace(fine, warmup=profile.warmup - warmup)


def fine_tuning(
    base: Model, like: Profile, iterations: int, gentleness: float = GENTLE
) -> Profile:
    """The protocol `like` from the weights of `base`: on its grid, with its network, `gentleness`
    times its learning rate, and semi-supervised from the first iteration on."""
    profile = with_iterations(profile_of(base.card, like), iterations)
    rate = profile.optimization.rate
    optimization = replace(profile.optimization, rate=replace(rate, base=gentleness * rate.base))
    return replace(profile, warmup=0, optimization=optimization)


_SIDE = re.compile(r"(?<![a-z])(left|right)(?![a-z])")
_OTHER = {"left": "right", "right": "left"}


def contralateral(name: str) -> str | None:
    """The name of the structure on the other side, in lower case; None if the name has no side."""
    renamed, count = _SIDE.subn(lambda word: _OTHER[word[0]], name.casefold())
    return renamed if count else None


def has_contralateral(classes: Sequence[ClassInfo]) -> bool:
    """Whether two of the classes are the left and the right one of a pair."""
    names = {c.name.casefold() for c in classes}
    return any(contralateral(name) in names for name in names)


def keeping_laterality(profile: Profile, classes: Sequence[ClassInfo]) -> Profile:
    """``profile`` without views that are mirrored left to right where `has_contralateral`: in
    those the left one looks like the right one, and a mean over both views detects neither."""
    if not has_contralateral(classes):
        return profile
    augmentation = profile.batch.augmentation
    flips = (0.0, *augmentation.flips[1:])
    augmentation = replace(augmentation, flips=flips, quarter_turns=False, reflected=False)
    return replace(profile, batch=replace(profile.batch, augmentation=augmentation))


def laterality_notice(
    profile: Profile, classes: Sequence[ClassInfo], known: int = 0
) -> str | None:
    """A notice about mirrored patches if one of the ``classes`` has a side, other than the first
    ``known`` ones, which a base model has learned before; else None."""
    mirrored = profile.batch.augmentation
    names = {c.name.casefold() for c in classes}
    others = [other for c in classes[known:]
              if (other := contralateral(c.name)) and other not in names]  # fmt: skip
    if not others or not (mirrored.flips[0] or mirrored.quarter_turns):
        return None
    return (
        f"Patches are mirrored left to right: where the images show the {others[0]} too, annotate "
        "it as a class of its own."
    )
