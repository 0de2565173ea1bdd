"""A tree of thin vessels, from scratch by the plan; in a file of its own, as it takes minutes."""

from __future__ import annotations

import pytest
from structure_training import mean_dice


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_plan_learns_vessels_that_the_fixed_grid_misses(tmp_path, monkeypatch):
    found = mean_dice(tmp_path, monkeypatch, "vessels", 3.0, also_fixed=True)
    # 0.58 with 279 iterations, which is what is left of 3 minutes beside another test, to 0.72
    assert found["plan"] > 0.5 and found["compact"] < 0.2, found
