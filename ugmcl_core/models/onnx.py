"""A model's network as an ONNX file, for programs that have no PyTorch.

The file holds the network alone: one prepared patch in, class probabilities and level sets out.
Its metadata describes what to do before and after: the card as `model.json`, and the steps in
order, with all numbers, as `transforms.json`.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files import plain, whole_file
from .card import ModelCard
from .model import Model

if TYPE_CHECKING:
    from torch import nn

OPSET = 17
OVERLAP = 0.5
"""Of the windows of a large image, as in `inference.sliding_window`."""
OUTPUTS = ("probabilities", "level_set")
_NORMALIZED = {
    "robust-z": "clip to the percentiles low and high, subtract the mean and divide by the "
    "deviation; where the lowest value fills over 5 % of the image, without its voxels",
    "z-score": "subtract the mean of all voxels and divide by their deviation",
    "z-score-nonzero": "the same of the voxels that are not 0, which stay 0",
    "window": "clip to low and high, and map them to -1 and 1",
    "global": "clip to low and high, subtract mean and divide by deviation",
    "unit": "map the lowest voxel to 0 and the highest to 1",
    "none": "leave as it is",
}


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
        _describe(path, model, network.settings.multiple)
    return target


def transforms(card: ModelCard, multiple: tuple[int, int, int]) -> dict[str, Any]:
    """The steps before and after the network, in order, as JSON. They are this program's, except
    that it may first look for the structure in a large image. ``multiple`` is the network's."""
    alike = isinstance(card.normalization, Mapping)
    each = [card.normalization] * len(card.channels) if alike else card.normalization
    steps: list[dict[str, Any]] = [
        {"step": "orient", "axes": "RAS",
         "about": "permute and flip the index axes to run closest to right, anterior, superior"},
        {"step": "resample", "spacing_mm": card.spacing, "interpolation": "linear",
         "about": "to round(extent / spacing) voxels with equal outer faces; where an axis "
                  "shrinks, with a triangle of the new voxels' width to either side"},
        {"step": "normalize", "channels": [
            {"name": name, **own, "about": _NORMALIZED[own["kind"]]}
            for name, own in zip(card.channels, each, strict=True)
        ]},
        {"step": "windows", "patch": card.patch, "multiple": multiple, "overlap": OVERLAP,
         "about": "an image not much larger than the patch in one window, its end repeated up to "
                  "the multiple; others in patches that overlap at least by this share, "
                  "averaged with a Gaussian of a quarter of the patch, at least 0.01"},
        {"step": "network", "input": "image", "outputs": OUTPUTS},
        {"step": "views", "mirror_axes": card.mirror_axes, "combine": "mean",
         "about": "the steps windows and network for each set of these axes of the image "
                  "flipped, the outputs flipped back"},
        {"step": "resample back", "interpolation": "linear",
         "about": "the outputs, as before, to the voxels of the oriented image, then to its own "
                  "axes"},
        {"step": "labels", "values": [0, *(c.in_files for c in card.classes)],
         "about": "the class of the highest probability"},
        {"step": "largest component",
         "values": [c.in_files for c in card.classes if c.largest_component],
         "about": "of the 6-connected components in which the highest probability less that of "
                  "the background sums to at least half of the greatest such sum, the one with "
                  "the greatest mean (ugmcl chooses it before it resamples back)"},
    ]  # fmt: skip
    if card.network.get("distance_head"):
        steps.append({
            "step": "distance", "convention": card.sdf, "scale_mm": card.scale_mm,
            "about": "level_set times scale_mm, negative inside" if card.sdf == "truncated" else
                     "the distance to the zero level of level_set, up to scale_mm"})  # fmt: skip
    return plain({"format": 1, "steps": steps})


def _exporter(export: Callable[..., Any]) -> dict[str, bool]:
    """The option for the exporter by tracing; before torch 2.5 there was no other."""
    return {"dynamo": False} if "dynamo" in inspect.signature(export).parameters else {}


def _describe(path: Path, model: Model, multiple: tuple[int, int, int]) -> None:
    import onnx

    content = onnx.load(str(path))
    content.doc_string = model.card.description
    steps = json.dumps(transforms(model.card, multiple), ensure_ascii=False)
    for key, value in (
        ("model.json", model.card.to_json()),
        ("transforms.json", steps),
        ("license", model.card.license),
    ):
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
