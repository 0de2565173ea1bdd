"""Predictive entropy, Eq. 3, and the mask of voxels that are certain enough to teach."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .parallel import total

_BINS = 4096


def entropy(probabilities: Tensor) -> Tensor:
    """u, Eq. 3: -Σ_c p_c ln p_c of (B, C, I, J, K), shape (B, 1, I, J, K), float32, 0 to ln C."""
    p = probabilities.float()
    # where p is 0, so is the product; torch.xlogy gives the same, several times slower
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum(dim=1, keepdim=True)


def entropy_of_logits(logits: Tensor) -> Tensor:
    """`entropy` of softmax(logits), with a gradient that stays finite where a probability is 0."""
    logarithms = logits.float().log_softmax(dim=1)
    return -(logarithms.exp() * logarithms).sum(dim=1, keepdim=True)


def maximal_entropy(classes: int, reference: str = "ln2") -> float:
    """u_max that thresholds refer to. ``ln2`` for any C (0.75 ln C would never mask an ambiguity
    between two of many classes), or ``lnC``."""
    if reference not in ("ln2", "lnC"):
        raise ValueError(f"unknown reference of the uncertainty threshold: {reference!r}")
    return math.log(2 if reference == "ln2" else classes)


def quantile(uncertainty: Tensor, part: float, classes: int) -> Tensor:
    """The uncertainty below which ``part`` of the voxels lie, to 1/4096 of ln C; from a histogram,
    which works for any number of voxels. A scalar on the device of ``uncertainty``."""
    counts = total(torch.histc(uncertainty.float(), _BINS, 0.0, math.log(classes)).double())
    below = counts.cumsum(0) < part * counts.sum()
    return (below.sum() + 1) / _BINS * math.log(classes)


def certain(uncertainty: Tensor, threshold: float | Tensor) -> Tensor:
    """m = 1(u < u_th) as float32, shape of ``uncertainty``."""
    return (uncertainty < threshold).float()
