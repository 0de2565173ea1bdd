"""The models to choose from, read from their cards; no process and no torch are needed."""

from __future__ import annotations

from dataclasses import dataclass

from slicer.i18n import tr as _

from UGMCLSegmentationLib import userFolder


@dataclass(frozen=True)
class ModelInfo:
    """`key` is what the worker is told: a name, or a folder for a model of the user's own."""

    key: str
    text: str
    toolTip: str


def installed() -> list[ModelInfo]:
    """The usable models in the places where models are looked for."""
    from ugmcl_core.models.model import find_models

    found = find_models(userFolder.modelPlaces())
    return [_info(model.name, model.card) for model in found]


def fromFolder(folder: str) -> ModelInfo:
    """A model in a folder of the user's choice; raises PanelError if it is none."""
    from ugmcl_core.errors import InputError
    from ugmcl_core.models.model import open_model
    from UGMCLSegmentationLib.errors import PanelError

    try:
        model = open_model(folder)
    except InputError as error:
        raise PanelError(str(error)) from None
    except OSError as error:
        raise PanelError(
            _("{folder} cannot be read: {why}.").format(folder=folder, why=error.strerror)
        ) from None
    return _info(str(model.folder), model.card)


def _info(key: str, card) -> ModelInfo:
    structures = ", ".join(info.name for info in card.classes)
    lines = [card.description, card.intended_use, card.license]
    return ModelInfo(key, f"{card.name} ({structures})", "\n\n".join(t for t in lines if t))
