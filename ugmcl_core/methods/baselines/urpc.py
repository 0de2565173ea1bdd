"""URPC: predictions at several scales agree, less strictly where they differ anyway."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ...nn.batch import Batch
from ...nn.losses import cross_entropy, dice_loss, masked_mean, mean_squared_error
from ...nn.network import DualTaskVNet, NetworkSettings
from ...nn.schedules import Step, gaussian_ramp
from ..base import Method, auxiliary_of
from ..options import Weight, option


class ScaleHeads(nn.Module):
    """Logits (B, C, I, J, K) of the decoder's three coarser levels: dropout and a 1x1x1
    convolution as in the main head, upsampled trilinearly."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.dropout = nn.Dropout3d(settings.dropout)
        self.heads = nn.ModuleList(
            nn.Conv3d(settings.filters * 2**n, settings.classes, 1) for n in (1, 2, 3)
        )

    def forward(self, decoded: list[Tensor]) -> list[Tensor]:
        size = decoded[0].shape[2:]
        logits = [h(self.dropout(x)) for h, x in zip(self.heads, decoded[1:], strict=True)]
        return [interpolate(x.float(), size, mode="trilinear") for x in logits]


@dataclass(frozen=True)
class URPC(Method):
    """mean over 4 scales of 0.5 (CE + Dice), and on unlabeled samples
    λ mean over scales of Σ w_s |p_s - p̄|² / Σ w_s + mean D_s (Luo et al., 2021).

    p̄ is the mean over scales, D_s = KL(p̄ ‖ p_s) and w_s = exp(-D_s). The main head, which alone
    is saved, is scale 1; there is no teacher.
    """

    name: ClassVar[str] = "urpc"
    paper: ClassVar[str] = "Luo et al., URPC, MICCAI"
    year: ClassVar[int] = 2021
    when: ClassVar[str] = "unlabeled volumes at nearly the cost of supervised training"
    uses_unlabeled: ClassVar[bool] = True

    weight: Weight = option(0.1, "λ at the end of its ramp")

    def auxiliary(self, student: DualTaskVNet, base: Mapping[str, Tensor] | None) -> nn.Module:
        return ScaleHeads(student.settings)

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        decoded = student.decoded(student.encode(batch.image))
        logits = [student.heads(decoded[0]).logits, *auxiliary_of(student, ScaleHeads)(decoded)]
        scales = [x.float().log_softmax(dim=1) for x in logits]  # ln p_s
        known, new = batch.labeled, batch.unlabeled
        part = 0.5 / len(scales)
        terms = {
            "ce": part * sum(cross_entropy(x[known], batch.labels, batch.valid) for x in logits),
            "dice": part
            * sum(dice_loss(s[known].exp(), batch.labels, batch.valid) for s in scales),
        }
        if step.supervised_only or batch.all_labeled:
            return terms
        mean = torch.stack([s[new] for s in scales]).logsumexp(dim=0) - math.log(len(scales))
        pyramid = []
        for scale in (s[new] for s in scales):
            divergence = (mean.exp() * (mean - scale)).sum(dim=1, keepdim=True)
            difference = mean_squared_error(scale.exp(), mean.exp(), (-divergence).exp())
            pyramid.append(difference + masked_mean(divergence, None))
        ramp = gaussian_ramp(step.progress)
        return {**terms, "consistency": self.weight * ramp * sum(pyramid) / len(pyramid)}
