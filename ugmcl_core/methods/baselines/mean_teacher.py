"""The mean teacher: the student agrees with the average of its past on unlabeled samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...nn.batch import Batch
from ...nn.losses import mean_squared_error, segmentation_terms
from ...nn.network import DualTaskVNet
from ...nn.schedules import Step, gaussian_ramp
from ...nn.teacher import noisy_pass
from ..base import Method
from ..options import Weight, option


@dataclass(frozen=True)
class MeanTeacher(Method):
    """0.5 (CE + Dice) + λ mean (p - p')² on unlabeled samples (Tarvainen & Valpola, 2017).

    The teacher makes one pass in train mode: dropout, input noise, batch statistics of the
    unlabeled samples.
    """

    name: ClassVar[str] = "mean-teacher"
    paper: ClassVar[str] = "Tarvainen and Valpola, Mean teachers, NeurIPS"
    year: ClassVar[int] = 2017
    when: ClassVar[str] = "the plainest semi-supervised method: one teacher pass a step"
    uses_teacher: ClassVar[bool] = True
    uses_unlabeled: ClassVar[bool] = True

    weight: Weight = option(0.1, "λ at the end of its ramp")

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        out = student(batch.image)
        terms = segmentation_terms(out[batch.labeled], batch)
        if step.supervised_only or batch.all_labeled:
            return terms
        targets = noisy_pass(teacher, batch.weak[batch.unlabeled])
        difference = mean_squared_error(out[batch.unlabeled].probabilities, targets.probabilities)
        return {**terms, "consistency": self.weight * gaussian_ramp(step.progress) * difference}
