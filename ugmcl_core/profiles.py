"""Profiles: everything that defines a training apart from the cases and the method."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .augmentation import Augmentation
from .batches import BatchSettings
from .cases import Representation
from .model_card import ModelCard
from .network import NetworkSettings, strides_for
from .preprocessing import Normalization
from .schedules import LearningRate


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
class Profile:
    """A training protocol. ``warmup`` of the ``iterations`` are supervised only."""

    name: str
    about: str
    representation: Representation
    network: NetworkSettings
    batch: BatchSettings
    optimization: Optimization
    iterations: int
    warmup: int = 0


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


def with_patch(profile: Profile, patch: tuple[int, int, int]) -> Profile:
    """``profile`` with another patch size, and strides that fit it."""
    return replace(
        profile,
        batch=replace(profile.batch, patch=patch),
        network=replace(profile.network, strides=strides_for(patch)),
    )


def with_classes(profile: Profile, classes: int) -> Profile:
    """``profile`` for ``classes`` classes, the background included."""
    return replace(
        profile,
        network=replace(profile.network, classes=classes),
        representation=replace(profile.representation, classes=classes),
    )


def profile_of(card: ModelCard, like: Profile) -> Profile:
    """The protocol ``like`` on the grid, network and conventions of a model: for fine-tuning."""
    representation = replace(
        like.representation,
        spacing=card.spacing,
        sdf=card.sdf,
        scale=card.scale_mm,
        normalization=Normalization(**card.normalization),
        classes=len(card.classes) + 1,
    )
    return replace(
        like,
        representation=representation,
        network=NetworkSettings(**card.network),
        batch=replace(like.batch, patch=card.patch),
    )
