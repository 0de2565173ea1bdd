"""UGMCL Segmentation: the module as Slicer finds it.

Slicer executes this file at every start, so it imports nothing of UGMCLSegmentationLib. At start
Slicer also looks up the classes below, but calls them only when they are used. Each then imports
the class of the same name and returns an instance of it.
"""

import importlib
import importlib.util
import os
import sys

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

if importlib.util.find_spec("ugmcl_core") is None:
    # in a source tree only the module's folder is on the path, and ugmcl_core is beside it
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class UGMCLSegmentation(ScriptedLoadableModule):
    """The module's entry in Slicer's menus and help."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("UGMCL Segmentation")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Colors", "Markups", "Segmentations", "SubjectHierarchy"]
        parent.contributors = ["UGMCL Segmentation contributors"]
        parent.helpText = _(
            "Segments a structure with a model trained by uncertainty-guided mutual consistency "
            "learning, and shows its signed distance and the uncertainty of the model. "
            "Select a volume and click Segment. For research, not for clinical use."
        )
        parent.acknowledgementText = _(
            "The method is that of Zhang, Jiao, Liao, Li and Zhang: Uncertainty-guided mutual "
            "consistency learning for semi-supervised medical image segmentation (2022)."
        )
        # the Sample Data module is available only then
        slicer.app.connect("startupCompleted()", _registerSampleData)


def _registerSampleData():
    _library("scene.sampleData").register()


def _library(name):
    return importlib.import_module(f"UGMCLSegmentationLib.{name}")


class UGMCLSegmentationWidget(ScriptedLoadableModuleWidget):
    def __new__(cls, *arguments, **options):
        return _library("widget").UGMCLSegmentationWidget(*arguments, **options)


class UGMCLSegmentationLogic(ScriptedLoadableModuleLogic):
    def __new__(cls, *arguments, **options):
        return _library("logic").UGMCLSegmentationLogic(*arguments, **options)


class UGMCLSegmentationTest(ScriptedLoadableModuleTest):
    def __new__(cls, *arguments, **options):
        return _library("selftest").UGMCLSegmentationTest(*arguments, **options)
