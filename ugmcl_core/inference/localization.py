"""Finds the structure in a field of view much larger than the training's, or than the structure.

A network that was trained on crops finds false structures outside them, and an image's contrast is
normalized differently with other surroundings. So the whole volume is segmented once, then crops
of the training's size around the largest finds, each as if it were the image, and the most
structure-like is kept (`localize`).

A network that was trained on large volumes knows what lies around. But where the structure is
small, processing the whole volume in several views wastes time. So it is processed once, in
windows that hardly overlap, and then only the surroundings of what was found are segmented in full
(`surroundings`). One view may be as sure of something else in so large a field: of a structure in
one piece, those that rival for it are looked at in all views.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..data.components import bounding_box, components_of, surest
from ..data.preprocessing import Prepared, normalization_of, prepare
from ..data.volume import Volume
from ..errors import Canceled
from ..models.card import ModelCard
from ..nn.network import DualTaskVNet
from .settings import largest_window
from .sliding_window import class_map, lead, predict, predict_mirrored, starts

_CANDIDATES = 4
_LEAST = 0.2  # foreground probability from which a voxel counts as found
_OVERLAPPING = 4.0  # about how many times the volume's voxels its windows have
_LARGE = 24.0  # patches in a volume from which only a part is segmented in full
_RIVALING = 0.25  # of the greatest lead of a component: worth a second look
_RIVALS = 4


def exceeds(card: ModelCard, prepared: Prepared, factor: float) -> bool:
    """Whether an extent is over ``factor`` times the largest that the training saw."""
    if card.field_of_view_mm is None:
        return False
    extent = [n * s for n, s in zip(prepared.image.shape[1:], prepared.spacing, strict=True)]
    return any(e > factor * m for e, m in zip(extent, card.field_of_view_mm[1], strict=True))


def localize(
    network: DualTaskVNet,
    volumes: Sequence[Volume],
    whole: Prepared,
    card: ModelCard,
    canceled: Callable[[], bool] | None = None,
) -> Prepared:
    """The crop of ``whole`` that holds the structure, prepared; ``whole`` if nothing is found.

    Candidates are the centers of the surest components of a first prediction and the middle of
    the volume; the one with the highest `likeness` is taken. Raises Canceled.
    """
    overlap = 0.0 if is_large(whole.image.shape[1:], card.patch) else None
    found = predict(network, whole.image, card.patch, overlap=overlap, canceled=canceled)
    best, highest = whole, 0.0
    for center in candidates(found.foreground.sum(0).cpu().numpy()):
        crop = prepare(
            volumes,
            card.spacing,
            normalization_of(card.normalization),
            box=box_around(center, whole, card.field_of_view_mm[1]),
        )
        score = likeness(network, crop.image, card, canceled)
        if score > highest:
            best, highest = crop, score
    return best


def is_large(shape: Sequence[int], patch: Sequence[int]) -> bool:
    """Whether to look for the structure before a volume of this ``shape`` is segmented."""
    return math.prod(shape) > _LARGE * math.prod(patch)


def work(shape: Sequence[int], patch: Sequence[int], views: int) -> float:
    """About how many voxels a network processes to segment a volume in this number of
    ``views``."""
    voxels, one_window = math.prod(shape), largest_window(patch)
    if is_large(shape, patch):
        return voxels + views * one_window  # once all of it, then what is around the find
    overlapping = voxels > one_window
    return views * voxels * (_OVERLAPPING if overlapping else 1.0)


@torch.inference_mode()
def surroundings(
    network: DualTaskVNet,
    image: Tensor,
    patch: tuple[int, int, int],
    one_piece: Sequence[bool],
    mirror_axes: tuple[int, ...] = (),
    canceled: Callable[[], bool] | None = None,
) -> tuple[slice, ...]:
    """The box of ``image`` (channels, I, J, K), larger than ``patch``, in which the classes are
    found, and half a patch around it: the middle of the image, of the patch's size, if there is
    nothing. ``one_piece`` holds for each class whether only its surest component counts, by its
    `lead` in the views along ``mirror_axes``. Windows without any contrast, such as clipped air,
    are skipped. Raises Canceled.
    """
    shape, device = image.shape[1:], next(network.parameters()).device
    size = [min(n, p) for n, p in zip(shape, patch, strict=True)]
    classes, ahead = np.zeros(tuple(shape), np.uint8), np.zeros(tuple(shape), np.float16)
    corners = (starts(n, w, 0.0) for n, w in zip(shape, size, strict=True))
    for corner in itertools.product(*corners):
        if canceled is not None and canceled():
            raise Canceled
        box = tuple(slice(a, a + w) for a, w in zip(corner, size, strict=True))
        part = image[(slice(None), *box)]
        if bool((part.amax((1, 2, 3)) > part.amin((1, 2, 3))).any()):
            found = predict(network, part.to(device), patch, distance=False).foreground
            found = found.float().cpu().numpy()
            surer = lead(found) > ahead[box]
            classes[box][surer] = class_map(found)[surer]
            ahead[box][surer] = lead(found)[surer]
    for value in np.unique(classes).tolist():
        if value and one_piece[value - 1]:
            _keep_by_second_look(
                network, image, patch, mirror_axes, value, classes, ahead, canceled
            )
    if not classes.any():
        first = [(n - w) // 2 for n, w in zip(shape, size, strict=True)]
        return tuple(slice(a, a + w) for a, w in zip(first, size, strict=True))
    box = bounding_box(classes > 0, [-(-w // 2) for w in size])
    return tuple(slice(b.start, min(b.stop, n)) for b, n in zip(box, shape, strict=True))


def _keep_by_second_look(
    network: DualTaskVNet,
    image: Tensor,
    patch: tuple[int, int, int],
    mirror_axes: tuple[int, ...],
    value: int,
    classes: np.ndarray,
    ahead: np.ndarray,
    canceled: Callable[[], bool] | None,
) -> None:
    """Leave one component of ``value`` in ``classes`` (I, J, K). Those that rival in ``ahead``,
    the lead of the first look, are looked at in all views, each in the middle of a window."""
    from scipy import ndimage

    box, components, sizes = components_of(classes, value)
    if len(sizes) < 2:
        return
    inside = components > 0
    sums = np.bincount(components[inside] - 1, ahead[box][inside])
    rivals = np.argsort(-sums)[:_RIVALS]
    rivals = rivals[sums[rivals] >= _RIVALING * sums[rivals[0]]]
    kept = rivals[0]
    if len(rivals) > 1:
        device = next(network.parameters()).device
        places, again = ndimage.find_objects(components), []
        for number in rivals:
            voxels = np.nonzero(components[places[number]] == number + 1)
            first = [b.start + p.start for b, p in zip(box, places[number], strict=True)]
            near = [
                _centered(start, p.stop - p.start, w, n)
                for start, p, w, n in zip(first, places[number], patch, classes.shape, strict=True)
            ]
            part = image[(slice(None), *near)].to(device)
            found = predict_mirrored(
                network, part, patch, mirror_axes, distance=False, canceled=canceled
            ).foreground
            found = found.float().cpu().numpy()
            own = tuple(
                v + start - n.start for v, start, n in zip(voxels, first, near, strict=True)
            )
            again.append(lead(found)[own][class_map(found)[own] == value].sum())
        if max(again) > 0:
            kept = rivals[surest(np.array(again), sizes[rivals])]
    classes[box][inside & (components != kept + 1)] = 0


def _centered(start: int, count: int, least: int, length: int) -> slice:
    """The ``count`` from ``start`` on and as many around as make ``least``, within ``length``."""
    size = min(length, max(least, count))
    first = min(max(0, start + (count - size) // 2), length - size)
    return slice(first, first + size)


def candidates(p: np.ndarray) -> list[np.ndarray]:
    """Centers (voxels) of the surest components of where ``p`` (I, J, K) exceeds ½, by their sum
    of 2 p - 1, then the middle of the volume."""
    from scipy import ndimage

    mask = p > 0.5
    components, count = ndimage.label(mask)
    weights = np.bincount(components[mask], 2.0 * p[mask] - 1.0, count + 1)[1:]
    surest = (np.argsort(-weights)[: _CANDIDATES - 1] + 1).tolist()
    centers = ndimage.center_of_mass(mask, components, surest) if surest else []
    return [*map(np.array, centers), (np.array(p.shape) - 1) / 2]


def box_around(
    center: np.ndarray, whole: Prepared, extent: Sequence[float]
) -> tuple[slice, slice, slice]:
    """The index box of the input's grid with ``extent`` mm along the canonical axes around a
    voxel of ``whole``, moved inside the region that ``whole`` covers."""
    box: list[slice] = [slice(0, 0)] * 3
    for a in range(3):
        axis = whole.order[a]
        region = whole.box[axis]
        length = region.stop - region.start
        place = (center[a] + 0.5) / whole.image.shape[1 + a] * length
        if whole.flips[a]:
            place = length - place
        size = min(length, round(extent[a] / whole.grid.spacing[axis]))
        start = min(max(0, round(place - size / 2)), length - size)
        box[axis] = slice(region.start + start, region.start + start + size)
    return tuple(box)


def likeness(
    network: DualTaskVNet,
    image: Tensor,
    card: ModelCard,
    canceled: Callable[[], bool] | None = None,
) -> float:
    """How much the prediction for ``image`` looks like a structure, 0 to 1; raises Canceled.

    The depth that the level set reaches (false positives are shallow) times the Dice between the
    results in the image and in its mirrored views (false positives rarely recur there); for a
    model that was not trained on mirrored images, times the mean of |2 p - 1| over the find.
    """
    found = predict(network, image, card.patch, canceled=canceled)
    p = found.foreground.sum(0)
    if not bool((p > _LEAST).any()):
        return 0.0
    depth = 1.0
    if found.distance is not None:
        depth = float((-found.distance).max().clamp_min(0.0))
    if not card.mirror_axes:
        return depth * float((2.0 * p[p > _LEAST] - 1.0).abs().mean())
    agreements = []
    for axis in card.mirror_axes:
        view = predict(network, image.flip([axis + 1]), card.patch, canceled=canceled)
        mirrored = view.foreground.sum(0).flip([axis]) > 0.5
        common, both = ((p > 0.5) & mirrored).sum(), (p > 0.5).sum() + mirrored.sum()
        agreements.append(2.0 * float(common) / max(1.0, float(both)))
    return depth * float(np.mean(agreements))
