"""The uncertainty-aware mean teacher: agreement where the teacher is certain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...nn.batch import Batch
from ...nn.losses import mean_squared_error, segmentation_terms
from ...nn.network import DualTaskVNet
from ...nn.schedules import Step, gaussian_ramp, uncertainty_threshold
from ...nn.teacher import mc_dropout_targets
from ...nn.uncertainty import certain, maximal_entropy
from ..base import Method
from ..options import Count, Share, Weight, option


@dataclass(frozen=True)
class UAMT(Method):
    """0.5 (CE + Dice) + λ Σ m |p - p'|² / (C Σ m) on unlabeled samples (Yu et al., 2019).

    m = 1(u < u_th), u the entropy of the mean of T Monte Carlo passes. These and the target pass
    are in train mode: dropout, input noise, batch statistics of the unlabeled samples.
    """

    name: ClassVar[str] = "ua-mt"
    paper: ClassVar[str] = "Yu et al., UA-MT, MICCAI"
    year: ClassVar[int] = 2019
    when: ClassVar[str] = "a mean teacher whose early mistakes should not be learned"
    uses_teacher: ClassVar[bool] = True
    uses_unlabeled: ClassVar[bool] = True

    weight: Weight = option(0.1, "λ at the end of its ramp")
    passes: Count = option(8, "T, Monte Carlo passes of the teacher")
    threshold_start: Share = option(0.75, "u_th at the start, as a part of ln 2")

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        out = student(batch.image)
        terms = segmentation_terms(out[batch.labeled], batch)
        if step.supervised_only or batch.all_labeled:
            return terms
        targets = mc_dropout_targets(teacher, batch.weak[batch.unlabeled], self.passes)
        ramp = gaussian_ramp(step.progress)
        maximum = maximal_entropy(out.logits.shape[1])
        mask = certain(targets.entropy, uncertainty_threshold(ramp, maximum, self.threshold_start))
        difference = mean_squared_error(
            out[batch.unlabeled].probabilities, targets.probabilities, mask
        )
        return {**terms, "consistency": self.weight * ramp * difference}
