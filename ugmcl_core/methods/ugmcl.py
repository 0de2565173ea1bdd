"""Uncertainty-guided mutual consistency learning, as the paper writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..distance import to_mask
from ..losses import mean_squared_error
from ..network import DualTaskVNet
from ..schedules import Step, gaussian_ramp, uncertainty_threshold
from ..teacher import consult
from ..uncertainty import certain, maximal_entropy
from .base import Batch
from .dual_task import supervised_terms


@dataclass(frozen=True)
class UGMCL:
    """L_sup + λ_i L_itc + λ_c L_ctc, Eq. 7 (Zhang et al., 2022).

    The consistency terms run over labelled and unlabelled samples; the teacher works in train
    mode, each pass with dropout, input noise and batch statistics of its own.
    """

    name: ClassVar[str] = "ugmcl"
    paper: ClassVar[str] = "Zhang et al., UG-MCL, Artificial Intelligence in Medicine"
    year: ClassVar[int] = 2022
    when: ClassVar[str] = "few labelled and many unlabelled volumes: the paper's method, literally"
    uses_teacher: ClassVar[bool] = True
    uses_unlabelled: ClassVar[bool] = True
    uses_distance: ClassVar[bool] = True

    beta: float = 0.75  # Eq. 4: segmentation against distance
    passes: int = 8  # Eq. 3: T
    sharpness: float = 1500.0  # Eq. 5: k, per unit of the level set
    weight: float = 0.1  # λ at the end of its ramp
    threshold_start: float = 0.75  # u_th at the start, as a part of u_max
    threshold_reference: str = "ln2"
    squared_ramp: bool = True

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        out = student(batch.image)
        terms = supervised_terms(out[batch.labelled], batch)
        if step.supervised_only:
            return terms
        advice = consult(teacher, batch.weak, self.passes)
        ramp = gaussian_ramp(step.progress, self.squared_ramp)
        maximum = maximal_entropy(out.logits.shape[1], self.threshold_reference)
        mask = certain(advice.entropy, uncertainty_threshold(ramp, maximum, self.threshold_start))
        segmentation = mean_squared_error(out.probabilities, advice.probabilities, mask)
        distance = mean_squared_error(out.distance, advice.distance, mask)
        from_distance = to_mask(out.distance, self.sharpness)
        intra = self.beta * segmentation + (1.0 - self.beta) * distance  # Eq. 4
        cross = mean_squared_error(out.probabilities[:, 1:], from_distance)  # Eq. 6
        return {**terms, "intra": self.weight * ramp * intra, "cross": self.weight * ramp * cross}
