"""Reading untrusted files, in a separate process.

ITK hangs on some damaged files and crashes its process on others. Here that is an error for that
one file, so that the files after it are still read. The process starts with the first file and
serves all others.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from . import volume
from .volume import Grid, Volume

PATIENCE = 20.0
"""Seconds allowed for a file, plus ..."""
SLOWEST = 1 << 20
"""... a second for each so many bytes, the speed of a slow network."""
_CODE = "from ugmcl_core.data.guarded import serve; serve()"
_ROOT = Path(__file__).resolve().parents[2]


def read(path: str | Path) -> Volume:
    """`volume.read`; InputError also where it hangs or crashes."""
    return _child.call("read", path)


def read_images(paths: Sequence[str | Path], count: int) -> tuple[Volume, ...]:
    """`volume.read_images`, likewise."""
    if len(paths) == 1 < count:
        return volume.one_case(paths, [_child.call("read_channels", paths[0])], count)
    return volume.one_case(paths, [[read(path)] for path in paths], count)


def read_labels(path: str | Path) -> Volume:
    """`volume.read_labels`, likewise."""
    return _child.call("read_labels", path)


def read_notes(path: str | Path) -> dict[str, str]:
    """`volume.read_notes`, likewise."""
    return _child.call("read_notes", path)


def read_grid(path: str | Path) -> Grid:
    """`volume.read_grid`, likewise."""
    return _grid(_child.call("read_grid", path))


def dicom_series(folder: str | Path) -> tuple[str, ...]:
    """`volume.dicom_series`, likewise."""
    return tuple(_child.call("dicom_series", folder))


class _Child:
    """The process, started when it is needed and again after each end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        atexit.register(self._end)

    def call(self, function: str, path: str | Path) -> Any:
        """The result of a function of `volume`; raises its errors."""
        limit = _limit(Path(path))
        with self._lock:
            process = self._started()
            late = threading.Event()
            timer = threading.Timer(limit, lambda: (late.set(), process.kill()))
            timer.daemon = True
            timer.start()
            try:
                answer = _ask(process, [os.getcwd(), function, str(path)])
            except (OSError, EOFError):
                raise self._fault(path, late.is_set(), limit) from None
            except BaseException:  # Ctrl-C: what the process is about to send is of no use
                self._end()
                raise
            finally:
                timer.cancel()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            places = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CODE],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # a crash's output
            )
        return self._process

    def _fault(self, path: str | Path, late: bool, limit: float) -> InputError:
        code = self._end()
        if late:
            return InputError(
                f"{path}: reading took longer than {limit:.0f} s; the file is damaged, or its "
                "disk does not respond: get it again"
            )
        return InputError(
            f"{path}: the file is damaged, and reading it crashed the reader (exit code "
            f"{code}); get it again"
        )

    def _end(self) -> int | None:
        """End the process, if there is one; its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.stdout.close()
        process.kill()
        return process.wait()


_child = _Child()


def _limit(path: Path) -> float:
    """Seconds for a file or the files of a folder."""
    try:
        files = list(path.iterdir()) if path.is_dir() else [path]
        size = sum(f.stat().st_size for f in files)
    except OSError:
        size = 0
    return PATIENCE + size / SLOWEST


def _ask(process: subprocess.Popen[bytes], request: list[str]) -> Any:
    """Send a request and return the value of the answer, or its error; EOFError where the process
    ended."""
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    answer = json.loads(line)
    if (error := answer.get("error")) is not None:
        return _ERRORS.get(answer["kind"], RuntimeError)(error)
    if "grid" not in answer:
        return answer["value"]
    first = _received(process, answer)
    if (count := answer["count"]) is None:
        return first
    return (first, *(_received(process, json.loads(process.stdout.readline() or b"{}"))
                     for _ in range(count - 1)))  # fmt: skip


def _received(process: subprocess.Popen[bytes], head: dict[str, Any]) -> Volume:
    """The volume that follows its ``head``; EOFError where the process ended."""
    if "grid" not in head:
        raise EOFError
    grid = _grid(head["grid"])
    array = np.empty(grid.shape[::-1], head["kind"])
    buffer = memoryview(array).cast("B")
    while buffer:
        count = process.stdout.readinto(buffer)
        if not count:
            raise EOFError
        buffer = buffer[count:]
    return Volume(array.transpose(2, 1, 0), grid, tuple(head["remarks"]))


def _grid(sent: dict[str, Any]) -> Grid:
    """The grid whose fields were ``sent``."""
    fields = {key: tuple(value) for key, value in sent.items()}
    return Grid(**{**fields, "axes": tuple(map(tuple, fields["axes"]))})


_ERRORS: dict[str, type[Exception]] = {"InputError": InputError, "MemoryError": MemoryError}


def serve() -> None:
    """Answer requests on stdin, a line each, until it closes: the child's part."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal, which is for the parent
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    for line in sys.stdin.buffer:
        folder, function, path = json.loads(line)
        os.chdir(folder)  # so that messages have the path as it was given
        if hasattr(signal, "alarm"):  # ends the process even if its parent is gone
            signal.alarm(int(_limit(Path(path)) * 2))
        _answer(answers, getattr(volume, function), path)
        answers.flush()
        if hasattr(signal, "alarm"):
            signal.alarm(0)


def _answer(answers: io.BufferedWriter, function: Callable[[str], Any], path: str) -> None:
    def head(**content: Any) -> None:
        answers.write(json.dumps(content).encode() + b"\n")

    try:
        value = function(path)
    except Exception as error:
        text = str(error) if isinstance(error, InputError | MemoryError) else repr(error)
        head(error=text, kind=type(error).__name__)
        return
    if isinstance(value, Grid):
        head(value=vars(value))
        return
    one = isinstance(value, Volume)
    several = (value,) if one else value
    if not all(isinstance(v, Volume) for v in several) or not several:
        head(value=value)
        return
    for each in several:
        array = np.ascontiguousarray(each.array.transpose(2, 1, 0))
        head(
            grid=vars(each.grid),
            kind=array.dtype.str,
            remarks=each.remarks,
            count=None if one else len(several),
        )
        answers.write(memoryview(array).cast("B"))
