"""Where to compute, and in which precision and memory format it is fastest there."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    import torch

# Options of glibc's mallopt, from malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def resolve(name: str = "auto") -> torch.device:
    """The device called ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; InputError if it is
    unknown or absent."""
    import torch

    has_mps = _mps_works()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    kind, _, number = name.partition(":")
    numbered = not number or (kind == "cuda" and number.isdigit())
    if kind not in ("cpu", "cuda", "mps") or not numbered:
        raise InputError(f"device {name!r} is unknown; use auto, cpu, cuda, cuda:N or mps")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(number or 0) >= gpus:
        raise InputError(
            f"device {name!r} is not available (no such CUDA GPU, or a CPU-only build of "
            "PyTorch); use --device auto or cpu"
        )
    if kind == "mps" and not has_mps:
        raise InputError(
            "device 'mps' is not usable here (no Apple GPU, or PyTorch older than 2.8); "
            "use --device auto or cpu"
        )
    return torch.device(name)


def _mps_works() -> bool:
    """Whether there is an Apple GPU and torch has the network's operations for it (transposed 3D
    convolutions came with torch 2.8)."""
    import torch

    if not torch.backends.mps.is_available():
        return False
    try:
        ones = torch.ones(1, 1, 2, 2, 2, device="mps")
        torch.nn.functional.conv_transpose3d(ones, ones, stride=2).cpu()
    except (RuntimeError, NotImplementedError):
        return False
    return True


def listing() -> list[dict[str, str]]:
    """The devices that can be used: ``name`` for `resolve`, ``text`` for people."""
    import torch

    found = [
        {"name": f"cuda:{n}", "text": torch.cuda.get_device_name(n)}
        for n in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    ]
    if _mps_works():
        found.append({"name": "mps", "text": "Apple GPU"})
    return [*found, {"name": "cpu", "text": f"CPU ({torch.get_num_threads()} threads)"}]


def prepare_cpu() -> None:
    """Let torch use the cores that this process may run on, and keep freed memory for reuse.

    glibc returns every large block to the kernel as soon as it is freed, so every iteration pays
    page faults for its activations: a training step of the V-Net takes 1.4 times as long.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ and hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0))))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_ARENA_MAX, 1)):
            mallopt(option, value)


def release_memory() -> None:
    """Return the memory that `prepare_cpu` kept to the system, between two tasks."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def room_for_cases(device: torch.device) -> int:
    """Bytes of a GPU's memory that prepared cases may take there: a quarter of what is free, since
    the rest is the training's. 0 for other devices, which share the computer's memory."""
    import torch

    if device.type != "cuda":
        return 0
    number = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.mem_get_info(number)[0] // 4  # a device without a number: torch 2.5 on


def has_half_gradients(device: torch.device, length: int) -> bool:
    """Whether bfloat16 gradients can be trusted where feature maps have ``length`` voxels along
    their first axis.

    On the CPU (torch 2.13) the weight gradient of a bfloat16 3x3x3 convolution over 1 or 2 voxels
    along that axis holds whatever was in memory before, NaN at times.
    """
    return device.type != "cpu" or length > 2


def precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware computes in it, else float32."""
    import torch

    if device.type == "cpu":
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # not in older torch
        half = supported is not None and supported()
    else:
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if half else torch.float32


def autocast(device: torch.device, enabled: bool = True) -> contextlib.AbstractContextManager:
    """Autocast to the device's `precision`."""
    import torch

    if not enabled or precision(device) == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
