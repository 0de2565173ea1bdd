"""A model on disk: a folder with `model.json` (the card) and `weights.safetensors`.

The card carries the SHA-256 of the weights, and weights that do not match it are refused, as is
every pickle: loading one can run code.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files import sha256_of, sweep, whole_folder, write_bytes
from .card import ModelCard

if TYPE_CHECKING:
    from torch import Tensor

CARD = "model.json"
WEIGHTS = "weights.safetensors"
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
_ROOM = Path(__file__).resolve().parent
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A model folder whose card was read; the weights stay on disk until they are loaded."""

    card: ModelCard
    folder: Path

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def bundled(self) -> bool:
        """Whether it came with the program."""
        return is_bundled(self.folder)

    def load_weights(self) -> dict[str, Tensor]:
        """The state of the network by name, floating-point tensors as float32, on the CPU.

        Raises InputError if the file is missing, altered, or not a safetensors file.
        """
        import safetensors.torch
        import torch

        content = self._read_verified()
        try:
            state = safetensors.torch.load(content)
        except Exception as error:  # safetensors raises its own type, and KeyError for odd dtypes
            raise InputError(
                f"{self.folder / WEIGHTS} cannot be read ({_line(error)}): check it"
            ) from None
        state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
        for key, value in state.items():
            if not bool(torch.isfinite(value).all()):
                raise InputError(
                    f"{self.folder / WEIGHTS}: {key} is not finite everywhere: get the model again"
                )
        return state

    def _read_verified(self) -> bytes:
        """The weights' bytes, read once, so that what was checked is what is used."""
        path = self.folder / WEIGHTS
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise InputError(f"{path} is missing: get the model again") from None
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}): check it") from None
        if hashlib.sha256(content).hexdigest() != self.card.sha256:
            raise InputError(
                f"{path} is not the file that {CARD} describes (its SHA-256 differs): "
                "it was altered or is incomplete, get the model again"
            )
        return content


def open_model(folder: Path | str) -> Model:
    """The model in `folder`, its card validated; raises InputError."""
    folder = Path(folder).expanduser().resolve()
    card = folder / CARD
    if not folder.exists():
        sweep(folder.parent)  # a killed process may have left the model there
    if folder.is_file():
        raise InputError(_refuse_file(folder))
    if not folder.is_dir():
        raise InputError(f"there is no model folder {folder}: check the name")
    if not card.is_file():
        if pickles := sorted(p.name for p in folder.glob("*") if p.suffix in PICKLES):
            raise InputError(f"{folder} is not a model: {_refuse_file(folder / pickles[0])}")
        raise InputError(f"{folder} is not a model: it has no {CARD}; give the folder of one")
    try:
        text = card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{card} cannot be read ({_line(error)}): check it") from None
    model = Model(ModelCard.from_json(text, str(card)), folder)
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder / WEIGHTS} is missing: get the model again")
    return model


def verify(model: Model) -> None:
    """Read the weights and compare them with the card; raises InputError if anything is wrong."""
    model.load_weights()


def describe(model: Model) -> dict[str, object]:
    """A model as lists show it (docs/architecture.md)."""
    card = model.card
    return {
        "name": card.name,
        "folder": str(model.folder),
        "classes": [c.name for c in card.classes],
        "modality": card.modality,
        "description": card.description,
        "license": card.license,
        "bundled": model.bundled,
    }


def record(model: Model) -> dict[str, str]:
    """A model as manifests name it."""
    return {
        "name": model.name,
        "sha256": model.card.sha256,
        "card_sha256": sha256_of(model.folder / CARD),
        "folder": str(model.folder),
    }


def model_folders(further: str | None = None) -> tuple[Path, ...]:
    """Where models are looked for, first match first: `further` (folders separated as in PATH;
    without it UGMCL_MODELS), then the bundled places."""
    further = os.environ.get("UGMCL_MODELS", "") if further is None else further
    named = [Path(p).expanduser().resolve() for p in further.split(os.pathsep) if p.strip()]
    return (*named, *_bundled_places())


def is_bundled(folder: Path) -> bool:
    """Whether a model's folder is one of those that came with the program."""
    return folder.parent in _bundled_places()


def _bundled_places() -> tuple[Path, ...]:
    """In a wheel, and beside the package in a source tree or an installed extension."""
    return _ROOM / "bundled", _ROOM.parents[1] / "Resources" / "Models"


def find_models(further: str | None = None) -> list[Model]:
    """Every usable model in `model_folders(further)`, one per name; broken ones are only
    logged."""
    found: dict[str, Model] = {}
    for _, model in _candidates(further):
        if isinstance(model, InputError):
            _log.info("%s", model)  # a warning would be printed too
        else:
            found.setdefault(model.name, model)
    return list(found.values())


def broken_models(further: str | None = None) -> dict[Path, InputError]:
    """The errors of the unusable models in `model_folders(further)`, by folder."""
    return {f: model for f, model in _candidates(further) if isinstance(model, InputError)}


def _candidates(further: str | None = None) -> Iterator[tuple[Path, Model | InputError]]:
    """Every folder with a card in `model_folders(further)`, and the model or why there is none."""
    for place in model_folders(further):
        if place not in _bundled_places():
            sweep(place)
        try:
            folders = sorted(place.iterdir()) if place.is_dir() else []
        except OSError as error:
            yield place, InputError(f"{place} cannot be read ({_line(error)}): check it")
            continue
        for folder in folders:
            if folder.name.startswith("."):
                continue  # a model that is just being written
            try:
                if (folder / CARD).is_file():
                    yield folder, open_model(folder)
            except InputError as error:
                yield folder, error
            except OSError as error:
                yield folder, InputError(f"{folder} cannot be read ({_line(error)}): check it")


def resolve(name_or_folder: str | Path) -> Model:
    """The model of that name, or in that folder (or in its subfolder `model`).

    Raises InputError if the first model of that name is broken, rather than using a later one
    instead.
    """
    wanted = str(name_or_folder)
    names = []
    for folder, model in _candidates():
        if isinstance(model, InputError):
            if wanted == name_of_broken(folder):
                raise model
        elif model.name == wanted:
            return model
        else:
            names.append(model.name)
    folder = Path(wanted).expanduser()
    if folder.exists():
        inner = folder / "model"
        return open_model(inner if not (folder / CARD).exists() and inner.is_dir() else folder)
    available = ", ".join(dict.fromkeys(names)) or "none is installed"
    raise InputError(f"there is no model or model folder {wanted!r} (available: {available})")


def name_of_broken(folder: Path) -> str:
    """The name in an otherwise unusable card, or that of its folder."""
    try:
        name = json.loads((folder / CARD).read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return folder.name
    return name if isinstance(name, str) else folder.name


def save_model(
    folder: Path | str, card: ModelCard, state: Mapping[str, Tensor], half: bool = True
) -> Model:
    """Write a model and return it as read back from disk.

    With `half`, convolution kernels are stored in float16; vectors (biases, batch-norm
    statistics), which are small and may exceed its range, stay in float32. A kill or a full disk
    leaves either the former model or the new one. Other files of a former model, such
    as a notice, are kept. Raises InputError if `folder` holds something that is not a model.
    """
    import safetensors.torch

    folder = Path(folder).expanduser().resolve()
    content = safetensors.torch.save({k: _stored(v, half) for k, v in state.items()})
    card = replace(card, sha256=hashlib.sha256(content).hexdigest())
    text = card.to_json()
    ModelCard.from_json(text, f"the card of {card.name}")  # never write what cannot be read back
    _refuse_to_replace(folder)
    with whole_folder(folder, replace=True) as partial:
        if folder.is_dir():
            kept = (p for p in folder.iterdir() if p.is_file() and p.name not in (CARD, WEIGHTS))
            for path in kept:
                shutil.copyfile(path, partial / path.name)
        write_bytes(partial / WEIGHTS, content, sync=True)
        write_bytes(partial / CARD, text.encode(), sync=True)
    return open_model(folder)


def update_card(model: Model, **changes: Any) -> Model:
    """Replace fields of a model's card on disk, the weights staying as they are; the new model.

    Raises InputError if the card cannot be written or would not be read back.
    """
    card = replace(model.card, **changes)
    text = card.to_json()
    ModelCard.from_json(text, f"the card of {card.name}")
    write_bytes(model.folder / CARD, text.encode(), sync=True)
    return open_model(model.folder)


def _stored(value: Tensor, half: bool) -> Tensor:
    import torch

    value = value.detach().cpu().contiguous()
    if not value.is_floating_point():
        return value
    value = value.float()
    if half and value.ndim > 1 and bool(value.half().isfinite().all()):
        return value.to(torch.float16)
    return value


def _refuse_to_replace(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder: choose another place for the model")
    entries = list(folder.iterdir())
    if entries and not (folder / CARD).is_file():
        raise InputError(f"{folder} exists and is not a model: choose another folder")
    if subfolders := [p.name for p in entries if p.is_dir()]:
        raise InputError(
            f"{folder} holds the folder {subfolders[0]} beside its model: choose another folder"
        )


def _refuse_file(path: Path) -> str:
    if path.suffix.lower() in PICKLES:
        return (
            f"{path.name} is a pickle, which can run code when it is loaded; "
            f"ugmcl only reads folders with {CARD} and {WEIGHTS}"
        )
    return f"{path} is a file; a model is a folder with {CARD} and {WEIGHTS}"


def _line(error: Exception) -> str:
    """The message of `error` on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
