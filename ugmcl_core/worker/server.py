"""The long-lived process behind the Slicer panel: JSON lines in, JSON lines out.

One thread reads stdin, so that a cancel is acknowledged while the main thread computes. The
protocol is docs/architecture.md; `handlers` does the work.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .. import __version__
from ..errors import Canceled, InputError, in_one_line
from ..files import plain
from ..nn import devices
from . import protocol

PROTOCOL = 1
LOADING = "ugmcl: loading PyTorch"
"""Printed to stderr before the import, which can take a minute on a slow disk. Until `hello` this
is the only sign that the process has started."""
GRACE = 3.0
"""Seconds that a running step has to end after stdin closed, before the process ends anyway."""
TRAINING_GRACE = 60.0
"""The same for a fine-tuning, whose checkpoint is to be written after the step under way."""
LEARNING_GRACE = 2.0
"""The same for a training that keeps learning: Slicer, which is closing, waits for it. Its last
checkpoint is at most a minute old, and its list has all cases."""
LONGEST_LINE = 16 << 20
"""Bytes of a request; a longer line is passed over in small parts."""
MEMORY_EVERY = 2.0
"""Seconds between two `memory` events of a request."""
POLL = 0.05
"""Seconds between looks at the cancel file."""


_CONTROLS = {
    "cancel": "canceling", "pause": "paused", "continue": "continued",
    **dict.fromkeys(("add_case", "take_model", "stop"), "told"),
}  # fmt: skip


class EventWriter:
    """Events, one line each, from any thread, onto the process's true stdout."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()

    def send(self, event: str, **content: Any) -> None:
        """Write one event immediately; end the process if nobody reads any more."""
        line = json.dumps(plain({"event": event, **content}), allow_nan=False) + "\n"
        with self._lock:
            try:
                self._file.write(line.encode())
                self._file.flush()
            except (BrokenPipeError, ValueError, OSError):
                os._exit(130)


class PendingRequest:
    """A request that is waiting or running, and whether it should stop or hold."""

    def __init__(self, identity: Any, content: dict[str, Any]) -> None:
        self.id = identity
        self.content = content
        self.step = 0  # the last one that was reported
        self.left = False
        self._stop = threading.Event()
        self._go = threading.Event()
        self._go.set()
        self._told: queue.SimpleQueue[str] = queue.SimpleQueue()

    def tell(self, command: str) -> None:
        """Pass a command on to a training that keeps learning."""
        self._told.put(command)

    def told(self) -> list[str]:
        """The commands since the last call."""
        found = []
        while not self._told.empty():
            found.append(self._told.get())
        return found

    @property
    def stopped(self) -> bool:
        """Whether it was canceled."""
        return self._stop.is_set()

    @property
    def held(self) -> bool:
        """Whether it is on hold."""
        return not self._go.is_set()

    def leave(self) -> None:
        """Stop it because nobody waits for it any more."""
        self.left = True
        self.cancel()

    def cancel(self) -> None:
        """Stop it at its next window or step."""
        self._stop.set()
        self._go.set()

    def hold(self, on: bool) -> None:
        """Hold it at its next window or step, or let it continue."""
        if on and not self._stop.is_set():
            self._go.clear()
        else:
            self._go.set()

    def canceled(self) -> bool:
        """Whether it was canceled; while it is on hold, waits for that to end."""
        self._go.wait()
        return self._stop.is_set()


class RequestReader:
    """The requests that arrive on a stream, read in a thread of their own."""

    def __init__(self, stream: IO[bytes], events: EventWriter) -> None:
        self._stream = stream
        self._events = events
        self._queue: queue.Queue[PendingRequest | None] = queue.Queue()
        self._open: dict[Any, PendingRequest] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True, name="requests").start()

    def __iter__(self) -> Iterator[PendingRequest]:
        while (request := self._queue.get()) is not None:
            yield request

    def done(self, request: PendingRequest) -> None:
        """The request ended; a later cancel of it is too late."""
        with self._lock:
            self._open.pop(request.id, None)

    def _read(self) -> None:
        try:
            while line := self._stream.readline(LONGEST_LINE):
                if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                    while line and not line.endswith(b"\n"):
                        line = self._stream.readline(LONGEST_LINE)
                    text = f"a request is longer than {LONGEST_LINE >> 20} MiB; make it shorter"
                    self._events.send("error", id=None, message=text)
                elif line.strip() and not self._take(line):
                    break
        except (OSError, ValueError):
            pass  # the stream broke: the same as its end
        finally:
            self.end()

    def _take(self, line: bytes) -> bool:
        """Handle one line; False for a shutdown."""
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            self._events.send("error", id=None, message="a request is not valid JSON")
            return True
        if not isinstance(content, dict):
            self._events.send("error", id=None, message="a request is not a JSON object")
            return True
        command, identity = content.get("command"), content.get("id")
        if command == "shutdown":
            return False
        if not isinstance(identity, str | int):
            self._events.send("error", id=None, message="a request needs an id, text or number")
        elif isinstance(command, str) and command in _CONTROLS:
            self._control(command, identity)
        else:
            self._put(PendingRequest(identity, content))
        return True

    def _put(self, request: PendingRequest) -> None:
        with self._lock:
            known = request.id in self._open
            if not known:
                self._open[request.id] = request
        self._events.send("accepted", id=request.id)
        if known:
            text = f"there is already a request {request.id!r}; this one is ignored"
            self._events.send("log", id=request.id, level="warning", text=text)
        else:
            self._queue.put(request)

    def _control(self, command: str, identity: Any) -> None:
        with self._lock:
            request = self._open.get(identity)
        if request is None:
            text = f"there is no request {identity!r} to {command}; it may have ended"
            self._events.send("log", id=identity, level="warning", text=text)
        elif command == "cancel":
            self._events.send("canceling", id=identity)
            request.cancel()
        elif command in ("pause", "continue"):
            self._events.send(_CONTROLS[command], id=identity, step=request.step)
            request.hold(command == "pause")
        else:
            self._events.send(_CONTROLS[command], id=identity, what=command)
            request.tell(command)

    def end(self) -> None:
        """Cancel what is open, and take nothing more."""
        with self._lock:
            waiting = list(self._open.values())
        for request in waiting:
            request.leave()
        self._queue.put(None)
        graces = {"finetune": TRAINING_GRACE, "keep_learning": LEARNING_GRACE}
        grace = max([graces.get(str(t.content.get("command")), GRACE) for t in waiting] or [GRACE])
        watchdog = threading.Timer(grace, os._exit, args=(130,))
        watchdog.daemon = True
        watchdog.start()


def serve(start: Callable[[EventWriter], Any] | None = None) -> int:
    """Answer requests from stdin until it closes. ``start`` sends hello and returns the handler;
    by default the one of this process, with torch."""
    stream = sys.stdin.buffer
    print(LOADING, file=sys.stderr, flush=True)
    events = EventWriter(take_stdout())
    work = (start or _start)(events)
    if work is None:
        return 2
    requests = RequestReader(stream, events)
    try:
        for request in requests:
            _answer(work, request, events)
            requests.done(request)
            # here and not in the handler: an error's frames are gone by now
            devices.release_memory()
    except KeyboardInterrupt:  # SIGTERM too
        requests.end()
        for request in requests:
            _answer(work, request, events)
        sys.stderr.flush()
        os._exit(130)  # a normal exit would abort while the reading thread is blocked on stdin
    return 0


def run_job(
    job: str,
    cancel_file: str | None,
    pause_file: str | None = None,
    start: Callable[[EventWriter], Any] | None = None,
    told_file: str | None = None,
) -> int:
    """Answer the one request in the file `job`; `cancel_file` cancels it by appearing, and
    `pause_file` holds it as long as it exists. Lines that are added to `told_file` are commands
    for a training that keeps learning. ``start`` as of `serve`."""
    try:
        content = json.loads(Path(job).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{job}: cannot be read as a request ({error}); check it") from None
    if not isinstance(content, dict):
        raise InputError(f"{job}: holds no JSON object; write one")
    events = EventWriter(take_stdout())
    request = PendingRequest(content.get("id"), content)
    given = (cancel_file, pause_file, told_file)
    files = [Path(f) if f is not None else None for f in given]
    if any(files):
        watch = (*files, request, events)
        threading.Thread(target=_watch, args=watch, daemon=True).start()
    work = (start or _start)(events)
    return 2 if work is None else _answer(work, request, events)


def _watch(
    cancel: Path | None,
    pause: Path | None,
    told: Path | None,
    request: PendingRequest,
    events: EventWriter,
) -> None:
    heard = 0
    while cancel is None or not cancel.exists():
        if pause is not None and pause.exists() != request.held:
            request.hold(not request.held)
            events.send("paused" if request.held else "continued", id=request.id,
                        step=request.step)  # fmt: skip
        with contextlib.suppress(OSError, AttributeError):
            *words, _rest = told.read_text(encoding="utf-8").split("\n")
            for word in words[heard:]:
                if _CONTROLS.get(word) == "told":
                    request.tell(word)
            heard = len(words)
        time.sleep(POLL)
    events.send("canceling", id=request.id)
    request.cancel()


def take_stdout() -> IO[bytes]:
    """Keep stdout for protocol lines; whatever else is printed, in C too, goes to stderr."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return private


def _start(events: EventWriter):
    """Import what requests need, send hello, and return their handler; None without torch."""
    try:
        import torch

        from ..methods import METHODS
        from .handlers import RequestHandler
    except ImportError as error:
        reason = " ".join(str(error).split())
        message = f"PyTorch cannot be used: {reason}"
        events.send("error", id=None, message=message)
        print(f"ugmcl: {message}", file=sys.stderr, flush=True)
        return None
    events.send(
        "hello",
        pid=os.getpid(),
        protocol=PROTOCOL,
        version=__version__,
        torch=str(torch.__version__),
        devices=devices.listing(),
        methods=[{"name": m.name, "text": m.when} for m in METHODS.values()],
    )
    return RequestHandler()


@contextlib.contextmanager
def _showing_memory(send: Callable[..., None]) -> Iterator[None]:
    """Send `memory` events while the block runs."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(MEMORY_EVERY):
            from ..training.memory import in_use  # torch, which a request's end must not wait for

            send("memory", **in_use())

    thread = threading.Thread(target=watch, daemon=True, name="memory")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()  # no event comes after the last one


def _answer(work: Any, request: PendingRequest, events: EventWriter) -> int:
    """Do one request and send how it ended; the exit code that a single job has."""

    def send(event: str, **content: Any) -> None:
        request.step = content.get("step", request.step)
        events.send(event, id=request.id, **content)

    try:
        if request.canceled():
            raise Canceled
        # a handler for another computer reports the memory there itself
        elsewhere = getattr(work, "is_elsewhere", False)
        with contextlib.nullcontext() if elsewhere else _showing_memory(send):
            result = work.do(protocol.parse(request.content), send, request)
        send("result", **result)
    except (Canceled, KeyboardInterrupt) as error:
        send("canceled")
        if isinstance(error, KeyboardInterrupt):
            raise
        return 130
    except (InputError, OSError) as error:
        send("error", message=in_one_line(error))
        return 2
    except Exception as error:
        traceback.print_exc()
        send("error", message=in_one_line(error))
        return 2
    return 0
