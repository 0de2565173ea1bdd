"""From scratch by the plan on cases unlike the atrium, where the fixed grid misses them in the
same time."""

from __future__ import annotations

import pytest
import structure_samples
import torch
from computer_speed import minutes_here
from structure_training import mean_dice

from ugmcl_core.data.cases import find_cohort
from ugmcl_core.training.planning.plan import plan_cohort

CPU = torch.device("cpu")
SLOW = {"abdomen"}  # takes long to generate


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_plan_learns_thick_slices_that_the_fixed_grid_misses(tmp_path):
    found = mean_dice(tmp_path, "stack", minutes_here(1.0))
    assert found["plan"] > 0.8 and found["compact"] < 0.4, found


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_plan_learns_a_small_structure_that_the_fixed_grid_misses(tmp_path):
    found = mean_dice(tmp_path, "small", minutes_here(1.5))
    assert found["plan"] > 0.6 and found["compact"] < 0.3, found


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_plan_tells_left_from_right_where_the_fixed_grid_finds_neither(tmp_path):
    found = mean_dice(tmp_path, "sides", minutes_here(2.5))
    assert found["plan"] > 0.6 and found["compact"] < 0.3, found


@pytest.mark.parametrize("name", sorted(structure_samples.FAMILIES.keys() - SLOW))
def test_each_family_is_planned_as_it_is(tmp_path, name):
    root = structure_samples.write_family(tmp_path, name, 2)
    plan = plan_cohort(find_cohort(root / "images", root / "labels"), (), CPU)
    r, network = plan.profile.representation, plan.profile.network
    kind, classes, axes = {
        "stack": ("", 4, (1,)), "small": ("CT", 2, (0, 1)), "sides": ("CT", 3, (1,)),
        "halves": ("", 2, (0, 1)), "ventricles": ("", 4, (1,)), "vessels": ("CT", 2, (0, 1)),
    }[name]  # fmt: skip
    assert (plan.modality, network.classes) == (kind, classes)
    assert r.normalization.kind == ("global" if kind else "robust-z")
    assert plan.profile.batch.augmentation.mirror_axes == axes
    assert plan.profile.batch.augmentation.reflected == (name != "sides")
    assert network.channels == (2 if name == "halves" else 1)
    if name == "stack":
        assert r.spacing == (1.8, 1.8, 10.0) and network.kernels[0] == (3, 3, 1)
    if name == "vessels":
        assert r.spacing == (0.7, 0.7, 0.7)
    if name == "small":
        assert r.spacing == (0.5, 0.5, 0.8)
