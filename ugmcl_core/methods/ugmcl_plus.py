"""UG-MCL with the departures that a small training budget rewards; not the paper's method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..distance import to_mask
from ..losses import cross_entropy, dice_loss, hard_labels, mean_squared_error
from ..network import DualTaskVNet
from ..schedules import Step, gaussian_ramp, uncertainty_threshold
from ..teacher import consult_by_decoder
from ..uncertainty import certain, maximal_entropy
from .base import Batch
from .dual_task import supervised_terms


@dataclass(frozen=True)
class UGMCLPlus:
    """UG-MCL's terms with a sharper intra-task loss on unlabelled samples only.

    Departures from `UGMCL`: the teacher works in evaluation mode on the weak view and decodes one
    encoding several times; intra-task consistency on the segmentation is cross-entropy + Dice
    against the teacher's hard labels, weighted by 1 - u / ln C within the mask; k of the
    cross-task term rises from soft to sharp; the ramps end at ``ramp_end`` of the semi-supervised
    iterations.
    """

    name: ClassVar[str] = "ugmcl-plus"
    paper: ClassVar[str] = "this project, after Zhang et al., UG-MCL"
    year: ClassVar[int] = 2026
    when: ClassVar[str] = "few labelled and many unlabelled volumes, and strong augmentation"
    uses_teacher: ClassVar[bool] = True
    uses_unlabelled: ClassVar[bool] = True
    uses_distance: ClassVar[bool] = True

    beta: float = 0.75
    passes: int = 2
    intra_weight: float = 0.5
    cross_weight: float = 0.3
    distance_weight: float = 2.0
    sharpness_start: float = 5.0  # k per unit of the level set: 0.5 per mm at a scale of 10 mm
    sharpness_end: float = 50.0
    ramp_end: float = 0.4
    threshold_start: float = 0.75

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        out = student(batch.image)
        terms = supervised_terms(out[batch.labelled], batch, self.distance_weight)
        if step.supervised_only:
            return terms
        new = out[batch.unlabelled]
        advice = consult_by_decoder(teacher, batch.weak[batch.unlabelled], self.passes)
        classes = out.logits.shape[1]
        ramp = gaussian_ramp(step.progress / self.ramp_end)
        threshold = uncertainty_threshold(ramp, maximal_entropy(classes), self.threshold_start)
        mask = certain(advice.entropy, threshold)
        trust = mask * (1.0 - advice.entropy / math.log(classes))
        taught = hard_labels(advice.probabilities)
        segmentation = cross_entropy(new.logits, taught, trust) + dice_loss(
            new.probabilities, taught, trust
        )
        distance = mean_squared_error(new.distance, advice.distance, mask)
        intra = self.beta * segmentation + (1.0 - self.beta) * distance
        sharpness = (
            self.sharpness_start + (self.sharpness_end - self.sharpness_start) * step.progress
        )
        cross = mean_squared_error(out.probabilities[:, 1:], to_mask(out.distance, sharpness))
        return {
            **terms,
            "intra": self.intra_weight * ramp * intra,
            "cross": self.cross_weight * ramp * cross,
        }
