"""UG-MCL by volumes: unlabeled volumes are labeled as wholes, and trained on like the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..nn.batch import Batch
from ..nn.losses import supervised_terms
from ..nn.network import DualTaskVNet
from ..nn.schedules import Step
from .base import Method
from .options import Count, Epochs, Share, Weight, option


@dataclass(frozen=True)
class UGMCLVolumes(Method):
    """L_sup of Eq. 2 on labeled patches and on patches of volumes that the averaged model labeled.

    The first ``start`` of the iterations see labels alone, and at least so many that each labeled
    volume has given ``epochs`` patches: while these still teach more, labels that the model gives
    itself only hold it back. Then, and ``renewals`` - 1 times more, the averaged model labels the
    unlabeled volumes as wholes (`training.pseudo_labels`): the mean over mirrored views, the
    surest component where the labels show one piece, T(y) of that. A volume is trusted as far as
    its views agree (all but the most trusted part ``admitted`` is left out), and a voxel where the
    two heads agree. From then on a part of each batch consists of patches of those volumes,
    augmented and trained like labeled ones, in one schedule of the learning rate.

    Consistency by patches (`UGMCL`, `UGMCLPlus`) sees the teacher's mistakes at the same place and
    in the same view as the student's; a whole volume in several views corrects them.
    """

    name: ClassVar[str] = "ugmcl-volumes"
    paper: ClassVar[str] = "this project, after Zhang et al., UG-MCL, and self-training"
    year: ClassVar[int] = 2026
    when: ClassVar[str] = "few labeled and some unlabeled volumes, and minutes to hours of time"
    uses_teacher: ClassVar[bool] = True
    uses_unlabeled: ClassVar[bool] = True
    uses_distance: ClassVar[bool] = True

    start: Share = option(0.5, "part of the iterations that see labels alone (0 from a base)")
    epochs: Epochs = option(
        1500, "patches of each labeled volume before unlabeled ones join (0 from a base)"
    )
    renewals: Count = option(5, "how many times volumes are labeled; 100 iterations apart")
    admitted: Share = option(1.0, "part of the unlabeled volumes that is trusted")
    volumes: Count = option(64, "the most volumes that are labeled at a time")
    distance_weight: Weight = option(1.0, "weight of the squared error between f_dis and T(y)")

    def alone(self, iterations: int, seen: float) -> int:
        return max(round(self.start * iterations), math.ceil(self.epochs / seen))

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        return supervised_terms(student(batch.image[batch.labeled]), batch, self.distance_weight)
