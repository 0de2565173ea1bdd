"""A model that a run made becomes one of the user's models."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from slicer.i18n import tr as _

from . import models, userFolder
from .errors import PanelError


def nameFor(wanted: str) -> str:
    """A name that models may have and none has yet. Raises PanelError."""
    from ugmcl_core.model_card import as_name

    taken = {info.key for info in models.installed()} | {p.name for p in _folders()}
    name = stem = as_name(wanted.strip() or "my-model")
    number = 2
    while name in taken:
        name, number = f"{stem}-{number}", number + 1
    return name


def adopt(folder: Path, name: str) -> Path:
    """Move the model folder among the user's models. Raises PanelError."""
    target = userFolder.models() / name
    try:
        if target.exists():
            raise FileExistsError(17, os.strerror(17))
        shutil.move(folder, target)
    except OSError as error:
        raise PanelError(
            _("The model cannot be moved from {source} to {target}: {why}.").format(
                source=folder, target=target, why=error.strerror or error
            )
        ) from None
    return target


def keyOf(folder: Path) -> str:
    """What the list of models calls the one in `folder`."""
    from ugmcl_core.errors import InputError
    from ugmcl_core.model import open_model

    try:
        return open_model(folder).name
    except (InputError, OSError):
        return str(folder)


def _folders() -> list[Path]:
    try:
        return list(userFolder.models().iterdir())
    except OSError:
        return []
