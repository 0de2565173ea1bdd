"""qSlicerCoreIOManager: read and write nodes with the real storage nodes and logics."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import slicer

# Type of file, ending, class of the node. The first ending that fits decides.
_KINDS: list[tuple[str, tuple[str, ...], str]] = [
    ("SceneFile", (".mrml", ".mrb"), ""),
    ("SegmentationFile", (".seg.nrrd", ".seg.nhdr", ".seg.vtm"), "vtkMRMLSegmentationNode"),
    ("MarkupsFile", (".mrk.json",), ""),
    ("TransformFile", (".h5", ".tfm"), "vtkMRMLTransformNode"),
    ("TableFile", (".csv", ".tsv"), "vtkMRMLTableNode"),
    ("ColorTableFile", (".ctbl", ".cxml"), "vtkMRMLColorTableNode"),
    ("TextFile", (".txt", ".json", ".xml"), "vtkMRMLTextNode"),
    ("ModelFile", (".vtk", ".vtp", ".stl", ".ply", ".obj"), "vtkMRMLModelNode"),
    ("VolumeFile", (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".dcm", ".tif"), ""),
]


class UnsupportedFile(NotImplementedError):
    """This stand-in has no reader for the file."""


class CoreIOManager:
    def fileType(self, path: str) -> str:
        name = os.fspath(path).lower()
        for kind, endings, _ in _KINDS:
            if name.endswith(endings):
                return kind
        return "NoFile"

    def loadNodes(
        self, kind: str, properties: dict[str, Any], loaded: Any = None, messages: Any = None
    ) -> bool:
        path = str(properties["fileName"])
        if kind == "SceneFile":
            return load_scene(path, bool(properties.get("clear", False)))
        if not os.path.exists(path):
            return False
        node = self._load(kind, path, properties)
        if node is None:
            return False
        if properties.get("name"):
            node.SetName(slicer.mrmlScene.GenerateUniqueName(properties["name"]))
        if loaded is not None:
            loaded.AddItem(node)
        return True

    def _load(self, kind: str, path: str, properties: dict[str, Any]) -> Any:
        name = Path(path).name.split(".")[0]
        if kind == "VolumeFile":
            return self._load_volume(path, properties.get("name") or name, properties)
        if kind == "SegmentationFile":
            logic = slicer.modules.segmentations.logic()
            return logic.LoadSegmentationFromFile(path, True, properties.get("name") or name)
        if kind == "ColorTableFile":
            return slicer.modules.colors.logic().LoadColorFile(path, name)
        if kind == "MarkupsFile":
            return slicer.mrmlScene.GetNodeByID(
                slicer.modules.markups.logic().LoadMarkups(path, name)
            )
        classes = {item[0]: item[2] for item in _KINDS}
        if not classes.get(kind):
            raise UnsupportedFile(f"no reader for {kind}")
        node = slicer.mrmlScene.AddNewNodeByClass(classes[kind], name)
        node.AddDefaultStorageNode(path)
        if not node.GetStorageNode().ReadData(node):
            slicer.mrmlScene.RemoveNode(node)
            return None
        return node

    def _load_volume(self, path: str, name: str, properties: dict[str, Any]) -> Any:
        options = 0
        for bit, key in ((1, "labelmap"), (2, "center"), (4, "singleFile"),
                         (8, "autoWindowLevel"), (16, "discardOrientation")):
            default = key == "autoWindowLevel"
            options |= bit if properties.get(key, default) else 0
        node = slicer.modules.volumes.logic().AddArchetypeVolume(path, name, options)
        if node is not None and properties.get("show", True):
            application = slicer.app.applicationLogic()
            selection = application.GetSelectionNode()
            if properties.get("labelmap"):
                selection.SetActiveLabelVolumeID(node.GetID())
            else:
                selection.SetActiveVolumeID(node.GetID())
            application.PropagateVolumeSelection()
        return node

    def fileWriterFileType(self, node: Any) -> str:
        return f"{node.GetClassName().removeprefix('vtkMRML').removesuffix('Node')}File"

    def saveNodes(self, kind: str, properties: dict[str, Any], messages: Any = None) -> bool:
        path = os.fspath(properties["fileName"])
        if kind == "SceneFile":
            return save_scene(path)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode(path)
        node.GetStorageNode().SetFileName(path)
        return bool(node.GetStorageNode().WriteData(node))


def save_scene(path: str | os.PathLike[str]) -> bool:
    """Save the scene: .mrb with all data, .mrml alone, or a folder with both."""
    target, scene = os.path.abspath(os.fspath(path)), slicer.mrmlScene
    if target.endswith(".mrb"):
        return bool(scene.WriteToMRB(target))
    if target.endswith(".mrml"):
        scene.SetURL(target)
        scene.SetRootDirectory(os.path.dirname(target))
        return bool(scene.Commit(target))
    os.makedirs(target, exist_ok=True)
    return bool(scene.SaveSceneToSlicerDataBundleDirectory(target))


def load_scene(path: str | os.PathLike[str], clear: bool = True) -> bool:
    """Load a scene into the application's scene, closing what was there unless told not to."""
    source, scene = os.path.abspath(os.fspath(path)), slicer.mrmlScene
    if not os.path.exists(source):
        return False
    if source.endswith(".mrb"):
        return bool(scene.ReadFromMRB(source, clear))
    scene.SetURL(source)
    return bool(scene.Connect() if clear else scene.Import())
