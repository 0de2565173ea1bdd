"""How much the samples of a prediction agree with it: the expected Dice of a case."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)


def agreement(sampled: Tensor, found: Tensor) -> float:
    """The Dice to expect if the truth were one of the samples: the `soft_dice` of their mean,
    ``sampled`` (C-1, I, J, K), with the classes ``found`` (I, J, K), averaged over the classes
    that are found; 0 if none is."""
    masks = ((part, found == value) for value, part in enumerate(sampled, 1))
    scores = [soft_dice(part, mask) for part, mask in masks if mask.any()]
    return sum(scores) / len(scores) if scores else 0.0


def soft_dice(q: Array, mask: Array) -> float:
    """2 Σ_mask q / (|mask| + Σ q) of probabilities ``q`` and a ``mask``, both (I, J, K).

    On ten scans this ranked cases more like the true Dice did than the Dice of the samples' masks
    with each other or with the prediction (docs/methods.md).
    """
    return 2.0 * float(q[mask].sum()) / (int(mask.sum()) + float(q.sum()))
