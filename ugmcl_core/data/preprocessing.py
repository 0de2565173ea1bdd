"""From a volume to the network's input, and the exact way back.

    volume → region of interest → canonical axes (permute, flip) → model's spacing → normalized

Only the resampling interpolates. Grids are aligned at their outer faces and not at voxel centers,
so the model's grid has a whole number of voxels, and its true spacing differs from the wanted one
by less than half a voxel over the whole extent. The way back is the inverse map.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..errors import InputError
from .limits import LARGEST_GRID
from .volume import Grid, Volume, index_box

if TYPE_CHECKING:
    from torch import Tensor

_KINDS = ("robust-z", "z-score", "z-score-nonzero", "window", "global", "unit", "none")
_PADDING = 0.05
_ROUNDING = 1e-6  # of an image's values, which float32 may cause in a constant one
_STATISTICS_VOXELS = 2_000_000  # percentiles of more voxels than this differ only in the noise


@dataclass(frozen=True)
class Normalization:
    """How intensities are normalized, all but ``global`` from the given image alone.

    ``robust-z``: clip to the ``low`` and ``high`` percentiles, then zero mean and unit variance,
    of all voxels but those of an empty surrounding.
    ``z-score``: the same without clipping, of all voxels. ``z-score-nonzero``: of those that are
    not 0, such as a skull-stripped brain; zeros stay 0. ``window``: clip to ``low`` and ``high``
    intensity (HU) and map them to -1 and 1. ``global``: clip to them, subtract ``mean`` and divide
    by ``deviation``, which are those of the structures in all cases of the training: for CT, where
    an intensity has a meaning of its own. ``unit``: the lowest voxel is 0, the highest 1.
    ``none``: the file is normalized already.
    """

    kind: str = "robust-z"
    low: float = 1.0
    high: float = 99.0
    mean: float = 0.0
    deviation: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS or self.low >= self.high or not self.deviation > 0:
            raise ValueError(f"unknown normalization {self}")

    def to_dict(self) -> dict[str, Any]:
        """As stored in a model card."""
        content = asdict(self)
        if self.kind != "global":
            del content["mean"], content["deviation"]
        return content

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Normalize ``array``; float32. InputError if the image is constant."""
        array = np.asarray(array, np.float32)
        if self.kind == "none":
            return array
        if self.kind == "window":
            center, half = (self.low + self.high) / 2, (self.high - self.low) / 2
            return np.clip((array - center) / half, -1.0, 1.0)
        if self.kind == "global":
            clipped = np.clip(array, self.low, self.high)
            return (clipped - np.float32(self.mean)) / np.float32(self.deviation)
        if self.kind == "unit":
            above = array - array.min()
            return above / (above.max() or np.float32(1.0))
        flat = array.ravel(order="K")
        if self.kind == "z-score-nonzero":
            flat = flat[flat != 0.0] if flat.any() else flat
        flat = flat[:: max(1, flat.size // _STATISTICS_VOXELS)]
        if self.kind == "robust-z":
            flat = _without_padding(flat)
            low, high = map(float, np.percentile(flat, [self.low, self.high]))
            if low == high:  # more than 98 % of the voxels are equal: an empty surrounding
                low, high = float(flat.min()), float(flat.max())
            flat, array = np.clip(flat, low, high), np.clip(array, low, high)
        mean, deviation = float(flat.mean(dtype=np.float64)), float(flat.std(dtype=np.float64))
        # relative, as units may be small: a diffusion in m²/s is of 1e-9
        if not deviation > _ROUNDING * float(np.abs(flat).max()):
            refuse_constant()
        if self.kind == "z-score-nonzero":
            return np.where(array != 0.0, (array - mean) / deviation, np.float32(0.0))
        return (array - mean) / deviation


Normalizations = Normalization | tuple[Normalization, ...]
"""One for all channels, each normalized by its own voxels, or one for each channel."""


def normalization_of(card: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Normalizations:
    """The normalization that a model's card stores; TypeError or ValueError for anything else."""
    if isinstance(card, Mapping):
        return Normalization(**card)
    return tuple(Normalization(**content) for content in card)


def stored_normalization(
    normalization: Normalizations,
) -> dict[str, Any] | tuple[dict[str, Any], ...]:
    """As a model's card has it."""
    if isinstance(normalization, Normalization):
        return normalization.to_dict()
    return tuple(each.to_dict() for each in normalization)


class ChannelError(InputError):
    """``why`` the image of a channel, the one of this ``number`` from 0, cannot be used."""

    number, why = 0, ""


def refuse_constant() -> NoReturn:
    """Raise InputError for an image in which all voxels are equal."""
    raise InputError(
        "the image, or its region of interest, is constant, so it shows nothing; check the file "
        "and the region of interest"
    )


def _without_padding(values: np.ndarray) -> np.ndarray:
    """``values`` less those of an empty surrounding: the lowest one, where it fills more than
    ``_PADDING`` of the image, so that padding a scan with zeros does not change its contrast."""
    lowest = values == values.min()
    if lowest.mean() <= _PADDING:
        return values
    rest = values[~lowest]
    return rest if rest.size and rest.min() < rest.max() else values


@dataclass(frozen=True)
class Prepared:
    """A volume on the model's grid, and the way back.

    ``image`` is (channels, I', J', K') float32, normalized, in canonical axes: i, j, k run along
    the body axes R, A, S that they are closest to. ``spacing`` is the model grid's true spacing.
    ``weights`` are those of the way back, by canonical axis: (voxels of the region, voxels of the
    image), None for `resize` from all of the image to all of the region.
    """

    image: Tensor
    spacing: tuple[float, float, float]
    grid: Grid
    box: tuple[slice, slice, slice]
    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    weights: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def region(self) -> tuple[int, int, int]:
        """The voxels of the region of interest, (I, J, K) of the input."""
        return tuple(b.stop - b.start for b in self.box)

    def restore(self, fields: Tensor, rows: slice | None = None) -> Tensor:
        """Interpolate ``fields`` (N, I', J', K') at the voxel centers of the region of interest;
        (N, *shape of the region) in the input's own axes, a view where possible. Of these only
        ``rows`` of the axis ``order[0]``, without the others being computed."""
        shape, whole = [self.region[a] for a in self.order], self.weights
        if rows is not None:
            mirrored = slice(shape[0] - rows.stop, shape[0] - rows.start)
            first = interpolation(fields.shape[1], shape[0]) if whole is None else whole[0]
            fields = _along(fields, 0, first[mirrored if self.flips[0] else rows])
            shape[0] = rows.stop - rows.start
        if whole is None:
            fields = resize(fields, shape)
        else:
            for axis in range(rows is not None, 3):
                fields = _along(fields, axis, whole[axis])
        flipped = [a + 1 for a in range(3) if self.flips[a]]
        inverse = [self.order.index(a) + 1 for a in range(3)]
        return (fields.flip(flipped) if flipped else fields).permute(0, *inverse)

    def nearest(self, field: np.ndarray) -> np.ndarray:
        """The values of ``field`` (I', J', K') nearest to the voxel centers of the region of
        interest, in its shape and the input's own axes."""
        places = []
        for a in range(3):
            if self.weights is None:
                whole = interpolation(field.shape[a], self.region[self.order[a]])
            else:
                whole = self.weights[a]
            places.append(whole.argmax(1).numpy()[:: -1 if self.flips[a] else 1])
        return field[np.ix_(*places)].transpose([self.order.index(a) for a in range(3)])

    def part(self, inside: Sequence[slice]) -> Prepared:
        """The box ``inside`` of the model's grid alone; its region is what lies within it."""
        box, weights = list(self.box), []
        for a in range(3):
            axis, wanted = self.order[a], inside[a]
            if self.weights is None:
                whole = interpolation(self.image.shape[1 + a], self.region[axis])
            else:
                whole = self.weights[a]
            own = whole[:, wanted]
            known = (own.sum(1) > 0.5).nonzero()[:, 0]  # rows that mostly depend on the box
            first, last = int(known[0]), int(known[-1]) + 1
            own = own[first:last]
            weights.append(own / own.sum(1, keepdim=True))
            if self.flips[a]:
                first, last = self.region[axis] - last, self.region[axis] - first
            start = self.box[axis].start
            box[axis] = slice(start + first, start + last)
        image = self.image[(slice(None), *inside)]
        return replace(self, image=image, box=tuple(box), weights=tuple(weights))

    def place(self, region: np.ndarray, outside: float) -> np.ndarray:
        """Put a region's array (I, J, K) into the input's full grid, ``outside`` elsewhere."""
        if region.shape == tuple(self.grid.shape):
            return region
        full = np.full(self.grid.shape, outside, region.dtype)
        full[self.box] = region
        return full


def canonical_axes(grid: Grid) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """The permutation and the flips that bring the index axes closest to R, A, S.

    Canonical axis a is input axis ``order[a]``, reversed where ``flips[a]``.
    """
    axes = np.asarray(grid.axes, float)
    order = max(
        itertools.permutations(range(3)),
        key=lambda p: round(sum(abs(axes[a, p[a]]) for a in range(3)), 9),
    )
    return order, tuple(bool(axes[a, order[a]] < 0) for a in range(3))


def prepare(
    volumes: Volume | Sequence[Volume],
    spacing: Sequence[float],
    normalization: Normalizations,
    roi: Sequence[float] | None = None,
    *,
    box: tuple[slice, slice, slice] | None = None,
) -> Prepared:
    """Prepare one volume, or one per input channel on a common grid, for a model.

    ``roi`` is a RAS box (x0, x1, y0, y1, z0, z1) in mm, ``box`` one of voxels; None for all.
    Raises InputError for constant images, grids that differ, a region outside the volume.
    """
    import torch

    volumes = [volumes] if isinstance(volumes, Volume) else list(volumes)
    grid, region = region_of(volumes, roi)
    box = region if box is None else box
    order, flips = canonical_axes(grid)
    arrays = [to_canonical(v.array[box], order, flips) for v in volumes]
    size = model_shape(arrays[0].shape, [grid.spacing[a] for a in order], spacing)
    resized = (resize(_tensor(a)[None], size)[0].numpy() for a in arrays)
    normalized = _normalized(resized, normalization, len(volumes))
    image = torch.stack([torch.from_numpy(a) for a in normalized])
    true = tuple(
        float(n * grid.spacing[a] / m)
        for n, a, m in zip(arrays[0].shape, order, size, strict=True)
    )
    return Prepared(image, true, grid, box, order, flips)


def region_of(
    volumes: Sequence[Volume], roi: Sequence[float] | None
) -> tuple[Grid, tuple[slice, slice, slice]]:
    """The common grid of the channels of a case, and the box of voxels of ``roi``, or of all.
    Raises InputError."""
    grid = volumes[0].grid
    if not all(grid.same_as(v.grid) for v in volumes[1:]):
        raise InputError("the channels of one case lie on different grids; resample them first")
    whole = tuple(slice(0, n) for n in grid.shape)
    return grid, index_box(grid, roi) if roi is not None else whole


def _normalized(
    arrays: Iterable[np.ndarray], normalization: Normalizations, count: int
) -> Iterator[np.ndarray]:
    """Each of the ``count`` channels normalized; ChannelError if one is constant."""
    alike = isinstance(normalization, Normalization)
    each = (normalization,) * count if alike else normalization
    for number, (array, own) in enumerate(zip(arrays, each, strict=True)):
        try:
            yield own(array)
        except InputError as error:
            which = f"channel {number + 1} of {count}: " if count > 1 else ""
            refused = ChannelError(f"{which}{error}")
            refused.number, refused.why = number, str(error)
            raise refused from None


def _tensor(array: np.ndarray) -> Tensor:
    """A copy of (I, J, K) as float32. Always a copy: NumPy treats a flipped axis of one voxel as
    contiguous, and torch refuses its negative stride."""
    import torch

    return torch.from_numpy(np.array(array, np.float32, order="C", copy=True))


def to_canonical(array: np.ndarray, order: Sequence[int], flips: Sequence[bool]) -> np.ndarray:
    """Permute and flip (I, J, K) into canonical axes; a view."""
    return array.transpose(order)[tuple(slice(None, None, -1 if f else None) for f in flips)]


def spans(extent: Sequence[float]) -> str:
    """Extents in mm for people, as short as they can be for micrometers too: 256 x 30 x 0.2."""
    return " x ".join(f"{e:.0f}" if e >= 10 else f"{e:.3g}" for e in extent)


def model_shape(
    shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]
) -> tuple[int, int, int]:
    """Voxels of the model's grid for ``shape`` voxels of ``spacing`` mm; InputError if huge, or if
    all of them lie within one voxel."""
    extent = [n * s for n, s in zip(shape, spacing, strict=True)]
    size = tuple(max(1, round(e / w)) for e, w in zip(extent, wanted, strict=True))
    if np.prod(size, dtype=float) > LARGEST_GRID:
        raise InputError(
            f"the volume spans {spans(extent)} mm, too large for this model's grid; "
            "set a region of interest or correct the spacing"
        )
    if all(e < w for e, w in zip(extent, wanted, strict=True)):
        raise InputError(
            f"the image, or its region of interest, spans {spans(extent)} mm, less than one voxel "
            "of this model's grid; correct the spacing or set a larger region of interest"
        )
    return size


def interpolation(old: int, new: int) -> Tensor:
    """What `resize` does along one axis of ``old`` voxels, as weights (new, old)."""
    import torch

    units = torch.eye(old)[:, :, None, None].expand(-1, -1, 2, 2)  # torch errs for a line
    return resize(units, (new, 2, 2))[:, :, 0, 0].T.contiguous()


def _along(fields: Tensor, axis: int, weights: Tensor) -> Tensor:
    """``fields`` (N, I, J, K) with ``weights`` (new, old) applied along ``axis``; reads only the
    voxels that count."""
    used = weights.any(0).nonzero()[:, 0]
    where = slice(int(used[0]), int(used[-1]) + 1)
    moved = fields.movedim(axis + 1, 1)[:, where]
    size = (len(fields), len(weights), *moved.shape[2:])
    return (weights[:, where] @ moved.flatten(2)).reshape(size).movedim(1, axis + 1)


def resize(fields: Tensor, shape: Sequence[int]) -> Tensor:
    """Linear interpolation of (N, I, J, K) to ``shape``, faces aligned, widened to a triangle
    filter where an axis shrinks so that nothing aliases."""
    from torch.nn.functional import interpolate

    shape = tuple(int(n) for n in shape)
    if tuple(fields.shape[1:]) == shape:
        return fields
    if all(new >= old for new, old in zip(shape, fields.shape[1:], strict=True)):
        return interpolate(fields[None], shape, mode="trilinear", align_corners=False)[0]
    if shape[2] == 1:  # with antialias, torch (2.13) repeats the first value where the width is 1
        for axis, (old, new) in enumerate(zip(fields.shape[1:], shape, strict=True)):
            if old != new:
                fields = _along(fields, axis, interpolation(old, new))
        return fields.contiguous()
    plane = interpolate(fields, shape[1:], mode="bilinear", antialias=True)
    line = plane.flatten(2)[:, None]
    line = interpolate(line, (shape[0], line.shape[-1]), mode="bilinear", antialias=True)
    return line[:, 0].unflatten(2, shape[1:])
