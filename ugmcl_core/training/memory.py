"""How much memory a training takes, and the fallbacks when there is not enough."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from ..errors import is_out_of_memory
from .profiles import Profile

Result = TypeVar("Result")
_SMALLEST = 3  # voxels of the coarsest level that a window keeps along an axis


@dataclass(frozen=True)
class Attempt:
    """One way to train; ``text`` names what makes it need less memory than the previous one."""

    profile: Profile
    device: str
    text: str = ""


def attempts_for(profile: Profile, device: str) -> list[Attempt]:
    """What to try in turn when memory runs out on ``device`` (a resolved one): half the batch, a
    window halved along each axis too, and, from a GPU, the CPU with the batch as it was."""
    attempts = [Attempt(profile, device)]
    batch = profile.batch
    if batch.size > 2:
        least = min(1, batch.unlabeled)  # 0 stays 0
        batch = replace(
            batch, labeled=max(1, batch.labeled // 2), unlabeled=max(least, batch.unlabeled // 2)
        )
        attempts.append(Attempt(replace(profile, batch=batch), device, "half the batch"))
    multiple = profile.network.multiple
    patch = tuple(
        min(n, max(_SMALLEST * m, -(-n // (2 * m)) * m))
        for n, m in zip(batch.patch, multiple, strict=True)
    )
    if patch != batch.patch:
        size = "x".join(map(str, patch))
        smaller = replace(profile, batch=replace(batch, patch=patch))
        if profile.coarse is not None:
            least = tuple(map(min, profile.coarse.patch, patch))
            smaller = replace(smaller, coarse=replace(profile.coarse, patch=least))
        attempts.append(Attempt(smaller, device, f"a window of {size} voxels"))
    if torch.device(device).type != "cpu":
        attempts.append(Attempt(profile, "cpu", "the CPU"))
    return attempts


def run_with_fallback(
    attempts: Sequence[Attempt], work: Callable[[Attempt], Result], warn: Callable[[str], None]
) -> Result:
    """The result of ``work`` for the first attempt that has enough memory; ``warn`` gets a text
    for every fallback. Raises what the last attempt raises, and any other error at once."""
    for attempt, fallback in zip(attempts, [*attempts[1:], None], strict=True):
        try:
            return work(attempt)
        except (RuntimeError, MemoryError) as error:
            if fallback is None or not is_out_of_memory(error):
                raise
        # outside of the handler, so that the error's frames and their tensors are gone
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        where = "memory" if attempt.device == "cpu" else "GPU memory"
        warn(f"Not enough {where}: continuing with {fallback.text}.")
    raise AssertionError("there is always a first attempt")


class Peak:
    """Measures the largest memory in use, as a context manager: ``bytes`` afterwards.

    On a GPU what torch reserved there; else the process's resident memory, sampled every 20 ms.
    """

    _EVERY = 0.02

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._end = threading.Event()
        self.bytes = 0

    def __enter__(self) -> Peak:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_reserved(self._device)
        else:
            self._end.set()
            self._thread.join()

    def _watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, resident())
            if self._end.wait(self._EVERY):
                return


def in_use() -> dict[str, int | None]:
    """Bytes of the computer's memory that this process holds (`resident`), and of a GPU's that
    torch reserved (`gpu`), and how much there is of each (`total`, `gpu_total`); None for a GPU
    that is not used, and for what the system does not show."""
    found: dict[str, int | None] = {"resident": resident() or None, "total": _total(),
                                    "gpu": None, "gpu_total": None}  # fmt: skip
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        devices = range(torch.cuda.device_count())
        most = max(devices, key=torch.cuda.memory_reserved)
        if reserved := torch.cuda.memory_reserved(most):
            found["gpu"] = reserved
            found["gpu_total"] = torch.cuda.get_device_properties(most).total_memory
    return found


def _total() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has none of it
        return None


def resident() -> int:
    """Bytes of main memory that this process holds: at present on Linux and Windows, the peak so
    far on macOS; 0 where that is unknown."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        import resource

        return pages * resource.getpagesize()
    if sys.platform == "win32":
        return _windows_resident()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _windows_resident() -> int:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        """PROCESS_MEMORY_COUNTERS of psapi.h."""

        _fields_ = (
            ("cb", wintypes.DWORD),
            ("PageFaultCount", wintypes.DWORD),
            *((name, ctypes.c_size_t) for name in (
                "PeakWorkingSetSize", "WorkingSetSize", "QuotaPeakPagedPoolUsage",
                "QuotaPagedPoolUsage", "QuotaPeakNonPagedPoolUsage", "QuotaNonPagedPoolUsage",
                "PagefileUsage", "PeakPagefileUsage",
            )),
        )  # fmt: skip

    counters = Counters()
    counters.cb = ctypes.sizeof(counters)
    kernel = ctypes.WinDLL("kernel32")
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    kernel.K32GetProcessMemoryInfo.argtypes = (
        wintypes.HANDLE, ctypes.POINTER(Counters), wintypes.DWORD)  # fmt: skip
    found = kernel.K32GetProcessMemoryInfo(
        kernel.GetCurrentProcess(), ctypes.byref(counters), counters.cb
    )
    return int(counters.WorkingSetSize) if found else 0
