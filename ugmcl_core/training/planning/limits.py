"""What a computer lets a training use."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

GIB = 1 << 30


@dataclass(frozen=True)
class Limits:
    """What a training may use: ``device`` is cpu, cuda or mps, ``memory`` all of its bytes."""

    device: str = "cpu"
    memory: int = 16 * GIB

    @property
    def voxels(self) -> int:
        """The largest patch. On a CPU about that of the compact profile, with which two cores
        train one batch in two seconds; on a GPU that of the published one."""
        if self.device == "cpu":
            return 300_000 if self.memory >= 8 * GIB else 150_000
        return 1_000_000 if self.memory >= 10 * GIB else 500_000


def limits_of(device: torch.device) -> Limits:
    """The limits of a device. All of its memory counts, not what is free at the moment: the same
    cases on the same computer have the same plan."""
    if device.type == "cuda":
        return Limits("cuda", torch.cuda.get_device_properties(device).total_memory)
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return Limits(device.type)
    return Limits(device.type, memory)
