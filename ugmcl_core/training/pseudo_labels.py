"""Labels that a model in training gives to whole unlabeled volumes and then learns from.

One volume: mirrored views → their mean p and f_dis → classes (argmax, the surest component where
the labels show one piece) → T(y) of these, and `valid` where both heads agree. The target of the
segmentation is p itself, since the classes would make every doubtful voxel a certain one (Hinton
et al., Distilling the knowledge in a neural network, 2015). A volume's trust is the `agreement` of
p with its classes.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data.augmentation import floats
from ..data.cases import PreparedCase, Representation, some_voxels
from ..data.components import keep_surest
from ..files import whole_file
from ..inference.agreement import agreement
from ..inference.localization import is_large, surroundings, work
from ..inference.sliding_window import class_map, lead, predict_mirrored
from ..nn.level_sets import distance_to_store, reach_of, signed_distance
from ..nn.network import DualTaskVNet

if TYPE_CHECKING:
    from .profiles import Profile

_LEAST_BETWEEN = 100  # iterations between two labelings: the model has hardly changed before
_TRAINED = 3.0  # work of a training step relative to a prediction on the same voxels
_ARRAYS = ("classes", "valid", "doubtful", "probabilities")
FEWEST = 4
"""Volumes that are always labeled at a time, however long that takes."""
LEAST = 0.5
"""The least trust at which a volume's label is learned from."""
SHARE = 0.2
"""The most of a training's work, in addition, that may go into labeling more than these."""


@dataclass(frozen=True)
class PseudoLabel:
    """The classes of a volume (I, J, K) uint8, where they are ``valid`` (I, J, K) bool, and how
    far they are believed, 0 to 1. ``doubtful`` (N,) are the places in the flattened (C-1, I, J, K)
    whose probability is not that of the class, and ``probabilities`` (N,) uint8 theirs, in 255ths;
    they are few, since all of many classes would not fit in memory."""

    classes: np.ndarray
    valid: np.ndarray
    belief: float
    doubtful: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    probabilities: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))


def renewal_steps(
    iterations: int, start: int, renewals: int, least: int = _LEAST_BETWEEN
) -> list[int]:
    """The iterations before which volumes are labeled: from ``start`` on, evenly spread, fewer
    than ``renewals`` where they would not be ``least`` iterations apart."""
    left = iterations - start
    count = min(renewals, max(1, left // least)) if left > 0 else 0
    return [start + n * left // count for n in range(count)]


def affordable(profile: Profile, renewals: int, shapes: Sequence[Sequence[int]]) -> int:
    """How many volumes with ``shapes`` like these, each (I, J, K), can be labeled at each of
    ``renewals`` times, for `SHARE` of the training's work: in a short training on whole volumes
    the labeling would take more time than it is worth. Depends on the settings alone, so that
    every run is the same."""
    batch = profile.batch
    views = 2 ** len(batch.augmentation.mirror_axes)
    patches = profile.iterations * batch.size
    training = _TRAINED * patches * math.prod(batch.patch)
    one = sum(work(shape, batch.patch, views) for shape in shapes) / len(shapes)
    return max(FEWEST, int(SHARE * training / (renewals * one)))


def label_volume(
    network: DualTaskVNet,
    case: PreparedCase,
    patch: tuple[int, int, int],
    mirror_axes: tuple[int, ...],
    one_piece: Sequence[bool],
    canceled: Callable[[], bool] | None = None,
) -> PseudoLabel:
    """Label ``case`` by ``network``, which has a distance head; ``one_piece`` holds whether each
    class is one. Raises Canceled."""
    image, where = floats(case.image), None
    if is_large(image.shape[1:], patch):
        where = surroundings(network, image, patch, one_piece, mirror_axes, canceled)
        image = image[(slice(None), *where)]
    found = predict_mirrored(network, image, patch, mirror_axes, canceled=canceled)
    foreground = found.foreground.float().cpu()
    everything = class_map(foreground.numpy())
    classes = everything.copy()
    ahead = lead(foreground.numpy())
    for value, whole in enumerate(one_piece, 1):
        if whole:
            keep_surest(classes, value, ahead)
    inside = found.distance.float().cpu().numpy() < 0
    agreed = [(classes == value) == inside[value - 1] for value in range(1, len(inside) + 1)]
    belief = agreement(foreground, torch.from_numpy(classes))
    valid = np.logical_and.reduce(agreed)
    shares = (255.0 * foreground).byte().numpy()  # rounded down: their sum is at most 255
    shares[:, classes != everything] = 0
    different = np.stack(
        [share != np.uint8(255) * (classes == value) for value, share in enumerate(shares, 1)]
    )
    places, probabilities = np.nonzero(different), shares[different]
    shape = case.image.shape[1:]
    if where is not None:  # elsewhere there is nothing
        near, classes = classes, np.zeros(shape, np.uint8)
        agreed, valid = valid, np.ones(shape, bool)
        classes[where], valid[where] = near, agreed
        corner = (0, *(box.start for box in where))
        places = tuple(p + start for p, start in zip(places, corner, strict=True))
    doubtful = np.ravel_multi_index(places, (len(inside), *shape))
    return PseudoLabel(classes, valid, belief, doubtful, probabilities)


def believed(labels: Sequence[PseudoLabel], admitted: float) -> list[int]:
    """The numbers of the ``labels`` that are believed, in order: the part ``admitted``, and at
    least one, of those that show a structure and whose views agree by half or more, the most
    trusted first. Labels from a barely trained model would only teach its mistakes."""
    known = [n for n, label in enumerate(labels) if label.classes.any() and label.belief >= LEAST]
    known.sort(key=lambda n: -labels[n].belief)
    return sorted(known[: max(1, round(admitted * len(known)))])


def labeled_case(
    case: PreparedCase, label: PseudoLabel, representation: Representation
) -> PreparedCase:
    """``case`` with the fractions, distances and valid voxels of its pseudo-label."""
    r = representation
    masks = [label.classes == value for value in range(1, r.classes)]
    fractions = np.stack(masks).astype(np.float16)
    fractions.reshape(-1)[label.doubtful] = label.probabilities / 255.0
    reach = reach_of(r.sdf, r.scale)
    each = (signed_distance(mask, case.spacing, reach) for mask in masks)
    phi = (distance_to_store(distance, r.sdf, r.scale) for distance in each)
    valid = label.valid[None].astype(np.float16)
    return replace(
        case,
        fractions=fractions,
        distance=np.stack(list(phi)).astype(np.float16),
        valid=valid,
        foreground_voxels=tuple(some_voxels(m) for m in masks),
        several_components=(False,) * len(masks),
    )


def report(event: Mapping[str, Any]) -> str:
    """A line for users on a training's ``labeled`` event."""
    text = f"at {event['step']}: labeled {event['volumes']} unlabeled volumes"
    if event["volumes"]:
        text += f", its mirrored views agree by {100 * event['belief']:.0f} %"
    return text + (f"; {event['left_out']} left out" if event["left_out"] else "")


def save(path: Path, labels: Sequence[PseudoLabel]) -> None:
    """Keep ``labels`` in a file, whole or not at all; raises InputError."""
    arrays = {"belief": np.array([label.belief for label in labels])}
    for number, label in enumerate(labels):
        arrays |= {f"{name}-{number}": getattr(label, name) for name in _ARRAYS}
    with whole_file(path, make_parents=True) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: Path, shapes: Sequence[tuple[int, int, int]]) -> list[PseudoLabel] | None:
    """The labels that `save` kept, of volumes of these ``shapes``; None if they are not there, not
    whole, or of other volumes."""
    try:
        with np.load(path) as arrays:
            labels = [
                PseudoLabel(**{name: arrays[f"{name}-{n}"] for name in _ARRAYS}, belief=belief)
                for n, belief in enumerate(arrays["belief"].tolist())
            ]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
    return labels if [label.classes.shape for label in labels] == [*map(tuple, shapes)] else None
