"""From what a user names on the command line to images: files, folders, DICOM series folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import volume
from ..errors import InputError
from ..outputs import source_of


def find_images(named: Sequence[str]) -> dict[str, Path]:
    """Images by the stem of their outputs, in the order given.

    A folder stands for its image files; without any, for the DICOM series in it, or for those in
    its subfolders. Results of earlier runs beside their image are left out. Raises InputError for
    what does not exist or holds nothing, and for two images of one name.
    """
    found: dict[str, Path] = {}
    for name in named:
        for path in _expanded(Path(name).expanduser()):
            stem = volume.stem(path.resolve())
            if stem in found and found[stem].resolve() != path.resolve():
                raise InputError(
                    f"{path} and {found[stem]} would have outputs of the same name; "
                    "segment them into two folders"
                )
            found[stem] = path
    return found


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
