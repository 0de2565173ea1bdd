"""Strides and kernels of a network that fit the shape of the voxels (Isensee et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from ...nn.network import Strides

LEAST = 4
"""Voxels below which no axis is halved."""


def strides_for(grid: Sequence[float], patch: Sequence[int]) -> Strides:
    """The strides between five levels: each halves the axes whose spacing is less than twice the
    least of those that can be halved, so that thick slices wait, and none to below 4 voxels
    (Isensee et al., 2021)."""
    spacing, size, strides = list(grid), [float(n) for n in patch], []
    for _ in range(4):
        able = [a for a in range(3) if size[a] >= 2 * LEAST]
        finest = min((spacing[a] for a in able), default=0.0)
        step = tuple(2 if a in able and spacing[a] < 2 * finest else 1 for a in range(3))
        spacing = [s * t for s, t in zip(spacing, step, strict=True)]
        size = [n / t for n, t in zip(size, step, strict=True)]
        strides.append(step)
    return tuple(strides)


def kernels_for(grid: Sequence[float], patch: Sequence[int], strides: Strides) -> Strides:
    """The kernels of the five levels: 1 along axes whose spacing there is at least twice the
    least, and 3 from the first level on where it is not (Isensee et al., 2021)."""
    spacing, kernels, seen = list(grid), [], [False] * 3
    for step in (*strides, (1, 1, 1)):
        seen = [s or a < 2 * min(spacing) for s, a in zip(seen, spacing, strict=True)]
        kernels.append(
            tuple(3 if s and n > 1 else 1 for s, n in zip(seen, patch, strict=True))
        )
        spacing = [s * t for s, t in zip(spacing, step, strict=True)]
    return tuple(kernels)
