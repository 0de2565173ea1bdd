"""The dual-task supervised network: L_sup of UG-MCL alone (Table 1, row 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..nn.batch import Batch
from ..nn.losses import masked_mean
from ..nn.network import DualTaskVNet, Output
from ..nn.schedules import Step
from .base import Method
from .options import Weight, option
from .supervised import segmentation_terms


def distance_term(out: Output, batch: Batch) -> Tensor:
    """Mean squared error between f_dis and T(y) where that is known; ``out`` holds the labeled
    samples alone."""
    return masked_mean((out.distance - batch.level_set).square(), batch.measured)


def supervised_terms(out: Output, batch: Batch, distance_weight: float = 1.0) -> dict[str, Tensor]:
    """L_sup, Eq. 2: Dice + cross-entropy on f_seg, mean squared error between f_dis and T(y).

    ``out`` holds the labeled samples alone.
    """
    return {
        **segmentation_terms(out, batch, 1.0),
        "distance": distance_weight * distance_term(out, batch),
    }


@dataclass(frozen=True)
class DualTask(Method):
    """L_sup of Eq. 2 on the labeled samples."""

    name: ClassVar[str] = "dual-task"
    paper: ClassVar[str] = "Zhang et al., UG-MCL, Eq. 2"
    year: ClassVar[int] = 2022
    when: ClassVar[str] = "supervised training when a signed distance is wanted too"
    uses_distance: ClassVar[bool] = True

    distance_weight: Weight = option(1.0, "weight of the squared error between f_dis and T(y)")

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        return supervised_terms(student(batch.image[batch.labeled]), batch, self.distance_weight)
