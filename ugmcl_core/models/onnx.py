"""A model's network as an ONNX file, for programs that have no PyTorch.

The file holds the network alone: one prepared patch in, class probabilities and level sets out.
What is done before and after (resampling to `spacing`, normalization, windows, the way back) is
described by the card, which is stored in the file's metadata.
"""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files import whole_file
from .model import Model

if TYPE_CHECKING:
    from torch import nn

OPSET = 17
OUTPUTS = ("probabilities", "level_set")


def export(model: Model, target: str | Path) -> Path:
    """Write the file; returns it.

    Input `image` (B, channels, I, J, K) float32, prepared as in the card, its sizes multiples
    of the network's. Outputs `probabilities` (B, C, I, J, K) and, with a distance head,
    `level_set` (B, C-1, I, J, K) from -1 to 1, negative inside. Raises InputError if `onnx` is
    not installed, the target exists or the model is unusable.
    """
    target = Path(target).expanduser().absolute()
    if importlib.util.find_spec("onnx") is None:
        raise InputError("the export to ONNX needs the package onnx: install it with pip")
    if target.exists():
        raise InputError(f"{target} exists: choose another name")
    import torch

    network = pure_network(model)
    names = [*OUTPUTS][: 2 if network.settings.distance_head else 1]
    axes = {0: "batch", 2: "i", 3: "j", 4: "k"}
    patch = torch.zeros(1, len(model.card.channels), *model.card.patch)
    with whole_file(target, make_parents=True) as path:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # this exporter is deprecated, its successor
            torch.onnx.export(  # needs a further package
                network, (patch,), str(path), opset_version=OPSET,
                input_names=["image"], output_names=names,
                dynamic_axes={name: axes for name in ("image", *names)},
                **_exporter(torch.onnx.export),
            )  # fmt: skip
        _describe(path, model)
    return target


def _exporter(export: Callable[..., Any]) -> dict[str, bool]:
    """The option for the exporter by tracing; before torch 2.5 there was no other."""
    return {"dynamo": False} if "dynamo" in inspect.signature(export).parameters else {}


def _describe(path: Path, model: Model) -> None:
    import onnx

    content = onnx.load(str(path))
    content.doc_string = model.card.description
    for key, value in (("model.json", model.card.to_json()), ("license", model.card.license)):
        entry = content.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(content)
    onnx.save(content, str(path))


def pure_network(model: Model) -> nn.Module:
    """The network in evaluation mode, its outputs a plain tuple: (probabilities, level_set), or
    (probabilities,) without a distance head. It has the `settings` of its network."""
    import torch
    from torch import nn

    from .foreign.settings import refuse
    from .network import build_network

    refuse(model.card.network, model.name, "be exported")
    class Plain(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network
            self.settings = network.settings

        def forward(self, image: torch.Tensor):
            output = self.network(image)
            found = (output.probabilities, output.distance)
            return found if output.distance is not None else found[:1]

    network = Plain(build_network(model, torch.device("cpu"))).eval()
    return network.to(memory_format=torch.contiguous_format)
