"""Cases that are files beside the scene: the training reads them, the scene does not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from ugmcl_core.data import pairing
from UGMCLSegmentationLib.errors import PanelError, explaining
from UGMCLSegmentationLib.panel.improve.cases.cases import LABELED, ROLES, UNLABELED, Case, Rank
from UGMCLSegmentationLib.scene import labelmaps, results


@dataclass(frozen=True)
class CaseFile:
    """An image file, its label map ("" without one) and its role; see `_mismatch` for `problem`
    and `notice`. `further` are the files of the other channels."""

    image: str
    label: str
    role: str
    problem: str = ""
    rank: Rank | None = None
    notice: str = ""
    further: tuple[str, ...] = ()

    def case(self, channels: Sequence[str] = ("image",)) -> Case:
        needsLabel = self.role not in (UNLABELED, "ignore")
        problem = self.problem if needsLabel else ""
        missing = next((f for f in (self.image, *self.further) if not Path(f).is_file()), None)
        if missing is not None:
            problem = _("{file} does not exist any more.").format(file=missing)
        elif self.further and len(self.further) + 1 != len(channels):
            problem = _("{name} has {n} images, and a case has {count} here.").format(
                name=pairing.stem(self.image), n=len(self.further) + 1, count=len(channels)
            )
        elif needsLabel and not self.label:
            problem = _("{file} has no label map beside it.").format(file=Path(self.image).name)
        return Case(
            name=pairing.stem(self.image), role=self.role, image=self.image, label=self.label,
            rank=self.rank, problem=problem if self.role != "ignore" else "",
            notices=(self.notice,) if self.notice and needsLabel else (), further=self.further,
        )  # fmt: skip


def find(
    folder: Path, names: Sequence[str] = ("image",)
) -> tuple[list[CaseFile], list[str]]:
    """The cases in a folder, labeled where it has their label maps (`pairing.pair_folder`), each
    with an image for each of the channels' `names`; and what is left out, as it lacks one,
    belongs to nothing or cannot be read.

    Raises PanelError if there is none, and where names are ambiguous.
    """
    with explaining(_("{folder} cannot be read: {why}."), folder=folder):
        channels = pairing.Channels(tuple(names)) if len(names) > 1 else None
        pairs = pairing.pair_folder(folder, channels)
        leftOver = pairing.left_over_in(folder, channels)
    if not pairs:
        raise PanelError(
            _("{folder} holds no images ({kinds}).").format(
                folder=folder, kinds=", ".join(pairing.SUFFIXES)
            )
        )
    found = []
    for pair in pairs:
        image, label = pair.image, pair.label
        broken = [p.name for p in (image, *pair.further) if _header(p) is None]
        if broken:
            text = _("{file} cannot be read and was left out: get it again.")
            leftOver = [*leftOver, text.format(file=broken[0])]
            continue
        problem, notice = _mismatch(image, label) if label else ("", "")
        role = LABELED if label else UNLABELED
        further = tuple(map(str, pair.further))
        file = CaseFile(str(image), str(label or ""), role, problem, None, notice, further)
        found.append(file)
    return found, leftOver


def toText(files: list[CaseFile]) -> str:
    """The text that the parameter node stores."""
    rows = []
    for file in files:
        rank = file.rank and [file.rank.uncertainty, file.rank.predictedDice, file.rank.model]
        row = [file.image, file.label, file.role, file.problem, rank, file.notice]
        rows.append([*row, file.further] if file.further else row)
    return json.dumps(rows)


def fromText(text: str) -> list[CaseFile]:
    try:
        return [
            CaseFile(image, label, role if role in ROLES else UNLABELED, problem,
                     Rank(*rank) if rank else None, notice, tuple(further[0]) if further else ())
            for image, label, role, problem, rank, notice, *further in results.fromJson(text, list)
        ]  # fmt: skip
    except (ValueError, TypeError):
        return []


def changed(text: str, case: Case, **changes: Any) -> str:
    """The text with changes to the file of a case."""
    files = fromText(text)
    return toText([replace(f, **changes) if f.image == case.image else f for f in files])


def merged(known: list[CaseFile], added: list[CaseFile]) -> list[CaseFile]:
    """Both lists together; known files keep the role that the user chose."""
    roles = {file.image: file.role for file in known}
    fresh = [replace(file, role=roles.get(file.image, file.role)) for file in added]
    new = {file.image for file in fresh}
    return [file for file in known if file.image not in new] + fresh


def _mismatch(image: Path, label: Path) -> tuple[str, str]:
    """Why the label does not fit the image and what will be done about it, by the headers; "" for
    none."""
    headers = [_header(path) for path in (image, label)]
    for path, header in zip((image, label), headers, strict=True):
        if header is None:
            return _("{file} cannot be read.").format(file=path.name), ""
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
            return "", text.format(name=pairing.stem(image), label=label.name)
    text = _("{label} has other dimensions ({a}) than {image} ({b}).")
    return text.format(
        label=label.name, image=image.name, a="x".join(map(str, sizes[1])),
        b="x".join(map(str, sizes[0])),
    ), ""  # fmt: skip


def _header(path: Path) -> Any:
    """A reader of ITK that has read the header of the file, None if it could not."""
    import SimpleITK as sitk  # here: it costs a quarter of a second

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    return reader


def _toWorld(header) -> np.ndarray:
    """The matrix from voxels to mm of a file whose header was read."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(header.GetDirection(), (3, 3)) * header.GetSpacing()
    matrix[:3, 3] = header.GetOrigin()
    return matrix
