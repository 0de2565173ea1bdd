"""The mean teacher: an exponential moving average of the student, and its targets."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .network import DualTaskVNet, Output, set_dropout, without_auxiliary
from .uncertainty import entropy


class Teacher:
    """An EMA of the student's weights, α = min(1 - 1/(t+1), ``decay``); starts as a copy. It
    leaves out the student's auxiliary module.

    Batch-norm statistics are copied from the student (``average_buffers`` False, the published
    form, in which the teacher runs on batch statistics anyway) or averaged like the weights, which
    a teacher in evaluation mode needs. Its own passes never change them: they see noise and
    dropout, and the teacher may be what is saved.
    """

    def __init__(
        self, student: nn.Module, decay: float = 0.99, average_buffers: bool = False
    ) -> None:
        self.network = copy.deepcopy(student).requires_grad_(False)
        self.network.auxiliary = None
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.track_running_stats = False  # in train mode; evaluation mode uses them
        self.decay = decay
        self.average_buffers = average_buffers

    @torch.no_grad()
    def update(self, student: nn.Module, index: int) -> None:
        """Follow ``student`` after iteration ``index`` (from 0), in place."""
        weight = 1.0 - min(1.0 - 1.0 / (index + 1), self.decay)
        news = without_auxiliary(student.named_parameters()).values()
        torch._foreach_lerp_(list(self.network.parameters()), list(news), weight)
        news = without_auxiliary(student.named_buffers()).values()
        for own, new in zip(self.network.buffers(), news, strict=True):
            if self.average_buffers and own.is_floating_point():
                own.lerp_(new, weight)
            else:
                own.copy_(new)


@dataclass(frozen=True)
class TeacherOutput:
    """The teacher's targets for a batch, without gradient: ``probabilities`` f'_seg (B, C, ...),
    ``distance`` f'_dis (B, C-1, ...) or None, and ``entropy`` u (B, 1, ...), Eq. 3, of the mean
    of Monte Carlo passes."""

    probabilities: Tensor
    distance: Tensor | None
    entropy: Tensor


def noisy(image: Tensor, deviation: float = 0.1, limit: float = 0.2) -> Tensor:
    """The input noise of the mean-teacher literature: x + clamp(0.1 N(0, 1), ±0.2)."""
    return image + (deviation * torch.randn_like(image)).clamp(-limit, limit)


@torch.no_grad()
def noisy_pass(teacher: DualTaskVNet, image: Tensor, distance: bool = True) -> Output:
    """One pass of the teacher as published: over noise, with dropout and on batch statistics
    (train mode); without gradient. ``distance`` as in `DualTaskVNet.decode`."""
    teacher.train()
    return teacher(noisy(image), distance)


@torch.no_grad()
def mc_dropout_targets(
    teacher: DualTaskVNet, image: Tensor, passes: int, shared_encoder: bool = False
) -> TeacherOutput:
    """The targets as published: one pass for the targets and T = ``passes`` for Eq. 3, each over
    noise of its own, with dropout and on batch statistics (train mode).

    With ``shared_encoder`` the T passes share one noise and one encoding and differ in dropout
    alone: u is then the entropy over dropout, not over noise.
    """
    out = noisy_pass(teacher, image)
    if shared_encoder:
        features = teacher.encode(noisy(image))
        samples = (teacher.decode(features, distance=False) for _ in range(passes))
    else:
        samples = (noisy_pass(teacher, image, distance=False) for _ in range(passes))
    mean = sum(sample.probabilities for sample in samples) / passes
    return TeacherOutput(out.probabilities, out.distance, entropy(mean))


@torch.no_grad()
def mc_dropout_targets_by_decoder(
    teacher: DualTaskVNet, image: Tensor, passes: int
) -> TeacherOutput:
    """Cheaper targets in evaluation mode: one encoding, a decoding without dropout for the targets
    and ``passes`` with dropout for the entropy. Without input noise the Monte Carlo passes differ
    in the decoder alone, so only the noise is lost."""
    teacher.eval()
    features = teacher.encode(image)
    out = teacher.decode(features)
    set_dropout(teacher, True)
    samples = (teacher.decode(features, distance=False) for _ in range(passes))
    mean = sum(sample.probabilities for sample in samples) / passes
    set_dropout(teacher, False)
    return TeacherOutput(out.probabilities, out.distance, entropy(mean))
