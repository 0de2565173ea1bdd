"""The profile `tiny`, whose trainings take seconds."""

import pytest
from experiment_samples import TINY

from ugmcl_core.experiments import running
from ugmcl_core.training import profiles


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(profiles.PROFILES, "tiny", TINY)


@pytest.fixture(scope="module")
def longer_at_equal_time():
    """Trainings at equal wall time have 7 iterations: measured, they could have as many as the
    profile, and then be the same ones as at equal iterations."""
    measured = running.iterations_in_time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "iterations_in_time", lambda *pair: measured(*pair) and 7)
        yield
