"""SASSNet: level sets of unlabeled samples should look like those of labeled ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...nn.batch import Batch
from ...nn.losses import dice_loss, distance_error, masked_mean
from ...nn.network import DualTaskVNet, NetworkSettings
from ...nn.schedules import Step, gaussian_ramp
from ..base import Method, auxiliary_of
from ..options import Weight, option


class Discriminator(nn.Module):
    """Tells labeled from unlabeled samples by level sets and image: (B, C-1, ...) and
    (B, channels, ...) to a logit (B, 1), positive for labeled.

    Four convolutions with the strides of the V-Net (so that thin volumes pass), leaky ReLU and
    dropout, then the mean over all voxels, which takes any patch. It starts with four times the
    V-Net's filters: the published 64.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        filters = 4 * settings.filters

        def convolution(inputs: int, outputs: int, stride: tuple[int, ...]) -> nn.Conv3d:
            return nn.Conv3d(inputs, outputs, [s + 2 for s in stride], stride, padding=1)

        first, *others = settings.strides
        self.distance = convolution(settings.classes - 1, filters, first)
        self.image = convolution(settings.channels, filters, first)
        self.levels = nn.ModuleList(
            convolution(filters * 2**n, filters * 2 ** (n + 1), s) for n, s in enumerate(others)
        )
        self.activation = nn.LeakyReLU(0.2)
        self.dropout = nn.Dropout3d(0.5)
        self.verdict = nn.Linear(filters * 2 ** len(others), 1)

    def forward(self, distance: Tensor, image: Tensor) -> Tensor:
        x = self.activation(self.distance(distance) + self.image(image))
        for level in self.levels:
            x = self.activation(level(self.dropout(x)))
        return self.verdict(x.mean(dim=(2, 3, 4)))


@dataclass(frozen=True)
class SASSNet(Method):
    """Dice + 0.3 mean (f_dis - T(y))² + λ mean -ln D(f_dis, x) on unlabeled samples (Li et al.,
    2020).

    The discriminator D, which gives the probability of a labeled sample, minimizes its
    cross-entropy over all samples after each step of the student: Adam, 1e-4, betas 0.9 and 0.99.
    D is in evaluation mode for the student's term, the student for D's.
    """

    name: ClassVar[str] = "sassnet"
    paper: ClassVar[str] = "Li et al., SASSNet, MICCAI"
    year: ClassVar[int] = 2020
    when: ClassVar[str] = "structures of a typical shape; a discriminator learns it"
    uses_unlabeled: ClassVar[bool] = True
    uses_distance: ClassVar[bool] = True
    adversarial: ClassVar[bool] = True

    weight: Weight = option(0.01, "λ at the end of its ramp")
    distance_weight: Weight = option(0.3, "weight of the squared error between f_dis and T(y)")

    def auxiliary(self, student: DualTaskVNet, base: Mapping[str, Tensor] | None) -> nn.Module:
        return Discriminator(student.settings)

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        out = student(batch.image)
        known, new = out[batch.labeled], out[batch.unlabeled]
        terms = {
            "dice": dice_loss(known.probabilities, batch.labels, batch.valid),
            "distance": self.distance_weight * distance_error(known, batch),
        }
        if step.supervised_only or batch.all_labeled:
            return terms
        critic = auxiliary_of(student, Discriminator).eval()
        verdict = critic(new.distance, batch.image[batch.unlabeled])
        deceived = masked_mean(nn.functional.softplus(-verdict.float()), None)  # -ln D
        return {**terms, "adversarial": self.weight * gaussian_ramp(step.progress) * deceived}

    def discriminator_losses(
        self, student: DualTaskVNet, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        if step.supervised_only or batch.all_labeled:
            return {}
        student.eval()
        with torch.no_grad():
            distance = student(batch.image).distance
        verdict = auxiliary_of(student, Discriminator).train()(distance, batch.image).float()
        sign = torch.ones_like(verdict)
        sign[batch.unlabeled] = -1.0
        return {"discriminator": masked_mean(nn.functional.softplus(-sign * verdict), None)}
