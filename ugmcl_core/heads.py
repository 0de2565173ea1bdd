"""Heads for classes that a base model does not have."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

SHARE = 0.05
"""Part of the background's probability that a new class starts with."""

_SEGMENTATION, _DISTANCE = "segmentation_head", "distance_head.1"
_OUTSIDE = 1.0  # tanh(1) = 0.76: far outside, not yet at the limit, where no gradient is left


def with_new_classes(weights: Mapping[str, Tensor], classes: int) -> dict[str, Tensor]:
    """The state of a network with ``classes`` classes from that of one with fewer.

    What is there stays as it is. To the base a new class was background, so its segmentation
    channel starts as the background's, with ln(1/`SHARE`) taken from its bias: every old class's
    logit, and so the odds between old classes, are the base's (Cermelli et al., 2020, start new
    classes from the background too). Its distance channel starts at random around "far outside".
    Raises ValueError if there are fewer classes than before.
    """
    state = dict(weights)
    kernel, bias = (state[f"{_SEGMENTATION}.{k}"] for k in ("weight", "bias"))
    more = classes - len(bias)
    if more < 0:
        raise ValueError(f"the base has {len(bias)} classes, more than {classes}")
    if more == 0:
        return state
    state[f"{_SEGMENTATION}.weight"] = torch.cat(
        [kernel, kernel[:1].expand(more, *kernel.shape[1:])]
    )
    share = bias[:1] + math.log(SHARE / more)
    state[f"{_SEGMENTATION}.bias"] = torch.cat([bias, share.expand(more)])
    if f"{_DISTANCE}.weight" in state:
        kernel, bias = (state[f"{_DISTANCE}.{k}"] for k in ("weight", "bias"))
        new = torch.empty(more, *kernel.shape[1:])
        torch.nn.init.kaiming_uniform_(new, a=math.sqrt(5.0))  # as torch starts convolutions
        state[f"{_DISTANCE}.weight"] = torch.cat([kernel, new])
        state[f"{_DISTANCE}.bias"] = torch.cat([bias, torch.full((more,), _OUTSIDE)])
    return state
