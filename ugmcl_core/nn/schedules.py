"""How weights, thresholds and learning rates change over the iterations."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """Where a training stands: ``index`` of ``total`` iterations, of which the first ``warmup``
    are supervised only."""

    index: int
    total: int
    warmup: int = 0

    @property
    def supervised_only(self) -> bool:
        """Whether the batch holds labeled samples alone."""
        return self.index < self.warmup

    @property
    def progress(self) -> float:
        """t / t_max over the semi-supervised iterations, 0 to 1."""
        return min(1.0, max(0, self.index - self.warmup) / max(1, self.total - self.warmup))


def gaussian_ramp(progress: float, squared: bool = True) -> float:
    """exp(-5 (1 - t/t_max)²) (Laine & Aila, 2017). The UG-MCL paper prints it without the square;
    the code that it cites squares it."""
    gap = 1.0 - min(1.0, max(0.0, progress))
    return math.exp(-5.0 * (gap * gap if squared else gap))


def uncertainty_threshold(ramp: float, maximum: float, start: float = 0.75) -> float:
    """u_th, rising from ``start`` times the maximal uncertainty to all of it."""
    return (start + (1.0 - start) * ramp) * maximum


def annealed(start: float, end: float, progress: float) -> float:
    """A value that moves linearly from ``start`` (0: ``end`` all along) to ``end``, such as k."""
    return start + (end - start) * progress if start else end


@dataclass(frozen=True)
class LearningRate:
    """The learning rate over the iterations: ``step`` divides by 10 every ``step_size``;
    ``cosine`` falls to zero; ``constant`` stays. The first ``warmup`` iterations rise linearly.
    If ``base`` is meant for trainings of ``length`` iterations, a shorter one has a higher rate:
    times the square root of the ratio, at most 5. With 0 every training has ``base``."""

    base: float = 0.01
    kind: str = "step"
    step_size: int = 2500
    warmup: int = 0
    length: int = 0

    def at(self, index: int, total: int) -> float:
        """The rate of iteration ``index`` (from 0)."""
        base = self.base * min(5.0, math.sqrt(max(1.0, self.length / max(1, total))))
        if index < self.warmup:
            return base * (index + 1) / self.warmup
        if self.kind == "step":
            return base * 0.1 ** (index // self.step_size)
        if self.kind == "cosine":
            done = (index - self.warmup) / max(1, total - self.warmup)
            return base * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
        if self.kind == "constant":
            return base
        raise ValueError(f"unknown learning-rate schedule {self.kind!r}")
