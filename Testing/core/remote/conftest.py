"""A real OpenSSH server on the loopback, and what runs over it."""

import pytest
import ssh_support
from ssh_support import NAME
from worker_support import make_places

from ugmcl_core.remote.connection import Computer


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return make_places(tmp_path_factory.mktemp("places"))


@pytest.fixture
def sshd(tmp_path, monkeypatch, places):
    """The server; UGMCL_SSH and UGMCL_MODELS are set for it."""
    place = tmp_path / "server"
    place.mkdir()
    with ssh_support.serving(place) as server:
        monkeypatch.setenv("UGMCL_SSH", server.client)
        monkeypatch.setenv("UGMCL_MODELS", str(places / "models"))
        yield server


@pytest.fixture
def computer():
    return Computer(NAME)
