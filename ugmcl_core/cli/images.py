"""The images that a user names on the command line: files, folders, DICOM series folders."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..data import guarded, pairing
from ..errors import InputError
from ..inference.result_files import is_output


def find_images(
    named: Sequence[str], notice: Callable[[str], None]
) -> tuple[dict[str, Path], dict[str, InputError]]:
    """Images by the stem of their outputs, in the order given; and the errors of all that is no
    image: it does not exist, is empty, cannot be read, or has the name of another.

    A folder stands for its image files; without any, for the DICOM series in it, or for those in
    its subfolders; ``notice`` gets a line on a series or folders beside image files, which are
    left out. Labels and results beside their image are left out of folders. A link counts under
    its own name. Images with the same name get the names of as many of their folders as tell them
    apart.
    """
    paths: list[Path] = []
    wrong: dict[str, InputError] = {}
    for name in named:
        for path, error in _expanded(Path(name).expanduser(), notice):
            if error is None:
                paths.append(path)
            else:
                wrong[str(path)] = error
    found: dict[str, Path] = {}
    for stem, alike in _by_stem(paths).items():
        if len(alike) == 1:
            found[stem] = alike[0]
            continue
        for path, other in zip(alike, [*alike[1:], alike[0]], strict=True):
            wrong[str(path)] = InputError(
                f"{path} and {other} would have outputs of the same name; "
                "segment them into two folders"
            )
    return found, wrong


def _by_stem(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Different images by the stem of their outputs; of one stem only where they lie in one
    folder."""
    alike: dict[str, dict[Path, Path]] = defaultdict(dict)
    for path in paths:
        alike[_stem(path)].setdefault(path.resolve(), path)
    found: dict[str, list[Path]] = defaultdict(list)
    for stem, several in alike.items():
        folders = {p: Path(os.path.abspath(p)).parent.parts[1:] for p in several.values()}
        depth = 0
        while depth < max(map(len, folders.values())) and len(
            {parts[len(parts) - depth :] for parts in folders.values()}
        ) < len(set(folders.values())):
            depth += 1
        for path, parts in folders.items():
            found["_".join([*parts[max(0, len(parts) - depth) :], stem])].append(path)
    return found


def _stem(path: Path) -> str:
    return pairing.stem(os.path.abspath(path))


def _expanded(
    path: Path, notice: Callable[[str], None]
) -> Iterator[tuple[Path, InputError | None]]:
    """The images in `path`, and what in it is no image, with the reason."""
    try:
        inside = _inside(path, notice)
    except InputError as error:
        yield path, error
    except OSError as error:
        yield path, InputError(f"{path}: cannot be read ({error.strerror})")
    else:
        if inside is None:
            yield path, None
        for entry in inside or ():
            yield from _expanded(entry, notice)


def _inside(path: Path, notice: Callable[[str], None]) -> list[Path] | None:
    """The contents of a folder of images; None for a file and for a DICOM series."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not path.is_dir():
        return None
    files = pairing.image_files(path)
    stems = {pairing.stem(p) for p in files}
    seen = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    others = [p for p in seen if p not in files and not p.name.endswith(pairing.MANIFEST)]
    if images := [p for p in files if not _is_result(p, stems)]:
        _name_left_out(path, others, notice)
        return images
    if not others:
        raise InputError(
            f"{path}: the folder holds nothing but results of ugmcl"
            if seen
            else f"{path}: the folder is empty"
        )
    folders = [p for p in others if not p.is_file()]
    if folders and not guarded.dicom_series(path):
        return folders  # whatever lies beside them, such as a README or a DICOMDIR
    return None  # taken for a DICOM series; reading it fails if it is none


def _name_left_out(
    path: Path, others: Sequence[Path], notice: Callable[[str], None]
) -> None:
    """A line on folders, and on a DICOM series, that lie beside the image files of `path`."""
    folders = [p.name for p in others if p.is_dir()]
    if folders:
        shown = ", ".join(folders[:3]) + (" and others" if folders[3:] else "")
        notice(f"{path}: the image files in it are taken, its folders are left out ({shown})")
    if any(_may_be_slice(p) for p in others):
        notice(
            f"{path}: the image files in it are taken, its DICOM files are left out; move them to "
            "a folder of their own"
        )


def _may_be_slice(path: Path) -> bool:
    """Whether it begins as a DICOM file does."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _is_result(path: Path, stems: set[str]) -> bool:
    """Whether it has an output's name and lies beside its image, whoever made it (labels are no
    image to segment), or was written by ugmcl."""
    source = pairing.source_of(pairing.stem(path))
    return source is not None and (source in stems or is_output(path))
