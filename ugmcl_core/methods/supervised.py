"""The supervised V-Net: the baseline with few labels, the upper bound with all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..nn.batch import Batch
from ..nn.losses import segmentation_terms
from ..nn.network import DualTaskVNet
from ..nn.schedules import Step
from .base import Method


@dataclass(frozen=True)
class Supervised(Method):
    """0.5 (CE + Dice) on the labeled samples."""

    name: ClassVar[str] = "supervised"
    paper: ClassVar[str] = "Milletari et al., V-Net"
    year: ClassVar[int] = 2016
    when: ClassVar[str] = "the baseline, and for data that are all labeled"

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        return segmentation_terms(student(batch.image[batch.labeled]), batch)
