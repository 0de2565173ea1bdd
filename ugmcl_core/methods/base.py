"""What a method sees (a batch) and what the loop asks of a method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, TypeVar

from torch import Tensor, nn

from ..nn.batch import Batch
from ..nn.network import DualTaskVNet
from ..nn.schedules import Step
from . import options

C = TypeVar("C", bound=nn.Module)




class Method(ABC):
    """A frozen dataclass of options; see the package's docstring.

    Options are checked when a method is made (InputError). A method may train a second module
    along: what ``companion`` returns becomes ``student.companion``; it is stored in checkpoints,
    and no part of the teacher or of the saved model. It is trained on the sum of ``losses`` like
    the student, unless the method is ``adversarial``: then by an Adam of its own on
    ``opposing_losses``, after each step of the student.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    year: ClassVar[int]
    when: ClassVar[str]
    uses_teacher: bool = False
    uses_unlabeled: bool = False
    uses_distance: bool = False
    adversarial: ClassVar[bool] = False

    def __post_init__(self) -> None:
        options.check(self)

    @abstractmethod
    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        """The weighted terms of the objective, by name."""

    def companion(
        self, student: DualTaskVNet, base: Mapping[str, Tensor] | None
    ) -> nn.Module | None:
        """A module to train along with ``student``; ``base`` are the weights that both start from
        when a model is fine-tuned."""
        return None

    def opposing_losses(
        self, student: DualTaskVNet, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        """The weighted terms that the companion of an adversarial method minimizes, by name."""
        return {}


def companion_of(student: nn.Module, kind: type[C]) -> C:
    """The companion that trains along with ``student``; TypeError if it is not a ``kind``."""
    companion = getattr(student, "companion", None)
    if not isinstance(companion, kind):
        raise TypeError(f"the student has no companion of type {kind.__name__}")
    return companion
