"""Connected components of a structure: counted in labels, removed from results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

_WHOLE = 0.95  # of a structure's voxels: less than that in its largest piece are several pieces
_RIVALING = 0.5  # of the greatest lead: a component that may be the structure


def keep_largest(labels: np.ndarray, value: int) -> None:
    """Set all but the largest 6-connected component of ``value`` to background, in place."""
    box, components, sizes = components_of(labels, value)
    if len(sizes) > 1:
        _keep(labels[box], components, int(sizes.argmax()))


def keep_surest(labels: np.ndarray, value: int, lead: np.ndarray) -> None:
    """Set all but one 6-connected component of ``value`` to background, in place: the `surest` by
    the sums of ``lead`` (I, J, K) over its voxels."""
    box, components, sizes = components_of(labels, value)
    if len(sizes) > 1:
        inside = components > 0
        sums = np.bincount(components[inside] - 1, lead[box][inside])
        _keep(labels[box], components, surest(sums, sizes))


def keep_common(labels: np.ndarray, value: int, other: Callable[[], np.ndarray]) -> None:
    """Set all but one 6-connected component of ``value`` to background, in place: the one with
    the most voxels of the same value in ``other()``, the same structure on another grid. It is
    asked for only where there are several components."""
    box, components, sizes = components_of(labels, value)
    if len(sizes) > 1:
        common = components[(components > 0) & (other()[box] == value)] - 1
        counts = np.bincount(common, minlength=len(sizes))
        _keep(labels[box], components, int((counts if counts.any() else sizes).argmax()))


def surest(sums: np.ndarray, sizes: np.ndarray) -> int:
    """The number of the component that is most likely the structure, by the ``sums`` of the lead
    of each over its ``sizes`` voxels: of those with at least half of the greatest sum, the one
    with the greatest mean; the largest without a lead. In a large field a false find may be the
    larger one, but a network is less sure of it."""
    if sums.max() <= 0:
        return int(sizes.argmax())
    return int(np.where(sums >= _RIVALING * sums.max(), sums / sizes, -np.inf).argmax())


def components_of(
    labels: np.ndarray, value: int
) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray]:
    """The box around ``value``, in it the numbers of its 6-connected components, 1 and up, and the
    voxels of each (N,)."""
    from scipy import ndimage

    mask = labels == value
    box = bounding_box(mask)
    components, count = ndimage.label(mask[box])
    return box, components, np.bincount(components.ravel(), minlength=count + 1)[1:]


def _keep(labels: np.ndarray, components: np.ndarray, number: int) -> None:
    labels[(components > 0) & (components != number + 1)] = 0


def has_several_components(mask: np.ndarray, known: np.ndarray | None = None) -> bool:
    """Whether ``mask`` lies in several pieces: its largest 6-connected component holds less than
    95 % of it, so that a few stray voxels do not count.

    Voxels that are not ``known`` count as connecting the pieces that they touch.
    """
    from scipy import ndimage

    may_be = mask if known is None else mask | ~known
    box = bounding_box(may_be)
    components, count = ndimage.label(may_be[box])
    if count < 2 or not mask.any():
        return False
    sizes = np.bincount(components[mask[box]])
    return bool(sizes.max() < _WHOLE * sizes.sum())


def bounding_box(mask: np.ndarray, margin: Sequence[int] = (0, 0, 0)) -> tuple[slice, ...]:
    """The box around `mask` and `margin` voxels by axis, cut at the volume's edge; the whole
    volume for an empty mask."""
    box = []
    for axis, more in enumerate(margin):
        others = tuple(n for n in range(mask.ndim) if n != axis)
        (places,) = np.nonzero(mask.any(axis=others))
        if not places.size:
            return (slice(None),) * mask.ndim
        box.append(slice(max(0, int(places[0]) - more), int(places[-1]) + 1 + more))
    return tuple(box)
