"""The cases as the files that a fine-tuning reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ugmcl_core.data import pairing
from ugmcl_core.models.card import ClassInfo
from UGMCLSegmentationLib.errors import PanelError, explaining
from UGMCLSegmentationLib.panel.improve.cases import caseChecks, structures
from UGMCLSegmentationLib.panel.improve.cases.caseList import Contents
from UGMCLSegmentationLib.panel.improve.cases.cases import HOLDOUT, IGNORE, LABELED, Case
from UGMCLSegmentationLib.scene import channels, labelmaps, volumes
from UGMCLSegmentationLib.storage import runFolder


@dataclass(frozen=True)
class CaseListExport:
    """Cases that are ready to be written, the label of each of their segments, and the classes."""

    cases: tuple[Case, ...]
    values: tuple[dict[str, int], ...]
    classes: tuple[ClassInfo, ...]
    channels: tuple[str, ...] = ("image",)

    @property
    def hasIgnored(self) -> bool:
        return any(labelmaps.IGNORE_VALUE in v.values() for v in self.values)


def prepare(contents: Contents) -> CaseListExport:
    """Raises PanelError if something is missing."""
    used = [case for case in contents.cases if case.role != IGNORE]
    if reason := caseChecks.readiness(used):
        raise PanelError(reason)
    _checkFiles(used)
    classes = structures.allClasses(contents.structures, contents.classes)
    if not classes:
        raise PanelError(_("From scratch, the labels must be segmentations of the scene."))
    values = [
        structures.values(case, contents.structures, classes) if case.needsLabel else {}
        for case in used
    ]
    return CaseListExport(tuple(used), tuple(values), tuple(classes), contents.channels)


def _checkFiles(used: Sequence[Case]) -> None:
    """Raises PanelError for two cases that are one image: a volume of the scene and a file beside
    it, or files of two formats (case.nii.gz and case.nrrd). The model could learn from one of them
    while the other measures it."""
    known: dict[str, tuple[Case, str]] = {}
    ordered = sorted(used, key=lambda case: case.volumeNode is None)
    for case, path in [(c, path) for c in ordered for path in _filesOf(c)]:
        first, firstPath = known.setdefault(_place(path), (case, path))
        if first is case:
            continue
        if first.volumeNode is not None and case.volumeNode is None:
            text = _("{file} is loaded as {name}: set one of the two to Ignore.")
        elif firstPath != path:
            text = _("{file} and {other} are one case: set one of the two to Ignore.")
        else:
            continue  # loaded twice, as to draw in one of them
        raise PanelError(
            text.format(file=Path(path).name, other=Path(firstPath).name, name=first.name)
        )


def _filesOf(case: Case) -> list[str]:
    """The image files of a case; none of a volume that has none."""
    if case.volumeNode is None:
        return [os.path.realpath(image) for image in case.images]
    stored = [node.GetStorageNode() for node in case.imageNodes]
    return [
        os.path.realpath(storage.GetFullNameFromFileName())
        for storage in stored
        if storage is not None and storage.GetFileName()
    ]


def _place(path: str) -> str:
    """A file without its format: the same for all files of one image."""
    return os.path.join(os.path.dirname(path), pairing.stem(path))


def write(export: CaseListExport, folder: Path, mayIgnore: bool = False) -> Iterator[None]:
    """Write the images, the labels and the case list into a run's folder; `mayIgnore` if cases
    that are added later may have voxels that nobody annotated. Raises PanelError."""
    rows: list[dict[str, Any]] = []
    for number, (case, values) in enumerate(zip(export.cases, export.values, strict=True)):
        row = {"name": _unique(case.name, rows), "role": case.role}
        if case.volumeNode is None:
            row["image"] = list(case.images) if case.further else case.image
            if case.needsLabel:
                row["label"] = case.label
        else:
            yield from _writeCase(case, values, folder, f"{runFolder.CASES}/{number:03d}", row)
        rows.append(row)
    content = {
        "cases": rows,
        "classes": [_classEntry(info) for info in export.classes],
        "ignore": labelmaps.IGNORE_VALUE if export.hasIgnored or mayIgnore else None,
    }
    if len(export.channels) > 1:
        content["channels"] = list(export.channels)
    runFolder.write(folder / runFolder.CASE_LIST, json.dumps(content, indent=1))


def add(case: Case, contents: Contents, folder: Path) -> Iterator[None]:
    """Write a labeled case of the scene into a run's folder and its case list, where it takes the
    place of the unlabeled or labeled case of its name. Raises PanelError."""
    content = _read(folder)
    values = _valuesFor(case, contents, [entry["name"] for entry in content["classes"]])
    former = [row for row in content["cases"] if row["name"] == case.name]
    if any(row["role"] == HOLDOUT for row in former):
        raise PanelError(
            _("{name} is a hold-out case of the run, which is not learned from.").format(
                name=case.name
            )
        )
    number = len(list((folder / runFolder.CASES).iterdir()))  # no file is written twice
    row = {"name": case.name, "role": LABELED}
    yield from _writeCase(case, values, folder, f"{runFolder.CASES}/{number:03d}-added", row)
    content = _read(folder)
    content["cases"] = [r for r in content["cases"] if r["name"] != case.name] + [row]
    runFolder.write(folder / runFolder.CASE_LIST, json.dumps(content, indent=1))


def _valuesFor(case: Case, contents: Contents, known: Sequence[str]) -> dict[str, int]:
    """The labels of the segments of a case that joins a run with the `known` classes. Raises
    PanelError."""
    if case.problem:
        raise PanelError(case.problem)
    classes = structures.allClasses(contents.structures, contents.classes)
    if [info.name for info in classes] != known:
        raise PanelError(
            _("{name}: the structures changed since the run began; start it again to use them.")
            .format(name=case.name)
        )  # fmt: skip
    return structures.values(case, contents.structures, classes)


def _read(folder: Path) -> dict[str, Any]:
    """The case list of a run. Raises PanelError."""
    path = folder / runFolder.CASE_LIST
    with explaining(_("{path} cannot be read: {why}."), path=path):
        return json.loads(path.read_text(encoding="utf-8"))


def _writeCase(case: Case, values, folder: Path, stem: str, row: dict) -> Iterator[None]:
    paths = channels.paths(Path(f"{stem}.nrrd"), len(case.imageNodes))
    row["image"] = list(paths) if len(paths) > 1 else paths[0]
    for node, path in zip(case.imageNodes, paths, strict=True):
        yield from volumes.write(node, volumes.fullBox(node), folder / path)
    if case.needsLabel:
        row["label"] = f"{stem}-label.nrrd"
        path = folder / row["label"]
        if case.isEmpty:
            row["empty"] = True
            yield from labelmaps.writeEmpty(path, case.volumeNode)
        else:
            yield from labelmaps.write(path, case.segmentationNode, values, case.volumeNode)


def _classEntry(info: ClassInfo) -> dict[str, Any]:
    """Without `largest_component`: the base's or, of a new class, what the labels show counts."""
    return {key: value for key, value in asdict(info).items() if key != "largest_component"}


def _unique(name: str, rows: Sequence[dict]) -> str:
    taken, unique, number = {row["name"] for row in rows}, name, 2
    while unique in taken:
        unique, number = f"{name} ({number})", number + 1
    return unique
