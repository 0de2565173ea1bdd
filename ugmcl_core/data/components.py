"""Connected components of a structure: counted in labels, removed from results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

_WHOLE = 0.95  # of a structure's voxels: less than that in its largest piece are several pieces
_RIVALING = 0.5  # of the greatest lead: a component that may be the structure


def keep_largest(labels: np.ndarray, value: int) -> None:
    """Set all but the largest 6-connected component of ``value`` to background, in place."""
    keep_surest(labels, value)


def keep_surest(
    labels: np.ndarray, value: int, lead: Callable[[], np.ndarray] | None = None
) -> None:
    """Set all but one 6-connected component of ``value`` to background, in place: of those over
    which ``lead()`` (I, J, K), not negative, sums to at least half of the greatest such sum, the
    one with the greatest mean. In a large field a false find may be the larger one, but a network
    is less sure of it. None keeps the largest. It is called only where there are several."""
    from scipy import ndimage

    mask = labels == value
    box = bounding_box(mask)
    components, count = ndimage.label(mask[box])
    if count < 2:
        return
    members = components[mask[box]] - 1
    sizes = np.bincount(members)
    if lead is None:
        kept = sizes.argmax()
    else:
        sums = np.bincount(members, lead()[box][mask[box]])
        kept = np.where(sums >= _RIVALING * sums.max(), sums / sizes, -1.0).argmax()
    labels[box][mask[box] & (components != kept + 1)] = 0


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
