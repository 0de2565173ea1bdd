"""One ssh connection, by the system's own OpenSSH client: its keys, its agent, its jump hosts and
its checks of host keys. No password is asked for, and no check is switched off."""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import __version__
from ..errors import Canceled, InputError
from . import wire

SSH = "UGMCL_SSH"
"""Environment variable with another ssh command, such as `ssh -F FILE`."""
HOME = "UGMCL_HOME"
"""Environment variable there, with the folder of everything that ugmcl keeps there."""
LIBRARIES = "UGMCL_SYSTEM_LIBRARIES"
"""Environment variable with the LD_LIBRARY_PATH of ssh, where a program such as Slicer has one
of its own."""
PATIENCE = 120.0
"""Seconds for ugmcl to start there once ssh is connected; a network disk can be slow."""
_PING = 30.0
_POLL = 0.05
_OPTIONS = (
    "BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=3",
)  # fmt: skip
_PRIVATE = f'exec "${{{HOME}:-$HOME/.ugmcl}}/environment/bin/python" -m ugmcl_core'


class ConnectionLost(InputError):
    """The connection ended while it was needed."""


class NotInstalled(InputError):
    """The computer was reached, but has no ugmcl, or another version of it."""


@dataclass(frozen=True)
class Computer:
    """Another computer: its ``destination`` as ssh takes it, and the ``command`` that starts ugmcl
    there, or empty for the private environment that `ugmcl computers install` makes.

    InputError for a destination that cannot be one.
    """

    destination: str
    command: str = ""

    def __post_init__(self) -> None:
        name = self.destination
        if not name or name.startswith("-") or any(c.isspace() or c < " " for c in name):
            raise InputError(
                f"{name!r} is not a computer: give user@host or a name of ~/.ssh/config"
            )

    def starting(self, words: str) -> str:
        """The command line there that starts ugmcl with these words, for any login shell."""
        return f"{self.command} {words}" if self.command else f"sh -c '{_PRIVATE} {words}'"


def ssh(computer: Computer, command: str) -> list[str]:
    """The command line here that runs ``command`` there."""
    client = shlex.split(os.environ.get(SSH, ""), posix=os.name == "posix") or ["ssh"]
    options = [word for option in _OPTIONS for word in ("-o", option)]
    return [*client, "-T", "-a", "-x", *options, "--", computer.destination, command]


def start(computer: Computer, command: str) -> subprocess.Popen[bytes]:
    """Run ``command`` there, with pipes. Ctrl-C in the terminal does not reach it. InputError if
    there is no ssh here."""
    alone: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        new_group, no_window = 0x200, 0x08000000
        alone = {"creationflags": new_group | no_window}
    pipe = subprocess.PIPE
    words = ssh(computer, command)
    environment = dict(os.environ)
    if LIBRARIES in environment:
        environment["LD_LIBRARY_PATH"] = environment.pop(LIBRARIES)
        if not environment["LD_LIBRARY_PATH"]:
            del environment["LD_LIBRARY_PATH"]
    try:
        return subprocess.Popen(
            words, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, **alone
        )
    except OSError as error:
        raise InputError(
            f"{words[0]} cannot be started ({error.strerror}): install the OpenSSH client"
        ) from None


class Connection:
    """A session of ugmcl there. Its events are read by a thread and handed out by `wait`."""

    def __init__(self, computer: Computer, canceled: Callable[[], bool] = lambda: False) -> None:
        """Raises InputError in one line where there is no session, and Canceled."""
        self.computer = computer
        self._process = start(computer, computer.starting("worker --session"))
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._followed: dict[int, queue.Queue[dict[str, Any] | None]] = {}
        self._words: collections.deque[str] = collections.deque(maxlen=30)  # of stderr
        self._greeting: collections.deque[str] = collections.deque(maxlen=30)
        self._lock = threading.Lock()
        self._tag = 0
        self._closed = threading.Event()
        self._reads = [
            threading.Thread(target=target, daemon=True)
            for target in (self._read, self._read_errors)
        ]
        for thread in self._reads:
            thread.start()
        self.hello: dict[str, Any] = {}
        try:
            self.hello = self._greeted(canceled)
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._ping, daemon=True).start()

    @property
    def name(self) -> str:
        return self.computer.destination

    @property
    def alive(self) -> bool:
        """Whether the connection is still open."""
        return not self._closed.is_set() and self._process.poll() is None

    def send(self, command: str, part_of: int = 0, **content: Any) -> int:
        """Send a command, or a further part of one; the tag that its answers repeat. Raises
        ConnectionLost."""
        with self._lock:
            self._tag += not part_of
            tag = part_of or self._tag
            line = wire.line_of({"command": command, "tag": tag, **content})
            try:
                self._process.stdin.write(line)
                self._process.stdin.flush()
            except (OSError, ValueError):
                raise self._why() from None
            return tag

    def follow(self, command: str, **content: Any) -> int:
        """Send a command of which `next_of` alone gets the answers; its tag. Raises
        ConnectionLost."""
        with self._lock:
            self._tag += 1
            tag = self._tag
            self._followed[tag] = queue.Queue()
        return self.send(command, tag, **content)

    def wait(
        self,
        tag: int,
        *names: str,
        canceled: Callable[[], bool] = lambda: False,
        seconds: float = float("inf"),
    ) -> dict[str, Any]:
        """The next event with this tag and one of these names; those of other tags, which nobody
        needs any more, are passed over.

        Raises InputError with the reason where the command was refused, ConnectionLost, and
        Canceled.
        """
        end = time.monotonic() + seconds
        while True:
            event = self.next(min(_POLL, max(0.001, end - time.monotonic())))
            if event is not None and event.get("tag") == tag:
                if event["event"] == "refused":
                    raise InputError(f"{self.name}: {event.get('message')}")
                if event["event"] in names:
                    return event
            if canceled():
                raise Canceled
            if time.monotonic() >= end:
                raise ConnectionLost(f"{self.name}: no answer within {seconds:.0f} s")

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The next event, None if there is none within this time. Raises ConnectionLost."""
        return self._next(self._events, seconds)

    def next_of(self, tag: int, seconds: float) -> dict[str, Any] | None:
        """`next` of the events with the tag of `follow`."""
        return self._next(self._followed[tag], seconds)

    def _next(
        self, events: queue.Queue[dict[str, Any] | None], seconds: float
    ) -> dict[str, Any] | None:
        try:
            event = events.get(timeout=seconds) if seconds else events.get_nowait()
        except queue.Empty:
            return None
        if event is None:
            events.put(None)  # for whoever asks again
            raise self._why()
        return event

    def close(self) -> None:
        """End the session; what runs detached there continues."""
        if self._closed.is_set():
            return
        self._closed.set()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._reads:
            thread.join(timeout=1)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        stream = self._process.stdout
        try:
            while line := stream.readline(wire.LONGEST_LINE):
                event = wire.message_of(line)
                if event is not None and isinstance(event.get("event"), str):
                    self._followed.get(event.get("tag"), self._events).put(event)
                elif text := line.decode(errors="replace").strip():
                    self._greeting.append(text[:400])  # of a shell
        except (OSError, ValueError, TypeError):  # a tag that is none
            pass
        for events in (self._events, *self._followed.values()):
            events.put(None)

    def _read_errors(self) -> None:
        try:
            for line in self._process.stderr:
                if text := line.decode(errors="replace").strip():
                    self._words.append(text[:400])
        except (OSError, ValueError):
            pass

    def _ping(self) -> None:
        while not self._closed.wait(_PING):
            try:
                self.send("ping")
            except ConnectionLost:
                return

    def _greeted(self, canceled: Callable[[], bool]) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            event = self.next(_POLL)
            if canceled():
                raise Canceled
            if event is None:
                continue
            if event["event"] == "refused":
                raise InputError(f"{self.name}: {event.get('message')}")
            if event["event"] == "session":
                check_version(self.name, event)
                return event
        raise InputError(
            f"{self.name}: ugmcl did not start there within {PATIENCE:.0f} s; check it with ssh"
        )

    def _why(self) -> InputError:
        """The end of the connection, as an error."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = -1
        for thread in self._reads:
            thread.join(timeout=1)
        words = [*self._greeting, *self._words]
        text = explained(self.name, code, words, bool(self.hello))
        if self.hello:
            return ConnectionLost(text)
        return InputError(text) if code == 255 else NotInstalled(text)


def check_version(name: str, hello: dict[str, Any]) -> None:
    """Raise NotInstalled unless the same version runs there."""
    other, protocol = str(hello.get("version"))[:40], hello.get("protocol")
    if other != __version__ or protocol != wire.PROTOCOL:
        raise NotInstalled(
            f"{name} has ugmcl {other} and this computer {__version__}: update it there "
            f"(ugmcl computers install {name})"
        )


_REASONS = (
    (("REMOTE HOST IDENTIFICATION HAS CHANGED",), "the host key of {name} has changed, so ssh "
     "refuses it: if you know why, remove the old one (ssh-keygen -R), else ask who runs it"),
    (("Host key verification failed", "host key is known for"), "the host key of {name} is not "
     "known here: run `ssh {name}` once in a terminal and compare its fingerprint"),
    (("Permission denied", "Too many authentication failures", "no mutual signature"), "{name} "
     "refused the key: `ssh {name}` must log in without a password (ssh-copy-id, or a key in the "
     "agent)"),
    (("Could not resolve", "Name or service not known"), "{name} is unknown: check its name and "
     "the network"),
    (("Connection refused", "timed out", "No route to host", "unreachable"), "{name} cannot be "
     "reached ({line}): check that it is on and the network"),
)  # fmt: skip
_MISSING = ("not found", "No such file", "No module named", "cannot execute", "is not recognized")


def explained(name: str, code: int, words: list[str], greeted: bool) -> str:
    """One line about an ssh client that ended with this exit code after this output."""
    text = "\n".join(words)
    line = words[-1] if words else f"exit code {code}"
    if greeted:
        if code == 255 or code < 0:
            return f"the connection to {name} was lost ({line}): try again"
        return f"ugmcl ended on {name} (exit code {code}): {line}"
    if code == 255:
        for signs, reason in _REASONS:
            if sign := next((s for s in signs if s in text), ""):
                cause = next(w for w in words if sign in w)
                return reason.format(name=name, line=cause.rpartition(": ")[2])
        return f"{name} cannot be reached: {line}"
    if "unrecognized arguments" in text:
        return (
            f"{name} has an older ugmcl than this computer: update it there "
            f"(ugmcl computers install {name})"
        )
    if code in (126, 127) or any(sign in text for sign in _MISSING):
        return (
            f"ugmcl is not installed on {name} ({line}): `ugmcl computers install {name}` does it"
        )
    return f"ugmcl ended on {name} (exit code {code}): {line}"
