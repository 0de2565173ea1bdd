"""Connected components of a structure: counted in labels, removed from results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_WHOLE = 0.95  # of a structure's voxels: less than that in its largest piece are several pieces


def keep_largest(labels: np.ndarray, value: int) -> None:
    """Set all but the largest 6-connected component of ``value`` to background, in place."""
    from scipy import ndimage

    mask = labels == value
    where = ndimage.find_objects(mask.astype(np.uint8))
    if not where:
        return
    box = where[0]
    components, count = ndimage.label(mask[box])
    if count > 1:
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        labels[box][mask[box] & (components != sizes.argmax())] = 0


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
