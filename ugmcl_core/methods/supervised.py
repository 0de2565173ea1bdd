"""The supervised V-Net: the baseline with few labels, the upper bound with all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..losses import cross_entropy, dice_loss
from ..network import DualTaskVNet
from ..schedules import Step
from .base import Batch


@dataclass(frozen=True)
class Supervised:
    """0.5 (CE + Dice) on the labelled samples."""

    name: ClassVar[str] = "supervised"
    paper: ClassVar[str] = "Milletari et al., V-Net"
    year: ClassVar[int] = 2016
    when: ClassVar[str] = "the baseline; when everything is labelled"
    uses_teacher: ClassVar[bool] = False
    uses_unlabelled: ClassVar[bool] = False
    uses_distance: ClassVar[bool] = False

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        out = student(batch.image[batch.labelled])
        return {
            "ce": 0.5 * cross_entropy(out.logits, batch.labels, batch.valid),
            "dice": 0.5 * dice_loss(out.probabilities, batch.labels, batch.valid),
        }
