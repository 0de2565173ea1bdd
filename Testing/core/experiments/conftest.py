"""The profile `tiny`, whose trainings take seconds."""

import pytest
from experiment_samples import TINY

from ugmcl_core.training import profiles


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(profiles.PROFILES, "tiny", TINY)
