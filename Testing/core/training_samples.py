"""A small profile and phantoms for tests that train."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ugmcl_core.data.augmentation import Augmentation
from ugmcl_core.data.batches import BatchSettings
from ugmcl_core.data.cases import Representation
from ugmcl_core.data.preprocessing import Normalization
from ugmcl_core.data.volume import Grid, Volume, write
from ugmcl_core.nn.network import NetworkSettings
from ugmcl_core.nn.schedules import LearningRate
from ugmcl_core.training.profiles import Optimization, Profile, with_classes
from ugmcl_core.training.train import TrainingSettings

SMALL = Profile(
    "small",
    "for tests",
    Representation((2.0, 2.0, 4.0), Normalization("z-score")),
    NetworkSettings(filters=4, strides=((2, 2, 2), (2, 2, 1), (2, 2, 1), (1, 1, 1)), dropout=0.1),
    BatchSettings(
        (24, 24, 12), 2, 2, 0.3, Augmentation(affine=0.5, flips=(0.5, 0.5, 0), intensity=0.5)
    ),
    Optimization("adamw", LearningRate(1e-2, "cosine", warmup=3), 1e-3, 5.0, 0.9, True, "teacher"),
    iterations=12,
    warmup=4,
)
TINY = Profile(
    "tiny",
    "for tests",
    Representation((4.0, 4.0, 8.0), Normalization("z-score")),
    NetworkSettings(filters=2, strides=((2, 2, 1), (2, 2, 2), (1, 1, 1), (1, 1, 1)), dropout=0.1),
    BatchSettings((16, 16, 6), 2, 2, 0.5),
    Optimization("adamw", LearningRate(1e-2), 1e-3, 5.0, 0.9, True, "teacher"),
    iterations=50,
    warmup=10,
)


def with_patch(profile, patch):
    """``profile`` with a smaller patch, and strides that halve no axis below 4 voxels."""
    size, strides = list(patch), []
    for _ in range(4):
        step = tuple(2 if n % 2 == 0 and n // 2 >= 4 else 1 for n in size)
        size = [n // s for n, s in zip(size, step, strict=True)]
        strides.append(step)
    network = replace(profile.network, strides=tuple(strides))
    return replace(profile, batch=replace(profile.batch, patch=patch), network=network)


CPU = TrainingSettings(seed=3, device="cpu", half_precision=False)


def phantom(seed, classes):
    """An anisotropic image with a bright ball and, for three classes, a dark one."""
    rng = np.random.default_rng(seed)
    shape, spacing = (44, 40, 22), (1.0, 1.1, 2.0)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * spacing
    labels = np.zeros(shape, np.uint8)
    image = rng.normal(100, 8, shape)
    for value, sign in list(zip((1, 2), (1, -1), strict=True))[: classes - 1]:
        center = np.array([13 if value == 1 else 31, 21, 21]) + rng.uniform(-2, 2, 3)
        ball = np.linalg.norm(index - center, axis=-1) < rng.uniform(8, 11)
        labels[ball] = value
        image[ball] += sign * 40
    return image.astype(np.float32), labels, Grid(shape, spacing)


def write_phantoms(root, classes):
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for number in range(6):
        image, labels, grid = phantom(number, classes)
        write(root / f"images/p{number}.nrrd", Volume(image, grid))
        write(root / f"labels/p{number}.nrrd", Volume(labels, grid))
    return root, with_classes(SMALL, classes)
