"""Bundles in the style of MONAI's model zoo."""

from __future__ import annotations

import json
from pathlib import Path

import torch

SPACING, ROI = [3.0, 3.0, 2.5], [32, 32, 16]
CT = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -57.0, "a_max": 164.0,
      "b_min": 0.0, "b_max": 1.0, "clip": True}  # fmt: skip
Z = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True}


def preprocessing(normalize) -> list[dict]:
    """The transforms of the images."""
    return [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": "@spacing", "mode": "bilinear"},
        normalize,
        {"_target_": "EnsureTyped", "keys": "image"},
    ]


def bundle(folder: Path, normalize=CT, outputs=2, softmax=True, **changes) -> Path:
    """As the zoo writes them: expressions for data and devices, references for numbers."""
    arguments = {"_target_": "SegResNet", "spatial_dims": 3, "in_channels": 1,
                 "out_channels": outputs, "init_filters": 8, "blocks_down": [1, 1, 1],
                 "blocks_up": [1, 1]}  # fmt: skip
    kind = "softmax" if softmax else "sigmoid"
    config = {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "dataset_dir": "/workspace/data",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "spacing": SPACING,
        "network_def": arguments,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing(normalize)},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": ROI, "sw_batch_size": 4,
                    "overlap": 0.5},
        "postprocessing": {"_target_": "Compose", "transforms": [
            {"_target_": "Activationsd", "keys": "pred", kind: True},
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        ]},
    }  # fmt: skip
    config.update(changes)
    names = {str(n): name for n, name in enumerate(["background", "spleen", "tumor"][:outputs])}
    metadata = {
        "version": "0.5.3", "name": "Spleen CT segmentation", "copyright": "MONAI Consortium",
        "description": "A pre-trained model.", "authors": "MONAI team", "intended_use": "Example",
        "network_data_format": {
            "inputs": {"image": {"modality": "CT", "num_channels": 1}},
            "outputs": {"pred": {"channel_def": names}},
        },
    }  # fmt: skip
    train = {"train": {"preprocessing": {"transforms": [
        {"_target_": "RandFlipd", "keys": ["image", "label"], "spatial_axis": 0, "prob": 0.1},
        {"_target_": "RandFlipd", "keys": ["image", "label"], "spatial_axis": [1], "prob": 0.1},
    ]}}}  # fmt: skip
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    for name, content in (("inference", config), ("metadata", metadata), ("train", train)):
        (folder / "configs" / f"{name}.json").write_text(json.dumps(content))
    (folder / "LICENSE").write_text("Apache License 2.0")
    torch.manual_seed(4)
    torch.save(network_of(arguments).state_dict(), folder / "models" / "model.pt")
    return folder


def network_of(arguments):
    """The network of a bundle, by MONAI."""
    from monai.networks import nets

    values = {k: v for k, v in arguments.items() if not k.startswith("_")}
    return getattr(nets, arguments["_target_"])(**values)
