"""The installed models, read from their cards without a process or torch."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from slicer.i18n import tr as _

from ugmcl_core.errors import InputError
from ugmcl_core.models.card import as_name
from UGMCLSegmentationLib.errors import explaining
from UGMCLSegmentationLib.storage import runFolder, userFolder


@dataclass(frozen=True)
class ModelInfo:
    """`key` is the model for the worker: a name, or a folder outside the user's models."""

    key: str
    text: str
    toolTip: str


def find() -> list:
    """The usable models (ugmcl_core.models.model.Model) where the worker looks for them."""
    from ugmcl_core.models.model import find_models

    return find_models(userFolder.modelPlaces())


def read(folder: Path | str):
    """The model in a folder. Raises InputError and OSError."""
    from ugmcl_core.models.model import open_model

    return open_model(folder)


def installed() -> list[ModelInfo]:
    return [_info(model.name, model.card) for model in find()]


def fromFolder(folder: str) -> ModelInfo:
    """The model in a folder that the user chose. Raises PanelError if there is none."""
    with explaining(_("{folder} cannot be read: {why}."), folder=folder):
        model = read(folder)
    return _info(str(model.folder), model.card)


def channelsOf(key: str) -> tuple[str, ...]:
    """The names of the images of a case that a model takes; one for a model that is not found,
    which a run reports."""
    for model in find():
        if model.name == key:
            return model.card.channels
    try:
        return read(key).card.channels if key else ("image",)
    except (InputError, OSError):
        return ("image",)


def _info(key: str, card) -> ModelInfo:
    structures = ", ".join(info.name for info in card.classes)
    several = ""
    if len(card.channels) > 1:
        several = _("Takes several registered images a case: {channels}.")
        several = several.format(channels=", ".join(card.channels))
    lines = [card.description, several, card.intended_use, card.license]
    return ModelInfo(key, f"{card.name} ({structures})", "\n\n".join(t for t in lines if t))


def nameFor(wanted: str) -> str:
    """A name that models may have, and that no model and no run to resume has yet, ignoring
    case, as some file systems do. Raises PanelError."""
    names = [info.key for info in installed()] + [p.name for p in _folders()]
    names += [run.request["name"] for run in runFolder.unfinished()]
    taken = {name.casefold() for name in names}
    name = stem = as_name(wanted.strip() or "my-model")
    number = 2
    while name.casefold() in taken:
        name, number = f"{stem}-{number}", number + 1
    return name


def adopt(folder: Path, name: str) -> Path:
    """Move the model folder to the user's models, under a similar name if its own was taken in the
    meantime. Raises PanelError."""
    target = userFolder.models() / name
    text = _("The model cannot be moved from {source} to {target}: {why}.")
    with explaining(text, source=folder, target=target):
        if target.exists():
            target = target.with_name(nameFor(name))
            _rename(folder, target.name)
        shutil.move(folder, target)
    return target


def _rename(folder: Path, name: str) -> None:
    """Write the name into the model's card. Raises PanelError."""
    from ugmcl_core.models.model import CARD

    with explaining():
        card = replace(read(folder).card, name=name)
    runFolder.write(folder / CARD, card.to_json())


def keyOf(folder: Path) -> str:
    """The key of the model in `folder`."""
    try:
        return read(folder).name
    except (InputError, OSError):
        return str(folder)


def _folders() -> list[Path]:
    try:
        return list(userFolder.models().iterdir())
    except OSError:
        return []
