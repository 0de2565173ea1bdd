"""Private temporary folders, as their files are patient data."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import explaining

_NAME = re.compile(r"ugmcl-(\d+)-\w+\Z")


def place() -> Path:
    """Where the folders are made: Slicer's own temporary folder."""
    return Path(slicer.app.temporaryPath or tempfile.gettempdir())


def makeFolder() -> Path:
    """A new folder that only this user can enter (mkdtemp gives it mode 0700).

    Raises PanelError where none can be made.
    """
    with explaining(_("No temporary folder can be made in {place}: {why}."), place=place()):
        place().mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"ugmcl-{os.getpid()}-", dir=place()))


def removeFolder(folder: Path) -> None:
    """Remove the folder; files that another process holds stay until the next sweep."""
    shutil.rmtree(folder, ignore_errors=True)


def size(folder: Path) -> int:
    """The total size in bytes of the files below `folder`, without unreadable ones."""
    total = 0
    for path, _folders, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:
                continue  # just removed
    return total


def sweepOrphans() -> int:
    """Remove the folders of processes that have ended, such as a crashed Slicer."""
    swept = 0
    try:
        entries = list(os.scandir(place()))
    except OSError:
        return 0
    for entry in entries:
        match = _NAME.match(entry.name)
        if match and _isOurs(entry) and not isAlive(int(match.group(1))):
            removeFolder(Path(entry.path))
            swept += 1
    return swept


def _isOurs(entry: os.DirEntry) -> bool:
    try:
        if not entry.is_dir(follow_symlinks=False):
            return False
        return not hasattr(os, "getuid") or entry.stat(follow_symlinks=False).st_uid == os.getuid()
    except OSError:
        return False  # another Slicer has just removed it


def isAlive(pid: int) -> bool:
    """Whether a process of this number runs."""
    if sys.platform == "win32":  # os.kill(pid, 0) would end the process there
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
