"""How fast this computer is, for tests whose lengths are times of a usual one."""

from __future__ import annotations

import time

import pytest
import torch

from ugmcl_core.nn import devices

USUAL = 390.0
"""GFLOP/s of two cores with AVX-512 and without AMX, on which the times of the tests were chosen;
two with AVX2 alone have 116."""
_MOST = 2.0  # times slower than that


def slower(threads: int) -> float:
    """How many times slower ``threads`` threads multiply matrices, in the precision of the
    networks, than as many cores of the usual computer; 1 for a faster one. What other programs do
    meanwhile hardly counts."""
    size, best, before = 2048, float("inf"), torch.get_num_threads()
    a = torch.randn(size, size, dtype=devices.precision(torch.device("cpu")))
    torch.set_num_threads(threads)
    try:
        for _ in range(5):
            begin = time.process_time()
            a @ a
            best = min(best, (time.process_time() - begin) / threads)
    finally:
        torch.set_num_threads(before)
    return max(1.0, USUAL * threads / 2 / (2e-9 * size**3 / best))


def minutes_here(minutes: float) -> float:
    """As many minutes of one thread here as ``minutes`` of the usual computer are worth. Skips
    the test where it would take too long."""
    times = slower(1)
    if times > _MOST:
        pytest.skip(f"this computer is {times:.1f} times too slow for so many minutes")
    return times * minutes
