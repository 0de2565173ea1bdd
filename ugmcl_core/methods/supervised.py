"""The supervised V-Net: the baseline with few labels, the upper bound with all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..nn.batch import Batch
from ..nn.losses import cross_entropy, dice_loss
from ..nn.network import DualTaskVNet, Output
from ..nn.schedules import Step
from .base import Method


def segmentation_terms(out: Output, batch: Batch, weight: float = 0.5) -> dict[str, Tensor]:
    """``weight`` (CE + Dice) on f_seg; ``out`` holds the labeled samples alone."""
    return {
        "ce": weight * cross_entropy(out.logits, batch.labels, batch.valid),
        "dice": weight * dice_loss(out.probabilities, batch.labels, batch.valid),
    }


@dataclass(frozen=True)
class Supervised(Method):
    """0.5 (CE + Dice) on the labeled samples."""

    name: ClassVar[str] = "supervised"
    paper: ClassVar[str] = "Milletari et al., V-Net"
    year: ClassVar[int] = 2016
    when: ClassVar[str] = "the baseline; when everything is labeled"

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        return segmentation_terms(student(batch.image[batch.labeled]), batch)
