"""What every method has: its name, what it needs, and its losses."""

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

    Options are checked when a method is created (InputError). A method may train an auxiliary
    module along with the student: what ``auxiliary`` returns becomes ``student.auxiliary``. It is
    stored in checkpoints, but is not part of the teacher or of the saved model. It is trained on
    the sum of ``losses`` like the student, unless the method is ``adversarial``: then it is a
    discriminator, trained by its own Adam optimizer on ``discriminator_losses`` after each step of
    the student.

    With ``renewals``, the averaged model labels the unlabeled volumes as wholes that many times
    (`training.pseudo_labels`); patches of them are then labeled samples. Such a method also has
    ``admitted`` and ``volumes``, see `UGMCLVolumes`.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    year: ClassVar[int]
    when: ClassVar[str]
    uses_teacher: bool = False
    uses_unlabeled: bool = False
    uses_distance: bool = False
    adversarial: ClassVar[bool] = False
    renewals: int = 0

    def __post_init__(self) -> None:
        options.check(self)

    @abstractmethod
    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        """The weighted terms of the objective, by name."""

    def alone(self, iterations: int, seen: float) -> int:
        """How many iterations of a training from scratch learn from the labels alone, before
        volumes are labeled, perhaps more than its ``iterations``; each has ``seen`` patches of
        each labeled volume, on average."""
        return 0

    def auxiliary(
        self, student: DualTaskVNet, base: Mapping[str, Tensor] | None
    ) -> nn.Module | None:
        """A module to train along with ``student``, or None; ``base`` holds the weights that both
        start from when a model is fine-tuned."""
        return None

    def discriminator_losses(
        self, student: DualTaskVNet, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        """The weighted terms that the discriminator of an adversarial method minimizes."""
        return {}


def auxiliary_of(student: nn.Module, kind: type[C]) -> C:
    """The auxiliary module of ``student``; TypeError if it is not a ``kind``."""
    auxiliary = getattr(student, "auxiliary", None)
    if not isinstance(auxiliary, kind):
        raise TypeError(f"the student has no auxiliary module of type {kind.__name__}")
    return auxiliary
