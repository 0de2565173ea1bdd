"""Transformation-consistent self-ensembling: predicting and transforming commute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from ...nn.batch import Batch
from ...nn.losses import mean_squared_error, segmentation_terms
from ...nn.network import DualTaskVNet
from ...nn.schedules import Step, gaussian_ramp
from ...nn.teacher import noisy_pass
from ..base import Method
from ..options import Share, Weight, option


@dataclass(frozen=True)
class Transformation:
    """π: a zoom about the center, then quarter turns in the first two axes, then flips (0 to 2).

    ``__call__`` takes and returns (B, N, I, J, K), linearly interpolated; outside of the patch it
    repeats the border, or with ``padding`` ``zeros`` is 0.
    """

    zoom: float
    turns: int
    flips: tuple[int, ...]

    def __call__(self, values: Tensor, padding: str = "border") -> Tensor:
        matrix = torch.eye(3, 4, device=values.device)[None] / self.zoom
        grid = affine_grid(matrix, [1, 1, *values.shape[2:]], align_corners=False)
        grid = grid.expand(len(values), -1, -1, -1, -1)
        zoomed = grid_sample(values.float(), grid, padding_mode=padding, align_corners=False)
        return zoomed.rot90(self.turns, (2, 3)).flip([a + 2 for a in self.flips])


def draw(image: Tensor, strides: tuple[tuple[int, ...], ...], zoom: float) -> Transformation:
    """A random π for ``image``, from torch's own random numbers; quarter turns only where they
    keep the patch's shape and meet the same strides."""
    square = image.shape[2] == image.shape[3] and all(s[0] == s[1] for s in strides)
    number, turn, *flips = torch.rand(5).tolist()
    return Transformation(
        1.0 + zoom * (2.0 * number - 1.0),
        int(4 * turn) if square else 2 * int(2 * turn),
        tuple(axis for axis, chance in enumerate(flips) if chance < 0.5),
    )


@dataclass(frozen=True)
class TCSE(Method):
    """0.5 (CE + Dice) + λ mean (π p(x) - p'(π x))² over all samples (Li et al., 2020).

    π is one random zoom, quarter turns and flips for the whole batch; the teacher makes one pass
    over the transformed samples in train mode: dropout, input noise, batch statistics.
    """

    name: ClassVar[str] = "tcse"
    paper: ClassVar[str] = "Li et al., Transformation-consistent self-ensembling, IEEE TNNLS"
    year: ClassVar[int] = 2020
    when: ClassVar[str] = "a mean teacher without strong augmentation of its own"
    uses_teacher: ClassVar[bool] = True
    uses_unlabeled: ClassVar[bool] = True

    weight: Weight = option(0.1, "λ at the end of its ramp")
    zoom: Share = option(0.2, "π zooms by 1 - zoom to 1 + zoom")

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        out = student(batch.image)
        terms = segmentation_terms(out[batch.labeled], batch)
        if step.supervised_only:
            return terms
        pi = draw(batch.weak, student.settings.strides, self.zoom)
        targets = noisy_pass(teacher, pi(batch.weak))
        inside = (pi(torch.ones_like(batch.weak[:, :1]), "zeros") > 0.999).float()
        difference = mean_squared_error(pi(out.probabilities), targets.probabilities, inside)
        return {**terms, "consistency": self.weight * gaussian_ramp(step.progress) * difference}
