"""Slicer's Base/Python where slicer-core lacks it.

Stand-ins under their real names; or the genuine files, when the environment variable
SLICER_BASE_PYTHON names the folder that contains them.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import slicer

from ..scene import ParameterNodeKeeper

VARIABLE = "SLICER_BASE_PYTHON"
NAMES = ("i18n", "ScriptedLoadableModule", "parameterNodeWrapper", "packaging")


def _genuine_folder() -> Path | None:
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    for folder in (Path(value) / "slicer", Path(value)):
        if (folder / "parameterNodeWrapper").is_dir():
            return folder
    raise RuntimeError(f"{VARIABLE}={value} contains no slicer/parameterNodeWrapper")


def install() -> dict[str, str]:
    """Make slicer.<name> importable for each name; return where each one came from."""
    genuine = _genuine_folder()
    if genuine is not None:
        slicer.__path__.append(str(genuine))
        slicer.app._parameter_node_keeper = ParameterNodeKeeper(slicer.mrmlScene)
    origins = {}
    for name in NAMES:
        full = f"slicer.{name}"
        module = None
        if genuine is not None and (
            (genuine / f"{name}.py").exists() or (genuine / name).is_dir()
        ):
            module = importlib.import_module(full)
        elif name == "parameterNodeWrapper":
            module = importlib.import_module(f"{__name__}.parameters")
        elif name != "packaging":
            module = importlib.import_module(f"{__name__}.{name.lower()}")
        if module is not None:
            sys.modules[full] = module
            setattr(slicer, name, module)
        origins[name] = getattr(module, "__file__", None) or "absent"
    return origins
