"""Stand-ins for Slicer's Base/Python, which slicer-core lacks, under their real names."""

from __future__ import annotations

import importlib
import sys

import slicer

NAMES = ("i18n", "ScriptedLoadableModule", "parameterNodeWrapper")


def install() -> None:
    """Make slicer.<name> importable for each name."""
    for name in NAMES:
        module = importlib.import_module(f"{__name__}.{name.lower()}")
        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)
