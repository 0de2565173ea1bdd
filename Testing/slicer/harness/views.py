"""Offscreen slice and 3D views: the real logics and displayable managers in a hidden window."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

_SLICE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager", "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager", "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager", "vtkMRMLScalarBarDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D", "vtkMRMLTransformsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager", "vtkMRMLColorLegendDisplayableManager",
)
_THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager", "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager", "vtkMRMLThreeDReformatDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager3D", "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager", "vtkMRMLVolumeRenderingDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D", "vtkMRMLTransformsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager", "vtkMRMLColorLegendDisplayableManager",
)


def _factory(class_name: str, managers: tuple[str, ...]) -> Any:
    factory = getattr(slicer, class_name).GetInstance()
    factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    for manager in managers:
        if not factory.IsDisplayableManagerRegistered(manager):
            factory.RegisterDisplayableManager(manager)
    return factory


class _Window:
    """A hidden render window with the displayable managers of its kind."""

    def __init__(
        self,
        factory: tuple[str, tuple[str, ...]],
        node: Any,
        size: tuple[int, int],
        lowest: Any | None,
    ) -> None:
        self.renderer = vtk.vtkRenderer()
        if lowest is not None:  # before the managers add theirs, which are drawn over it
            self.renderer.AddViewProp(lowest)
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetShowWindow(False)
        self.window.SetMultiSamples(0)
        self.window.SetSize(*size)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.Initialize()
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(self.renderer)
        self.group.Initialize(_factory(*factory), self.renderer)
        self.group.SetMRMLDisplayableNode(node)

    def image(self) -> Any:
        # Managers ask for a render while rendering; the second pass shows what they changed.
        self.window.Render()
        self.window.Render()
        capture = vtk.vtkWindowToImageFilter()
        capture.SetInput(self.window)
        capture.ReadFrontBufferOff()
        capture.Update()
        return capture.GetOutput()


class View:
    """What slice and 3D views have in common: a window made at the first need, and pictures."""

    _managers: tuple[str, tuple[str, ...]]
    _actor: Any | None = None

    def __init__(self, node: Any, size: tuple[int, int]) -> None:
        self.node = node
        self.size = size
        self._made: _Window | None = None

    @property
    def window(self) -> _Window:
        if self._made is None:
            self._made = _Window(self._managers, self.node, self.size, self._actor)
            self._prepare(self._made)
        return self._made

    def _prepare(self, window: _Window) -> None:
        raise NotImplementedError

    def _update(self) -> None:
        raise NotImplementedError

    def _image(self) -> Any:
        self._update()
        return self.window.image()

    def render(self) -> None:
        self._update()
        self.window.window.Render()

    def resize(self, width: int, height: int) -> None:
        """Change the size of the picture in pixels."""
        self.size = (width, height)
        self.window.window.SetSize(width, height)

    def pixels(self) -> np.ndarray:
        """The picture as (height, width, 3) uint8, first row on top."""
        image = self._image()
        width, height, _ = image.GetDimensions()
        array = vtk_to_numpy(image.GetPointData().GetScalars())
        return array.reshape(height, width, -1)[::-1, :, :3].copy()

    def grab(self, path: str | os.PathLike[str]) -> None:
        """Write the picture as PNG."""
        writer = vtk.vtkPNGWriter()
        writer.SetFileName(os.fspath(path))
        writer.SetInputData(self._image())
        writer.Write()


class SliceView(View):
    """A slice view; `node`, `composite` and `logic` are the real ones of the scene."""

    _managers = ("vtkMRMLSliceViewDisplayableManagerFactory", _SLICE_MANAGERS)

    def __init__(self, node: Any, size: tuple[int, int] = (512, 512)) -> None:
        super().__init__(node, size)
        application = slicer.app.applicationLogic()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application)
        application.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.logic.SetSliceNode(node)
        self.logic.ResizeSliceNode(*size)
        self.node.SetMappedInLayout(1)
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()

    @property
    def composite(self) -> Any:
        return self.logic.GetSliceCompositeNode()

    def _prepare(self, window: _Window) -> None:
        window.renderer.GetActiveCamera().ParallelProjectionOn()
        self.logic.ResizeSliceNode(*self.size)

    def resize(self, width: int, height: int) -> None:
        super().resize(width, height)
        self.logic.ResizeSliceNode(width, height)

    def fit(self) -> None:
        """Show the whole background volume and go to its middle slice."""
        self.logic.ResizeSliceNode(*self.size)
        self.logic.FitSliceToBackground()
        self.logic.SnapSliceOffsetToIJK()

    def _update(self) -> None:
        connection = self.logic.GetImageDataConnection()
        self._actor.SetVisibility(connection is not None)
        if connection is not None:
            self._mapper.SetInputConnection(connection)


class ThreeDView(View):
    """A 3D view; `node` and `logic` are the real ones of the scene."""

    _managers = ("vtkMRMLThreeDViewDisplayableManagerFactory", _THREE_D_MANAGERS)

    def __init__(self, node: Any, size: tuple[int, int] = (512, 512)) -> None:
        super().__init__(node, size)
        application = slicer.app.applicationLogic()
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(application)
        application.GetViewLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.node.SetMappedInLayout(1)

    def _prepare(self, window: _Window) -> None:
        window.renderer.SetBackground(*self.node.GetBackgroundColor2())
        window.renderer.SetBackground2(*self.node.GetBackgroundColor())
        window.renderer.GradientBackgroundOn()

    def _update(self) -> None:
        return

    def fit(self) -> None:
        """Move the camera so that everything visible is in the picture."""
        self.render()
        self.window.renderer.ResetCamera()
