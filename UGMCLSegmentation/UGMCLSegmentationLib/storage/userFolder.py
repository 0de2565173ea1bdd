"""The folder that keeps imported and fine-tuned models, runs and logs between sessions.

The user chooses its place, but not in the extension's folder, which updates replace.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError, explaining

KEY = "UGMCLSegmentation/UserFolder"
NAME = "UGMCLSegmentation"


def place() -> Path:
    """Where the folder is or would be made."""
    chosen = slicer.app.settings().value(KEY, "")
    return Path(chosen).expanduser() if chosen else defaultPlace()


def defaultPlace() -> Path:
    """In Slicer's own data folder; the local one, as models are too large to roam."""
    data = qt.QStandardPaths.writableLocation(qt.QStandardPaths.AppLocalDataLocation)
    return Path(data) / NAME


def path() -> Path:
    """The folder, made with mode 0700 if need be; raises PanelError where that cannot be."""
    return _made(place())


def models() -> Path:
    """The folder of model folders, made if need be; raises PanelError."""
    return _made(path() / "models")


def runs() -> Path:
    """The folder of fine-tuning runs, made if need be; raises PanelError."""
    return _made(path() / "runs")


def logs() -> Path:
    """The folder of logs, made if need be; raises PanelError."""
    return _made(path() / "logs")


def setPath(folder: Path | str) -> Path:
    """Use `folder` from now on; the contents of the former one stay there. An empty text is the
    default. Raises PanelError, and changes nothing, where the folder cannot be used."""
    if not str(folder).strip():
        slicer.app.settings().remove(KEY)
        return path()
    chosen = Path(folder).expanduser().absolute()
    if home := next((h for h in _replaced() if chosen.resolve().is_relative_to(h)), None):
        raise PanelError(
            _("{folder} is replaced by updates: choose a folder outside of {home}.").format(
                folder=chosen, home=home
            )
        )
    _made(chosen)
    if not os.access(chosen, os.W_OK | os.X_OK):
        raise PanelError(_("{folder} is not writable.").format(folder=chosen))
    slicer.app.settings().setValue(KEY, str(chosen))
    return chosen


def within(folder: Path | str) -> Path:
    """A folder of this extension's own in one that the user chose, so that "runs" of somebody
    else's in it are never taken for this extension's."""
    chosen = Path(folder)
    return chosen if chosen.name == NAME else chosen / NAME


def modelPlaces() -> str:
    """The value of UGMCL_MODELS for a child process: Slicer's own, then the user's models."""
    named = os.environ.get("UGMCL_MODELS", "")
    return os.pathsep.join(p for p in (named, str(place() / "models")) if p)


def _made(folder: Path) -> Path:
    with explaining(_("The folder {folder} cannot be made: {why}."), folder=folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _replaced() -> Iterator[Path]:
    """The folders that Slicer and its Extensions Manager replace."""
    yield Path(__file__).resolve().parents[2]
    for name in ("slicerHome", "extensionsInstallPath"):
        if value := getattr(slicer.app, name, ""):
            yield Path(value).resolve()
