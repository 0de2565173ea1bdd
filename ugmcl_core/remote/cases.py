"""The volumes of a training on their way to another computer: those of a case list, or those of
folders of images and labels."""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import dataset_json, pairing
from ..errors import InputError
from ..files import write_json
from ..worker.progress import Control
from .session import Advance, Session
from .wire import contents

_LIST = "cases.json"
_DATASET = dataset_json.NAME


@dataclass(frozen=True)
class ListedCases:
    """A case list, and where in it which file is named."""

    content: dict[str, Any]
    files: dict[tuple[int, str], tuple[Path, ...]]  # by the number of the case and its key

    @property
    def paths(self) -> list[Path]:
        """All files, each once."""
        return list(dict.fromkeys(path for several in self.files.values() for path in several))

    def with_paths(self, paths: Mapping[Path, str]) -> dict[str, Any]:
        """The list with these paths for its files."""
        changed = copy.deepcopy(self.content)
        for (number, key), several in self.files.items():
            there = [paths[path] for path in several]
            is_one = isinstance(self.content["cases"][number][key], str)
            changed["cases"][number][key] = there[0] if is_one else there
        return changed

    def names(self) -> dict[Path, str]:
        """A neutral folder and name for each file, the same for as long as the file is
        unchanged."""
        return {path: f"{_folder_of(path)}/{name_of(path)}" for path in self.paths}


def _folder_of(path: Path) -> str:
    status = path.stat()
    text = f"{path.absolute()} {status.st_size} {status.st_mtime_ns}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def name_of(path: Path) -> str:
    """The name under which an image is sent."""
    return "image" if path.is_dir() else next(iter(contents(path)))


def read(path: Path) -> ListedCases:
    """The case list in a file. Raises InputError where it cannot be read or a file is missing;
    what it holds is checked where it is used."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check it") from None
    except ValueError as error:
        raise InputError(f"{path}: is not valid JSON ({error}); correct it") from None
    listed = content.get("cases") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise InputError(f'{path}: is not a case list: it needs {{"cases": [...]}}')
    files = {}
    for number, item in enumerate(listed):
        if item.get("role") in ("unlabeled", "unlabelled"):
            item.pop("label", None)  # not used, so it is not sent
        for key in ("image", "label"):
            given = item.get(key)
            named = given if isinstance(given, list) else [given]
            if not all(isinstance(name, str) and name for name in named):
                continue  # missing, or refused later on
            several = tuple(path.parent / Path(name).expanduser() for name in named)
            if missing := next((file for file in several if not file.exists()), None):
                raise InputError(
                    f"{path}: case {item.get('name')}: there is no {key} {missing}; correct it"
                )
            files[number, key] = several
    return ListedCases(content, files)


@dataclass(frozen=True)
class SentCases:
    """The files of a case list in a session: the folder there of each, and its name in it."""

    listed: ListedCases
    places: dict[Path, tuple[str, str]]

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of all files of the list in the cases of a training."""
        return tuple(sorted(name.split("/")[0] for name in self.listed.names().values()))

    def in_session(self, session: Session) -> dict[Path, str]:
        """Their paths on the other computer."""
        return {p: session.path(f"{folder}/{name}") for p, (folder, name) in self.places.items()}

    def moves(self) -> dict[str, str]:
        """For each folder of the session, its place in the cases of a training."""
        names = {path: name.split("/")[0] for path, name in self.listed.names().items()}
        return {folder: f"cases/{names[path]}" for path, (folder, _) in self.places.items()}


def send(
    session: Session,
    listed: ListedCases,
    control: Control,
    advance: Advance,
    known: Collection[str] = (),
) -> SentCases:
    """Send the files of a case list that are not there yet, in the session or as `folders` of the
    training. Raises InputError and Canceled."""
    places: dict[Path, tuple[str, str]] = {}
    files = [p for p, name in listed.names().items() if name.split("/")[0] not in known]
    for number, path in enumerate(files):

        def part(fraction: float, text: str, number: int = number) -> None:
            advance((number + fraction) / len(files), f"{text} ({number + 1} of {len(files)})")

        places[path] = session.put(path, control, part)
    return SentCases(listed, places)


def write_list(session: Session, content: dict[str, Any], control: Control) -> str:
    """Write a case list in the session; its folder, in which it is `cases.json`."""
    folder = session.folder("lists")
    with tempfile.TemporaryDirectory(prefix="ugmcl-") as place:
        path = Path(place) / _LIST
        write_json(path, content)
        session.send_files({_LIST: path}, folder, control)
    return folder


def images_of(folder: str, kind: int) -> dict[str, Path]:
    """The image files (kind 0) or the label maps (1) of a folder or of a data set by their names,
    with the voxels of those that have them in another file, and with the images the data set's
    `dataset.json`. Raises InputError."""
    place = pairing.of_data_set(Path(folder).expanduser(), kind)
    if not place.is_dir():
        raise InputError(f"{folder}: no such folder; check its name")
    found: dict[str, Path] = {}
    for path in pairing.image_files(place):
        several = contents(path)
        found.update(several if len(several) > 1 else {path.name: path})
    if not found:
        raise InputError(f"{folder}: no images here; choose another folder")
    about = next((p for p in (place / _DATASET, place.parent / _DATASET) if p.is_file()), None)
    return {**found, _DATASET: about} if about is not None and kind == 0 else found
