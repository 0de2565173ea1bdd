"""Entropy minimization: predictions should be decided, on unlabeled samples too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...nn.batch import Batch
from ...nn.losses import masked_mean, segmentation_terms
from ...nn.network import DualTaskVNet
from ...nn.schedules import Step, gaussian_ramp
from ...nn.uncertainty import entropy_of_logits
from ..base import Method
from ..options import Weight, option


@dataclass(frozen=True)
class EntropyMinimization(Method):
    """0.5 (CE + Dice) + λ mean H(p) / ln C over all samples (Vu et al., 2019)."""

    name: ClassVar[str] = "entropy-minimization"
    paper: ClassVar[str] = "Vu et al., ADVENT, CVPR"
    year: ClassVar[int] = 2019
    when: ClassVar[str] = "unlabeled volumes at the cost of supervised training: no teacher"
    uses_unlabeled: ClassVar[bool] = True

    weight: Weight = option(0.1, "λ at the end of its ramp")

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        out = student(batch.image)
        terms = segmentation_terms(out[batch.labeled], batch)
        if step.supervised_only:
            return terms
        doubt = masked_mean(entropy_of_logits(out.logits), None) / math.log(out.logits.shape[1])
        return {**terms, "entropy": self.weight * gaussian_ramp(step.progress) * doubt}
