"""Which case to annotate next: how uncertain a model is about each, without a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..data.volume import Volume
from .doubt import doubt_of
from .segmenter import Segmenter
from .settings import SegmentSettings
from .surface_uncertainty import surface_uncertainty

Key = TypeVar("Key")


@dataclass(frozen=True)
class Assessment:
    """A model's own assessment of its result, on its grid.

    ``uncertainty`` is the mean within 5 mm of the predicted surface, NaN where there is none (an
    empty prediction, or one that fills the image); ``predicted_dice`` is the model's
    expectation, 0 where nothing is found.
    """

    uncertainty: float
    predicted_dice: float

    @property
    def order(self) -> tuple[float, float]:
        """The key to sort cases by, those to annotate first lowest: without a surface, then by
        rising predicted Dice, then by falling uncertainty."""
        if math.isnan(self.uncertainty):
            return (-math.inf, 0.0)
        return (self.predicted_dice, -self.uncertainty)


def assess(
    segmenter: Segmenter,
    volume: Volume | Sequence[Volume],
    passes: int,
    *,
    progress: Callable[[float, str], None] | None = None,
    canceled: Callable[[], bool] | None = None,
) -> Assessment:
    """Assess one volume, or the channels of one case, by ``passes`` Monte Carlo passes; raises
    InputError and Canceled."""
    settings = SegmentSettings(passes)
    prediction, prepared, _ = segmenter.predict(
        volume,
        settings,
        progress=progress or (lambda fraction, text: None),
        canceled=canceled,
    )
    found = segmenter.classes(prediction, settings)
    unsure = surface_uncertainty(
        prediction.uncertainty[0].cpu().numpy(), found > 0, prepared.spacing
    )
    doubt = doubt_of(prediction, found, prepared.spacing, segmenter.model.card.calibration)
    return Assessment(unsure, doubt.dice[0] if doubt.dice else 0.0)


def ranked(cases: Sequence[tuple[Key, Assessment]]) -> list[tuple[Key, Assessment]]:
    """Cases by their `Assessment.order`."""
    return sorted(cases, key=lambda pair: pair[1].order)


def described(path: str | Sequence[str], item: Assessment) -> dict[str, Any]:
    """A case as the worker and `--json` report it (docs/architecture.md); ``path`` is its image,
    or those of its channels."""
    return {
        "image": path,
        "uncertainty": None if math.isnan(item.uncertainty) else item.uncertainty,
        "predicted_dice": item.predicted_dice,
    }
