"""Cases that are files beside the scene: used for learning, never loaded."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel.improve.cases.cases import LABELED, ROLES, UNLABELED, Case, Rank
from UGMCLSegmentationLib.scene import labelmaps

_SUFFIXES = (".nrrd", ".nii.gz", ".nii", ".mha", ".nhdr", ".mhd")
_LABEL_ENDS = ("-labels", "_labels", "-label", "_label", "-seg", "_seg", ".seg", ".label")
_RESULT = re.compile(r"_(uncertainty|sdf(_[A-Za-z0-9.-]+)?)$")  # as ugmcl_core names results


@dataclass(frozen=True)
class CaseFile:
    """An image file, its label map ("" without one) and its role; `problem` and `notice` say what
    keeps the label from being the image's and what is done about it, "" for nothing."""

    image: str
    label: str
    role: str
    problem: str = ""
    rank: Rank | None = None
    notice: str = ""

    def case(self) -> Case:
        needsLabel = self.role not in (UNLABELED, "ignore")
        problem = self.problem if needsLabel else ""
        if not Path(self.image).is_file():
            problem = _("{file} is not there any more.").format(file=self.image)
        elif needsLabel and not self.label:
            problem = _("{file} has no label map beside it.").format(file=Path(self.image).name)
        return Case(
            name=stem(Path(self.image)), role=self.role, image=self.image, label=self.label,
            rank=self.rank, problem=problem if self.role != "ignore" else "",
            notices=(self.notice,) if self.notice and needsLabel else (),
        )  # fmt: skip


def find(folder: Path) -> list[CaseFile]:
    """The images in a folder; with a label map of the same name in `labels` beside `images`, or of
    the name with -label at its end in the same folder, they are labeled.

    Raises PanelError if there is none.
    """
    try:
        images, labelMaps = _pairs(folder)
    except OSError as error:
        raise PanelError(
            _("{folder} cannot be read: {why}.").format(folder=folder, why=error.strerror)
        ) from None
    if not images:
        raise PanelError(
            _("{folder} holds no images ({kinds}).").format(
                folder=folder, kinds=" ".join(_SUFFIXES)
            )
        )
    found = []
    for image in images:
        label = labelMaps.get(stem(image))
        problem, notice = _mismatch(image, label) if label else ("", "")
        role = LABELED if label else UNLABELED
        found.append(CaseFile(str(image), str(label or ""), role, problem, notice=notice))
    return found


def toText(files: list[CaseFile]) -> str:
    """As the parameter node keeps them."""
    rows = []
    for file in files:
        rank = file.rank and [file.rank.uncertainty, file.rank.predictedDice, file.rank.model]
        rows.append([file.image, file.label, file.role, file.problem, rank, file.notice])
    return json.dumps(rows)


def fromText(text: str) -> list[CaseFile]:
    try:
        rows = json.loads(text or "[]")
        return [
            CaseFile(image, label, role if role in ROLES else UNLABELED, problem,
                     Rank(*rank) if rank else None, notice)
            for image, label, role, problem, rank, notice in rows
        ]  # fmt: skip
    except (ValueError, TypeError):
        return []


def merged(known: list[CaseFile], added: list[CaseFile]) -> list[CaseFile]:
    """With the roles that the user gave to those that were there before."""
    roles = {file.image: file.role for file in known}
    fresh = [replace(file, role=roles.get(file.image, file.role)) for file in added]
    new = {file.image for file in fresh}
    return [file for file in known if file.image not in new] + fresh


def stem(path: Path) -> str:
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def _pairs(folder: Path) -> tuple[list[Path], dict[str, Path]]:
    """The images, and the label maps by the names of their images."""
    inner, beside = folder / "images", folder / "labels"
    if inner.is_dir() and beside.is_dir():
        named = {stem(path): path for path in _files(beside)}
        bare = {_imageName(name) or name: path for name, path in named.items()}
        return _files(inner), {**bare, **named}
    images, named = [], {}
    for path in _files(folder):
        if name := _imageName(stem(path)):
            named[name] = path
        else:
            images.append(path)
    return images, named


def _imageName(name: str) -> str:
    """The name of the image whose label map has this name; "" if it is no label map's."""
    end = next((e for e in _LABEL_ENDS if name.lower().endswith(e)), "")
    return name[: -len(end)] if end else ""


def _files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir()
        if path.is_file() and path.name.lower().endswith(_SUFFIXES)
        and not path.name.startswith(".") and not _RESULT.search(stem(path))
    )  # fmt: skip


def _mismatch(image: Path, label: Path) -> tuple[str, str]:
    """What keeps the label from being the image's, and what is done about what does not fit, read
    from the headers; "" for nothing."""
    import SimpleITK as sitk  # here: it costs a quarter of a second

    headers = []
    for path in (image, label):
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            return _("{file} cannot be read.").format(file=path.name), ""
        headers.append(reader)
    sizes = [reader.GetSize() for reader in headers]
    if len(sizes[0]) == len(sizes[1]) == 3:
        # from voxels of the image to voxels of the label
        matrix = np.linalg.inv(_toWorld(headers[1])) @ _toWorld(headers[0])
        isSame = labelmaps.isSameGrid(matrix, sizes[0]) and not np.round(matrix[:3, 3]).any()
        if isSame and sizes[0] == sizes[1]:
            return "", ""
        if not isSame:
            if not labelmaps.overlaps(matrix, sizes[0], sizes[1][::-1]):
                text = _("{label} lies outside of {image}.")
                return text.format(label=label.name, image=image.name), ""
            text = _("{name}: {label} has another geometry and will be resampled.")
            return "", text.format(name=stem(image), label=label.name)
    text = _("{label} has other dimensions ({a}) than {image} ({b}).")
    return text.format(
        label=label.name, image=image.name, a="x".join(map(str, sizes[1])),
        b="x".join(map(str, sizes[0])),
    ), ""  # fmt: skip


def _toWorld(header) -> np.ndarray:
    """The matrix from voxels to mm of a file whose header was read."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(header.GetDirection(), (3, 3)) * header.GetSpacing()
    matrix[:3, 3] = header.GetOrigin()
    return matrix
