"""A tree of thin vessels, from scratch by the plan; in a file of its own, as it takes minutes."""

from __future__ import annotations

import pytest
from computer_speed import minutes_here
from structure_training import mean_dice


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_plan_learns_vessels_that_the_fixed_grid_misses(tmp_path):
    # small patches, of which more are seen in so short a time
    found = mean_dice(tmp_path, "vessels", minutes_here(1.5), ["patch=48,48,48"])
    assert found["plan"] > 0.6 and found["compact"] < 0.2, found
