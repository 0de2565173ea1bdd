"""The network of a model: built from its card, filled with its weights."""

from __future__ import annotations

import torch

from ..data.preprocessing import Normalization
from ..errors import InputError
from ..nn.network import DualTaskVNet, NetworkSettings, load_weights
from .model import Model


def build_network(model: Model, device: torch.device) -> DualTaskVNet:
    """The model's network with its weights, in evaluation mode; InputError if they do not fit."""
    settings = _settings(model)
    weights = model.load_weights()
    try:
        network = DualTaskVNet(settings)
        load_weights(network, weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{model.folder}: the card and the weights do not fit "
            f"({str(error).splitlines()[0]}); get the model again"
        ) from error
    return network.to(device, memory_format=torch.channels_last_3d).eval()


def _settings(model: Model) -> NetworkSettings:
    """The settings of the model's network; InputError unless all of the card agrees with them."""
    card = model.card
    try:
        settings = NetworkSettings(**card.network)
        Normalization(**card.normalization)
    except (TypeError, ValueError) as error:
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
            wrong = f"its patch {card.patch} is no multiple of the network's strides {multiple}"
    if wrong:
        raise InputError(f"{model.folder}: the model's card is wrong ({wrong}); get it again")
    return settings


def check_model(model: Model) -> None:
    """Raise InputError unless the model's card and weights make a network: before a training
    starts from them."""
    build_network(model, torch.device("cpu"))
