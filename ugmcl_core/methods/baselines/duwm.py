"""Double-uncertainty weighting: agree on predictions and features, where both are certain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ...nn.batch import Batch
from ...nn.losses import masked_mean, segmentation_terms
from ...nn.network import DualTaskVNet
from ...nn.schedules import Step, gaussian_ramp
from ...nn.teacher import noisy
from ...nn.uncertainty import entropy
from ..base import Method, auxiliary_of
from ..options import Count, Weight, option


class Sensitivity(nn.Module):
    """κ > 0, by which segmentation and feature uncertainty are multiplied; both start at 1."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.full((2,), math.log(math.e - 1.0)))

    def forward(self) -> Tensor:
        return softplus(self.raw)


@dataclass(frozen=True)
class DUWM(Method):
    """0.5 (CE + Dice) + λ Σ over p and f of mean (exp(-U) |difference to the teacher|² + γ U), on
    all samples (Wang et al., 2020).

    f are the features that the heads see. U = κ u with κ learned: γ U keeps it from growing
    without end. u is the entropy of the mean of T teacher passes, over classes for p, over
    channels (softmax of f) for f, each divided by its maximum. These and the target pass are in
    train mode: dropout, input noise, batch statistics. That u of the features is such an entropy,
    that U is proportional to u, and γ, are this project's reading of the paper.
    """

    name: ClassVar[str] = "duwm"
    paper: ClassVar[str] = "Wang et al., Double-uncertainty weighted method, MICCAI"
    year: ClassVar[int] = 2020
    when: ClassVar[str] = "a mean teacher that also teaches features, weighted instead of masked"
    uses_teacher: ClassVar[bool] = True
    uses_unlabeled: ClassVar[bool] = True

    weight: Weight = option(0.1, "λ at the end of its ramp")
    passes: Count = option(8, "T, Monte Carlo passes of the teacher")
    regularizer: Weight = option(0.01, "γ, the price of uncertainty")

    def auxiliary(self, student: DualTaskVNet, base: Mapping[str, Tensor] | None) -> nn.Module:
        return Sensitivity()

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        features = student.decoded(student.encode(batch.image))[0]
        out = student.heads(features)
        terms = segmentation_terms(out[batch.labeled], batch)
        if step.supervised_only:
            return terms
        targets, doubts = _advice(teacher, batch.weak, self.passes)
        scale = self.weight * gaussian_ramp(step.progress)
        views = (("segmentation", out.probabilities), ("features", features.float()))
        kappas = auxiliary_of(student, Sensitivity)()
        for (name, own), wanted, doubt, kappa in zip(views, targets, doubts, kappas, strict=True):
            difference = (own - wanted).square().mean(dim=1, keepdim=True)
            loss = (-kappa * doubt).exp() * difference + self.regularizer * kappa * doubt
            terms[name] = scale * masked_mean(loss, None)
        return terms


@torch.no_grad()
def _advice(
    teacher: DualTaskVNet, image: Tensor, passes: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """p' and f' of a target pass; u (B, 1, ...) of segmentation and features, 0 to 1."""
    teacher.train()

    def look() -> tuple[Tensor, Tensor]:
        features = teacher.decoded(teacher.encode(noisy(image)))[0]
        return teacher.heads(features).probabilities, features.float()

    targets, means = look(), [0.0, 0.0]
    for _ in range(passes):
        probabilities, features = look()
        means[0] = means[0] + probabilities / passes
        means[1] = means[1] + features.softmax(dim=1) / passes
    return targets, tuple(entropy(m) / math.log(m.shape[1]) for m in means)
