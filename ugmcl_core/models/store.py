"""The user's models: imported from a folder, a zip or the network, exported, renamed, removed.

Neither torch nor safetensors is imported: the panel does some of this in Slicer's own process.
"""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..files import scratch, sha256_of, whole_file, whole_folder
from . import archives, downloads, hub
from .card import ModelCard
from .foreign import monai_bundle, nnunet
from .model import (
    CARD,
    PICKLES,
    WEIGHTS,
    Model,
    broken_models,
    find_models,
    is_bundled,
    model_folders,
    name_of_broken,
    open_model,
    update_card,
)

INDEX = "index.json"
LARGEST_NOTE = 1 << 20
"""Bytes of a text beside a model that is copied with it."""
_NOTES = re.compile(
    r"(notice|licen[sc]e|copying|readme|citation|changelog|authors)[\w. -]*", re.IGNORECASE
)
_SYSTEM = (".DS_Store", "Thumbs.db", "desktop.ini", ".directory")
"""What file managers leave in folders."""
_LARGEST_HEADER = 100 << 20


@dataclass(frozen=True)
class KnownModel:
    """An entry of an `index.json`: a model that can be downloaded by its name."""

    name: str
    description: str
    license: str
    url: str
    sha256: str
    bytes: int


def known_models(further: str | None = None) -> list[KnownModel]:
    """The entries of the index that comes with the program and of those in the folders `further`
    (without it UGMCL_MODELS), one per name. Raises InputError for an invalid index."""
    found: dict[str, KnownModel] = {}
    for place in model_folders(further):
        path = place / INDEX
        if path.is_file():
            for entry in _read_index(path):
                found.setdefault(entry.name, entry)
    return list(found.values())


def _read_index(path: Path) -> list[KnownModel]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != 1:
            raise InputError(f"{path} has format {content['format']!r}, not 1: update ugmcl")
        entries = [KnownModel(**entry) for entry in content["models"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"{path} is not an index of models ({text}): correct it") from None
    for entry in entries:
        texts = (entry.name, entry.description, entry.license, entry.url, entry.sha256)
        if not all(isinstance(t, str) for t in texts) or not isinstance(entry.bytes, int):
            raise InputError(
                f"{path}: each entry needs strings, and bytes as a number; correct it"
            )
    return entries


def add(
    source: str | Path,
    place: Path,
    name: str = "",
    sha256: str = "",
    progress: downloads.Progress = lambda done, total: None,
) -> Model:
    """Copy a model into a folder of that name in `place`; returns it as it stands there.

    `source` is a model folder, a bundle of MONAI (`foreign.monai_bundle`), the results of nnU-Net
    (`foreign.nnunet`), a repository of Hugging Face (`hub`) with one of these three, a zip of a
    model, an https address of such a zip (with the `sha256` of the zip), or the name of a known
    model. Everything is checked before anything is in `place`. Raises InputError, also if there is
    a model of that name already.
    """
    text = str(source)
    if hub.is_named(text):
        repository, waiting = hub.parse(text), place / ".downloads"
        with scratch(place) as folder:
            fetched = folder / "fetched" / repository.name
            try:
                hub.fetch(repository, fetched, waiting, sha256, progress)
                return _add_folder(_converted(fetched, folder) or fetched, place, name)
            finally:
                with suppress(OSError):
                    waiting.rmdir()  # fails if a download waits there to be resumed
    known = {entry.name: entry for entry in known_models()} if "/" not in text else {}
    if text in known:
        text, sha256 = known[text].url, known[text].sha256
    if "://" in text:
        archive = downloads.fetch(text, sha256, place / ".downloads", progress)
        try:
            return _add_zip(archive, place, name)
        finally:
            archive.unlink(missing_ok=True)
            with suppress(OSError):
                archive.parent.rmdir()  # fails if another download waits there to be resumed
    path = Path(text).expanduser()
    if path.is_dir():
        with scratch(place) as folder:
            converted = _converted(path, folder)
            if converted is not None:
                return _add_folder(converted, place, name)
    if path.is_file() and path.suffix.lower() == ".zip":
        if sha256 and sha256_of(path) != sha256.strip().lower():
            raise InputError(
                f"{path} is not what was announced (its SHA-256 differs): get it again"
            )
        return _add_zip(path, place, name)
    if sha256:
        raise InputError(f"{path} is not a zip, so there is no SHA-256 to compare: leave it out")
    return _add_folder(path, place, name)


def _converted(path: Path, folder: Path) -> Path | None:
    """The model that a bundle of MONAI, or results of nnU-Net, become, in ``folder``; None for
    anything else. InputError with the reason for what cannot be carried over."""
    for is_one, convert in (
        (monai_bundle.is_bundle, monai_bundle.convert),
        (nnunet.is_results, nnunet.convert),
    ):
        if is_one(path):
            return convert(path, folder / "model")
    return None


def _add_zip(archive: Path, place: Path, name: str) -> Model:
    with scratch(place) as folder:
        return _add_folder(archives.unpack(archive, folder), place, name)


def _add_folder(source: Path, place: Path, name: str) -> Model:
    model = open_model(source)
    check_weights(model)
    card = model.card if not name else _renamed(model.card, name)
    _refuse_taken(card.name, place)
    with whole_folder(place / card.name) as folder:
        for file, target in _files(model.folder).items():
            shutil.copyfile(file, folder / target)
        (folder / CARD).write_text(card.to_json(), encoding="utf-8")
    return open_model(place / card.name)


def check_weights(model: Model) -> None:
    """Compare the weights with the card's SHA-256 and look at their header; raises InputError.

    A safetensors file is 8 bytes of length, a JSON header of that length, and numbers.
    """
    path = model.folder / WEIGHTS
    if path.is_symlink():
        raise InputError(f"{path} is a link: give the folder that it leads to")
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if 2 <= size <= _LARGEST_HEADER else None
        digest = sha256_of(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check it") from None
    except ValueError:
        header, digest = None, ""  # no text, or no JSON
    if not isinstance(header, dict):
        raise InputError(f"{path} is not a safetensors file; a pickle is never read")
    if digest != model.card.sha256:
        raise InputError(
            f"{path} is not the file that {CARD} describes (its SHA-256 differs): get the model "
            "again"
        )


def to_change(name_or_folder: str | Path) -> Model:
    """The model of that name, or in that folder, to be renamed.

    Raises InputError for one that is only linked to: what a link leads to may be somebody else's.
    """
    wanted = str(name_or_folder)
    model = next((m for m in find_models() if m.name == wanted), None)
    if model is None:
        path = Path(wanted).expanduser()
        if path.is_symlink():
            raise InputError(
                f"{path} is a link: give the folder that it leads to, or remove the link"
            )
        if not path.exists():
            raise InputError(f"there is no model or model folder {wanted!r}: see `ugmcl models`")
        return open_model(path)
    if model.folder.parent not in model_folders():
        raise InputError(
            f"{wanted} is reached through a link and is in {model.folder}: give that folder, or "
            "remove the link"
        )
    return model


def to_remove(name_or_folder: str | Path) -> Path:
    """The folder of the model that `to_change` finds, or of a broken one with a card; InputError
    as there."""
    try:
        return to_change(name_or_folder).folder
    except InputError:
        wanted = str(name_or_folder)
        named = (f for f in broken_models() if name_of_broken(f) == wanted)
        folder = next(named, Path(wanted).expanduser())
        if folder.is_symlink() or not _is_broken(folder):
            raise
        return folder.resolve()


def _is_broken(folder: Path) -> bool:
    """Whether it has a card, but is not a model that can be opened."""
    try:
        open_model(folder)
    except InputError:
        return (folder / CARD).is_file()
    return False


def rename(model: Model, name: str) -> Model:
    """Give a model of the user's another name; all that its folder holds stays with it.

    On InputError nothing has changed. After a kill in the middle the model has its former name,
    and the same call completes the renaming.
    """
    _refuse_bundled(model.folder)
    card = _renamed(model.card, name)
    target = model.folder.with_name(card.name)
    if model.folder == target:  # a kill came between the two steps below
        return update_card(model, name=card.name)
    _refuse_taken(card.name, model.folder.parent)
    try:
        model.folder.rename(target)
    except OSError as error:
        raise InputError(
            f"{model.name} cannot be renamed ({error.strerror}): check its permissions"
        ) from None
    try:
        return update_card(open_model(target), name=card.name)
    except InputError:
        with suppress(OSError):  # another process may have removed it
            target.rename(model.folder)
        raise


def remove(folder: Path) -> None:
    """Delete a model of the user's, intact or not: its card, weights and texts, and the folder.

    Raises InputError, and deletes nothing, if the folder holds anything else.
    """
    _refuse_bundled(folder)
    try:
        _refuse_others(folder, folder)
    except OSError as error:  # such as another process that has just removed it
        raise InputError(
            f"{folder} cannot be removed ({error.strerror}): check its permissions"
        ) from None
    # hidden first, so that a failure or a kill leaves no half of a model in the lists
    with scratch(folder.parent) as place:
        hidden = place / folder.name
        try:
            folder.rename(hidden)
        except OSError as error:
            raise InputError(
                f"{folder} cannot be removed ({error.strerror}): check its permissions"
            ) from None
        try:
            _refuse_others(hidden, folder)
        except InputError:
            hidden.rename(folder)
            raise


def _refuse_others(folder: Path, name: Path) -> None:
    """Raise InputError, with the folder's `name`, if it holds anything but a model."""
    for path in sorted(folder.iterdir()):
        if not (_is_part(path) or _is_of_the_system(path)):
            raise InputError(
                f"{name} holds {path.name}, which is not part of the model: move it elsewhere "
                "first"
            )


def export(model: Model, target: str | Path) -> Path:
    """Write a model to a new folder, or to a zip if `target` ends so; returns it.

    `add` takes both. Raises InputError if the target exists or cannot be written.
    """
    target = Path(target).expanduser().absolute()
    check_weights(model)
    if target.exists():
        raise InputError(f"{target} exists: choose another name")
    files = _files(model.folder)
    if target.suffix.lower() == ".zip":
        names = {f"{model.name}/{name}": file for file, name in files.items()}
        with whole_file(target, make_parents=True) as archive:
            archives.pack(names, archive)
    else:
        with whole_folder(target) as folder:
            for file, name in files.items():
                shutil.copyfile(file, folder / name)
    return target


def _files(folder: Path) -> dict[Path, str]:
    """A model's files: card, weights and texts; links and all else are left out.

    Raises InputError for a pickle, which somebody might load later.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICKLES:
            raise InputError(f"{path} is a pickle, which can run code when it is loaded: refused")
    return {path: path.name for path in sorted(folder.iterdir()) if _is_part(path)}


def notes(folder: Path) -> list[Path]:
    """The texts that belong to the model in `folder`, such as its license."""
    return [p for p in sorted(folder.iterdir()) if _is_part(p) and p.name not in (CARD, WEIGHTS)]


def _is_part(path: Path) -> bool:
    """Whether a file in a model's folder is the model's: card, weights, or a text such as a
    license."""
    if path.is_symlink() or not path.is_file():
        return False
    if path.name in (CARD, WEIGHTS):
        return True
    is_text = path.suffix.lower() in (".txt", ".md", ".cff", "")
    return is_text and bool(_NOTES.fullmatch(path.name)) and path.stat().st_size <= LARGEST_NOTE


def _is_of_the_system(path: Path) -> bool:
    return path.name in _SYSTEM and path.is_file()


def _renamed(card: ModelCard, name: str) -> ModelCard:
    card = replace(card, name=name)
    return ModelCard.from_json(card.to_json(), f"a model named {name!r}")  # checks the name


def _refuse_taken(name: str, place: Path) -> None:
    taken = next((m for m in find_models() if m.name.lower() == name.lower()), None)
    if taken is not None:
        raise InputError(f"there is a model {taken.name} in {taken.folder}: choose another name")
    if (place / name).exists():
        raise InputError(f"{place / name} exists: choose another name")


def _refuse_bundled(folder: Path) -> None:
    if is_bundled(folder):
        raise InputError(f"{folder.name} came with the program and stays as it is")
