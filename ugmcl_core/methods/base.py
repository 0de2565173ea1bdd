"""What a method sees (a batch) and what the loop asks of a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from ..network import DualTaskVNet
from ..schedules import Step


@dataclass(frozen=True)
class Batch:
    """A two-stream batch: labelled samples first.

    ``image`` (B, channels, I, J, K) is the student's view, ``weak`` the same patches as the
    teacher sees them (without intensity augmentation; the same tensor where there is none).
    Of the first L samples: ``labels`` (L, C, ...) class fractions of each voxel, ``level_set``
    (L, C-1, ...) T(y), ``valid`` (L, 1, ...) 1 where annotated, ``measured`` (L, C-1, ...) 1 where
    ``level_set`` is known: ``valid`` less what lies too near an ignored region.
    """

    image: Tensor
    weak: Tensor
    labels: Tensor
    level_set: Tensor
    valid: Tensor
    measured: Tensor

    @property
    def labelled(self) -> slice:
        """The labelled samples."""
        return slice(0, len(self.labels))

    @property
    def unlabelled(self) -> slice:
        """The unlabelled samples."""
        return slice(len(self.labels), len(self.image))


class Method(Protocol):
    """A frozen dataclass of settings; see the package's docstring."""

    name: ClassVar[str]
    paper: ClassVar[str]
    year: ClassVar[int]
    when: ClassVar[str]
    uses_teacher: ClassVar[bool]
    uses_unlabelled: ClassVar[bool]
    uses_distance: ClassVar[bool]

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        """The weighted terms of the objective, by name."""
        ...
