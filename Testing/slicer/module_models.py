"""A model that has learned something, for tests of the panel with the real worker."""

from __future__ import annotations

from pathlib import Path

import module_support as support
import numpy as np

LEVEL = 100.0  # of the images of `module_support.blob`: what is brighter is the structure


def train_tiny(folder: Path, iterations: int = 50, channels: tuple[str, ...] = ()) -> Path:
    """A few dozen iterations on `blob` images, on one thread; returns the model's folder. Of
    several `channels` the first shows the blob, and the others do not."""
    import torch

    from ugmcl_core.data.batches import BatchSettings
    from ugmcl_core.data.cases import Representation, find_cohort
    from ugmcl_core.data.pairing import Channels
    from ugmcl_core.data.preprocessing import Normalization
    from ugmcl_core.data.volume import Grid, Volume, write
    from ugmcl_core.methods import DualTask
    from ugmcl_core.nn.network import NetworkSettings
    from ugmcl_core.nn.schedules import LearningRate
    from ugmcl_core.training.profiles import Optimization, Profile
    from ugmcl_core.training.train import TrainingSettings, train

    names = [f"blob{seed}" for seed in range(3)]
    for seed, name in enumerate(names):
        image = support.blob(seed=seed).T
        grid = Grid(image.shape, (1.25, 1.25, 2.0))
        files = {f"labels/{name}": (image > LEVEL).astype(np.uint8)}
        for number, channel in enumerate(channels or ("",)):
            ending = f"_{channel}" if channel else ""
            files[f"images/{name}{ending}"] = image if number == 0 else image[::-1, ::-1]
        for place, array in files.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            write(folder / f"{place}.nrrd", Volume(np.ascontiguousarray(array), grid))
    profile = Profile(
        "tiny",
        "for tests",
        Representation((2.0, 2.0, 2.5), Normalization("z-score")),
        NetworkSettings(filters=4, dropout=0.0),  # so that two runs have the same uncertainty
        BatchSettings((16, 16, 16), 2, 1),
        Optimization("adamw", LearningRate(1e-2, "cosine", warmup=3), clip=5.0),
        iterations=iterations,
    )
    torch.set_num_threads(1)
    settings = TrainingSettings(seed=1, device="cpu", half_precision=False)
    named = Channels(channels) if channels else None
    cohort = find_cohort(folder / "images", folder / "labels", names, channels=named)
    return train(cohort, DualTask(), profile, folder / "run", settings).folder
