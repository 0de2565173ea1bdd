"""The dual-task supervised network: L_sup of UG-MCL alone (Table 1, row 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..losses import cross_entropy, dice_loss, masked_mean
from ..network import DualTaskVNet, Output
from ..schedules import Step
from .base import Batch


def supervised_terms(out: Output, batch: Batch, distance_weight: float = 1.0) -> dict[str, Tensor]:
    """L_sup, Eq. 2: Dice + cross-entropy on f_seg, mean squared error between f_dis and T(y).

    ``out`` holds the labelled samples alone.
    """
    error = (out.distance - batch.level_set).square()
    return {
        "ce": cross_entropy(out.logits, batch.labels, batch.valid),
        "dice": dice_loss(out.probabilities, batch.labels, batch.valid),
        "distance": distance_weight * masked_mean(error, batch.measured),
    }


@dataclass(frozen=True)
class DualTask:
    """L_sup of Eq. 2 on the labelled samples."""

    name: ClassVar[str] = "dual-task"
    paper: ClassVar[str] = "Zhang et al., UG-MCL, Eq. 2"
    year: ClassVar[int] = 2022
    when: ClassVar[str] = "supervised training when a signed distance is wanted too"
    uses_teacher: ClassVar[bool] = False
    uses_unlabelled: ClassVar[bool] = False
    uses_distance: ClassVar[bool] = True

    distance_weight: float = 1.0

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        return supervised_terms(student(batch.image[batch.labelled]), batch, self.distance_weight)
