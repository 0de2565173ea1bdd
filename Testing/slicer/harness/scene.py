"""The real scene with its logics: everything slicer-core includes, connected as Slicer does it."""

from __future__ import annotations

import contextlib
import weakref
from typing import Any

import slicer
import vtk
from shiboken6 import Object, isValid

from . import errors

# Modules and the logics of theirs that slicer-core contains. Order matters: units before others
# that ask for units, colors before anything that displays.
MODULE_LOGICS: dict[str, tuple[str, str]] = {
    "units": ("Units", "vtkSlicerUnitsLogic"),
    "colors": ("Colors", "vtkSlicerColorLogic"),
    "volumes": ("Volumes", "vtkSlicerVolumesLogic"),
    "terminologies": ("Terminologies", "vtkSlicerTerminologiesModuleLogic"),
    "segmentations": ("Segmentations", "vtkSlicerSegmentationsModuleLogic"),
    "subjecthierarchy": ("SubjectHierarchy", "vtkSlicerSubjectHierarchyModuleLogic"),
    "markups": ("Markups", "vtkSlicerMarkupsLogic"),
    "models": ("Models", "vtkSlicerModelsLogic"),
    "transforms": ("Transforms", "vtkSlicerTransformLogic"),
    "tables": ("Tables", "vtkSlicerTablesLogic"),
    "plots": ("Plots", "vtkSlicerPlotsLogic"),
    "texts": ("Texts", "vtkSlicerTextsLogic"),
    "sequences": ("Sequences", "vtkSlicerSequencesLogic"),
    "cropvolume": ("CropVolume", "vtkSlicerCropVolumeLogic"),
    "cameras": ("Cameras", "vtkSlicerCamerasModuleLogic"),
    "volumerendering": ("VolumeRendering", "vtkSlicerVolumeRenderingLogic"),
    "data": ("Data", "vtkSlicerDataModuleLogic"),
}


class Observations:
    """VTK observers that do not keep their owner alive and go with it."""

    def __init__(self) -> None:
        self._tags: list[tuple[Any, int, str]] = []

    def add(
        self, owner: Any, subject: Any, event: Any, method: str, group: str = "",
        priority: float = 0.0,
    ) -> None:
        """Call owner.method(node) for the event; node is the event's data or its caller."""
        reference = weakref.ref(owner)

        def callback(caller: Any, _event: str, data: Any = None) -> None:
            target = reference()
            # The C++ half of a widget goes before its Python half.
            if target is None or (isinstance(target, Object) and not isValid(target)):
                subject.RemoveObserver(tag)  # or the scene calls those of all former panels
                return
            try:
                getattr(target, method)(caller if data is None else data)
            except Exception as error:
                errors.record(error)

        callback.CallDataType = vtk.VTK_OBJECT  # type: ignore[attr-defined]
        tag = subject.AddObserver(event, callback, priority)
        self._tags.append((subject, tag, group))

    def clear(self, group: str | None = None) -> None:
        for subject, tag, owner_group in self._tags:
            if group in (None, owner_group):
                subject.RemoveObserver(tag)
        self._tags = [item for item in self._tags if group not in (None, item[2])]


class SubjectHierarchyFiller:
    """Put displayable, table and text nodes into the subject hierarchy.

    In Slicer the Qt plug-in handler does it; slicer-core has the hierarchy and not the handler.
    """

    _kinds = (
        "vtkMRMLDisplayableNode", "vtkMRMLTableNode", "vtkMRMLTextNode", "vtkMRMLPlotChartNode",
        "vtkMRMLPlotSeriesNode", "vtkMRMLSequenceNode",
    )
    _excluded = (
        "vtkMRMLSliceNode", "vtkMRMLAbstractViewNode", "vtkMRMLCameraNode", "vtkMRMLColorNode",
        "vtkMRMLClipModelsNode", "vtkMRMLCrosshairNode",
    )

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._observations = Observations()
        observe = self._observations.add
        observe(self, scene, scene.NodeAddedEvent, "_add")
        observe(self, scene, scene.NodeAboutToBeRemovedEvent, "_remove")
        observe(self, scene, scene.EndBatchProcessEvent, "_add_all", priority=-100.0)

    def _hierarchy(self) -> Any:
        return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)

    def _wants(self, node: Any) -> bool:
        if node is None or node.GetHideFromEditors():
            return False
        if any(node.IsA(kind) for kind in self._excluded):
            return False
        return any(node.IsA(kind) for kind in self._kinds)

    def _add(self, node: Any) -> None:
        if self._scene.IsBatchProcessing() or not self._wants(node):
            return
        hierarchy = self._hierarchy()
        if not hierarchy.GetItemByDataNode(node):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    def _remove(self, node: Any) -> None:
        if self._scene.IsClosing() or not self._wants(node):
            return
        hierarchy = self._hierarchy()
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.RemoveItem(item, False, False)

    def _add_all(self, _scene: Any) -> None:
        # The hierarchy that was loaded is merged with the one that was there first; else every
        # loaded node would get a second item.
        slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(self._scene)
        for index in range(self._scene.GetNumberOfNodes()):
            self._add(self._scene.GetNthNode(index))


@contextlib.contextmanager
def quiet_vtk() -> Any:
    """Silence what slicer-core says about resource files that only the application has."""
    before = vtk.vtkObject.GetGlobalWarningDisplay()
    vtk.vtkObject.SetGlobalWarningDisplay(0)
    try:
        yield
    finally:
        vtk.vtkObject.SetGlobalWarningDisplay(before)


def _connect_data_io(application: Any, scene: Any) -> None:
    """Reading a scene bundle unpacks it in the cache folder of this part."""
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLApplicationLogic(application)
    remote.GetCacheManager().SetRemoteCacheDirectory(slicer.app.temporaryPath)
    remote.SetMRMLScene(scene)
    remote.AddDataIOToScene()
    manager = slicer.vtkDataIOManagerLogic()
    manager.SetMRMLApplicationLogic(application)
    manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
    scene.GetDataIOManager().SetCacheManager(remote.GetCacheManager())
    slicer.app._remote_io = remote, manager


def create_scene() -> tuple[Any, Any, dict[str, Any]]:
    """Return the scene, the application logic and the module logics by module name."""
    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    slicer.app._adopt(application)
    with quiet_vtk():
        application.SetMRMLScene(scene)
        _connect_data_io(application, scene)
        logics: dict[str, Any] = {}
        for module, (key, class_name) in MODULE_LOGICS.items():
            logic = getattr(slicer, class_name)()
            logic.SetMRMLApplicationLogic(application)
            application.SetModuleLogic(key, logic)
            if module == "colors":
                application.SetColorLogic(logic)
            logic.SetMRMLScene(scene)
            logics[module] = logic
        logics["colors"].AddDefaultColorNodes()
    application.SetSliceLogics(vtk.vtkCollection())
    application.SetViewLogics(vtk.vtkCollection())
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    return scene, application, logics
