"""The results folder of an nnU-Net v2 training as a model of this program.

No code of the folder is run: nnU-Net's own package of networks builds the network from the plan's
plain arguments, and `data.nnunet` does the plan's preprocessing. What cannot be carried over is
refused with the reason. Layout: nnU-Net's documentation, "Inference format" and
"explanation_plans_files" (dataset.json, plans.json, fold_K/checkpoint_final.pth).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ...errors import InputError
from ..card import CLASS_COLORS, ClassInfo, ModelCard, as_name
from ..model import save_model
from . import pickles
from .settings import NETWORKS, NNUNET, NO_DISTANCE, OPERATIONS, ForeignSettings

PLANS, DATASET, CHECKPOINT = "plans.json", "dataset.json", "checkpoint_final.pth"
_READERS = ("SimpleITKIO", "NibabelIO")  # others reorient images, or read pictures
_RESAMPLING = {"order": 3, "order_z": 0, "force_separate_z": None}
_SCHEMES = {
    "ZScoreNormalization": "z-score", "NoNormalization": "none", "RescaleTo01Normalization": "unit"
}  # fmt: skip


def is_results(path: Path) -> bool:
    """Whether a folder holds the results of a training, or is one of its folds."""
    return _results(path) is not None


def _results(path: Path) -> Path | None:
    folders = (path, path.parent) if path.name.startswith("fold_") else (path,)
    return next((f for f in folders if all((f / n).is_file() for n in (PLANS, DATASET))), None)


def convert(source: Path, folder: Path) -> Path:
    """Write the model of a results folder, all its folds (or of a fold alone), into the new
    ``folder``; returns it. InputError with the reason for what cannot be carried over."""
    source = source.resolve()
    results = _results(source)
    assert results is not None
    plans, dataset = _read(results / PLANS), _read(results / DATASET)
    folds = [source] if source != results else _folds(results)
    checkpoints = [_checkpoint(fold / CHECKPOINT) for fold in folds]
    try:
        card = _card(results, plans, dataset, checkpoints[0])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        _refuse(results, f"{PLANS} or {DATASET} is incomplete: {type(error).__name__} {error}")
    network = {**card.network, "members": len(folds)}
    training = {**card.training, "folds": ", ".join(f.name.removeprefix("fold_") for f in folds)}
    card = ModelCard(**{**vars(card), "network": network, "training": training})
    save_model(folder, card, _weights(results, network, checkpoints), half=False)
    return folder


def _refuse(results: Path, why: str) -> NoReturn:
    raise InputError(f"{results}: the results of nnU-Net cannot be imported ({why}): choose "
                     "others")  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check it") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON ({error}); get it again") from None
    if not isinstance(content, dict):
        _refuse(path.parent, f"{path.name} holds no JSON object")
    return content


def _folds(results: Path) -> list[Path]:
    """The folds whose training finished; fold_all only if there is no other."""
    done = [p.parent for p in sorted(results.glob(f"fold_*/{CHECKPOINT}"))]
    folds = [f for f in done if f.name != "fold_all"] or done
    if not folds:
        _refuse(results, f"no fold_K holds a {CHECKPOINT}, which a finished training writes")
    return folds


def _checkpoint(path: Path) -> Mapping[str, Any]:
    """A checkpoint with its weights."""
    content = pickles.read(path, _numbers())
    pickles.tensors_of(path, content.get("network_weights") if isinstance(content, Mapping) else 0)
    return content


def _numbers() -> list[Any]:
    """The NumPy scalars in a training's log, under the names of NumPy 1 and 2."""
    import _codecs

    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    kinds = (np.float64, np.float32, np.float16, np.int64, np.int32, np.bool_)
    return [
        (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"),
        np.dtype, *(type(np.dtype(kind)) for kind in kinds), _codecs.encode,
    ]  # fmt: skip


def _card(
    results: Path, plans: dict[str, Any], dataset: dict[str, Any], checkpoint: Mapping[str, Any]
) -> ModelCard:
    name = str(checkpoint["init_args"]["configuration"])
    configuration = _configuration(results, plans, name)
    if len(configuration["patch_size"]) != 3:
        _refuse(results, f"its configuration {name} is not of volumes")
    if configuration.get("previous_stage"):
        _refuse(results, f"its configuration {name} is the second stage of a cascade")
    if plans.get("image_reader_writer") not in _READERS:
        _refuse(results, f"its images are read by {plans.get('image_reader_writer')}")
    if configuration.get("preprocessor_name", "DefaultPreprocessor") != "DefaultPreprocessor":
        _refuse(results, f"its preparation is that of {configuration['preprocessor_name']}")
    _check_resampling(results, configuration)
    # nnU-Net's arrays have the axes of a file in reverse order, and then transposed
    axes = tuple(2 - int(a) for a in plans["transpose_forward"])
    spacing = _by_file_axes(configuration["spacing"], axes)
    patch = _by_file_axes(configuration["patch_size"], axes)
    names = _classes(results, dataset)
    given = dataset.get("channel_names") or dataset["modality"]
    shown = [str(given[key]) for key in sorted(given, key=int)]
    channels = tuple(n if shown.count(n) == 1 else f"{n} {k}" for k, n in enumerate(shown))
    network, arguments = _network(results, configuration)
    strides = [_by_file_axes(s, axes) for s in arguments["strides"]]
    mirrored = checkpoint.get("inference_allowed_mirroring_axes") or ()
    return ModelCard(
        name=as_name(f"{plans['dataset_name']}-{name}"),
        description=" ".join(
            (str(dataset.get("description") or f"A network of nnU-Net ({name})."), NO_DISTANCE)
        ),
        modality=shown[0],
        classes=tuple(
            ClassInfo(n, name, CLASS_COLORS[(n - 1) % len(CLASS_COLORS)], largest_component=False)
            for n, name in enumerate(names, 1)
        ),
        channels=channels if len(channels) > 1 else ("image",),
        spacing=tuple(map(float, spacing)),
        patch=tuple(map(int, patch)),
        normalization=_normalization(results, plans, configuration, len(channels)),
        network={
            "package": NNUNET, "network": network, "arguments": arguments,
            "classes": len(names) + 1, "channels": len(channels),
            "multiple": [math.prod(s[a] for s in strides) for a in range(3)],
            "axes": list(axes), "distance_head": False,
        },
        mirror_axes=tuple(sorted(axes[int(a)] for a in mirrored)),
        preparation="nnunet",
        training={
            "method": "nnU-Net", "trainer": str(checkpoint.get("trainer_name", "")),
            "plans": str(plans.get("plans_name", "")), "configuration": name,
        },
        license=next((str(v) for k, v in dataset.items() if k.startswith("licen")), ""),
        intended_use="Research only; not for clinical use.",
    )  # fmt: skip


def _configuration(results: Path, plans: dict[str, Any], name: str) -> dict[str, Any]:
    """The configuration with what it inherits."""
    found: dict[str, Any] = {}
    seen: set[str] = set()
    while name:
        if name in seen or name not in plans["configurations"]:
            _refuse(results, f"{PLANS} has no configuration {name}, or it inherits from itself")
        seen.add(name)
        found = {**plans["configurations"][name], **found}
        name = plans["configurations"][name].get("inherits_from", "")
    return found


def _by_file_axes(values: Any, axes: tuple[int, ...]) -> list[Any]:
    """``values`` by the network's axes, in the order of the file's."""
    values = [values] * 3 if isinstance(values, int) else values
    return [values[axes.index(a)] for a in range(3)]


def _check_resampling(results: Path, configuration: dict[str, Any]) -> None:
    default = "resample_data_or_seg_to_shape"
    function = configuration.get("resampling_fn_data", default)
    given = {**_RESAMPLING, **configuration.get("resampling_fn_data_kwargs", {})}
    if function != default or any(given[key] != value for key, value in _RESAMPLING.items()):
        _refuse(results, f"its images are resampled by {function} with settings of its own")


def _classes(results: Path, dataset: dict[str, Any]) -> list[str]:
    labels = {k: v for k, v in dataset["labels"].items() if k != "ignore"}
    if any(isinstance(v, list | tuple) for v in labels.values()):
        _refuse(results, "its classes are regions that overlap, and one label is given to a voxel")
    names = {int(value): str(name) for name, value in labels.items()}
    if sorted(names) != list(range(len(labels))) or len(names) < 2:
        _refuse(results, "its labels are not 0, 1, 2, ...")
    return [names[n] for n in range(1, len(names))]


def _normalization(
    results: Path, plans: dict[str, Any], configuration: dict[str, Any], channels: int
) -> dict[str, Any] | tuple[dict[str, Any], ...]:
    each = []
    for n in range(channels):
        scheme = configuration["normalization_schemes"][n]
        if scheme == "CTNormalization":
            seen = plans["foreground_intensity_properties_per_channel"][str(n)]
            each.append({
                "kind": "global", "low": float(seen["percentile_00_5"]),
                "high": float(seen["percentile_99_5"]), "mean": float(seen["mean"]),
                "deviation": max(float(seen["std"]), 1e-8),
            })  # fmt: skip
        elif scheme in _SCHEMES:
            masked = scheme == "ZScoreNormalization" and configuration["use_mask_for_norm"][n]
            each.append({"kind": "z-score-nonzero" if masked else _SCHEMES[scheme]})
        else:
            _refuse(results, f"its normalization {scheme} is not known here")
    return tuple(each) if channels > 1 else each[0]


def _network(results: Path, configuration: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Class and plain arguments of the network."""
    if "architecture" in configuration:
        name = str(configuration["architecture"]["network_class_name"]).rsplit(".", 1)[-1]
        arguments = dict(configuration["architecture"]["arch_kwargs"])
    else:
        name, arguments = str(configuration["UNet_class_name"]), _former(configuration)
    if name not in NETWORKS[NNUNET]:
        _refuse(results, f"its network {name} is none of {', '.join(NETWORKS[NNUNET])}")
    for key in OPERATIONS:
        if arguments.get(key) is not None:
            package, _, kind = str(arguments[key]).rpartition(".")
            if package.split(".")[:2] != ["torch", "nn"] or kind not in OPERATIONS[key]:
                _refuse(results, f"its network uses {arguments[key]}")
            arguments[key] = kind
    arguments.pop("deep_supervision", None)
    return name, arguments


def _former(configuration: dict[str, Any]) -> dict[str, Any]:
    """The arguments from plans of nnU-Net before 2.3, which used other names."""
    blocks = "n_conv" if configuration["UNet_class_name"] == "PlainConvUNet" else "n_blocks"
    stages = configuration["n_conv_per_stage_encoder"]
    least, most = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
    return {
        "n_stages": len(stages),
        "features_per_stage": [min(least * 2**n, most) for n in range(len(stages))],
        "conv_op": "torch.nn.Conv3d",
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        f"{blocks}_per_stage": stages,
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": "torch.nn.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _weights(
    results: Path, network: dict[str, Any], checkpoints: list[Mapping[str, Any]]
) -> dict[str, Any]:
    """The weights of all folds, after loading them into the plan's network as a check."""
    from .network import ForeignNetwork, fill, stored

    settings = {**network, "multiple": tuple(network["multiple"]), "axes": tuple(network["axes"])}
    try:
        members = [*ForeignNetwork(ForeignSettings(**settings)).members]
        for member, checkpoint in zip(members, checkpoints, strict=True):
            # of a network that torch compiled, or of several GPUs
            fill(member, {
                k.removeprefix("module.").removeprefix("_orig_mod."): v
                for k, v in checkpoint["network_weights"].items()
            })  # fmt: skip
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        if isinstance(error, InputError):
            raise
        trainer = checkpoints[0].get("trainer_name")
        _refuse(results, f"the weights of {trainer} are not those of the network in {PLANS}: "
                f"{str(error).splitlines()[0]}")  # fmt: skip
    return {k: v.contiguous().clone() for k, v in stored(members).items()}
