"""Classes that are each other's mirror image, and what training does about them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ugmcl_core.data.augmentation import draw_flips, draw_pose
from ugmcl_core.inference.sliding_window import predict_mirrored
from ugmcl_core.models.card import ClassInfo
from ugmcl_core.nn.network import DualTaskVNet, NetworkSettings
from ugmcl_core.training.planning.laterality import unmirrored
from ugmcl_core.training.profiles import (
    COMPACT,
    PAPER,
    contralateral,
    has_contralateral,
    keeping_laterality,
    laterality_notice,
)


def classes(*names):
    return tuple(ClassInfo(n, name) for n, name in enumerate(names, 1))


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("Left kidney", "right kidney"),
        ("Right-Hippocampus", "left-hippocampus"),
        ("kidney_left", "kidney_right"),
        ("upright posture", None),
        ("cleft", None),
        ("liver", None),
    ],
)
def test_the_other_side_is_named(name, other):
    assert contralateral(name) == other


def test_twins_are_told_by_their_names():
    assert has_contralateral(classes("spleen", "Left kidney", "right Kidney"))
    assert not has_contralateral(classes("left atrium", "left ventricle"))
    assert not has_contralateral(classes("left kidney", "right adrenal gland"))


@pytest.mark.parametrize("profile", [COMPACT, PAPER])
def test_patches_of_twins_are_never_mirrored_left_to_right(profile):
    kept = keeping_laterality(profile, classes("left kidney", "right kidney"))
    assert 0 not in kept.batch.augmentation.mirror_axes
    rng = np.random.default_rng(0)
    patch = (32, 32, 16)
    drawn = [draw_flips(rng, kept.batch.augmentation, patch, (1, 1, 1)) for _ in range(100)]
    assert all(turns == 0 and 0 not in axes for turns, axes in drawn)
    former = [draw_flips(rng, profile.batch.augmentation, patch, (1, 1, 1)) for _ in range(100)]
    assert any(0 in axes for _, axes in former)
    assert keeping_laterality(profile, classes("left atrium")) == profile


def test_surroundings_of_twins_are_not_mirrored():
    """Beyond the border a mirrored left one would be labeled left, and look like the right one."""
    sided = keeping_laterality(COMPACT, classes("left kidney", "right kidney"))

    def kinds(profile):
        batch = profile.batch
        rngs = (np.random.default_rng(seed) for seed in range(40))
        poses = (
            draw_pose(rng, batch.augmentation, (90, 90, 40), batch.patch, (1.25,) * 3)
            for rng in rngs
        )
        return {pose.outside for pose in poses}

    assert kinds(COMPACT) == {"border", "reflection", "dark"}
    assert kinds(sided) == {"border", "dark"}
    assert kinds(unmirrored(COMPACT, (0,))) == {"border", "dark"}


def test_a_mean_over_mirrored_views_cannot_tell_twins_apart():
    """Why: of a symmetric image it says the same of both sides, whatever the network."""
    torch.manual_seed(0)
    network = DualTaskVNet(NetworkSettings(classes=3, filters=2)).eval()
    half = torch.randn(1, 8, 16, 16)
    image = torch.cat([half, half.flip(1)], dim=1)
    for axes, same in (((0, 1), True), ((1,), False)):
        found = predict_mirrored(network, image, (16, 16, 16), axes).foreground
        assert torch.allclose(found, found.flip(1), atol=1e-5) is same


def test_a_side_without_its_twin_is_pointed_out_unless_a_base_knows_it():
    lonely = classes("liver", "left kidney")
    assert "right kidney too, annotate it" in laterality_notice(COMPACT, lonely)
    assert laterality_notice(COMPACT, lonely, known=2) is None
    both = classes("left kidney", "right kidney")
    assert laterality_notice(keeping_laterality(COMPACT, both), both) is None
    assert laterality_notice(COMPACT, both) is None, "both are annotated"
    assert laterality_notice(COMPACT, classes("liver")) is None
