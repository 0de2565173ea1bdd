"""A headless Slicer for tests: the real scene, logics and views of slicer-core, and stand-ins for
what only the application has. README.md beside this file describes the interface.
"""

from __future__ import annotations

import os
from typing import Any

from . import errors, system

__all__ = [
    "answering",
    "errors",
    "grab",
    "load_module",
    "load_scene",
    "process_events",
    "save_scene",
    "slice_view",
    "start",
    "three_d_view",
    "wait_until",
]

# At import: whatever is imported later may bring PySide6 or VTK along.
system.prepare_environment()
_started = False


def start() -> Any:
    """Boot once per process; returns slicer.app."""
    global _started
    if not _started:
        _boot()
        _started = True
    import slicer

    return slicer.app


def _boot() -> None:
    system.check_libraries()
    import types

    import slicer
    import slicer.util
    import vtk

    from . import base
    from .qtlayer import dialogs, module, pythonqt, uiloader

    output = vtk.vtkOutputWindow()
    output.SetDisplayModeToAlwaysStdErr()
    vtk.vtkOutputWindow.SetInstance(output)
    pythonqt.patch_pyside()
    dialogs.install()
    errors.install()

    from .application import Application
    from .modules import CoreModule, ScriptedModule, ScriptedModuleWidget
    from .scene import MODULE_LOGICS, SubjectHierarchyFiller, create_scene
    from .widgets import CTK, MRML

    slicer.modules = types.SimpleNamespace()
    slicer.app = Application()
    scene, logic, logics = create_scene()
    slicer.mrmlScene = scene
    for name, module_logic in logics.items():
        slicer.app.moduleManager()._add(CoreModule(MODULE_LOGICS[name][0], module_logic))
        setattr(slicer.modules, name, slicer.app.moduleManager().module(MODULE_LOGICS[name][0]))
    slicer.app._subject_hierarchy_filler = SubjectHierarchyFiller(scene)

    module.install(CTK)
    uiloader.register([*CTK, *MRML])
    for widget in MRML:
        setattr(slicer, widget.__name__, widget)
    slicer.qSlicerScriptedLoadableModule = ScriptedModule
    slicer.qSlicerScriptedLoadableModuleWidget = ScriptedModuleWidget

    from .layout import LayoutManager

    slicer.app._layout_manager = LayoutManager(scene, logic)
    base.install()


def load_module(path: str | os.PathLike[str], enter: bool = True) -> Any:
    """Load a scripted module from its entry file; see loader.LoadedModule."""
    start()
    from . import loader

    return loader.load_module(path, enter)


def process_events(milliseconds: int = 0) -> None:
    """Run the Qt event loop for at least this long."""
    from . import loader

    loader.process_events(milliseconds)


def wait_until(condition: Any, seconds: float = 10.0) -> None:
    """Run the Qt event loop until the condition holds, or raise TimeoutError."""
    from . import loader

    loader.wait_until(condition, seconds)


def answering(*answers: Any) -> Any:
    """Context manager: the answers for the dialogs opened inside the block."""
    from .qtlayer import dialogs

    return dialogs.answering(*answers)


def save_scene(path: str | os.PathLike[str]) -> bool:
    """Save the scene as .mrb, as .mrml or into a folder."""
    from . import files

    return files.save_scene(path)


def load_scene(path: str | os.PathLike[str], clear: bool = True) -> bool:
    """Load a scene file into the application's scene."""
    from . import files

    return files.load_scene(path, clear)


def slice_view(name: str = "Red") -> Any:
    """The offscreen slice view of that name; see views.SliceView."""
    import slicer

    return slicer.app.layoutManager().sliceWidget(name)._view


def three_d_view(index: int = 0) -> Any:
    """The offscreen 3D view; see views.ThreeDView."""
    import slicer

    return slicer.app.layoutManager().threeDWidget(index)._view


def grab(widget: Any, path: str | os.PathLike[str], width: int = 420) -> None:
    """Write a picture of a panel, as wide as asked and as tall as its contents need."""
    widget.show()
    widget.resize(width, 100)
    process_events()
    layout = widget.layout()
    for _ in range(2):  # a text that has just wrapped is counted once the layouts have settled
        hint = widget.sizeHint().height()
        tall = layout.heightForWidth(width) if layout and layout.hasHeightForWidth() else hint
        widget.resize(width, max(tall, hint))
        process_events(20)
    if not widget.grab().save(os.fspath(path)):
        raise OSError(f"cannot write {path}")
