"""An OpenSSH server of the tests' own on the loopback, with throw-away keys, and "the computer"
behind it: this one, with a folder of its own for what ugmcl keeps there."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "gpu-box"
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
needs_sshd = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None,
    reason="OpenSSH is not installed (Debian: openssh-server and openssh-client)",
)


class Sshd:
    """A server; `home` is UGMCL_HOME there. ssh is to be started with `client`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.home = place / "there"
        self.port = _free_port()
        for name in ("host_key", "other_host_key", "key", "other_key"):
            _keygen(place / name)
        shutil.copy(place / "key.pub", place / "authorized_keys")
        self.known = place / "known_hosts"
        self.know("host_key")
        environment = self.home / "environment" / "bin"
        environment.mkdir(parents=True)
        self.home.chmod(0o700)
        python = environment / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        (place / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {place}/host_key\n"
            f"AuthorizedKeysFile {place}/authorized_keys\nStrictModes no\nUsePAM no\n"
            "PidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin yes\nMaxStartups 100\n"
            f"SetEnv UGMCL_HOME={self.home} PYTHONPATH={ROOT} OMP_NUM_THREADS=1\n"
        )
        self.config = place / "ssh_config"
        self.write_config()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> str:
        """The value of UGMCL_SSH."""
        return f"ssh -F {self.config}"

    def write_config(self, key: str = "key", port: int | None = None) -> None:
        """What ssh knows of the computer."""
        self.config.write_text(
            f"Host {NAME}\n HostName 127.0.0.1\n Port {port or self.port}\n"
            f" User {getpass.getuser()}\n IdentityFile {self.place}/{key}\n IdentitiesOnly yes\n"
            f" IdentityAgent none\n UserKnownHostsFile {self.known}\n"
            " GlobalKnownHostsFile /dev/null\n UpdateHostKeys no\n"
        )

    def know(self, key: str) -> None:
        """Let the computer's known key be this one; "" for none."""
        text = (self.place / f"{key}.pub").read_text() if key else ""
        line = f"[127.0.0.1]:{self.port} {' '.join(text.split()[:2])}\n"
        self.known.write_text(line if key else "")

    def set_there(self, old: str, new: str) -> None:
        """Change the environment that programs there have."""
        self.stop()
        config = self.place / "sshd_config"
        config.write_text(config.read_text().replace(old, new))
        self.start()

    def fill_disk(self) -> None:
        """Let no file there grow beyond 0.5 MB: a write then fails as on a full disk."""
        python = self.home / "environment" / "bin" / "python"
        python.write_text(
            f'#!/bin/bash\nulimit -f 500\ntrap "" XFSZ\nexec "{sys.executable}" "$@"\n'
        )

    def start(self) -> None:
        """Serve until `stop`."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # as the service does
        with open(self.place / "sshd.log", "ab") as log:
            self.process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(self.place / "sshd_config")], stderr=log
            )
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)
        raise RuntimeError((self.place / "sshd.log").read_text())

    def cut(self) -> None:
        """End all connections, as a broken network does."""
        for connection in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if connection.name().startswith("sshd"):
                    connection.kill()

    def processes(self, word: str) -> list[psutil.Process]:
        """The processes of ugmcl there whose command line has this word."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            with contextlib.suppress(psutil.Error):
                if word in words and process.environ().get("UGMCL_HOME") == str(self.home):
                    found.append(process)
        return found

    def left(self) -> list[Path]:
        """The private folders of sessions that exist."""
        place = self.home / "sessions"
        return sorted(place.iterdir()) if place.is_dir() else []

    def stop(self) -> None:
        if self.process is not None:
            self.cut()
            self.process.terminate()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def serving(place: Path) -> Iterator[Sshd]:
    """A server in an empty folder, and nothing left of it afterwards."""
    sshd = Sshd(place)
    sshd.start()
    try:
        yield sshd
    finally:
        sshd.stop()
        for process in sshd.processes("-m"):
            with contextlib.suppress(psutil.Error):
                process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _keygen(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True)


def wait_until(condition, seconds: float = 30.0) -> None:
    """Wait until `condition()` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)
