"""Small things that several tests start from: a tiny model with random weights, small volumes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ugmcl_core.data import phantoms, volume
from ugmcl_core.data.volume import Grid, Volume
from ugmcl_core.models.card import ClassInfo, ModelCard, Terminology
from ugmcl_core.models.model import Model, save_model
from ugmcl_core.nn.network import DualTaskVNet, NetworkSettings

SHAPE, SPACING = (36, 30, 22), (3.0, 3.0, 2.5)
STAYS = (".hidden", "patients.txt")  # in a model's folder, and no part of it


def tiny_model(
    folder: Path, classes: int = 2, name: str = "tiny", inputs: int = 1, **changes
) -> Model:
    """An untrained network of 2 filters on a 2.5 mm grid with so many inputs, in `folder`."""
    torch.manual_seed(7)
    settings = NetworkSettings(classes=classes, filters=2, channels=inputs)
    network = DualTaskVNet(settings)
    infos = (
        ClassInfo(1, "left atrium", (0.9, 0.3, 0.3), Terminology("SCT", "82471001", "LA")),
        ClassInfo(2, "right atrium", (0.3, 0.3, 0.9)),
    )
    card = ModelCard(
        name=name,
        description="Untrained.",
        modality="LGE-MRI",
        classes=infos[: classes - 1],
        channels=("image",),
        spacing=(2.5, 2.5, 2.5),
        patch=(48, 32, 32),
        normalization={"kind": "robust-z", "low": 1.0, "high": 99.0},
        network=settings.to_dict(),
        license="for tests",
    )
    return save_model(folder, ModelCard(**{**vars(card), **changes}), network.state_dict())


def small_case(seed: int = 0, classes: int = 2) -> tuple[Volume, Volume]:
    """A coarse phantom: image and labels of 36x30x22 voxels."""
    return phantoms.phantom(seed, SHAPE, SPACING, classes)


def write_image(path: Path, seed: int = 0) -> Path:
    """A coarse phantom's image as a file."""
    volume.write(path, small_case(seed)[0])
    return path


def write_case_list(folder: Path, roles: Sequence[str]) -> Path:
    """Small phantoms of these roles as files, and the case list of them."""
    names = phantoms.write_cohort(folder, len(roles), shape=SHAPE, spacing=SPACING)
    cases = [
        {"name": n, "role": role, "image": f"images/{n}.nrrd", "label": f"labels/{n}.nrrd"}
        for n, role in zip(names, roles, strict=True)
    ]
    (folder / "cases.json").write_text(json.dumps({"cases": cases}))
    return folder / "cases.json"


def ball(shape=(20, 18, 16), center=(10, 9, 8), radius=5.0) -> np.ndarray:
    """A mask."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return np.linalg.norm(grid - np.array(center), axis=-1) < radius


def on_grid(array: np.ndarray, spacing=(1.0, 1.0, 1.0)) -> Volume:
    """An array as a volume whose axes are RAS."""
    return Volume(array, Grid(array.shape, spacing))


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their names."""
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def left_over(place: Path) -> list[str]:
    """What is hidden in a folder."""
    return [p.name for p in place.iterdir() if p.name.startswith(".")] if place.exists() else []


def reordered(volume, order, flips):
    """The same volume with its index axes permuted and flipped, every voxel staying in place."""
    array = volume.array.transpose(order)
    affine = volume.grid.affine
    columns, origin = affine[:3, list(order)].copy(), affine[:3, 3].copy()
    for a in range(3):
        if flips[a]:
            array = np.flip(array, a)
            origin = origin + columns[:, a] * (array.shape[a] - 1)
            columns[:, a] *= -1
    spacing = np.linalg.norm(columns, axis=0)
    grid = Grid(
        array.shape,
        tuple(spacing.tolist()),
        tuple(origin.tolist()),
        tuple(map(tuple, (columns / spacing).tolist())),
    )
    return Volume(array, grid)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Of two masks."""
    return 2 * (a & b).sum() / (a.sum() + b.sum())
