"""A really trained small model, and a case for it."""

from dataclasses import replace

import numpy as np
import pytest
from training_samples import CPU, SMALL, phantom

from ugmcl_core.data.cases import find_cohort
from ugmcl_core.data.volume import Volume, write
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.methods import DualTask
from ugmcl_core.training.train import train


@pytest.fixture(scope="package")
def segmenter(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for number in range(4):
        image, labels, grid = phantom(number, 2)
        write(root / f"images/p{number}.nrrd", Volume(image, grid))
        write(root / f"labels/p{number}.nrrd", Volume(labels, grid))
    cohort = find_cohort(root / "images", root / "labels")
    profile = replace(SMALL, iterations=120, warmup=0)
    return Segmenter(
        train(cohort, DualTask(distance_weight=20.0), profile, root / "run", CPU), "cpu"
    )


@pytest.fixture(scope="package")
def case():
    image, labels, grid = phantom(50, 2)
    angle = 0.35
    axes = ((np.cos(angle), 0, np.sin(angle)), (0, 1, 0), (-np.sin(angle), 0, np.cos(angle)))
    return Volume(image, replace(grid, axes=axes, origin=(30, -40, 12))), labels > 0
