"""Dual-task mutual learning: one network segments, another finds level sets, and both agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from ...nn.batch import Batch
from ...nn.level_sets import to_mask
from ...nn.losses import cross_task_consistency, foreground_dice_loss, segmentation_terms
from ...nn.network import DualTaskVNet, load_weights
from ...nn.schedules import Step, annealed, gaussian_ramp
from ..base import Method, auxiliary_of
from ..options import Weight, option


@dataclass(frozen=True)
class DTML(Method):
    """0.5 (CE + Dice) of f_seg + Dice of T⁻¹(f_dis) + λ mean (p - T⁻¹(f_dis))² (Zhang & Zhang,
    2021), f_seg and f_dis from two V-Nets.

    The last term is over foreground classes and all samples and teaches both networks. The
    segmentation network is the one that is saved. Fine-tuning starts both from the base.
    """

    name: ClassVar[str] = "dtml"
    paper: ClassVar[str] = "Zhang and Zhang, DTML, PRCV"
    year: ClassVar[int] = 2021
    when: ClassVar[str] = "the predecessor of UG-MCL; takes the time and memory of two networks"
    uses_unlabeled: ClassVar[bool] = True

    weight: Weight = option(1.0, "λ at the end of its ramp")
    sharpness: Weight = option(1500.0, "k of T⁻¹, per unit of the level set")
    sharpness_start: Weight = option(0.0, "k at the start, rising to `sharpness`; 0: k is fixed")

    def auxiliary(self, student: DualTaskVNet, base: Mapping[str, Tensor] | None) -> nn.Module:
        second = DualTaskVNet(replace(student.settings, distance_head=True))
        if base is not None:  # the student has no distance head, the base may have one
            load_weights(second, base, same_heads=False)
        return second

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        out = student(batch.image)
        distance = auxiliary_of(student, DualTaskVNet)(batch.image).distance
        known = batch.labeled
        mask = to_mask(distance, annealed(self.sharpness_start, self.sharpness, step.progress))
        terms = {
            **segmentation_terms(out[known], batch),
            "distance_dice": foreground_dice_loss(mask[known], batch.labels[:, 1:], batch.valid),
        }
        if step.supervised_only:
            return terms
        cross = cross_task_consistency(out, mask)
        return {**terms, "cross": self.weight * gaussian_ramp(step.progress) * cross}
