"""The input of a training step: one batch with a labeled and an unlabeled stream."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A two-stream batch: labeled samples first.

    ``image`` (B, channels, I, J, K) is the student's view, ``weak`` the same patches as the
    teacher sees them (without intensity augmentation; the same tensor where there is none).
    Of the first L samples: ``labels`` (L, C, ...) class fractions of each voxel, ``level_set``
    (L, C-1, ...) T(y), ``valid`` (L, 1, ...) 1 where annotated, ``distance_known`` (L, C-1, ...)
    1 where ``level_set`` is known: ``valid`` less what lies too near an ignored region.
    """

    image: Tensor
    weak: Tensor
    labels: Tensor
    level_set: Tensor
    valid: Tensor
    distance_known: Tensor

    @property
    def labeled(self) -> slice:
        """The labeled samples."""
        return slice(0, len(self.labels))

    @property
    def unlabeled(self) -> slice:
        """The unlabeled samples."""
        return slice(len(self.labels), len(self.image))

    @property
    def all_labeled(self) -> bool:
        """Whether there is no unlabeled sample: in supervised-only steps, and in a training
        without unlabeled cases."""
        return len(self.labels) == len(self.image)
