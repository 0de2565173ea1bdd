"""From what a user names on the command line to images: files, folders, DICOM series folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .. import volume
from ..errors import InputError
from ..outputs import source_of


def find_images(named: Sequence[str]) -> tuple[dict[str, Path], dict[str, InputError]]:
    """Images by the stem of their outputs, in the order given; and what is wrong with the names
    that stand for no image because they do not exist, hold nothing or cannot be looked into.

    A folder stands for its image files; without any, for the DICOM series in it, or for those in
    its subfolders. Results of earlier runs beside their image are left out. A link counts under
    its own name. Raises InputError for two images of one name.
    """
    found: dict[str, Path] = {}
    wrong: dict[str, InputError] = {}
    for name in named:
        try:
            paths = _expanded(Path(name).expanduser())
        except InputError as error:
            wrong[name] = error
            continue
        except OSError as error:
            wrong[name] = InputError(f"{name}: cannot be looked into ({error.strerror})")
            continue
        for path in paths:
            stem = volume.stem(os.path.abspath(path))
            if stem in found and found[stem].resolve() != path.resolve():
                raise InputError(
                    f"{path} and {found[stem]} would have outputs of the same name; "
                    "segment them into two folders"
                )
            found[stem] = path
    return found, wrong


def _expanded(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    if files := volume.image_files(path):
        stems = {volume.stem(p) for p in files}
        return [p for p in files if source_of(volume.stem(p)) not in stems]
    entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    if any(p.is_file() for p in entries):
        return [path]  # taken for a DICOM series; reading it says so if it is none
    if not entries:
        raise InputError(f"{path}: the folder is empty")
    return [p for folder in entries for p in _expanded(folder)]
