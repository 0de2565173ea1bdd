"""The end of a session on the computer that does the work: `ugmcl worker --session`.

It takes files into a private folder, which it removes at its end, keeps models by their content,
passes requests on to a worker of its own, and starts trainings that outlive it.
"""

from __future__ import annotations

import collections
import contextlib
import os
import platform
import selectors
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .. import __version__
from ..errors import InputError, in_one_line
from ..files import scratch
from ..worker.server import take_stdout
from . import runs, wire
from .connection import HOME

SILENCE = 120.0
"""Seconds without a line after which the other end counts as gone; it sends one every 30 s."""
IDLE = 600.0
"""Seconds without a request after which the worker, which holds a GPU's memory, is ended."""
_ENDING = 5.0
_READ = 1 << 20


def home() -> Path:
    """Where everything is kept."""
    return Path(os.environ.get(HOME) or Path.home() / ".ugmcl").expanduser().absolute()


def serve() -> int:
    """Serve one session on stdin and stdout until stdin closes."""
    output = Output(take_stdout())
    try:
        if os.name != "posix":
            raise InputError(
                "ugmcl serves other computers on Linux and macOS only; choose one of those"
            )
        place = home()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with scratch(place / "sessions") as folder:
            (place / "sessions").chmod(0o700)
            session = Session(place, folder, output)
            try:
                session.greet()
                session.serve(sys.stdin.buffer)
            finally:
                session.close()
    except (InputError, OSError) as error:
        output.send("refused", message=in_one_line(error))
        return 2
    return 0


class Output:
    """Events, one line each, from any thread."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.broken = False

    def send(self, event: str, **content: Any) -> None:
        """Write one event immediately; nothing if nobody reads any more."""
        line = wire.line_of({"event": event, **content})
        with self._lock:
            try:
                if not self.broken:
                    self._file.write(line)
                    self._file.flush()
            except (OSError, ValueError):
                self.broken = True


class Session:
    """The state of one session: files by their names in its folder, a worker, and the trainings
    that it follows."""

    def __init__(self, place: Path, folder: Path, output: Output) -> None:
        self._place, self._folder, self._output = place, folder, output
        self._incoming: dict[str, wire.IncomingFile | None] = {}
        self._worker: WorkerThere | None = None
        self._asked = time.monotonic()
        self._open = True

    def greet(self) -> None:
        """Send the `hello` of this computer."""
        self._output.send(
            "session",
            version=__version__,
            protocol=wire.PROTOCOL,
            pid=os.getpid(),
            folder=str(self._folder),
            runs=str(self._place / "runs"),
        )

    def serve(self, stream: IO[bytes]) -> None:
        """Carry out the commands in ``stream`` until it ends or is silent for too long."""
        for line in self._lines(stream):
            message = wire.message_of(line)
            if message is not None:
                self._do(message)

    def close(self) -> None:
        """End the worker; trainings go on."""
        self._open = False
        if self._worker is not None:
            self._worker.close()

    def _lines(self, stream: IO[bytes]) -> Iterator[bytes]:
        left = b""
        heard = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while not self._output.broken:
                if not selector.select(timeout=1.0):
                    self._rest()
                    if time.monotonic() - heard > SILENCE:
                        return
                    continue
                content = os.read(stream.fileno(), _READ)
                if not content:
                    return
                heard = time.monotonic()
                *lines, left = (left + content).split(b"\n")
                yield from lines
                if len(left) > wire.LONGEST_LINE:
                    raise InputError("a line is too long; update ugmcl on both computers")

    def _rest(self) -> None:
        worker = self._worker
        if worker is not None and not worker.busy and time.monotonic() - self._asked > IDLE:
            worker.close()
            self._worker = None

    def _do(self, message: dict[str, Any]) -> None:
        tag = message.get("tag")
        act = _COMMANDS.get(str(message.get("command")))
        try:
            if act is None:
                raise InputError(f"unknown command {message.get('command')!r}")
            act(self, message, lambda event, **more: self._output.send(event, tag=tag, **more))
        except (InputError, OSError) as error:
            self._output.send("refused", tag=tag, message=in_one_line(error))
        except (KeyError, TypeError, ValueError) as error:
            text = f"the command {message.get('command')!r} is not understood ({error!r})"
            self._output.send("refused", tag=tag, message=text)

    # Files

    def _put(self, message: dict[str, Any], send: Callable[..., None]) -> None:
        """Take a part of a file; the first failure is reported, and the rest of the file
        dropped."""
        name = message["file"]
        if name not in self._incoming:
            try:
                self._incoming[name] = wire.IncomingFile(wire.inside(self._folder, name))
            except (InputError, OSError):
                self._incoming[name] = None
                raise
        file = self._incoming[name]
        if "sha256" in message:
            del self._incoming[name]
        if file is None:
            return
        try:
            if file.add(message):
                send("stored")
        except (InputError, OSError):
            with contextlib.suppress(OSError):
                file.close()
            if "sha256" not in message:
                self._incoming[name] = None
            raise

    def _get(self, message: dict[str, Any], send: Callable[..., None]) -> None:
        """Send the files of a folder in the session, or of a training's output."""
        folder = self._source(message)
        left_out = {runs.CHECKPOINT, runs.CACHE} if "run" in message else set()
        paths = [
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and not path.is_symlink()
            and not left_out.intersection(path.relative_to(folder).parts)
            and not any(p.startswith(".") for p in path.relative_to(folder).parts)
        ]
        if wanted := message.get("below"):
            paths = [p for p in paths if p.relative_to(folder).parts[0] == wanted]
        sizes = {p: p.stat().st_size for p in paths}
        send("files", bytes=sum(sizes.values()), count=len(paths))
        for path in paths:
            for part in wire.chunks(path):
                if self._output.broken:
                    return
                send("part", file=path.relative_to(folder).as_posix(), **part)
        send("sent")

    def _source(self, message: dict[str, Any]) -> Path:
        if "run" in message:
            return self._run(message) / runs.OUTPUT
        return wire.inside(self._folder, message["folder"])

    def _drop(self, message: dict[str, Any], send: Callable[..., None]) -> None:
        shutil.rmtree(wire.inside(self._folder, message["folder"]), ignore_errors=True)
        send("dropped")

    # Models

    def _model(self, message: dict[str, Any], send: Callable[..., None]) -> None:
        """Report whether a model is kept, with all of its files unchanged."""
        folder = self._place / "models" / _key(message)
        is_kept = folder.is_dir() and wire.model_key(folder) == folder.name
        if folder.exists() and not is_kept:
            shutil.rmtree(folder, ignore_errors=True)
        send("model", folder=str(folder) if is_kept else None)

    def _keep(self, message: dict[str, Any], send: Callable[..., None]) -> None:
        """Keep the model that arrived in a folder of the session."""
        source = wire.inside(self._folder, message["folder"])
        target = self._place / "models" / _key(message)
        if wire.model_key(source) != target.name:
            raise InputError("the model arrived damaged; start again")
        target.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            source.rename(target)
        except OSError:
            if not target.is_dir():  # another session has just kept the same
                raise
        send("model", folder=str(target))

    # The worker

    def _ask(self, message: dict[str, Any], send: Callable[..., None]) -> None:
        """Pass a request on to the worker, which is started if there is none."""
        for name in message.get("folders", ()):
            wire.inside(self._folder, name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._asked = time.monotonic()
        if self._worker is None or self._worker.has_ended:
            self._worker = WorkerThere()
        self._worker.ask(message["request"], send)

    def _tell(self, message: dict[str, Any], _send: Callable[..., None]) -> None:
        """Pass a command about a request on."""
        if self._worker is not None:
            self._worker.write(message["request"])

    # Trainings

    def _run(self, message: dict[str, Any]) -> Path:
        return self._place / "runs" / wire.run_name(message["run"])

    def _start(self, message: dict[str, Any], send: Callable[..., None]) -> None:
        """Start a training with files of the session, or continue one."""
        folder = self._run(message)
        is_new = not folder.exists()
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            self._move(folder, message)
            pid = runs.start(
                folder, message["words"], message.get("request"), str(message.get("what"))
            )
        except BaseException:
            if is_new:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        send("started", pid=pid)

    def _move(self, run: Path, message: dict[str, Any]) -> None:
        """Move files and folders of the session into the folder of a training."""
        for name, target in message.get("move", {}).items():
            source, place = wire.inside(self._folder, name), wire.inside(run, target)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir():  # it came before a connection was lost: the same, by its name
                shutil.rmtree(source, ignore_errors=True)
            else:
                source.replace(place)

    def _say(self, message: dict[str, Any], send: Callable[..., None]) -> None:
        """Pass a command to a training, after moving new files of the session into its folder."""
        folder = self._run(message)
        if not folder.is_dir():
            raise InputError("this training is not there any more; start it again")
        self._move(folder, message)
        runs.say(folder, str(message["word"]))
        send("said")

    def _attach(self, message: dict[str, Any], send: Callable[..., None]) -> None:
        follower = runs.Follower(self._run(message), int(message["out"]), int(message["errors"]))

        def follow() -> None:
            follower.follow(send, lambda: self._open and not self._output.broken)

        threading.Thread(target=follow, daemon=True).start()

    def _state(self, message: dict[str, Any], send: Callable[..., None]) -> None:
        send("state", state=runs.state(self._run(message)))

    def _stop(self, message: dict[str, Any], send: Callable[..., None]) -> None:
        runs.stop(self._run(message))
        send("stopping")

    def _hold(self, message: dict[str, Any], send: Callable[..., None]) -> None:
        runs.hold(self._run(message), bool(message["on"]))
        send("held")

    def _forget(self, message: dict[str, Any], send: Callable[..., None]) -> None:
        runs.forget(self._run(message))
        send("forgotten")

    # The computer

    def _about(self, _message: dict[str, Any], send: Callable[..., None]) -> None:
        send("about", **about(self._place))

    def _clean(self, _message: dict[str, Any], send: Callable[..., None]) -> None:
        """Remove the models, and the trainings that are not running."""
        before = about(self._place)["kept_bytes"]
        for row in runs.listing(self._place / "runs"):
            if row["state"] != runs.RUNNING:
                runs.forget(self._place / "runs" / row["run"])
        shutil.rmtree(self._place / "models", ignore_errors=True)
        send("cleaned", bytes=before - about(self._place)["kept_bytes"])

    def _ping(self, _message: dict[str, Any], _send: Callable[..., None]) -> None:
        """Nothing to do: a line came."""


_COMMANDS: dict[str, Callable[[Session, dict[str, Any], Callable[..., None]], None]] = {
    "put": Session._put,
    "get": Session._get,
    "drop": Session._drop,
    "model": Session._model,
    "keep": Session._keep,
    "ask": Session._ask,
    "tell": Session._tell,
    "start": Session._start,
    "attach": Session._attach,
    "state": Session._state,
    "stop": Session._stop,
    "hold": Session._hold,
    "say": Session._say,
    "forget": Session._forget,
    "about": Session._about,
    "clean": Session._clean,
    "ping": Session._ping,
}


def _key(message: dict[str, Any]) -> str:
    key = message["key"]
    if len(key) != 64 or not set(key) <= set("0123456789abcdef"):
        raise InputError(f"{key!r} is not a SHA-256; update ugmcl on both computers")
    return key


def about(place: Path) -> dict[str, Any]:
    """This computer, and what ugmcl keeps on it."""
    memory = 0
    with contextlib.suppress(AttributeError, ValueError, OSError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    listed = runs.listing(place / "runs")
    return {
        "home": str(place),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "memory_bytes": memory,
        "free_bytes": shutil.disk_usage(place).free,
        "gpus": _gpus(),
        "runs": listed,
        "kept_bytes": runs.size(place / "models") + sum(row["bytes"] for row in listed),
    }


def _gpus() -> list[dict[str, Any]]:
    """NVIDIA GPUs with their memory in MiB, by the driver's own tool."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.used", "--format=csv,noheader"]
    try:
        found = subprocess.run(
            [*query[:2], f"{query[2]},nounits"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.rsplit(",", 2) for line in found.stdout.splitlines() if line.count(",") >= 2]
    gpus = []
    for name, total, used in rows:
        with contextlib.suppress(ValueError):
            numbers = {"memory_mib": int(total), "used_mib": int(used)}
            gpus.append({"name": name.strip(), **numbers})
    return gpus


class WorkerThere:
    """The worker of a session: a process that speaks the worker protocol."""

    def __init__(self) -> None:
        self._words: collections.deque[str] = collections.deque(maxlen=20)
        self._send: Callable[..., None] | None = None
        self.busy = False
        self._lock = threading.Lock()
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ugmcl_core", "worker"],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=runs.environment(),
        )
        self.hello: str = ""
        self._errors = threading.Thread(target=self._read_errors, daemon=True)
        self._errors.start()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def ask(self, request: dict[str, Any] | None, send: Callable[..., None]) -> None:
        """Send a request, and its events to ``send``; without one, only the worker's `hello`."""
        with self._lock:
            self._send, self.busy = send, request is not None
            if self.hello:
                send("worker", line=self.hello)
        if request is not None:
            self.write(request)

    def write(self, request: dict[str, Any]) -> None:
        """One line to the worker; nothing if it has ended, which is reported anyway."""
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(wire.line_of(request))
            self._process.stdin.flush()

    def close(self) -> None:
        """Let it end; kill it if that takes long."""
        self._send = None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=_ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        for line in self._process.stdout:
            text = line.decode(errors="replace").strip()
            event = (wire.message_of(line) or {}).get("event")
            with self._lock:
                if event == "hello":
                    self.hello = text
                send = self._send
                if event in ("result", "error", "canceled"):
                    self._send, self.busy = None, False
                if send is not None:
                    send("worker", line=text)
        code = self._process.wait()
        self._errors.join(timeout=1)
        with self._lock:
            send, self._send = self._send, None
            if send is not None:
                send("worker ended", code=code, words=self._words[-1] if self._words else "")

    def _read_errors(self) -> None:
        for line in self._process.stderr:
            if text := line.decode(errors="replace").strip():
                self._words.append(text[:400])
