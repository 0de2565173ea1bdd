"""The images that a user names on the command line: files, folders, DICOM series folders."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ..data import guarded, pairing
from ..data.pairing import Channels
from ..errors import InputError
from ..inference.result_files import is_output
from ..models.card import images_of_a_case
from ..models.model import Model


def find_images(
    named: Sequence[str], notice: Callable[[str], None]
) -> tuple[dict[str, Path], dict[str, InputError]]:
    """Images by the stem of their outputs, in the order given; and the errors of all that is not
    an image: it does not exist, is empty, cannot be read, or has the name of another.

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


def split(named: Sequence[str]) -> tuple[list[str], list[tuple[Path, ...]]]:
    """The single images that a user named, and those that form one case, joined by commas."""
    single, together = [], []
    for name in named:
        parts = name.split(",") if "," in name and not Path(name).expanduser().exists() else []
        if len(parts) > 1 and all(parts):
            single += parts
            together.append(tuple(Path(part).expanduser() for part in parts))
        else:
            single.append(name)
    return single, together


def cases_of(
    images: Mapping[str, Path],
    together: Sequence[tuple[Path, ...]],
    model: Model,
    channels: Channels | None,
) -> tuple[dict[str, tuple[Path, ...]], dict[str, InputError]]:
    """The images of each case by the stem of its outputs, in the order of the model's channels,
    and the errors of images that belong to none. ``together`` are images that the user said are
    one case, ``channels`` how the names of the others end, by default as `Channels` has it.

    Raises InputError for channels that the model does not have.
    """
    own = model.card.channels
    if channels is None:
        channels = Channels(own) if len(own) > 1 else Channels()
    else:
        channels = _in_order(channels, model)
    stems = {path: name for name, path in images.items()}
    found: dict[str, tuple[Path, ...]] = {}
    wrong: dict[str, InputError] = {}
    for paths in together:
        name = ",".join(map(str, paths))
        if unknown := [path for path in paths if path not in stems]:
            if all(path.exists() for path in unknown):  # else the error is known
                wrong[name] = InputError(
                    f"{unknown[0]}: is not one image; give a file or the folder of a series"
                )
        elif len(paths) != len(own):
            wrong[name] = InputError(
                f"{name}: these are {len(paths)} images of a case, and model {model.name} takes "
                f"{images_of_a_case(own)}"
            )
        else:
            found[stems[paths[0]]] = paths
    taken = {path for paths in together for path in paths}
    rest = {name: path for name, path in images.items() if path not in taken}
    cases, lines = pairing.grouped(rest, channels)
    for line in lines:
        wrong[line.split(": ")[0]] = InputError(line)
    return {**found, **cases}, wrong


def _in_order(channels: Channels, model: Model) -> Channels:
    """``channels`` in the order of the model's; InputError for others."""
    own = model.card.channels
    if len(own) == len(channels.names) == 1:  # a single channel's name says nothing
        return channels
    place = {name.casefold(): n for n, name in enumerate(channels.names)}
    if place.keys() != {name.casefold() for name in own}:
        raise InputError(
            f"--channels names {channels.text}, and model {model.name} takes "
            f"{images_of_a_case(own)}"
        )
    endings = channels.endings
    return Channels(own, tuple(endings[place[name.casefold()]] for name in own if endings))


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
    path: Path, notice: Callable[[str], None], around: tuple[Path, ...] = ()
) -> Iterator[tuple[Path, InputError | None]]:
    """The images in `path`, and what in it is not an image, with the reason. A link to one of the
    folders ``around`` it is not followed."""
    if path.is_dir():
        if (real := path.resolve()) in around:
            return
        around = (*around, real)
    try:
        inside = _inside(path, notice)
    except InputError as error:
        yield path, error
    except OSError as error:
        yield path, InputError(f"{path}: cannot be read ({error.strerror}); check its permissions")
    else:
        if inside is None:
            yield path, None
        for entry in inside or ():
            yield from _expanded(entry, notice, around)


def _inside(path: Path, notice: Callable[[str], None]) -> list[Path] | None:
    """The contents of a folder of images; None for a file and for a DICOM series."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the name")
    if not path.is_dir():
        return None
    files = pairing.image_files(path)
    stems = {pairing.stem(p) for p in files}
    seen = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    others = [p for p in seen if p not in files and not p.name.endswith(pairing.MANIFEST)]
    if images := [p for p in files if not _is_result(p, stems)]:
        for line in pairing.not_images(path):
            notice(line)
        return images
    if not others:
        raise InputError(
            f"{path}: the folder contains only results of ugmcl; give the images"
            if seen
            else f"{path}: the folder is empty; give one with images"
        )
    folders = [p for p in others if not p.is_file()]
    if folders and not guarded.dicom_series(path):
        for line in pairing.not_images(path, *folders):
            notice(line)
        return folders  # whatever lies beside them, such as a README or a DICOMDIR
    return None  # treated as a DICOM series; reading it fails if it is not one


def _is_result(path: Path, stems: set[str]) -> bool:
    """Whether it has an output's name and lies beside its image, whoever made it (labels are no
    image to segment), or was written by ugmcl."""
    source = pairing.source_of(pairing.stem(path))
    return source is not None and (source in stems or is_output(path))
