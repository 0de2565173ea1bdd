"""A child process with pipes. Its end leaves no descendant behind."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import qt
import slicer

from ugmcl_core.remote.connection import LIBRARIES
from UGMCLSegmentationLib.storage import userFolder


@dataclass(frozen=True)
class Ending:
    """How a program ended: `lastWords` are its last messages, or why it did not start."""

    lastWords: str
    code: int = 0  # exit code
    signal: int = 0  # the signal that ended it instead
    hasStarted: bool = True

    @property
    def wasKilled(self) -> bool:
        """By the system and without a message, which happens when memory runs out."""
        return self.signal == _KILLED or self.code == 128 + _KILLED  # the latter of a launcher


_KILLED = 9  # SIGKILL, which Windows does not have


def pythonExecutable() -> str:
    """Slicer's Python interpreter.

    `python-real` comes first: PythonSlicer is a launcher, which may not forward stdin and which
    its child outlives.
    """
    suffix = ".exe" if sys.platform == "win32" else ""
    home = getattr(slicer.app, "slicerHome", "")
    if home:
        for name in ("python-real", "PythonSlicer"):
            path = Path(home) / "bin" / (name + suffix)
            if path.is_file():
                return str(path)
    return shutil.which("PythonSlicer") or sys.executable


def workerCommand() -> list[str]:
    return [pythonExecutable(), "-m", "ugmcl_core", "worker"]


class Child:
    """One run of a program. `onLine` gets each line of its stdout, `onEnd` how it ended."""

    def __init__(
        self,
        command: Sequence[str],
        onLine: Callable[[str], None],
        onEnd: Callable[[Ending], None],
    ) -> None:
        self._onLine = onLine
        self._onEnd = onEnd
        self._pending = b""
        self._lastLines: deque[str] = deque(maxlen=30)
        self.workerPid = 0
        self._hasStarted = False
        self._process = process = qt.QProcess(slicer.app)
        process.setProcessEnvironment(_environment())
        self._slots = (
            ("started()", self._started),
            ("readyReadStandardOutput()", self._readOutput),
            ("readyReadStandardError()", self._readErrors),
            ("finished(int,QProcess::ExitStatus)", self._finished),
            ("errorOccurred(QProcess::ProcessError)", self._failed),
        )
        for name, slot in self._slots:
            process.connect(name, slot)
        process.start(command[0], list(command[1:]))

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.state() != qt.QProcess.NotRunning

    def hasPrinted(self, text: str) -> bool:
        """Whether its stderr recently contained this line."""
        self._readErrors()
        return text in self._lastLines

    def writeLine(self, line: str) -> None:
        if self.running:
            self._process.write((line + "\n").encode("utf-8"))

    def kill(self) -> None:
        """End the process and its children immediately, without calling `onEnd`."""
        process = self._release()
        if process is None or process.state() == qt.QProcess.NotRunning:
            return
        killTree([int(process.processId()), self.workerPid])
        process.kill()
        process.waitForFinished(1000)

    def stop(self, patience: int) -> None:
        """Close its input so that it ends; kill it after `patience` milliseconds."""
        if self.running:
            self._process.closeWriteChannel()
            self._process.waitForFinished(patience)
        self.kill()

    def _release(self):
        """Give up the process and report nothing more of it."""
        process, self._process = self._process, None
        if process is not None:
            process.deleteLater()  # it must outlive the signal that it may be sending
            for name, slot in self._slots:
                process.disconnect(name, slot)
            self._slots = ()
        return process

    def _started(self) -> None:
        self._hasStarted = True

    def _readOutput(self) -> None:
        if self._process is None:
            return
        self._pending += _bytes(self._process.readAllStandardOutput())
        *lines, self._pending = self._pending.split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            if text:
                self._onLine(text)

    def _readErrors(self) -> None:
        if self._process is None:
            return
        text = _bytes(self._process.readAllStandardError()).decode("utf-8", "replace")
        self._lastLines.extend(line.rstrip() for line in text.splitlines() if line.strip())

    def _finished(self, code, status) -> None:
        self._readOutput()
        self._readErrors()
        words = "\n".join(self._lastLines)
        if status == qt.QProcess.CrashExit:  # the code is the signal's number then
            self._end(Ending(words, signal=int(code)))
        else:
            self._end(Ending(words, int(code)))

    def _end(self, ending: Ending) -> None:
        process = self._release()
        if process is not None:
            self._onEnd(ending)

    def _failed(self, *_args) -> None:
        # after a start, finished() follows every error
        if self._process is not None and not self._hasStarted:
            self._end(Ending(self._process.errorString(), -1, hasStarted=False))


def _bytes(byteArray) -> bytes:
    data = byteArray.data()
    return data if isinstance(data, bytes) else b""


def _packagePlace() -> str:
    """The folder of ugmcl_core: the repository's root, or Slicer's scripted modules."""
    spec = importlib.util.find_spec("ugmcl_core")
    return str(Path(spec.origin).resolve().parents[1]) if spec and spec.origin else ""


def _environment():
    """A child's environment: Slicer's, plus the path that it does not inherit."""
    environment = qt.QProcessEnvironment.systemEnvironment()
    paths = [_packagePlace(), os.environ.get("PYTHONPATH", "")]
    environment.insert("PYTHONPATH", os.pathsep.join(p for p in paths if p))
    environment.insert("UGMCL_MODELS", userFolder.modelPlaces())
    environment.insert(LIBRARIES, _systemLibraries())
    environment.insert("PYTHONUNBUFFERED", "1")
    environment.insert("PYTHONIOENCODING", "utf-8")
    return environment


def _systemLibraries() -> str:
    """Where programs of the system find libraries: Slicer's own would break their ssh."""
    return getattr(slicer.util, "startupEnvironment", dict)().get("LD_LIBRARY_PATH", "")


def killTree(pids: Sequence[int]) -> None:
    """Kill the processes and all their descendants."""
    roots = {pid for pid in pids if pid > 0}
    if sys.platform == "win32":
        for pid in roots:
            subprocess.run(
                ["taskkill", "/F", "/T", "/PID", str(pid)],
                capture_output=True,
                timeout=5,
                check=False,
                creationflags=subprocess.CREATE_NO_WINDOW,
            )
        return
    for pid in roots | _descendants(roots):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue  # it has ended


def _descendants(roots: set[int]) -> set[int]:
    try:
        command = ["ps", "-A", "-o", "pid=,ppid="]
        listing = subprocess.run(
            command, capture_output=True, text=True, timeout=2, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return set()
    parents = dict(map(int, line.split()[:2]) for line in listing.splitlines() if line.strip())
    found: set[int] = set()
    grown = True
    while grown:
        new = {p for p, parent in parents.items() if parent in roots | found} - found - roots
        found |= new
        grown = bool(new)
    return found
