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


def read_list(path: str) -> list[str]:
    """The names in a list file: one a line, empty lines and # comments left out."""
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise InputError(f"{path}: cannot be read ({reason})") from None
    names = [line.split("#", 1)[0].strip() for line in lines]
    names = [volume.stem(n) if n.lower().endswith(volume.SUFFIXES) else n for n in names if n]
    if not names:
        raise InputError(f"{path}: the list is empty")
    return names
