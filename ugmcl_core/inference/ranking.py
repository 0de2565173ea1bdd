"""Which case to annotate next: how uncertain a model is about each, without a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..data.volume import Volume
from .segmenter import Segmenter
from .settings import SegmentSettings
from .sliding_window import class_map
from .surface_uncertainty import surface_uncertainty

Key = TypeVar("Key")


@dataclass(frozen=True)
class Assessment:
    """A model's own assessment of its result, on its grid, small islands included.

    ``uncertainty`` is the mean within 5 mm of the predicted surface, NaN where there is none (an
    empty prediction, or one that fills the image); ``predicted_dice`` is `agreement`.
    """

    uncertainty: float
    predicted_dice: float

    @property
    def order(self) -> tuple[float, float]:
        """The key to sort cases by, those to annotate first lowest: without a surface, then by
        falling uncertainty."""
        if math.isnan(self.uncertainty):
            return (-math.inf, 0.0)
        return (-self.uncertainty, self.predicted_dice)


def assess(
    segmenter: Segmenter,
    volume: Volume,
    passes: int,
    *,
    progress: Callable[[float, str], None] | None = None,
    canceled: Callable[[], bool] | None = None,
) -> Assessment:
    """Assess one volume by ``passes`` Monte Carlo passes; raises InputError and Canceled."""
    prediction, prepared, _ = segmenter.predict(
        volume,
        SegmentSettings(passes),
        progress=progress or (lambda fraction, text: None),
        canceled=canceled,
    )
    found = class_map(prediction.foreground.cpu().numpy())
    unsure = surface_uncertainty(
        prediction.uncertainty[0].cpu().numpy(), found > 0, prepared.spacing
    )
    return Assessment(unsure, agreement(prediction.sampled.cpu(), torch.from_numpy(found)))


def agreement(sampled: Tensor, found: Tensor) -> float:
    """The Dice to expect if the truth were one of the Monte Carlo samples: the soft Dice
    2 Σ_found q / (|found| + Σ q) of their mean q, ``sampled`` (C-1, I, J, K), with the classes
    ``found`` (I, J, K), the mean over those that are found; 0 if none is.

    On ten scans this ranked as the true Dice does better than the Dice of the samples' masks with
    each other or with the prediction's did (docs/methods.md).
    """
    scores = []
    for value, part in enumerate(sampled, 1):
        mask = found == value
        size = int(mask.sum())
        if size:
            scores.append(2.0 * float(part[mask].sum()) / (size + float(part.sum())))
    return sum(scores) / len(scores) if scores else 0.0


def ranked(cases: Sequence[tuple[Key, Assessment]]) -> list[tuple[Key, Assessment]]:
    """Cases by their `Assessment.order`."""
    return sorted(cases, key=lambda pair: pair[1].order)


def described(path: str, item: Assessment) -> dict[str, Any]:
    """A case as the worker and `--json` report it (docs/architecture.md)."""
    return {
        "image": path,
        "uncertainty": None if math.isnan(item.uncertainty) else item.uncertainty,
        "predicted_dice": item.predicted_dice,
    }
