"""A network of another package, built from a card, that segments in place of this program's
own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import require
from ...nn.network import Output
from .settings import NNUNET, OPERATIONS, ForeignSettings


class ForeignNetwork(nn.Module):
    """Offers what segmentation needs of `DualTaskVNet`, without a distance head and dropout."""

    def __init__(self, settings: ForeignSettings) -> None:
        super().__init__()
        self.settings = settings
        self.distance_head = None
        self.members = nn.ModuleList(_network(settings) for _ in range(settings.members))

    def encode(self, image: Tensor) -> Tensor:
        """Logits (B, C, I, J, K) of images (B, channels, I, J, K)."""
        axes = self.settings.axes
        turned = image.permute(0, 1, *(2 + a for a in axes)).contiguous()
        logits = torch.stack([member(turned) for member in self.members]).mean(0)
        logits = logits.permute(0, 1, *(2 + axes.index(a) for a in range(3)))
        if self.settings.output == "sigmoid":  # softmax of (0, x) is the sigmoid of x
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return logits

    def decode(self, features: Tensor, distance: bool = True) -> Output:
        """The output for what `encode` returned; ``distance`` has no effect."""
        return Output(features, None)

    def forward(self, image: Tensor) -> Output:
        return self.decode(self.encode(image))


def _network(settings: ForeignSettings) -> nn.Module:
    """One member, not initialized; InputError without the package."""
    if settings.package == NNUNET:
        require(NNUNET, "by this model", f"{NNUNET}.architectures.unet")
        from dynamic_network_architectures.architectures import unet

        named = {k: settings.arguments.get(k) for k in OPERATIONS}
        operations = {k: None if v is None else getattr(nn, v) for k, v in named.items()}
        return getattr(unet, settings.network)(
            input_channels=settings.channels, num_classes=settings.classes,
            **{**settings.arguments, **operations}, deep_supervision=False,
        )  # fmt: skip
    require(settings.package, "by this model")
    from monai.networks import nets

    return getattr(nets, settings.network)(**settings.arguments)


def build(settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> ForeignNetwork:
    """The network of a card with its weights, in evaluation mode; TypeError, ValueError and
    RuntimeError if they do not fit, InputError without the package."""
    values = {**settings, "multiple": tuple(settings.get("multiple", ()))}
    values["axes"] = tuple(settings.get("axes", ForeignSettings.axes))
    network = ForeignNetwork(ForeignSettings(**values))
    for prefix, member in _members(network):
        own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        fill(member, own)
    return network.eval()


def fill(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load the weights; a tensor with several names may be stored under one of them. RuntimeError
    if they do not fit the network."""
    wrong = network.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    missing = set(wrong.missing_keys) & set(tensors(network))
    if strange := sorted(missing.union(wrong.unexpected_keys)):
        others = len(strange) - 1
        raise RuntimeError(f"{strange[0]} is missing or unexpected, as are {others} others")


def tensors(network: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers, each under a single name."""
    return {k: v.detach() for k, v in (*network.named_parameters(), *network.named_buffers())}


def stored(networks: list[nn.Module]) -> dict[str, Tensor]:
    """The weights of the members of an ensemble, as `build` takes them."""
    several = len(networks) > 1
    return {
        f"{n}.{name}" if several else name: value
        for n, network in enumerate(networks)
        for name, value in tensors(network).items()
    }


def _members(network: ForeignNetwork) -> list[tuple[str, nn.Module]]:
    """The members, each with the prefix of its weights' names."""
    several = len(network.members) > 1
    return [(f"{n}." if several else "", m) for n, m in enumerate(network.members)]
