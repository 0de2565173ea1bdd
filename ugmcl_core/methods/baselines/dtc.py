"""Dual-task consistency: the level set, turned into a mask, agrees with the segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...nn.batch import Batch
from ...nn.level_sets import to_mask
from ...nn.losses import cross_task_consistency, dice_loss, distance_error
from ...nn.network import DualTaskVNet
from ...nn.schedules import Step, annealed, gaussian_ramp
from ..base import Method
from ..options import Weight, option


@dataclass(frozen=True)
class DTC(Method):
    """Dice + 0.3 mean (f_dis - T(y))² + λ mean (p - T⁻¹(f_dis))² (Luo et al., 2021).

    The last term is over foreground classes and over labeled and unlabeled samples; its
    gradient goes to both heads. There is no teacher.
    """

    name: ClassVar[str] = "dtc"
    paper: ClassVar[str] = "Luo et al., DTC, AAAI"
    year: ClassVar[int] = 2021
    when: ClassVar[str] = "unlabeled volumes and a signed distance without a teacher's passes"
    uses_unlabeled: ClassVar[bool] = True
    uses_distance: ClassVar[bool] = True

    weight: Weight = option(1.0, "λ at the end of its ramp")
    distance_weight: Weight = option(0.3, "weight of the squared error between f_dis and T(y)")
    sharpness: Weight = option(1500.0, "k of T⁻¹, per unit of the level set")
    sharpness_start: Weight = option(0.0, "k at the start, rising to `sharpness`; 0: k is fixed")

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        out = student(batch.image)
        known = out[batch.labeled]
        terms = {
            "dice": dice_loss(known.probabilities, batch.labels, batch.valid),
            "distance": self.distance_weight * distance_error(known, batch),
        }
        if step.supervised_only:
            return terms
        sharpness = annealed(self.sharpness_start, self.sharpness, step.progress)
        cross = cross_task_consistency(out, to_mask(out.distance, sharpness))
        return {**terms, "cross": self.weight * gaussian_ramp(step.progress) * cross}
