"""The dual-task supervised network: L_sup of UG-MCL alone (Table 1, row 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..nn.batch import Batch
from ..nn.losses import supervised_terms
from ..nn.network import DualTaskVNet
from ..nn.schedules import Step
from .base import Method
from .options import Weight, option


@dataclass(frozen=True)
class DualTask(Method):
    """L_sup of Eq. 2 on the labeled samples."""

    name: ClassVar[str] = "dual-task"
    paper: ClassVar[str] = "Zhang et al., UG-MCL, Eq. 2"
    year: ClassVar[int] = 2022
    when: ClassVar[str] = "supervised training when a signed distance is wanted too"
    uses_distance: ClassVar[bool] = True

    distance_weight: Weight = option(1.0, "weight of the squared error between f_dis and T(y)")

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        return supervised_terms(student(batch.image[batch.labeled]), batch, self.distance_weight)
