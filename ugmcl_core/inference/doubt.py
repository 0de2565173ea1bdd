"""What a prediction reveals about its own errors: in mm, in mL and in Dice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..models.card import Calibration
from .agreement import soft_dice
from .sliding_window import Prediction
from .surface_error import bound, expected_offset, within_reach_only
from .volume_interval import moved_volumes, volume_interval


@dataclass(frozen=True)
class Doubt:
    """By class: the ``bound`` of the surface error in mm on the model's grid, (I, J, K), computed
    on demand, since those of many classes take much memory; and the ``intervals`` of the volumes
    in mL. Of all classes: the expected Dice with its interval, None where nothing was found."""

    bound: Callable[[int], Tensor]
    intervals: tuple[tuple[float, float], ...]
    dice: tuple[float, float, float] | None


def doubt_of(
    prediction: Prediction,
    found: np.ndarray,
    spacing: tuple[float, float, float],
    calibration: Calibration | None,
) -> Doubt:
    """The doubt of a ``prediction`` with samples, whose classes are ``found`` (I, J, K) at
    ``spacing`` mm, by the model's calibration, or the default one."""
    rule = calibration or Calibration()

    def bound_of(n: int) -> Tensor:
        p = prediction.pooled(n)
        offset = expected_offset(p, found == n + 1, spacing, rule.places)
        return torch.from_numpy(bound(offset, rule))

    intervals, scores = [], []
    for n in range(len(prediction.foreground)):
        mask = found == n + 1
        near = within_reach_only(prediction.pooled(n), mask, spacing)
        volumes = moved_volumes(near, mask, spacing)
        intervals.append(volume_interval(volumes, rule.volume_stretch))
        if mask.any():
            scores.append(soft_dice(near, mask))
    dice = rule.dice(sum(scores) / len(scores)) if scores else None
    return Doubt(bound_of, tuple(intervals), dice)
