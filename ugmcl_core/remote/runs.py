"""The trainings that run detached on this computer for another one, each in a private folder.

A training goes on when the connection ends. It holds a lock as long as any of its processes
lives, so that its end is noticed however it ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from ..errors import InputError
from ..files import write_json

JOB, REQUEST, CODE, LOCK, PID = "job.json", "request.json", "code", "lock", "pid"
CASES, OUTPUT = "cases", "output"
CANCEL, PAUSE, TOLD = "cancel", "pause", "told"
OUT, ERRORS = "out.log", "errors.log"
CHECKPOINT, CACHE = "checkpoint.safetensors", "cache"
"""The part of the output that stays here: it is needed to continue, and large."""
RUNNING, DONE, STOPPED, GONE = "running", "done", "stopped", "gone"
_POLL = 0.05
_MOST = 1 << 20  # bytes of a log that are read at a time
_LONGEST = 1 << 18  # bytes of a line of a log


def start(folder: Path, words: Sequence[str], request: dict[str, Any] | None, what: str) -> int:
    """Start ugmcl with these words, detached, in the run's folder; the process's ID. Where there
    is a ``request`` the words name its file. InputError if it runs already."""
    if state(folder) == RUNNING:
        raise InputError("this training is already running; wait until it ends")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / OUTPUT).mkdir(exist_ok=True)
    for name in (CODE, CANCEL, PAUSE, TOLD):
        (folder / name).unlink(missing_ok=True)
    if request is not None:
        write_json(folder / REQUEST, request)
    write_json(folder / JOB, {"words": [*words], "what": what, "started": time.time()})
    command = [sys.executable, "-m", "ugmcl_core.remote.job", str(folder)]
    with (
        open(folder / LOCK, "a+b") as lock,
        open(folder / OUT, "ab") as out,
        open(folder / ERRORS, "ab") as errors,
    ):
        _hold(lock)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            start_new_session=True,
            pass_fds=(lock.fileno(),),
            env=environment(),
        )
    (folder / PID).write_text(str(process.pid))
    _children.append(process)
    return process.pid


_children: list[subprocess.Popen[bytes]] = []


def environment() -> dict[str, str]:
    """The environment of a process of this same ugmcl."""
    place = str(Path(__file__).resolve().parents[2])
    former = os.environ.get("PYTHONPATH", "")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in (place, former) if p),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }


def _hold(lock: IO[bytes]) -> None:
    import fcntl  # here, since Windows lacks it; it can use other computers, but not serve them

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError("this training is already running; wait until it ends") from None
    except OSError:
        pass  # a file system without locks: `_pid` decides


def state(folder: Path) -> str:
    """RUNNING, DONE, STOPPED (it can be continued) or GONE."""
    for process in _children:
        process.poll()  # so that it does not stay a zombie
    if not (folder / JOB).is_file():
        return GONE
    if _is_held(folder):
        return RUNNING
    return DONE if code(folder) == 0 else STOPPED


def code(folder: Path) -> int | None:
    """The exit code of an ended training; None if it was killed."""
    try:
        return int((folder / CODE).read_text())
    except (OSError, ValueError):
        return None


def _is_held(folder: Path) -> bool:
    import fcntl

    try:
        with open(folder / LOCK, "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return _is_alive(_pid(folder))


def _pid(folder: Path) -> int:
    try:
        return int((folder / PID).read_text())
    except (OSError, ValueError):
        return 0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return pid > 0


def stop(folder: Path) -> None:
    """Make the training write a checkpoint and end."""
    (folder / CANCEL).touch()
    (folder / PAUSE).unlink(missing_ok=True)
    pid = _pid(folder)
    if not (folder / REQUEST).exists() and pid and state(folder) == RUNNING:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGINT)


def hold(folder: Path, on: bool) -> None:
    """Make the training wait between two steps, or continue."""
    if on:
        (folder / PAUSE).touch()
    else:
        (folder / PAUSE).unlink(missing_ok=True)


def say(folder: Path, word: str) -> None:
    """Pass a command on to a training that keeps learning."""
    with open(folder / TOLD, "a", encoding="utf-8") as file:
        file.write(f"{word}\n")


def forget(folder: Path) -> None:
    """End the training and remove all of it."""
    pid = _pid(folder)
    if state(folder) == RUNNING and pid:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        end = time.monotonic() + 5
        while state(folder) == RUNNING and time.monotonic() < end:
            time.sleep(_POLL)
    shutil.rmtree(folder, ignore_errors=True)


def can_continue(folder: Path) -> bool:
    """Whether there is a checkpoint."""
    return any((folder / OUTPUT).rglob(CHECKPOINT))


def listing(place: Path) -> list[dict[str, Any]]:
    """The trainings in ``place``: name, state, when each started (seconds since 1970) and its
    size in bytes."""
    found = []
    for folder in sorted(place.iterdir()) if place.is_dir() else ():
        if (folder / JOB).is_file():
            began = (folder / JOB).stat().st_mtime
            row = {"run": folder.name, "state": state(folder), "started": began}
            found.append({**row, "bytes": size(folder)})
    return found


def size(folder: Path) -> int:
    """Bytes of all files below ``folder``."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size if path.is_file() else 0
    return total


class Follower:
    """The lines that a training prints, from given places in its two logs on."""

    def __init__(self, folder: Path, out: int, errors: int) -> None:
        self._folder = folder
        self._places = {OUT: out, ERRORS: errors}

    def follow(self, send: Callable[..., None], goes_on: Callable[[], bool]) -> None:
        """Send `line` for each line, and `ended` after the last one of an ended training."""
        while goes_on():
            was_running = state(self._folder) == RUNNING
            has_more = any([self._lines(name, send) for name in self._places])
            if not was_running and not has_more:
                resumable = can_continue(self._folder)
                send("ended", code=code(self._folder), resumable=resumable)
                return
            if not has_more:
                time.sleep(_POLL)

    def _lines(self, name: str, send: Callable[..., None]) -> bool:
        """Whether there were new lines."""
        place = self._places[name]
        try:
            with open(self._folder / name, "rb") as file:
                file.seek(place)
                content = file.read(_MOST)
        except OSError:
            return False
        whole, newline, _ = content.rpartition(b"\n")
        if not newline and len(content) < _LONGEST:
            return False
        for line in (whole or content).split(b"\n"):
            place += len(line) + 1
            text = line[:_LONGEST].decode(errors="replace")
            send("line", log=name, text=text, place=place)
        self._places[name] = place
        return True
