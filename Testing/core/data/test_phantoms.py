"""The generated cases are repeatable, different from each other, and exact in their labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ugmcl_core.data import phantoms, volume
from ugmcl_core.errors import InputError

SMALL = {"shape": (44, 36, 28), "spacing": (2.5, 2.5, 2.0)}


def test_a_seed_is_a_case():
    first, again = (phantoms.phantom(5, **SMALL) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.array, b.array)
    other = phantoms.phantom(6, **SMALL)
    assert not np.array_equal(first[1].array, other[1].array)
    assert first[0].array.dtype == np.float32
    assert first[1].array.dtype == np.uint8


@pytest.mark.parametrize("seed", range(6))
def test_the_atrium_is_one_piece_of_plausible_size(seed):
    image, labels = phantoms.phantom(seed, **SMALL)
    assert image.array.shape == labels.array.shape == SMALL["shape"]
    assert set(np.unique(labels.array)) == {0, 1}
    assert ndimage.label(labels.array)[1] == 1
    assert 20 < labels.array.sum() * labels.grid.voxel_ml < 130
    assert np.isfinite(image.array).all() and image.array.min() >= 0


@pytest.mark.parametrize("seed", range(4))
def test_intensity_alone_does_not_find_the_atrium(seed):
    """Other chambers are as bright, so that a threshold is far from the label."""
    image, labels = phantoms.phantom(seed, **SMALL)
    truth = labels.array > 0
    best = 0.0
    for level in np.percentile(image.array, range(5, 100, 5)):
        found = image.array > level
        best = max(best, 2 * (found & truth).sum() / (found.sum() + truth.sum()))
    assert best < 0.7
    inside, outside = image.array[truth].mean(), image.array[~truth].mean()
    assert inside > 1.15 * outside, "nothing to see"


def test_three_classes():
    _, labels = phantoms.phantom(1, classes=3, **SMALL)
    assert set(np.unique(labels.array)) == {0, 1, 2}
    _, two = phantoms.phantom(1, classes=2, **SMALL)
    assert np.array_equal(labels.array == 1, two.array == 1)
    with pytest.raises(InputError, match="classes"):
        phantoms.phantom(1, classes=4)


def test_cohort_on_disk(tmp_path):
    names = phantoms.write_cohort(tmp_path, 2, seed=8, **SMALL)
    assert names == ["phantom-008", "phantom-009"]
    for number, name in enumerate(names):
        image, labels = phantoms.phantom(8 + number, **SMALL)
        read = volume.read(tmp_path / "images" / f"{name}.nrrd")
        assert np.array_equal(read.array, image.array)
        assert read.grid.same_as(image.grid)
        written = volume.read_labels(tmp_path / "labels" / f"{name}.nrrd")
        assert np.array_equal(written.array, labels.array)
