"""Random views of a patch: where it is cut, how it is turned, how its intensities vary.

All randomness comes from the generator that is passed in, so a step's batch depends on its seed
alone (its noise also on the kind of device that draws it). Geometry is shared by image, labels and
distance; intensity changes the student's view only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv3d, interpolate, pad

Field = np.ndarray | Tensor
_FEW = 8  # slices of a stack that are not looked across


@dataclass(frozen=True)
class Augmentation:
    """What varies. Probabilities are per patch; ``rotation`` is in degrees about each axis."""

    affine: float = 0.0  # probability of a rotation and a zoom
    rotation: float = 18.0
    zoom: tuple[float, float] = (0.8, 1.25)
    shift: float = 0.0  # of the patch, beyond the volume's border
    flips: tuple[float, float, float] = (0.0, 0.0, 0.0)
    quarter_turns: bool = False  # k·90° in the i, j plane, then always a flip along i or j;
    # by 180° only where patch or spacing differ between i and j
    surroundings: bool = False  # what lies outside the volume: repeated, mirrored or dark
    intensity: float = 0.0  # probability scale of each intensity change
    reflected: bool = True  # whether mirrored surroundings may show a structure's mirror image

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """The axes along which patches are seen mirrored and unmirrored."""
        return tuple(a for a in range(3) if 0.0 < self.flips[a] < 1.0)


@dataclass(frozen=True)
class Pose:
    """How a patch lies in its volume: ``center`` (voxels) and ``matrix``, patch to volume voxels,
    or None for an unturned patch on whole voxels; ``zoom`` > 1 magnifies."""

    center: tuple[float, float, float]
    matrix: np.ndarray | None
    zoom: float
    outside: str  # "border", "reflection" or "dark"


def draw_pose(
    rng: np.random.Generator,
    settings: Augmentation,
    shape: tuple[int, ...],
    patch: tuple[int, ...],
    spacing: tuple[float, ...],
    target: np.ndarray | None = None,
) -> Pose:
    """A random pose of a patch in a volume of ``shape``; near voxel ``target`` if given.

    Across slices over three times as thick as their pixels, nothing is rotated, magnified or
    shifted by parts of a slice, since that would mix slices that show different things. Nor across
    a few slices, out of which a patch would be turned.
    """
    few = few_axes(patch)
    center, thick = [], {*thick_axes(spacing), *few}
    for n, size, axis in zip(shape, patch, range(3), strict=True):
        slack = max(0, n - size)
        low = (size - 1) / 2 if slack else (n - 1) / 2 - (0.5 if (size - n) % 2 else 0.0)
        place = low + rng.integers(0, slack + 1)
        if target is not None:
            place = min(max(target[axis] + 0.5 * ((size - 1) % 2), low), low + slack)
        moved = place + settings.shift * size * rng.uniform(-1.0, 1.0)
        center.append(place + round(moved - place) if axis in thick else float(moved))
    outside = "border"
    if settings.surroundings:
        reflection = ["reflection"] if settings.reflected else []
        outside = str(rng.choice(["border", *reflection, "dark"]))
    turned = rng.random() < settings.affine
    if not turned and settings.shift == 0:
        return Pose(tuple(center), None, 1.0, outside)
    matrix, zoom = np.eye(3), 1.0
    if turned:
        zoom = float(np.exp(rng.uniform(*np.log(settings.zoom))))
        matrix = _rotation(rng, settings.rotation, spacing, few) / zoom
        for axis in thick:
            matrix[axis, axis] = 1.0
        scale = np.diag(spacing)
        matrix = np.linalg.inv(scale) @ matrix @ scale
    return Pose(tuple(center), matrix, zoom, outside)


def thick_axes(spacing: Sequence[float]) -> tuple[int, ...]:
    """The axes whose spacing is over 3 times the smallest one, as in nnU-Net (Isensee et al.,
    2021)."""
    return tuple(a for a in range(3) if spacing[a] > 3 * min(spacing))


def few_axes(patch: Sequence[int]) -> tuple[int, ...]:
    """The axes of under 8 voxels, and under a quarter of those along the other ones: of a few
    slices, however thick."""
    others = [[n for b, n in enumerate(patch) if b != a] for a in range(3)]
    return tuple(a for a in range(3) if patch[a] < _FEW and 4 * patch[a] < min(others[a]))


def _rotation(
    rng: np.random.Generator, degrees: float, spacing: tuple[float, ...], few: tuple[int, ...]
) -> np.ndarray:
    """Rotations about the three axes in turn, without those that would mix spacings differing
    3-fold, or one of the axes of a ``few`` slices with another."""
    matrix = np.eye(3)
    for axis in range(3):
        a, b = [n for n in range(3) if n != axis]
        angle = math.radians(rng.uniform(-degrees, degrees))
        if max(spacing[a], spacing[b]) > 3 * min(spacing[a], spacing[b]) or {a, b} & set(few):
            continue
        turn = np.eye(3)
        turn[[a, a, b, b], [a, b, a, b]] = (
            math.cos(angle),
            -math.sin(angle),
            math.sin(angle),
            math.cos(angle),
        )
        matrix = turn @ matrix
    return matrix


def cut(
    fields: Sequence[Field], pose: Pose, patch: tuple[int, ...], outside: Sequence[str]
) -> list[Tensor]:
    """Cut ``fields`` (each (N, I, J, K)) at ``pose``; float32 tensors (N, *patch), on the device
    of the fields where these are tensors, which must all lie on one.

    ``outside`` names for each field what lies beyond the volume. Reads only the part of the
    arrays that the patch needs, so they may be memory-mapped.
    """
    if pose.matrix is None:
        start = [round(c - (s - 1) / 2) for c, s in zip(pose.center, patch, strict=True)]
        return [_cut_whole(f, start, patch, o) for f, o in zip(fields, outside, strict=True)]
    shape = fields[0].shape[1:]
    half = (np.array(patch) - 1) / 2
    corners = (
        np.array(pose.center)
        + (np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]) * half)
        @ pose.matrix.T
    )
    low = np.clip(np.floor(corners.min(0)).astype(int) - 1, 0, np.array(shape) - 2)
    high = np.minimum(np.maximum(np.ceil(corners.max(0)).astype(int) + 2, low + 2), shape)
    low = np.maximum(low, 0)
    device = fields[0].device if isinstance(fields[0], Tensor) else None
    index = [
        torch.arange(s, dtype=torch.float32, device=device) - h
        for s, h in zip(patch, half, strict=True)
    ]
    axes = torch.meshgrid(*index, indexing="ij")
    places = []
    for a in range(3):
        turned = sum(float(pose.matrix[a, b]) * axes[b] for b in range(3))
        position = pose.center[a] + turned - float(low[a])
        places.append(2.0 * position / max(1, int(high[a] - low[a]) - 1) - 1.0)
    grid = torch.stack(places[::-1], dim=-1)[None]
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    result: list[Tensor] = []
    for kind, group in itertools.groupby(zip(fields, outside, strict=True), lambda pair: pair[1]):
        parts = [floats(field, box) for field, _ in group]
        part = torch.cat(parts)[None]  # one call computes the sampling positions once
        if kind == "dark":
            floor = part.amin(dim=(2, 3, 4), keepdim=True)
            sampled = _sample(part - floor, grid, "zeros") + floor
        else:
            sampled = _sample(part, grid, kind)
        result += sampled[0].split([len(p) for p in parts])
    return result


def floats(field: Field, box: tuple[slice, ...] = (slice(None),) * 3) -> Tensor:
    """A box of ``field`` (N, I, J, K), or all of it, in float32: a contiguous copy."""
    part = field[(slice(None), *box)]
    if isinstance(part, Tensor):
        return part.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return torch.from_numpy(np.array(part, np.float32, order="C"))


def _sample(part: Tensor, grid: Tensor, padding: str) -> Tensor:
    return torch.nn.functional.grid_sample(part, grid, padding_mode=padding, align_corners=True)


def _cut_whole(field: Field, start: list[int], patch: tuple[int, ...], kind: str) -> Tensor:
    shape = field.shape[1:]
    box = tuple(
        slice(max(0, a), min(n, a + s)) for a, n, s in zip(start, shape, patch, strict=True)
    )
    part = floats(field, box)
    around = [
        m
        for a, n, s in zip(reversed(start), reversed(shape), reversed(patch), strict=True)
        for m in (max(0, -a), max(0, a + s - n))
    ]
    if not any(around):
        return part
    if kind == "dark":
        floor = part.min()
        return pad(part - floor, around) + floor
    return pad(part[None], around, mode="replicate")[0]


def draw_flips(
    rng: np.random.Generator,
    settings: Augmentation,
    patch: tuple[int, ...],
    spacing: tuple[float, ...],
) -> tuple[int, list[int]]:
    """Quarter turns in the i, j plane, and the axes (0 to 2) to flip."""
    if settings.quarter_turns:
        turns, axis = int(rng.integers(4)), int(rng.integers(2))
        square = patch[0] == patch[1] and abs(spacing[0] / spacing[1] - 1.0) < 0.05
        return (turns if square else 2 * (turns // 2)), [axis]
    return 0, [a for a in range(3) if rng.random() < settings.flips[a]]


def turn(field: Tensor, turns: int, axes: list[int]) -> Tensor:
    """Apply quarter turns, then flips, to (N, I, J, K)."""
    if turns:
        field = field.rot90(turns, (1, 2))
    return field.flip([a + 1 for a in axes]) if axes else field


def vary_intensity(image: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """The strong view of (channels, I, J, K): gain and offset, gamma, a smooth multiplicative
    field, blur and noise, each with a probability that ``strength`` scales."""
    result = []
    for channel in image:
        x = channel
        if rng.random() < 0.8 * strength:
            x = x * float(np.exp(rng.uniform(-0.3, 0.3))) + float(rng.normal(0.0, 0.2))
        if rng.random() < 0.5 * strength:
            low, high = x.min(), x.max()
            width = (high - low).clamp_min(1e-6)
            x = ((x - low) / width) ** float(np.exp(rng.uniform(-0.4, 0.4))) * width + low
        if rng.random() < 0.5 * strength:
            low = x.min()
            coarse = 0.25 * _noise((1, 1, 4, 4, 3), x.device, rng)
            smooth = interpolate(coarse, x.shape, mode="trilinear", align_corners=True)[0, 0]
            x = (x - low) * smooth.exp() + low
        if rng.random() < 0.3 * strength:
            x = _blur(x, float(rng.uniform(0.4, 1.0)))
        if rng.random() < 0.6 * strength:
            x = x + float(rng.uniform(0.0, 0.2)) * _noise(x.shape, x.device, rng)
        result.append(x)
    return torch.stack(result)


def _noise(shape: Sequence[int], device: torch.device, rng: np.random.Generator) -> Tensor:
    """Standard normal noise, drawn on ``device``, as a GPU would otherwise wait for a copy."""
    source = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    return torch.randn(tuple(shape), generator=source, device=device)


def _blur(x: Tensor, sigma: float) -> Tensor:
    offsets = torch.arange(-2, 3, dtype=torch.float32, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    y = x[None, None]
    for axis in range(3):
        shape, around = [1, 1, 1, 1, 1], [0] * 6
        shape[axis + 2] = 5
        around[2 * (2 - axis)] = around[2 * (2 - axis) + 1] = 2
        y = conv3d(pad(y, around, mode="replicate"), kernel.view(shape))
    return y[0, 0]
