"""Heads for classes that a base model does not have."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

_SEGMENTATION, _DISTANCE = "segmentation_head", "distance_head.1"
_OUTSIDE = 1.0  # tanh(1) = 0.76: far outside, not yet at the limit, where no gradient is left


def with_new_classes(weights: Mapping[str, Tensor], classes: int) -> dict[str, Tensor]:
    """The state of a network with ``classes`` classes from that of one with fewer.

    What is there stays as it is: every old class's logit, and so the odds between old classes, are
    the base's. A new class's segmentation channel starts with the background's bias, less ln n for
    n new ones, and a random kernel; its distance channel at random around "far outside". Raises
    ValueError if there are fewer classes than before.

    To the base the new class was background, so that it could start as a copy of that (Cermelli et
    al., 2020). But an optimizer that moves each weight by at most its learning rate a step takes
    hundreds of steps to tell the two apart then, the more of them the less probable the new class
    is at first, since equal kernels give the features no gradient that separates them.
    """
    state = dict(weights)
    kernel, bias = (state[f"{_SEGMENTATION}.{k}"] for k in ("weight", "bias"))
    more = classes - len(bias)
    if more < 0:
        raise ValueError(f"the base has {len(bias)} classes, more than {classes}")
    if more == 0:
        return state
    state[f"{_SEGMENTATION}.weight"] = torch.cat([kernel, _random(kernel, more)])
    share = bias[:1] - math.log(more)
    state[f"{_SEGMENTATION}.bias"] = torch.cat([bias, share.expand(more)])
    if f"{_DISTANCE}.weight" in state:
        kernel, bias = (state[f"{_DISTANCE}.{k}"] for k in ("weight", "bias"))
        state[f"{_DISTANCE}.weight"] = torch.cat([kernel, _random(kernel, more)])
        state[f"{_DISTANCE}.bias"] = torch.cat([bias, torch.full((more,), _OUTSIDE)])
    return state


def _random(kernel: Tensor, count: int) -> Tensor:
    """So many kernels in the shape of ``kernel``'s, as torch starts those of convolutions."""
    new = torch.empty(count, *kernel.shape[1:])
    torch.nn.init.kaiming_uniform_(new, a=math.sqrt(5.0))
    return new
