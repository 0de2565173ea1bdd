"""Uncertainty-guided mutual consistency learning, as the paper writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ..nn.batch import Batch
from ..nn.level_sets import to_mask
from ..nn.losses import (
    cross_task_consistency,
    intra_task_consistency,
    segmentation_terms,
    supervised_terms,
)
from ..nn.network import DualTaskVNet
from ..nn.schedules import Step, annealed, gaussian_ramp, uncertainty_threshold
from ..nn.teacher import TeacherOutput, mc_dropout_targets
from ..nn.uncertainty import certain, maximal_entropy, quantile
from .base import Method
from .options import Count, Share, Weight, option


@dataclass(frozen=True)
class UGMCL(Method):
    """L_sup + λ_i L_itc + λ_c L_ctc, Eq. 7 (Zhang et al., 2022).

    A step of Algorithm 1: `losses` gives the terms of Eq. 7, `training.trainer` minimizes their
    sum and lets the teacher follow. The consistency terms run over labeled and unlabeled samples;
    the teacher works in train mode, and each pass has dropout, input noise and batch statistics of
    its own. Table 1's rows are the settings of ``distance``, ``intra`` and ``cross``; without
    ``distance`` and ``cross`` there is no distance head, and L_itc is its segmentation part.
    """

    name: ClassVar[str] = "ugmcl"
    paper: ClassVar[str] = "Zhang et al., UG-MCL, Artificial Intelligence in Medicine"
    year: ClassVar[int] = 2022
    when: ClassVar[str] = "few labeled and many unlabeled volumes: the paper's method, literally"

    beta: Share = option(0.75, "β, Eq. 4: segmentation against distance")
    passes: Count = option(8, "T, Eq. 3: Monte Carlo passes of the teacher")
    sharpness: Weight = option(1500.0, "k, Eq. 5, per unit of the level set")
    weight: Weight = option(0.1, "λ_i and λ_c at the end of their ramp")
    threshold_start: Share = option(0.75, "u_th at the start, as a part of its reference")
    threshold_reference: Literal["ln2", "lnC", "quantile"] = option(
        "ln2", "what u_th is a part of; quantile: the part of the voxels that are kept"
    )
    squared_ramp: bool = option(True, "exp(-5 (1 - t)²); false: exp(-5 (1 - t)), as printed")
    threshold_ramp: bool = option(True, "u_th rises to its reference; false: it stays")
    sharpness_start: Weight = option(0.0, "k at the start, rising to `sharpness`; 0: k is fixed")
    distance: bool = option(True, "L_dis, the regression of T(y) in L_sup")
    intra: bool = option(True, "L_itc, Eq. 4")
    cross: bool = option(True, "L_ctc, Eq. 6")
    mask_cross: bool = option(False, "L_ctc only where u < u_th")
    shared_encoder: bool = option(False, "the T passes share one noise and encoding: faster")

    @property
    def uses_teacher(self) -> bool:
        return self.intra or (self.cross and self.mask_cross)

    @property
    def uses_unlabeled(self) -> bool:
        return self.intra or self.cross

    @property
    def uses_distance(self) -> bool:
        return self.distance or self.cross

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        out = student(batch.image, self.uses_distance)
        if self.distance:
            terms = supervised_terms(out[batch.labeled], batch)  # Eq. 2
        else:
            terms = segmentation_terms(out[batch.labeled], batch, 1.0)
        if step.supervised_only:
            return terms
        ramp = gaussian_ramp(step.progress, self.squared_ramp)
        if self.uses_teacher:
            targets = mc_dropout_targets(teacher, batch.weak, self.passes, self.shared_encoder)
            mask = certain(targets.entropy, self._threshold(targets, ramp))  # u of Eq. 3
        if self.intra:
            intra = intra_task_consistency(out, targets, mask, self.beta)  # Eq. 4
            terms["intra"] = self.weight * ramp * intra
        if self.cross:
            sharpness = annealed(self.sharpness_start, self.sharpness, step.progress)
            from_level_set = to_mask(out.distance, sharpness)  # Eq. 5
            where = mask if self.mask_cross else None
            cross = cross_task_consistency(out, from_level_set, where)  # Eq. 6
            terms["cross"] = self.weight * ramp * cross
        return terms  # whose sum is Eq. 7

    def _threshold(self, targets: TeacherOutput, ramp: float) -> float | Tensor:
        """u_th, which rises over the training."""
        rise = ramp if self.threshold_ramp else 0.0
        if self.threshold_reference == "quantile":
            part = uncertainty_threshold(rise, 1.0, self.threshold_start)
            return quantile(targets.entropy, part, targets.probabilities.shape[1])
        maximum = maximal_entropy(targets.probabilities.shape[1], self.threshold_reference)
        return uncertainty_threshold(rise, maximum, self.threshold_start)
