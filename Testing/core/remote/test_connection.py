"""One clear line for each way in which a computer cannot be used, without a server."""

import json
import sys
import time

import pytest

from ugmcl_core import __version__
from ugmcl_core.errors import InputError
from ugmcl_core.remote import wire
from ugmcl_core.remote.connection import (
    Computer,
    Connection,
    ConnectionLost,
    NotInstalled,
    explained,
    ssh,
)
from ugmcl_core.remote.session import Session

# what OpenSSH 9 prints
WORDS = {
    "ssh: Could not resolve hostname gpu: Name or service not known": "gpu is unknown",
    "ssh: connect to host gpu port 22: Connection refused": "cannot be reached (Connection refuse",
    "ssh: connect to host gpu port 22: No route to host": "cannot be reached (No route to host)",
    "ssh: connect to host gpu port 22: Connection timed out": "cannot be reached (Connection tim",
    "me@gpu: Permission denied (publickey).": "gpu refused the key: `ssh gpu` must log in",
    "Host key verification failed.": "the host key of gpu is not known here: run `ssh gpu` once",
    "@  WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!  @\nHost key verification failed.":
        "the host key of gpu has changed",
}  # fmt: skip


@pytest.mark.parametrize("words", WORDS)
def test_each_reason_of_ssh_is_one_line(words):
    text = explained("gpu", 255, words.splitlines(), False)
    assert WORDS[words] in text and "\n" not in text


def test_missing_lost_and_older_are_told_apart():
    missing = explained("gpu", 127, ["sh: ugmcl: not found"], False)
    assert "`ugmcl computers install gpu` does it" in missing
    assert "older ugmcl" in explained("gpu", 2, ["unrecognized arguments: --session"], False)
    lost = explained("gpu", 255, ["client_loop: send disconnect"], True)
    assert lost == "the connection to gpu was lost (client_loop: send disconnect): try again"
    assert "ended on gpu (exit code 137)" in explained("gpu", 137, [], True)


def test_ssh_is_never_weakened():
    words = ssh(Computer("me@gpu"), "x")
    assert words[0] == "ssh" and "BatchMode=yes" in words
    assert words[-3:] == ["--", "me@gpu", "x"]
    assert not any("StrictHostKeyChecking" in w or "Password" in w for w in words)


@pytest.mark.parametrize("name", ["", "-oProxyCommand=x", "a b", "a\n"])
def test_what_is_no_computer_is_refused(name):
    with pytest.raises(InputError, match="is not a computer"):
        Computer(name)


@pytest.fixture
def standing_in(tmp_path, monkeypatch):
    """A script in the place of ssh, which runs the command here."""

    def use(script: str = 'for last; do :; done; exec sh -c "$last"') -> None:
        path = tmp_path / "ssh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("UGMCL_SSH", str(path))

    monkeypatch.setenv("UGMCL_HOME", str(tmp_path / "there"))
    return use


def test_another_version_is_refused(standing_in):
    hello = {"event": "session", "version": "0.0.9", "protocol": wire.PROTOCOL}
    standing_in(f"echo '{json.dumps(hello)}'; cat >/dev/null")
    with pytest.raises(NotInstalled, match=f"has ugmcl 0.0.9 and this computer {__version__}"):
        Connection(Computer("gpu"))


def test_what_a_shell_prints_does_no_harm_and_its_error_is_shown(standing_in):
    standing_in("echo welcome; echo 'sh: ugmcl: not found' >&2; exit 127")
    with pytest.raises(NotInstalled, match="ugmcl: not found"):
        Connection(Computer("gpu"))


def test_there_is_no_ssh(monkeypatch):
    monkeypatch.setenv("UGMCL_SSH", "/nowhere/ssh")
    with pytest.raises(InputError, match="install the OpenSSH client"):
        Connection(Computer("gpu"))


def test_a_session_takes_and_gives_files_and_leaves_nothing(standing_in, tmp_path):
    standing_in()
    image = tmp_path / "scan.nrrd"
    image.write_bytes(bytes(2_000_000))
    session = Session(Computer("gpu", f"{sys.executable} -m ugmcl_core"))
    place = tmp_path / "there" / "sessions"
    (folder,) = place.iterdir()
    assert [oct(p.stat().st_mode & 0o777) for p in (place, folder)] == ["0o700"] * 2
    sent, name = session.put(image)
    assert session.put(image) == (sent, name)  # not again
    assert session.get(tmp_path / "back", folder=sent) == ["image.nrrd"]
    assert (tmp_path / "back" / "image.nrrd").read_bytes() == image.read_bytes()
    with pytest.raises(InputError, match="not the name of a file in the session"):
        session.do("get", "files", folder="../../x")
    assert session.do("about", "about")["kept_bytes"] == 0  # it still works
    (tmp_path / "there").joinpath("sessions", folder.name, "files").rename(tmp_path / "gone")
    (folder / "files").write_text("in the way")
    image.write_bytes(bytes(10))
    with pytest.raises(InputError, match=r"gpu: .*check the name, the permissions and the free"):
        session.put(image)
    session.close()
    assert list(place.iterdir()) == []
    with pytest.raises(ConnectionLost):
        session.do("about", "about")


def test_an_answer_that_comes_at_once_is_not_missed(standing_in, tmp_path, monkeypatch):
    """The answer to the last part of a file may be there before it is waited for."""
    standing_in()
    session = Session(Computer("gpu", f"{sys.executable} -m ugmcl_core"))
    send = session.connection.send

    def slow(command: str, *arguments, **content):
        tag = send(command, *arguments, **content)
        if "sha256" in content:
            time.sleep(0.3)
        return tag

    monkeypatch.setattr(session.connection, "send", slow)
    monkeypatch.setattr(session.connection, "wait", lambda *a, **k: pytest.fail("it waits"))
    (tmp_path / "scan.nrrd").write_bytes(b"content")
    assert session.put(tmp_path / "scan.nrrd")[1] == "image.nrrd"
    session.close()


def test_what_stays_here_is_refused_without_a_connection():
    from ugmcl_core.remote.handler import RemoteHandler
    from ugmcl_core.remote.session import GOING
    from ugmcl_core.worker.protocol import EvaluateRequest

    with pytest.raises(InputError, match="works on this computer only"):
        RemoteHandler(Computer("gpu")).do(
            EvaluateRequest("p", "r"), lambda *a, **k: None, GOING
        )
