"""UG-MCL with the departures that a small training budget rewards; not the paper's method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..nn.batch import Batch
from ..nn.level_sets import to_mask
from ..nn.losses import (
    cross_entropy,
    cross_task_consistency,
    dice_loss,
    hard_labels,
    masked_mean,
    mean_squared_error,
    segmentation_terms,
)
from ..nn.network import DualTaskVNet
from ..nn.schedules import Step, gaussian_ramp, uncertainty_threshold
from ..nn.teacher import mc_dropout_targets_by_decoder
from ..nn.uncertainty import certain, maximal_entropy
from .base import Method
from .options import Count, Positive, Share, Weight, option


@dataclass(frozen=True)
class UGMCLPlus(Method):
    """UG-MCL's terms with a sharper intra-task loss on unlabeled samples only.

    Departures from `UGMCL`: the teacher works in evaluation mode on the weak view and decodes one
    encoding several times; intra-task consistency on the segmentation is cross-entropy + Dice
    against the teacher's hard labels, weighted by 1 - u / ln C within the mask; the distance error
    is absolute; k is as sharp as the level set's unit allows from the start, as a soft one pulls
    |f_dis| beyond the true distance wherever p is sure; the ramps end at ``ramp_end`` of the
    semi-supervised iterations.
    """

    name: ClassVar[str] = "ugmcl-plus"
    paper: ClassVar[str] = "this project, after Zhang et al., UG-MCL"
    year: ClassVar[int] = 2026
    when: ClassVar[str] = "few labeled and many unlabeled volumes, and strong augmentation"
    uses_teacher: ClassVar[bool] = True
    uses_unlabeled: ClassVar[bool] = True
    uses_distance: ClassVar[bool] = True

    beta: Share = option(0.75, "β: segmentation against distance")
    passes: Count = option(2, "Monte Carlo decodings of the teacher")
    intra_weight: Weight = option(0.5, "weight of the intra-task term at the end of its ramp")
    cross_weight: Weight = option(0.3, "weight of the cross-task term at the end of its ramp")
    distance_weight: Weight = option(1.0, "weight of the absolute error between f_dis and T(y)")
    sharpness: Weight = option(50.0, "k per unit of the level set: 5 per mm at a scale of 10 mm")
    ramp_end: Positive = option(0.4, "where the ramps end, of the semi-supervised iterations")
    threshold_start: Share = option(0.75, "u_th at the start, as a part of ln 2")

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        out = student(batch.image)
        known = out[batch.labeled]
        terms = segmentation_terms(known, batch, 1.0)
        error = masked_mean((known.distance - batch.level_set).abs(), batch.distance_known)
        terms["distance"] = self.distance_weight * error
        if step.supervised_only:
            return terms
        new = out[batch.unlabeled]
        targets = mc_dropout_targets_by_decoder(teacher, batch.weak[batch.unlabeled], self.passes)
        classes = out.logits.shape[1]
        ramp = gaussian_ramp(step.progress / self.ramp_end)
        threshold = uncertainty_threshold(ramp, maximal_entropy(classes), self.threshold_start)
        mask = certain(targets.entropy, threshold)
        trust = mask * (1.0 - targets.entropy / math.log(classes))
        taught = hard_labels(targets.probabilities)
        segmentation = cross_entropy(new.logits, taught, trust) + dice_loss(
            new.probabilities, taught, trust
        )
        distance = mean_squared_error(new.distance, targets.distance, mask)
        intra = self.beta * segmentation + (1.0 - self.beta) * distance
        cross = cross_task_consistency(out, to_mask(out.distance, self.sharpness))
        return {
            **terms,
            "intra": self.intra_weight * ramp * intra,
            "cross": self.cross_weight * ramp * cross,
        }
