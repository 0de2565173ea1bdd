"""A network of another package in the place of this program's: built from a card, to segment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import require
from ...nn.network import Output
from .settings import PACKAGE, ForeignSettings


class ForeignNetwork(nn.Module):
    """As `DualTaskVNet` to segment with, without a distance head and without dropout."""

    def __init__(self, settings: ForeignSettings) -> None:
        super().__init__()
        require(PACKAGE, "by this model")
        from monai.networks import nets

        self.settings = settings
        self.distance_head = None
        self.network = getattr(nets, settings.network)(**settings.arguments)

    def encode(self, image: Tensor) -> Tensor:
        """Logits (B, C, I, J, K) of images (B, channels, I, J, K)."""
        logits = self.network(image)
        if self.settings.output == "sigmoid":  # softmax of (0, x) is the sigmoid of x
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return logits

    def decode(self, features: Tensor, distance: bool = True) -> Output:
        """The output with what `encode` gave; ``distance`` changes nothing."""
        return Output(features, None)

    def forward(self, image: Tensor) -> Output:
        return self.decode(self.encode(image))


def build(settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> ForeignNetwork:
    """The network of a card with its weights, in evaluation mode; TypeError, ValueError and
    RuntimeError if they do not fit, InputError without the package."""
    values = {**settings, "multiple": tuple(settings.get("multiple", ()))}
    network = ForeignNetwork(ForeignSettings(**values))
    network.network.load_state_dict({k: v.float() for k, v in weights.items()})
    return network.eval()
