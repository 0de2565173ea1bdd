"""The network of a model: built from its card, filled with its weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..data.preprocessing import normalization_of
from ..errors import InputError
from ..nn.network import DualTaskVNet, NetworkSettings, load_weights
from .foreign import settings as foreign
from .foreign.network import ForeignNetwork, build
from .model import Model


def build_network(model: Model, device: torch.device) -> DualTaskVNet:
    """The model's network with its weights, in evaluation mode; InputError if they do not fit.

    A `foreign` one has the same methods for a segmentation, and no others.
    """
    if foreign.is_foreign(model.card.network):
        return _foreign(model).to(device)
    settings = _settings(model)
    weights = model.load_weights()
    try:
        with torch.device("meta"):  # which allocates nothing, whatever the card holds
            _compare(DualTaskVNet(settings), weights)
        network = DualTaskVNet(settings)
        load_weights(network, weights)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(
            f"{model.folder}: the card and the weights do not fit "
            f"({str(error).splitlines()[0]}); get the model again"
        ) from error
    return network.to(device, memory_format=torch.channels_last_3d).eval()


def _foreign(model: Model) -> ForeignNetwork:
    try:
        network = build(model.card.network, model.load_weights())
        settings = network.settings
        if (settings.classes, settings.channels) != (
            len(model.card.classes) + 1, len(model.card.channels)
        ):  # fmt: skip
            raise ValueError("the numbers of classes or channels differ")
        normalization_of(model.card.normalization)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(
            f"{model.folder}: the card and the weights do not fit "
            f"({str(error).splitlines()[0]}); get the model again"
        ) from error
    return network


def _compare(network: DualTaskVNet, weights: Mapping[str, torch.Tensor]) -> None:
    """ValueError unless the weights have the names and the shapes of the network's."""
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise ValueError(
                f"{name} has shape {given.get(name)} in the weights and {wanted.get(name)} by the "
                "card"
            )


def _settings(model: Model) -> NetworkSettings:
    """The settings of the model's network; InputError unless all of the card agrees with them."""
    card = model.card
    try:
        settings = NetworkSettings(**card.network)
        normalization_of(card.normalization)
    except (TypeError, ValueError, OverflowError) as error:
        wrong = " ".join(str(error).split())
    else:
        multiple = settings.multiple
        wrong = ""
        if settings.classes != len(card.classes) + 1:
            wrong = f"its network has {settings.classes} classes with the background, but the "
            wrong += f"card names {len(card.classes)} without it"
        elif settings.channels != len(card.channels):
            wrong = f"its network takes {settings.channels} channels, but the card names "
            wrong += f"{len(card.channels)}"
        elif any(n % m for n, m in zip(card.patch, multiple, strict=True)):
            wrong = f"its patch {card.patch} is not a multiple of the network's strides {multiple}"
    if wrong:
        raise InputError(f"{model.folder}: the model's card is wrong ({wrong}); get it again")
    return settings


def check_model(model: Model) -> None:
    """Raise InputError unless the model's card and weights make a network: before a training
    starts from them."""
    foreign.refuse(model.card.network, model.name, "be trained further")
    build_network(model, torch.device("cpu"))
