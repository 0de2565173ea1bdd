"""Results as label map files. A file is written completely or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from ugmcl_core import files
from UGMCLSegmentationLib.errors import PanelError, explaining
from UGMCLSegmentationLib.parameters import FORMATS, PATTERN
from UGMCLSegmentationLib.scene import results

KEYS = ("result", "name", "model", "number")  # that a pattern of file names may contain


def export(
    segmentationNodes: Sequence, folder: Path, suffix: str, pattern: str = PATTERN,
    mayReplace: Callable[[list[Path]], bool] | None = None,
) -> list[Path]:  # fmt: skip
    """Write one file for each segmentation; returns their paths. A folder that does not exist is
    made. Raises PanelError.

    In the `pattern` of their names {result} is the segmentation's name, {name} the volume's,
    {model} the model's and {number} counts from 1. If files of those names exist, `mayReplace`
    decides once for all of them, and nothing is written if it returns False; without it the new
    names are numbered. A file that other data of the scene is stored in is never replaced.
    """
    if suffix not in FORMATS:
        raise PanelError(_("Unknown format {suffix}.").format(suffix=suffix))
    _checkFolder(folder)
    if not segmentationNodes:
        raise PanelError(_("There is no result to export: segment a volume first."))
    paths: list[Path] = []
    for number, node in enumerate(segmentationNodes, start=1):
        name = _named(pattern, node, number)
        paths.append(_freeName(folder, name, suffix, paths, mayExist=mayReplace is not None))
    existing = {path: n for path, n in zip(paths, segmentationNodes, strict=True) if path.exists()}
    _refuseStored(existing)
    if existing and not mayReplace(list(existing)):
        return []
    makeFolder(folder)
    for node, path in zip(segmentationNodes, paths, strict=True):
        _writeWhole(node, path, suffix)
    return paths


def makeFolder(folder: Path) -> None:
    """Make the folder to export to unless it is there. Raises PanelError."""
    _checkFolder(folder)
    text = _("The folder {folder} cannot be made: {why}.")
    with explaining(text, folder=folder):
        folder.mkdir(parents=True, exist_ok=True)


def _checkFolder(folder: Path) -> None:
    """Raise PanelError unless it is a folder, or may become one where the user expects it: a part
    of a path would lie in whatever folder Slicer was started in."""
    if folder.exists() and not folder.is_dir():
        raise PanelError(_("{folder} is a file: choose a folder.").format(folder=folder))
    if not folder.is_absolute() and (not folder.name or not folder.is_dir()):
        raise PanelError(_("Choose a folder to export to, by its whole path."))


def _named(pattern: str, node, number: int) -> str:
    source = results.sourceOf(node)
    values = {
        "result": node.GetName(),
        "name": source.GetName() if source is not None else node.GetName(),
        "model": Path(results.summary(node).get("model") or "").name,
        "number": number,
    }
    try:
        return pattern.format(**values) if pattern.strip() else node.GetName()
    except (KeyError, ValueError, IndexError, AttributeError):
        raise PanelError(
            _("{pattern} is not a pattern of file names: it may contain {keys}.").format(
                pattern=pattern, keys=", ".join("{" + key + "}" for key in KEYS)
            )
        ) from None


def _freeName(folder: Path, name: str, suffix: str, taken: Sequence[Path], mayExist: bool) -> Path:
    """A file name that all systems accept and that no other result of this export has."""
    stem = re.sub(r"[^\w.\- ]+", "_", name).strip(" .") or "segmentation"
    path, number = folder / (stem + suffix), 2
    while path in taken or (not mayExist and path.exists()):
        path, number = folder / f"{stem}_{number}{suffix}", number + 1
    return path


def _refuseStored(existing: Mapping[Path, Any]) -> None:
    """Raise PanelError if another node of the scene is stored in a file that would be replaced: it
    may be the scan itself."""
    targets = {_identity(path): (path, node) for path, node in existing.items()}
    targets.pop(None, None)
    for node in slicer.util.getNodesByClass("vtkMRMLStorableNode") if targets else ():
        for file in _filesOf(node):
            path, owner = targets.get(_identity(file), (file, node))
            if owner is not node:
                text = _(
                    "{path} is the file of {name}, which is in the scene, so it is not replaced: "
                    "choose another folder or other names."
                )
                raise PanelError(text.format(path=path, name=node.GetName()))


def _identity(path: str | Path) -> tuple[int, int] | None:
    """A key that is equal for all paths to the same file; None without a file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _filesOf(node) -> set[str]:
    """The files that a node is stored in; a DICOM volume may have hundreds."""
    files = set()
    for index in range(node.GetNumberOfStorageNodes()):
        storage = node.GetNthStorageNode(index)
        if storage is None:
            continue
        for number in range(-1, storage.GetNumberOfFileNames()):  # -1 is the first of them
            files.add(storage.GetFullNameFromNthFileName(number))
    return files - {None, ""}


def _writeWhole(node, path: Path, suffix: str) -> None:
    with explaining(), files.whole_file(path) as partial:
        isWritten = _write(node, partial, suffix)
        if not isWritten or not partial.is_file() or partial.stat().st_size == 0:
            raise files.unwritable(path, OSError(_("nothing was written")))


def _write(node, path: Path, suffix: str) -> bool:
    if suffix == ".seg.nrrd":
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(path))
        return bool(storage.WriteData(node))
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    storage.SetUseCompression(True)
    return bool(storage.WriteData(labelmap(node)))


def labelmap(segmentationNode):
    """The segments as one label map on the source's grid (a node outside of the scene).

    Segments have the values of the model's classes; segments that the user added come after those.
    """
    geometry = slicer.vtkOrientedImageData()
    serialized = segmentationNode.GetSegmentation().GetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    )
    if not slicer.vtkSegmentationConverter.DeserializeImageGeometry(serialized, geometry, False):
        raise PanelError(
            _("{name} has no reference geometry.").format(name=segmentationNode.GetName())
        )
    ids, values = _values(segmentationNode)
    merged = slicer.vtkOrientedImageData()
    segmentationNode.GenerateMergedLabelmapForAllSegments(
        merged, slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY, geometry, ids
    )
    array = vtk_to_numpy(merged.GetPointData().GetScalars())
    lookup = np.array([0, *values], np.uint16 if max(values, default=0) > 255 else np.uint8)
    node = slicer.vtkMRMLLabelMapVolumeNode()
    node.SetName(segmentationNode.GetName())
    matrix = vtk.vtkMatrix4x4()
    merged.GetImageToWorldMatrix(matrix)
    image = vtk.vtkImageData()
    image.SetDimensions(*merged.GetDimensions())
    isByte = lookup.itemsize == 1
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR if isByte else vtk.VTK_UNSIGNED_SHORT, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = lookup[array]
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(matrix)
    return node


def _values(segmentationNode) -> tuple[vtk.vtkStringArray, list[int]]:
    ids = vtk.vtkStringArray()
    known: list[int | None] = []
    for identifier, segment in results.segmentsOf(segmentationNode):
        ids.InsertNextValue(identifier)
        text = results.classOf(segment)
        known.append(int(text) if text.isdigit() and int(text) not in known else None)
    free = max((v for v in known if v is not None), default=0) + 1
    values = []
    for value in known:
        if value is None:
            value, free = free, free + 1
        values.append(value)
    return ids, values
