"""Being considerate of the computer's user: fewer threads, lower priority, and no work on
battery."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_SUPPLIES = Path("/sys/class/power_supply")  # of Linux
_NICE = 10
_BELOW_NORMAL, _NORMAL = 0x4000, 0x20  # priority classes of Windows


@contextlib.contextmanager
def courteous(share: float) -> Iterator[None]:
    """Compute with a ``share`` (0 to 1) of the cores and at a lower priority while the block runs;
    with all of them as before.

    The number of threads is restored afterwards. Where the system does not let a process raise its
    priority again, as on most Unix systems, it keeps the lower one until it ends.
    """
    import torch

    if share >= 1:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, min(threads, round(share * _cores()))))
    former = _lower()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _restore(former)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _lower() -> int | None:
    """Lower the priority of this process; the former niceness, None where there is none."""
    if sys.platform == "win32":
        _set_priority_class(_BELOW_NORMAL)
        return None
    former = os.getpriority(os.PRIO_PROCESS, 0)
    if former < _NICE:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    return former


def _restore(former: int | None) -> None:
    if sys.platform == "win32":
        _set_priority_class(_NORMAL)
    elif former is not None:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, former)


def _set_priority_class(priority: int) -> None:
    kernel = ctypes.WinDLL("kernel32")
    kernel.SetPriorityClass(kernel.GetCurrentProcess(), priority)


def on_battery(supplies: Path = _SUPPLIES) -> bool:
    """Whether the computer runs on its battery; False where the system does not show it."""
    if sys.platform == "win32":
        status = (ctypes.c_ubyte * 12)()  # SYSTEM_POWER_STATUS, whose first byte is the line
        return bool(ctypes.WinDLL("kernel32").GetSystemPowerStatus(status)) and status[0] == 0
    if sys.platform == "darwin":
        return b"'Battery Power'" in _printed("pmset", "-g", "batt")
    lines = [_text(p / "online") for p in _entries(supplies) if _text(p / "type") == "Mains"]
    return bool(lines) and "1" not in lines


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _printed(*command: str) -> bytes:
    try:
        return subprocess.run(command, capture_output=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return b""
