"""A model that a run made becomes one of the user's models."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from slicer.i18n import tr as _

from UGMCLSegmentationLib import models, runs, userFolder
from UGMCLSegmentationLib.errors import PanelError


def nameFor(wanted: str) -> str:
    """A name that models may have, and that no model and no run to resume has yet, in whatever
    case: not all file systems tell cases apart. Raises PanelError."""
    from ugmcl_core.models.card import as_name

    names = [info.key for info in models.installed()] + [p.name for p in _folders()]
    names += [run.request["name"] for run in runs.unfinished()]
    taken = {name.casefold() for name in names}
    name = stem = as_name(wanted.strip() or "my-model")
    number = 2
    while name.casefold() in taken:
        name, number = f"{stem}-{number}", number + 1
    return name


def adopt(folder: Path, name: str) -> Path:
    """Move the model folder among the user's models, under a similar name if that one was taken
    meanwhile. Raises PanelError."""
    target = userFolder.models() / name
    try:
        if target.exists():
            target = target.with_name(nameFor(name))
            _rename(folder, target.name)
        shutil.move(folder, target)
    except OSError as error:
        raise PanelError(
            _("The model cannot be moved from {source} to {target}: {why}.").format(
                source=folder, target=target, why=error.strerror or error
            )
        ) from None
    return target


def _rename(folder: Path, name: str) -> None:
    """Write the name into the model's card. Raises PanelError."""
    from ugmcl_core.errors import InputError
    from ugmcl_core.models.model import CARD, open_model

    try:
        card = replace(open_model(folder).card, name=name)
    except InputError as error:
        raise PanelError(str(error)) from None
    runs.write(folder / CARD, card.to_json())


def keyOf(folder: Path) -> str:
    """What the list of models calls the one in `folder`."""
    from ugmcl_core.errors import InputError
    from ugmcl_core.models.model import open_model

    try:
        return open_model(folder).name
    except (InputError, OSError):
        return str(folder)


def _folders() -> list[Path]:
    try:
        return list(userFolder.models().iterdir())
    except OSError:
        return []
