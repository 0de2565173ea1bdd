"""Export as a MONAI bundle: a folder that MONAI's own tools and servers run without this program.

The network is stored as TorchScript. Its output has the class probabilities as its first channels
and the level sets after them. MONAI's pre- and postprocessing is close to this program's, but not
the same: percentiles include empty surroundings, windows are resampled differently, and nothing is
averaged over mirrored views.
"""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import whole_folder
from . import store
from .card import ModelCard
from .model import Model
from .onnx import OVERLAP, pure_network

OLDEST_MONAI = "1.3.0"


def export(model: Model, target: str | Path) -> Path:
    """Write the bundle to the new folder `target`; returns it. MONAI itself is not needed.

    Raises InputError if the target exists or cannot be written, or the model is unusable.
    """
    target = Path(target).expanduser().absolute()
    if target.exists():
        raise InputError(f"{target} exists: choose another name")
    with whole_folder(target) as folder:
        _write(model, folder)
    return target


def _write(model: Model, folder: Path) -> None:
    import torch
    from torch import nn

    class Joined(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.cat(self.network(image), dim=1)

    for name in ("configs", "models", "docs"):
        (folder / name).mkdir()
    plain = pure_network(model)
    network = Joined(plain).eval()
    patch = torch.zeros(1, len(model.card.channels), *model.card.patch)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing is deprecated, but it is what MONAI reads
        torch.jit.trace(network, patch, check_trace=False).save(str(folder / "models/model.ts"))
    torch.save(network.state_dict(), folder / "models" / "model.pt")  # required by the format
    has_distance = plain.settings.distance_head
    for name, content in (
        ("metadata", _metadata(model.card, has_distance)),
        ("inference", _inference(model.card)),
    ):
        text = json.dumps(content, indent=2) + "\n"
        (folder / "configs" / f"{name}.json").write_text(text, encoding="utf-8")
    (folder / "docs" / "README.md").write_text(_readme(model.card), encoding="utf-8")
    notes = store.notes(model.folder)
    texts = [model.card.license, *(p.read_text("utf-8", errors="replace") for p in notes)]
    (folder / "docs" / "license.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")


def _metadata(card: ModelCard, has_distance: bool) -> dict[str, Any]:
    names = ["background", *(info.name for info in card.classes)]
    if has_distance:
        unit = f"signed distance / {card.scale_mm:g} mm, negative inside"
        names += [f"{info.name}: {unit}" for info in card.classes]
    shared = {"type": "image", "modality": card.modality, "spatial_shape": list(card.patch),
              "dtype": "float32", "is_patch_data": True}  # fmt: skip
    return {
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported from {card.name} ({card.sha256})"},
        "monai_version": _version("monai") or OLDEST_MONAI,
        "pytorch_version": (_version("torch") or "2.3.0").split("+")[0],
        "numpy_version": _version("numpy") or "1.26.0",
        "optional_packages_version": {"nibabel": "5.0.0"},
        "task": f"Segmentation of {', '.join(names[1 : 1 + len(card.classes)])}",
        "description": card.description or card.name,
        "authors": "see docs/license.txt",
        "copyright": card.license or "see docs/license.txt",
        "intended_use": card.intended_use,
        "network_data_format": {
            "inputs": {"image": {
                **shared, "format": "magnitude", "num_channels": len(card.channels),
                "value_range": [], "channel_def": dict(enumerate(card.channels))}},
            "outputs": {"pred": {
                **shared, "format": "classes", "num_channels": len(names),
                "value_range": [-1, 1] if has_distance else [0, 1],
                "channel_def": dict(enumerate(names))}},
        },
    }  # fmt: skip


def _inference(card: ModelCard) -> dict[str, Any]:
    """The configuration for `python -m monai.bundle run`, see the bundle's README."""
    loaded = [
        {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": list(card.spacing),
         "mode": "bilinear"},
    ]  # fmt: skip
    classes = 1 + len(card.classes)
    return {
        "imports": ["$import torch", *(["$import monai"] if card.channels[1:] else [])],
        "bundle_root": ".",
        "inputs": [_files(card)],
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": "$torch.jit.load(@bundle_root + '/models/model.ts', map_location=@device)",
        "network": "$@network_def.eval()",
        "preprocessing": {"_target_": "Compose", "transforms": loaded + _normalization(card)},
        "inferer": {
            "_target_": "SlidingWindowInferer", "roi_size": list(card.patch), "sw_batch_size": 1,
            "overlap": OVERLAP, "mode": "gaussian",
        },
        "postprocessing": {"_target_": "Compose", "transforms": [
            {"_target_": "Lambdad", "keys": "pred", "func": f"$lambda x: x[:{classes}]"},
            {"_target_": "Invertd", "keys": "pred", "orig_keys": "image",
             "transform": "@preprocessing", "nearest_interp": False},
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        ]},
        "saver": {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir",
                  "output_postfix": "labels"},
        "predict": "$lambda item: @postprocessing({**item, 'pred': @inferer("
                   "item['image'][None].to(@device), @network)[0]})",
        "run": ["$[@saver(@predict(@preprocessing({'image': path}))) for path in @inputs]"],
    }  # fmt: skip


def _files(card: ModelCard) -> str | list[str]:
    """An example of the images of a case."""
    if len(card.channels) == 1:
        return "image.nii.gz"
    return [f"{name}.nii.gz" for name in card.channels]


def _normalization(card: ModelCard) -> list[dict[str, Any]]:
    """The transforms; several channels have each its own statistics, and own settings where the
    card has them."""
    several = len(card.channels) > 1
    if isinstance(card.normalization, Mapping):
        made = _transforms(dict(card.normalization))
        by_percentiles = ("NormalizeIntensityd", "ScaleIntensityRangePercentilesd")
        return [{**t, "channel_wise": True} if several and t["_target_"] in by_percentiles else t
                for t in made]  # fmt: skip
    channels = [_expression(n, dict(own)) for n, own in enumerate(card.normalization)]
    joined = f"$lambda x: torch.cat([{', '.join(channels)}])"
    return [{"_target_": "Lambdad", "keys": "image", "func": joined}]


def _expression(channel: int, settings: dict[str, Any]) -> str:
    """Python of the normalization of channel ``channel`` of ``x``, by MONAI's transforms of
    arrays."""
    text = f"x[{channel}:{channel + 1}]"
    for transform in _transforms(settings):
        values = {k: v for k, v in transform.items() if k not in ("_target_", "keys")}
        words = ", ".join(f"{key}={value!r}" for key, value in values.items())
        text = f"monai.transforms.{transform['_target_'].removesuffix('d')}({words})({text})"
    return text


def _transforms(settings: dict[str, Any]) -> list[dict[str, Any]]:
    kind, low, high = settings["kind"], settings.get("low", 1.0), settings.get("high", 99.0)
    normalize = {"_target_": "NormalizeIntensityd", "keys": "image"}
    if kind == "robust-z":
        clip = {"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": low,
                "upper": high, "b_min": 0.0, "b_max": 1.0, "clip": True}  # fmt: skip
        return [clip, normalize]
    if kind in ("window", "global"):
        bottom, top = -1.0, 1.0
        if kind == "global":
            bottom, top = ((v - settings["mean"]) / settings["deviation"] for v in (low, high))
        return [{"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": low, "a_max": high,
                 "b_min": bottom, "b_max": top, "clip": True}]  # fmt: skip
    if kind == "unit":
        return [{"_target_": "ScaleIntensityd", "keys": "image", "minv": 0.0, "maxv": 1.0}]
    if kind == "z-score-nonzero":
        return [{**normalize, "nonzero": True}]
    return [] if kind == "none" else [normalize]


def _readme(card: ModelCard) -> str:
    example = repr(_files(card)).replace("image", "scan")
    several = ""
    if len(card.channels) > 1:
        several = f"\nA case is a list of files on one grid: {', '.join(card.channels)}.\n"
    return f"""# {card.name}

{card.description}

{card.intended_use}

    python -m monai.bundle run --config_file configs/inference.json \\
        --meta_file configs/metadata.json --bundle_root . --inputs "[{example}]"
{several}
The first channels of the network's output are the probabilities of the classes, those after them
the signed distance to each structure divided by {card.scale_mm:g} mm, negative inside. Results
differ a little from those of the program that exported this bundle, whose preprocessing is not
quite that of MONAI and which averages over mirrored views.
"""


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
