"""A MONAI bundle, such as those of MONAI's model zoo, as a model of this program.

No code of the bundle is run: MONAI builds its network from a class name and plain arguments,
and its preprocessing is carried over into the card where this program knows the same (spacing,
RAS, intensity ranges, z-scores). What cannot be carried over is refused with the reason. Format:
MONAI's "MONAI Bundle specification" (configs/metadata.json, configs/inference.json,
models/model.pt).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..card import CLASS_COLORS, ClassInfo, ModelCard, as_name
from ..model import save_model
from . import pickles
from .settings import MONAI, NETWORKS, NO_DISTANCE

METADATA, INFERENCE = Path("configs", "metadata.json"), Path("configs", "inference.json")
TRAINING, WEIGHTS = Path("configs", "train.json"), Path("models", "model.pt")
TEXTS = (METADATA, INFERENCE, TRAINING)
LICENSES = (Path("LICENSE"), Path("docs", "license.txt"), Path("docs", "data_license.txt"))
_NETS = "monai.networks.nets."
_NEUTRAL = {  # these concern the file, the type or the device, not the voxels
    "LoadImage", "EnsureChannelFirst", "AddChannel", "EnsureType", "CastToType", "ToTensor",
    "ToDevice", "CropForeground", "SelectItems",
}  # fmt: skip


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a bundle."""
    return (folder / METADATA).is_file()


def convert(bundle: Path, folder: Path) -> Path:
    """Write the model of ``bundle`` into the new ``folder``; returns it. InputError with the
    reason for what cannot be carried over."""
    metadata, config = _Config(bundle / METADATA), _Config(bundle / INFERENCE)
    definition = config.find("network_def", "net", "network")
    network = str(definition.get("_target_", "")).removeprefix(_NETS)
    if network not in NETWORKS[MONAI]:
        config.refuse(f"its network {network or '?'} is none of {', '.join(NETWORKS[MONAI])}")
    arguments = {k: v for k, v in definition.items() if not k.startswith("_")}
    spacing, normalization = _preprocessing(config)
    patch = _patch(config)
    data = metadata.at("network_data_format")
    shown = config.plain(data.get("outputs", {}).get("pred", {}), "the outputs")
    outputs = int(arguments.get("out_channels", 0))
    output, names = _classes(config, shown, outputs)
    image = config.plain(data.get("inputs", {}).get("image", {}), "the inputs")
    channels = _channels(image, int(arguments.get("in_channels", 0)))
    card = ModelCard(
        name=as_name(str(metadata.content.get("name") or bundle.resolve().name)),
        description=f"{metadata.content.get('description', '')} {NO_DISTANCE}".strip(),
        modality=str(image.get("modality", "")),
        classes=tuple(
            ClassInfo(n, name, CLASS_COLORS[(n - 1) % len(CLASS_COLORS)], largest_component=False)
            for n, name in enumerate(names, 1)
        ),
        channels=channels,
        spacing=spacing,
        patch=patch,
        normalization=normalization,
        network={
            "package": MONAI, "network": network, "arguments": arguments,
            "classes": len(names) + 1, "channels": len(channels), "multiple": list(patch),
            "output": output, "distance_head": False,
        },
        mirror_axes=_mirror_axes(bundle),
        training={
            "method": "a bundle of MONAI", "version": str(metadata.content.get("version", "")),
            "authors": str(metadata.content.get("authors", "")),
        },
        license=str(metadata.content.get("copyright", "")),
        intended_use=str(metadata.content.get("intended_use", "")),
    )  # fmt: skip
    save_model(folder, card, _weights(bundle), half=False)
    for number, note in enumerate(_licenses(bundle)):
        shutil.copyfile(note, folder / ("LICENSE.txt" if not number else f"LICENSE-{number}.txt"))
    return folder


class _Config:
    """A configuration: JSON with references such as ``@spacing`` and ``@network_def::strides``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.content = json.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); a bundle with it is needed"
            ) from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: is not valid JSON ({error}); get it again") from None
        if not isinstance(self.content, dict):
            self.refuse("it holds no JSON object")

    def refuse(self, why: str) -> None:
        """Raise InputError."""
        raise InputError(f"{self.path}: the bundle cannot be imported ({why}): choose another")

    def at(self, key: str) -> dict[str, Any]:
        """An object of the file; an empty one if it is missing."""
        value = self.content.get(key, {})
        return value if isinstance(value, dict) else {}

    def find(self, *keys: str) -> dict[str, Any]:
        """The first of the objects that is there, without references."""
        for key in keys:
            if isinstance(self.content.get(key), dict):
                return self.plain(self.content[key], key)
        self.refuse(f"it defines no {keys[0]} by a class and its arguments")
        raise AssertionError

    def plain(self, value: Any, where: str, depth: int = 0) -> Any:
        """``value`` with its references replaced; InputError for an expression, which would have
        to be run."""
        if depth > 50:
            self.refuse(f"{where} refers to itself")
        if isinstance(value, dict):
            return {k: self.plain(v, where, depth + 1) for k, v in value.items()}
        if isinstance(value, list):
            return [self.plain(v, where, depth + 1) for v in value]
        if not isinstance(value, str) or value[:1] not in "$@" or not value:
            return value
        name = value.lstrip("$")
        if not name.startswith("@") or not all(c.isalnum() or c in "_:#" for c in name[1:]):
            self.refuse(f"{where} holds the expression {value}")
        found: Any = self.content
        for part in name[1:].replace("#", "::").split("::"):
            if isinstance(found, list) and part.isdigit() and int(part) < len(found):
                found = found[int(part)]
            elif isinstance(found, dict) and part in found:
                found = found[part]
            else:
                self.refuse(f"{where} refers to {value}, which is not there")
        return self.plain(found, where, depth + 1)


def _transforms(config: _Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name, without the d of dictionaries, and raw arguments of each transform of the images."""
    value = config.content.get("preprocessing", {})
    found = value.get("transforms") if isinstance(value, dict) else value
    if isinstance(found, str):
        found = config.plain(found, "preprocessing")
    if not isinstance(found, list) or not found:
        config.refuse("it has no list of preprocessing transforms")
    for transform in found:
        if not isinstance(transform, dict) or transform.get("_disabled_") in (True, "true"):
            continue
        name = str(transform.get("_target_", "")).rsplit(".", 1)[-1]
        if not name:
            config.refuse("a preprocessing transform has no name")
        yield name.removesuffix("d") if name.endswith(("d", "D")) else name, transform


def _preprocessing(config: _Config) -> tuple[tuple[float, float, float], dict[str, Any]]:
    """Spacing (mm) and normalization of the model's grid."""
    spacing, normalization, is_ras = None, None, False
    for name, raw in _transforms(config):
        if name in _NEUTRAL:
            continue
        given = config.plain({k: v for k, v in raw.items() if k != "keys"}, name)
        if name == "Orientation":
            if given.get("axcodes") != "RAS":
                config.refuse(f"its orientation is {given.get('axcodes')}, not RAS")
            is_ras = True
        elif name == "Spacing":
            pixdim = given.get("pixdim")
            if not isinstance(pixdim, list) or len(pixdim) != 3 or not all(n > 0 for n in pixdim):
                config.refuse(f"its spacing is {pixdim}, not three lengths")
            spacing = tuple(float(n) for n in pixdim)
        elif name in ("ScaleIntensityRange", "NormalizeIntensity") and normalization is None:
            normalization = _normalization(config, name, given)
        else:
            config.refuse(f"its transform {name} is not known here, or follows another one")
    if spacing is None:
        config.refuse("it resamples to no spacing (Spacingd)")
    if not is_ras:
        config.refuse("it does not turn images to RAS (Orientationd)")
    return spacing, normalization or {"kind": "none"}


def _normalization(config: _Config, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if name == "NormalizeIntensity":
        if "subtrahend" in given or "divisor" in given:
            config.refuse("NormalizeIntensity has numbers of its own")
        return {"kind": "z-score-nonzero" if given.get("nonzero") else "z-score"}
    low, high = float(given["a_min"]), float(given["a_max"])
    bottom, top = given.get("b_min"), given.get("b_max")
    if not given.get("clip") or bottom is None or top is None or not top > bottom:
        config.refuse("ScaleIntensityRange does not clip to a range")
    # b_min + (x - a_min) (b_max - b_min) / (a_max - a_min) = (x - mean) / deviation
    deviation = (high - low) / (float(top) - float(bottom))
    return {
        "kind": "global", "low": low, "high": high,
        "mean": low - float(bottom) * deviation, "deviation": deviation,
    }  # fmt: skip


def _patch(config: _Config) -> tuple[int, int, int]:
    inferer = config.content.get("inferer")
    size = inferer.get("roi_size") if isinstance(inferer, dict) else None
    size = config.plain(size, "inferer") if size is not None else None
    if not isinstance(size, list) or len(size) != 3 or not all(
        isinstance(n, int) and n > 0 for n in size
    ):
        config.refuse("its inferer has no roi_size of three numbers of voxels")
    return tuple(size)


def _classes(
    config: _Config, shown: Mapping[str, Any], outputs: int
) -> tuple[str, tuple[str, ...]]:
    """How probabilities come from the network's outputs, and the names of the classes."""
    text = json.dumps(config.content.get("postprocessing", {}))
    sigmoid = '"sigmoid": true' in text
    names = shown.get("channel_def", {})
    names = [str(names.get(str(n), names.get(n, f"class {n}"))) for n in range(outputs)]
    if sigmoid and outputs > 1:
        config.refuse("its classes overlap (a sigmoid of each), and one label is given to a voxel")
    if outputs == 1:
        return "sigmoid", tuple(names)
    if outputs < 2:
        config.refuse("its network does not say how many classes it has (out_channels)")
    unique = [n if names.count(n) == 1 else f"{n} {k}" for k, n in enumerate(names)]
    return "softmax", tuple(unique[1:])


def _channels(image: Mapping[str, Any], count: int) -> tuple[str, ...]:
    names = image.get("channel_def", {})
    count = count or int(image.get("num_channels", 1))
    if count == 1:
        return ("image",)
    return tuple(str(names.get(str(n), f"{n:04d}")) for n in range(count))


def _mirror_axes(bundle: Path) -> tuple[int, ...]:
    """The axes that the bundle's training mirrored patches along; none if it does not say so."""
    try:
        text = json.loads((bundle / TRAINING).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return ()
    axes: set[int] = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            axis = value.get("spatial_axis")
            if str(value.get("_target_", "")).rsplit(".", 1)[-1].lower() == "randflipd":
                axes.update(a for a in (axis if isinstance(axis, list) else [axis])
                            if a in (0, 1, 2))  # fmt: skip
        for inside in value.values() if isinstance(value, dict) else value:
            if isinstance(inside, dict | list):
                look(inside)

    if isinstance(text, dict | list):
        look(text)
    return tuple(sorted(axes))


def _weights(bundle: Path) -> dict[str, Any]:
    """The tensors of models/model.pt."""
    path = bundle / WEIGHTS
    content = pickles.read(path)
    for key in ("model", "state_dict", "network"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    return {
        str(k).removeprefix("module."): v.contiguous().clone()
        for k, v in pickles.tensors_of(path, content).items()
    }


def _licenses(bundle: Path) -> Sequence[Path]:
    places = (bundle / path for path in LICENSES)
    return [p for p in places if p.is_file() and not p.is_symlink()]
