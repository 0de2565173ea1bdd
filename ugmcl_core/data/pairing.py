"""Which files are images, and which labels belong to which image: by their names.

Imports neither torch nor NumPy: Slicer reads it in its own process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

SUFFIXES = (".nii.gz", ".seg.nrrd", ".nrrd", ".nhdr", ".nii", ".mha", ".mhd")
"""Of image files, longer ones first."""
LABEL_ENDINGS = ("-labels", "_labels", "-label", "_label", "-seg", "_seg", ".seg", ".label")
"""What the stem of a label map may have at its end, after that of its image."""
LABELS, SDF, UNCERTAINTY = "_labels", "_sdf", "_uncertainty"
SURFACE_ERROR = "_surface_error"
"""The same for the results of a segmentation; of several classes, each has a `_sdf_NAME`."""
MANIFEST = "manifest.json"
"""What the manifest of a result is called, or the last part of its name."""
_FOLDERS = (("images", "labels"), ("imagesTr", "labelsTr"))
_CHANNEL = re.compile(r"_\d{4}")  # as nnU-Net names the channels of a case
_RESULT = re.compile(r"(.+)(?:_labels|_uncertainty|_surface_error|_sdf(?:_[A-Za-z0-9.-]+)?)\Z")


@dataclass(frozen=True)
class Pair:
    """An image and its label map, or None."""

    name: str
    image: Path
    label: Path | None = None


def stem(path: str | Path) -> str:
    """The file's name without its (possibly double) image suffix."""
    name = Path(path).name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name if Path(path).is_dir() else Path(path).stem


def image_files(folder: str | Path) -> list[Path]:
    """The image files directly in ``folder``, sorted by name."""
    return sorted(
        p
        for p in Path(folder).iterdir()
        if p.is_file() and not p.name.startswith(".") and p.name.lower().endswith(SUFFIXES)
    )


def by_stem(folder: str | Path) -> dict[str, Path]:
    """The image files directly in ``folder`` by `stem`, sorted by name.

    Raises InputError if there is no such folder, and for two files of one stem.
    """
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in image_files(folder):
        _add(found, stem(path), path)
    return found


def is_result(name: str) -> bool:
    """Whether a file of this name is a result of a segmentation or its manifest."""
    return source_of(stem(name)) is not None or name.endswith(MANIFEST)


def source_of(stem: str) -> str | None:
    """The stem of the image that a file named like a result belongs to, else None."""
    match = _RESULT.match(stem)
    return match.group(1) if match else None


def pair_folder(folder: str | Path) -> list[Pair]:
    """The images in ``folder``, each with its label map, by name: ``images`` and ``labels`` in it
    if it has both, or ``imagesTr`` and ``labelsTr`` (`pair_folders`), otherwise the image files
    directly in it, of which ``scan-label.nrrd`` belongs to ``scan.nrrd`` (`LABEL_ENDINGS`, and
    .seg.nrrd).

    A label map without image, signed distances and uncertainties are left out. Raises InputError
    if there is no such folder, and where two images or the label maps of one have the same name.
    """
    folder = Path(folder)
    for images, labels in _FOLDERS:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            return pair_folders(folder / images, folder / labels)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for path in filter(_may_be_image, image_files(folder)):
        name = _image_of_label(path)
        _add(labels if name else images, name or stem(path), path)
    return [Pair(name, path, labels.get(name)) for name, path in images.items()]


def pair_folders(images: str | Path, labels: str | Path | None = None) -> list[Pair]:
    """The images in one folder, each with the label map in another that has its name, or its name
    and one of `LABEL_ENDINGS`; errors and what is left out as in `pair_folder`. The folder of a
    data set stands for the ``images`` (``imagesTr``) or ``labels`` (``labelsTr``) in it.

    As in data sets for nnU-Net, ``case_0000.nii.gz`` belongs to ``case.nii.gz``, and such a pair
    is called ``case``; InputError if it has further channels.
    """
    images, labels = _of_data_set(images, 0), labels and _of_data_set(labels, 1)
    exact = by_stem(labels) if labels is not None else {}
    image_of = _without_channel(by_stem(images), exact)
    ending: dict[str, Path] = {}
    for path in filter(_may_be_image, exact.values()):
        name = _image_of_label(path)
        if name in image_of and name not in exact and stem(path) not in image_of:
            _add(ending, name, path)
    found = {**ending, **exact}
    return [Pair(n, p, found.get(n)) for n, p in image_of.items() if _may_be_image(p)]


def left_over(images: str | Path, labels: str | Path | None) -> list[str]:
    """One line for each file in the two folders that `pair_folders` cannot use: label maps of
    which there is no image, and links that lead nowhere."""
    lines = []
    images, labels = _of_data_set(images, 0), labels and _of_data_set(labels, 1)
    for folder in filter(None, (images, labels)):
        for path in sorted(Path(folder).iterdir()):
            if path.is_symlink() and not path.exists():
                lines.append(f"{path}: the link leads nowhere; the file is left out")
    if labels is None:
        return lines
    pairs = pair_folders(images, labels)
    used = {pair.label for pair in pairs}
    by_lower = {pair.name.lower(): pair for pair in pairs}
    for path in by_stem(labels).values():
        if path in used or not _may_be_image(path):
            continue
        name = stem(path) if stem(path).lower() in by_lower else _image_of_label(path)
        alike = by_lower.get((name or "").lower())
        if alike is None:
            lines.append(f"{path}: no image of that name; the label is left out")
        elif alike.name != name:
            lines.append(
                f"{path}: left out, as {alike.image.name} differs in upper and lower case; rename "
                "one of them"
            )
    return lines


def _of_data_set(folder: str | Path, kind: int) -> Path:
    """The images (0) or labels (1) in the folder of a data set, any other folder as it is."""
    folder = Path(folder)
    if folder.is_dir() and not image_files(folder):
        inside = (folder / kinds[kind] for kinds in _FOLDERS)
        return next((path for path in inside if path.is_dir()), folder)
    return folder


def _without_channel(images: dict[str, Path], labels: Mapping[str, Path]) -> dict[str, Path]:
    """The images by stem, less the channel that nnU-Net adds where the label map has none."""
    named: dict[str, Path] = {}
    for name, path in images.items():
        case, channel = name[:-5], name[-5:]
        if _CHANNEL.fullmatch(channel) and case in labels and name not in labels:
            if case in images or f"{case}_0001" in images:
                raise InputError(
                    f"{path}: {case} has several images or channels, and one is supported; keep "
                    "the one that is meant in a folder of its own"
                )
            name = case
        named[name] = path
    return named


def _may_be_image(path: Path) -> bool:
    """Whether the file is not named like a signed distance or an uncertainty."""
    name = stem(path)
    return source_of(name) is None or name.endswith(LABELS)


def _image_of_label(path: Path) -> str | None:
    """The stem of the image of a file that is named like a label map, else None."""
    name = stem(path)
    if path.name.lower().endswith(".seg.nrrd"):
        return name
    ending = next((e for e in LABEL_ENDINGS if name.lower().endswith(e)), "")
    return name[: -len(ending)] or None if ending else None


def _add(found: dict[str, Path], name: str, path: Path) -> None:
    other = found.setdefault(name, path)
    if other != path:
        raise InputError(
            f"{other} and {path.name} have the same name; which one is meant? Move one away"
        )


def read_list(path: str | Path) -> list[str]:
    """The names in a list file: one a line, empty lines and # comments left out.

    Suffixes of image files are dropped. InputError if nothing can be read or a name is twice.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise InputError(f"{path}: cannot be read ({reason})") from None
    names = [line.split("#", 1)[0].strip() for line in lines]
    names = [stem(n) if n.lower().endswith(SUFFIXES) else n for n in names if n]
    if not names:
        raise InputError(f"{path}: the list is empty")
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise InputError(f"{path}: {twice[0]} is listed more than once; keep one line a case")
    return names
