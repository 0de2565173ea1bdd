"""Finds, by file names, the images, the channels of each case, and the labels of each image.

Imports neither torch nor NumPy: Slicer reads it in its own process.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from . import dataset_json

SUFFIXES = (".nii.gz", ".seg.nrrd", ".nrrd", ".nhdr", ".nii", ".mha", ".mhd")
"""Of image files, longer ones first."""
LABEL_ENDINGS = ("-labels", "_labels", "-label", "_label", "-seg", "_seg", ".seg", ".label")
"""What may follow the image's stem in the stem of its label map."""
LABELS, SDF, UNCERTAINTY = "_labels", "_sdf", "_uncertainty"
SURFACE_ERROR = "_surface_error"
"""The same for the results of a segmentation; of several classes, each has a `_sdf_NAME`."""
OTHER_SUFFIXES = (
    ".hdr", ".img", ".img.gz", ".tif", ".tiff", ".vtk", ".gipl", ".gipl.gz", ".mnc", ".mgh",
    ".mgz", ".nii.bz2", ".nii.xz", ".nii.zip", ".nrrd.gz", ".mha.gz",
)  # fmt: skip
"""Of image files that are not read."""
MANIFEST = "manifest.json"
"""What the manifest of a result is called, or the last part of its name."""
_FOLDERS = (("images", "labels"), ("imagesTr", "labelsTr"))
_CHANNEL = re.compile(r"_\d{4}")  # as nnU-Net names the channels of a case
_RESULT = re.compile(r"(.+)(?:_labels|_uncertainty|_surface_error|_sdf(?:_[A-Za-z0-9.-]+)?)\Z")


@dataclass(frozen=True)
class Channels:
    """The images of a case: the ``names`` of its channels, in the order of the network's input.

    Each may be a file of its own, whose stem is the case's name with one of the ``endings``
    behind it. Without endings these are ``_NAME`` or, as in data sets for nnU-Net, ``_0000``,
    ``_0001``, ...; if no file ends so, one file holds all channels of a case.
    """

    names: tuple[str, ...] = ("image",)
    endings: tuple[str, ...] = ()

    @property
    def is_one_image(self) -> bool:
        """Whether every image file is a case of its own."""
        return len(self.names) == 1 and not self.endings

    @property
    def text(self) -> str:
        """The names for people."""
        return ", ".join(self.names)

    def __str__(self) -> str:  # as --channels takes them
        ends = [f"={ending}" for ending in self.endings] or [""] * len(self.names)
        return ",".join(name + end for name, end in zip(self.names, ends, strict=True))


@dataclass(frozen=True)
class Pair:
    """An image and its label map, or None; ``further`` are the files of the channels after the
    first, where each has its own."""

    name: str
    image: Path
    label: Path | None = None
    further: tuple[Path, ...] = ()


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


def not_images(folder: str | Path, *known: Path | None) -> list[str]:
    """A line for each link in ``folder`` that leads nowhere, and for what else `image_files`
    leaves out and a user may miss: folders, DICOM files, other formats. ``known`` is not named."""
    lines, folders, slices, others = [], [], [], []
    for path in sorted(Path(folder).iterdir()):
        name = path.name.lower()
        if name.startswith(".") or path in known:
            continue
        if not path.exists():
            lines.append(f"{path}: the link leads nowhere; the file is left out")
        elif path.is_dir():
            folders.append(path.name)
        elif name.endswith(OTHER_SUFFIXES) or (name.endswith(SUFFIXES) and not path.is_file()):
            others.append(path.name)
        elif not name.endswith(SUFFIXES) and _may_be_slice(path):
            slices.append(path.name)
    for names, what in (
        (folders, "the image files in it are taken, its folders are left out"),
        (others, "left out, since they are not NRRD, NIfTI or MetaImage files"),
    ):
        if names:
            shown = ", ".join(names[:3]) + (" and others" if names[3:] else "")
            lines.append(f"{folder}: {what} ({shown})")
    if slices:
        lines.append(f"{folder}: the image files in it are taken, its DICOM files are left out; "
                     "move them to a folder of their own")  # fmt: skip
    return lines


def _may_be_slice(path: Path) -> bool:
    """Whether it begins as a DICOM file does."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def by_stem(folder: str | Path) -> dict[str, Path]:
    """The image files directly in ``folder`` by `stem`, sorted by name.

    Raises InputError if there is no such folder, and for two files of one stem.
    """
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; check the name")
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


def grouped(
    files: Mapping[str, Path], channels: Channels, cases: Container[str] = ()
) -> tuple[dict[str, tuple[Path, ...]], list[str]]:
    """The images of each case among ``files``, which are given by stem; and a line for each case
    that lacks one, and, unless ``channels`` say how the files end, for those that are no channels.

    Stems in ``cases`` are names of cases, whatever they end with. Raises InputError where the
    names do not show which file is which channel.
    """
    if channels.is_one_image:
        return {name: (path,) for name, path in files.items()}, []
    endings = _endings(files, channels, cases)
    if not endings:
        return {name: (path,) for name, path in files.items()}, []
    found: dict[str, dict[int, Path]] = {}
    others = []
    for name, path in files.items():
        number = None if name in cases else _ending(name, endings)
        if number is None:
            others.append(path)
            continue
        case = name[: -len(endings[number])]
        former = found.setdefault(case, {}).setdefault(number, path)
        if former != path:
            raise InputError(f"{former} and {path.name} are both the {channels.names[number]} of "
                             f"{case}; move one away")  # fmt: skip
    whole = {name: parts for name, parts in found.items() if len(parts) == len(endings)}
    lines = []
    for case in sorted(found.keys() - whole.keys()):
        lacking = [n for n in range(len(endings)) if n not in found[case]]
        shown = ", ".join(f"{channels.names[n]} ({case}{endings[n]})" for n in lacking)
        beside = next(iter(found[case].values()))
        lines.append(f"{beside}: {case} has no {shown}; the case is left out")
    if others and not channels.endings:  # which the user gave, to choose
        more = f" and {len(others) - 1} more are" if others[1:] else " is"
        lines.append(f"{others[0]}{more} left out: channels end with {', '.join(endings)}")
    order = range(len(endings))
    return {name: tuple(whole[name][n] for n in order) for name in sorted(whole)}, lines


def _endings(
    files: Mapping[str, Path], channels: Channels, cases: Container[str]
) -> tuple[str, ...]:
    """The endings of the channels' files; empty if each file holds all channels of a case."""
    if channels.endings:
        return channels.endings
    stems = [name for name in files if name not in cases]
    named = tuple(f"_{name}" for name in channels.names)
    by_name = next((n for n in stems if _ending(n, named) is not None), None)
    numbers = {n: int(n[-4:]) for n in stems if _CHANNEL.fullmatch(n[-5:])}
    if by_name is None and not numbers:
        return ()
    if by_name is None:
        beyond = max(numbers, key=lambda n: numbers[n])
        if numbers[beyond] < len(channels.names):
            return tuple(f"_{n:04d}" for n in range(len(channels.names)))
        raise InputError(
            f"{files[beyond]}: there are more channels than {channels.text}; name those that are "
            "meant, as in --channels t1=_0000,flair=_0003"
        )
    if by_number := next((n for n in numbers if _ending(n, named) is None), None):
        raise InputError(
            f"{files[by_name]} is named by its channel and {files[by_number].name} by a number; "
            "say which are meant, as in --channels t1=_t1,flair=_flair"
        )
    return named


def _ending(name: str, endings: Sequence[str]) -> int | None:
    """The index of the longest of the ``endings`` that a stem has, or None."""
    fitting = [n for n, e in enumerate(endings) if name.lower().endswith(e.lower())
               and len(name) > len(e)]  # fmt: skip
    return max(fitting, key=lambda n: len(endings[n]), default=None)


def numbered_channels(
    files: Mapping[str, Path], cases: Container[str], folder: str | Path
) -> Channels | None:
    """The channels of the cases, if ``files`` (by stem) have the names that nnU-Net gives to
    several: CASE_0000, CASE_0001, ..., with CASE among the ``cases``, the stems of label maps.
    They are named as in the dataset.json beside ``folder``, else by their numbers; None if there
    is one image a case."""
    numbers = [
        int(name[-4:])
        for name in files
        if _CHANNEL.fullmatch(name[-5:]) and name[:-5] in cases and name not in cases
    ]
    if not numbers or max(numbers) == 0:
        return None
    names = described_channels(folder)
    if len(names) <= max(numbers):
        names = tuple(f"{n:04d}" for n in range(max(numbers) + 1))
    return Channels(names)


def described_channels(folder: str | Path) -> tuple[str, ...]:
    """The names of the channels that the dataset.json of a folder of images gives; empty without,
    and if two are the same."""
    try:
        dataset = dataset_json.read_of(folder)
    except InputError:
        return ()
    names = dataset.channels if dataset is not None else ()
    return names if len(set(names)) == len(names) else ()


def pair_folder(folder: str | Path, channels: Channels | None = None) -> list[Pair]:
    """The images in ``folder``, each with its label map, by name: ``images`` and ``labels`` in it
    if it has both, or ``imagesTr`` and ``labelsTr`` (`pair_folders`), otherwise the image files
    directly in it, of which ``scan-label.nrrd`` belongs to ``scan.nrrd`` (`LABEL_ENDINGS`, and
    .seg.nrrd).

    A label map without image, signed distances and uncertainties are left out. Raises InputError
    if there is no such folder, and where two images or the label maps of one have the same name.
    """
    return _paired_in(folder, channels)[0]


def left_over_in(folder: str | Path, channels: Channels | None = None) -> list[str]:
    """`left_over` of what `pair_folder` pairs."""
    images, labels = _folders_in(Path(folder))
    if labels is not None:
        return left_over(images, labels, channels)
    pairs, lines = _paired_in(images, channels)
    labels_in = filter(_image_of_label, image_files(images))
    return [*not_images(images), *lines, *_unpaired(labels_in, pairs)]


def _folders_in(folder: Path) -> tuple[Path, Path | None]:
    """The folders of images and of labels in ``folder``; itself where it holds both alike."""
    for images, labels in _FOLDERS:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            return folder / images, folder / labels
    return folder, None


def _paired_in(
    folder: str | Path, channels: Channels | None
) -> tuple[list[Pair], list[str]]:
    folder, in_labels = _folders_in(Path(folder))
    if in_labels is not None:
        return _paired(folder, in_labels, channels)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the name")
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for path in filter(_may_be_image, image_files(folder)):
        name = _image_of_label(path)
        _add(labels if name else images, name or stem(path), path)
    channels = channels or numbered_channels(images, labels, folder) or Channels()
    cases, lines = grouped(images, channels, labels)
    pairs = [Pair(n, paths[0], labels.get(n), paths[1:]) for n, paths in cases.items()]
    return pairs, lines


def pair_folders(
    images: str | Path, labels: str | Path | None = None, channels: Channels | None = None
) -> list[Pair]:
    """The images in one folder, each with the label map in another that has its name, or its name
    and one of `LABEL_ENDINGS`; errors and what is left out as in `pair_folder`. The folder of a
    data set stands for the ``images`` (``imagesTr``) or ``labels`` (``labelsTr``) in it.

    As in data sets for nnU-Net, ``case_0000.nii.gz`` belongs to ``case.nii.gz``, and such a pair
    is called ``case``; with ``case_0001.nii.gz`` beside it the case has several ``channels``.
    """
    return _paired(images, labels, channels)[0]


def _paired(
    images: str | Path, labels: str | Path | None, channels: Channels | None
) -> tuple[list[Pair], list[str]]:
    """`pair_folders`, and a line for each image file that belongs to no case."""
    images, labels = of_data_set(images, 0), labels and of_data_set(labels, 1)
    if labels is not None and images.is_dir() and labels.is_dir() and images.samefile(labels):
        return _paired_in(images, channels)
    exact = by_stem(labels) if labels is not None else {}
    files = {name: path for name, path in by_stem(images).items() if _may_be_image(path)}
    bases = exact.keys() | {_image_of_label(path) for path in exact.values()}
    channels = channels or numbered_channels(files, bases, images) or Channels()
    if channels.is_one_image:
        image_of, lines = {n: (p,) for n, p in _without_channel(files, exact).items()}, []
    else:
        image_of, lines = grouped(files, channels, exact)
    ending: dict[str, Path] = {}
    for path in filter(_may_be_image, exact.values()):
        name = _image_of_label(path)
        if name in image_of and name not in exact and stem(path) not in image_of:
            _add(ending, name, path)
    found = {**ending, **exact}
    return [Pair(n, p[0], found.get(n), p[1:]) for n, p in image_of.items()], lines


def left_over(
    images: str | Path, labels: str | Path | None, channels: Channels | None = None
) -> list[str]:
    """One line for each file in the two folders that `pair_folders` cannot use: label maps of
    which there is no image, cases that lack a channel, and links that lead nowhere."""
    images, labels = of_data_set(images, 0), labels and of_data_set(labels, 1)
    if labels is not None and images.samefile(labels):
        return left_over_in(images, channels)
    folders = filter(None, (images, labels))
    lines = [line for folder in folders for line in not_images(folder, images, labels)]
    pairs, incomplete = _paired(images, labels, channels)
    lines += incomplete
    if labels is None:
        return lines
    return lines + _unpaired(by_stem(labels).values(), pairs)


def _unpaired(labels: Iterable[Path], pairs: Sequence[Pair]) -> list[str]:
    """A line for each of the label maps that is in none of the pairs."""
    lines = []
    used = {pair.label for pair in pairs}
    by_lower = {pair.name.lower(): pair for pair in pairs}
    for path in labels:
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
        elif alike.label is not None:
            lines.append(f"{path}: left out, as {alike.label.name} is the label of {name}")
    return lines


def of_data_set(folder: str | Path, kind: int) -> Path:
    """The images (0) or labels (1) in the folder of a data set, any other folder as it is."""
    folder = Path(folder)
    if folder.is_dir() and not image_files(folder):
        inside = (folder / kinds[kind] for kinds in _FOLDERS)
        return next((path for path in inside if path.is_dir()), folder)
    return folder


def _without_channel(images: Mapping[str, Path], labels: Mapping[str, Path]) -> dict[str, Path]:
    """The images by stem, less the channel that nnU-Net adds where the label map has none."""
    named: dict[str, Path] = {}
    for name, path in images.items():
        case, channel = name[:-5], name[-5:]
        if _CHANNEL.fullmatch(channel) and case in labels and name not in labels:
            if case in images or f"{case}_0001" in images:
                raise InputError(
                    f"{path}: {case} has several images or channels; name those that are meant, "
                    "as in --channels t1=_0000,t2=_0001"
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
        raise InputError(
            f"{path}: cannot be read ({reason}); give a text file with one name a line"
        ) from None
    names = [line.split("#", 1)[0].strip() for line in lines]
    names = [stem(n) if n.lower().endswith(SUFFIXES) else n for n in names if n]
    if not names:
        raise InputError(f"{path}: the list is empty; write one name a line")
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise InputError(f"{path}: {twice[0]} is listed more than once; keep one line a case")
    return names
