"""A session with another computer: files to and from it, models, requests."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import Canceled, InputError
from ..models.model import CARD, WEIGHTS, Model
from ..worker.progress import Control
from . import wire
from .connection import Computer, Connection, ConnectionLost

Advance = Callable[[float, str], None]
"""Called with the fraction done, 0 to 1, and a text about the present part."""
_KILLED = 9
_POLL = 0.05


class _Going:
    """The `Control` of work that only Ctrl-C ends."""

    stopped = held = left = False

    def canceled(self) -> bool:
        return False

    def told(self) -> list[str]:
        return []


GOING = _Going()


class Session:
    """A connection, and the files that were sent over it."""

    def __init__(self, computer: Computer, canceled: Callable[[], bool] = lambda: False) -> None:
        """Raises InputError in one line where there is no session, and Canceled."""
        self.connection = Connection(computer, canceled)
        self.name = computer.destination
        self._place = str(self.connection.hello["folder"])
        self.runs = str(self.connection.hello["runs"])
        self._count = 0
        self._sent: dict[tuple[Any, ...], str] = {}

    @property
    def alive(self) -> bool:
        return self.connection.alive

    def close(self) -> None:
        self.connection.close()

    def do(self, command: str, answer: str, **content: Any) -> dict[str, Any]:
        """A command with one answer. Raises InputError."""
        tag = self.connection.send(command, **content)
        return self.connection.wait(tag, answer, seconds=60)

    def folder(self, kind: str) -> str:
        """A new name for a folder in the session."""
        self._count += 1
        return f"{kind}/{self._count}"

    def path(self, name: str) -> str:
        """The path there of a name of the session."""
        return f"{self._place}/{name}"

    # Files

    def put(
        self, path: Path, control: Control = GOING, advance: Advance | None = None
    ) -> tuple[str, str]:
        """Send an image, a file or a folder, unless it is there already, unchanged; returns its
        folder in the session and its name in it. Raises InputError and Canceled."""
        found = wire.contents(path)
        key = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in found.values())
        name = "image" if path.is_dir() else next(iter(found))
        folder = self._sent.get(key)
        if folder is None:
            folder = self.folder("files")
            self.send_files(found, folder, control, advance)
            self._sent[key] = folder
        return folder, name

    def send_files(
        self,
        found: Mapping[str, Path],
        folder: str,
        control: Control,
        advance: Advance | None = None,
    ) -> None:
        """Send files into a folder of the session under these names. Raises InputError and
        Canceled."""
        total = sum(p.stat().st_size for p in found.values()) or 1
        done = 0
        for name, path in found.items():
            tag, is_stored, connection = 0, False, self.connection
            try:
                for part in wire.chunks(path):
                    if control.stopped:
                        raise Canceled
                    done += part.pop("bytes", 0)
                    tag = connection.send("put", tag, file=f"{folder}/{name}", **part)
                    while (event := connection.next(0.0)) is not None:  # a full disk there
                        if event["event"] == "refused":
                            raise InputError(f"{self.name}: {event.get('message')}")
                        is_stored |= event["event"] == "stored" and event.get("tag") == tag
                    if advance is not None:
                        advance(done / total, f"sending to {self.name}")
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error.strerror}); check it") from None
            if not is_stored:
                connection.wait(tag, "stored", canceled=lambda: control.stopped)

    def drop(self, *folders: str) -> None:
        """Remove folders of the session; a lost connection removes them anyway."""
        try:
            self.forget_sent(*folders)
            for folder in folders:
                self.connection.send("drop", folder=folder)
        except ConnectionLost:
            pass

    def forget_sent(self, *folders: str) -> None:
        """These folders of the session were moved or removed."""
        self._sent = {k: v for k, v in self._sent.items() if v not in folders}

    def get(
        self,
        target: Path,
        control: Control = GOING,
        advance: Advance | None = None,
        **source: Any,
    ) -> list[str]:
        """Fetch the files of a ``folder`` of the session, or of the output of a ``run``, into
        ``target``; their names. Raises InputError, also for a full disk here, and Canceled."""
        connection = self.connection
        tag = connection.send("get", **source)
        stop = lambda: control.stopped  # noqa: E731
        total = max(1, int(connection.wait(tag, "files", canceled=stop)["bytes"]))
        names: list[str] = []
        done, file = 0, None
        while True:
            event = connection.wait(tag, "part", "sent", canceled=stop)
            if event["event"] == "sent":
                return names
            place = wire.inside(target, event.get("file"))
            try:
                if file is None:
                    file = wire.IncomingFile(place)
                    names.append(str(event["file"]))
                if file.path != place:
                    raise InputError(f"{self.name} sent a file in another; update ugmcl there")
                if file.add(event):
                    file = None
            except OSError as error:
                raise InputError(
                    f"{place.parent}: cannot be written ({error.strerror}); check the free space"
                ) from None
            done += int(event.get("bytes", 0))
            if advance is not None:
                advance(min(1.0, done / total), f"fetching from {self.name}")

    # Models

    def model(
        self, model: Model, control: Control = GOING, advance: Advance | None = None
    ) -> str:
        """The folder of a model there; the model is sent only if it is not kept there yet."""
        key = wire.model_key(model.folder)
        kept = self.do("model", "model", key=key)["folder"]
        if kept is not None:
            return str(kept)
        folder = self.folder("models")
        files = {name: model.folder / name for name in (CARD, WEIGHTS)}
        self.send_files(files, folder, control, advance)
        return str(self.do("keep", "model", key=key, folder=folder)["folder"])

    # Requests

    def ask(
        self,
        request: Mapping[str, Any] | None,
        send: Callable[[str, dict[str, Any]], None],
        control: Control = GOING,
        folders: Iterable[str] = (),
    ) -> dict[str, Any]:
        """Do a request of the worker protocol there, and return its result; ``send`` gets the
        other events. Without a request, the worker's hello. Raises InputError and Canceled."""
        identity = self.folder("request")
        content = None if request is None else {**request, "id": identity}
        connection = self.connection
        tag = connection.send("ask", request=content, folders=[*folders])
        is_stopped = is_held = False
        while True:
            event = connection.next(_POLL)
            if control.stopped and not is_stopped:
                is_stopped = True
                connection.send("tell", request={"command": "cancel", "id": identity})
            if control.held != is_held and not is_stopped:
                is_held = control.held
                word = "pause" if is_held else "continue"
                connection.send("tell", request={"command": word, "id": identity})
            if event is None or event.get("tag") != tag:
                continue
            if event["event"] == "refused":
                raise InputError(f"{self.name}: {event.get('message')}")
            if event["event"] == "worker ended":
                raise InputError(ended(self.name, int(event["code"]), str(event["words"])))
            said = wire.message_of(str(event.get("line", "")).encode()) or {}
            name = said.pop("event", "")
            if name == "hello":
                if request is None:
                    return said
            elif name == "error":
                raise InputError(str(said.get("message")))
            elif said.pop("id", None) != identity or name in ("accepted", "canceling"):
                continue
            elif name == "canceled":
                raise Canceled
            elif name == "result":
                return said
            elif name not in ("paused", "continued"):  # these were acknowledged here
                send(str(name), said)


def ended(name: str, code: int, words: str) -> str:
    """One line about a worker there that ended during a request."""
    if code in (-_KILLED, 128 + _KILLED):
        return (
            f"{name}: the segmentation process was killed there, probably for lack of memory: "
            "choose a region, or a computer with more"
        )
    return f"{name}: the segmentation process ended there (exit code {code}): {words}"


def new_run() -> str:
    """A unique name for a training there."""
    return time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(4)


def about(computer: Computer) -> dict[str, Any]:
    """A computer, the ugmcl there and its devices: what `ugmcl computers test` shows. Raises
    InputError."""
    session = Session(computer)
    try:
        facts = session.do("about", "about")
        hello = session.ask(None, lambda name, event: None)
        known = ("version", "torch", "devices", "methods")
        return {
            **{k: v for k, v in facts.items() if k not in ("event", "tag")},
            **{k: hello.get(k) for k in known},
        }
    finally:
        session.close()

