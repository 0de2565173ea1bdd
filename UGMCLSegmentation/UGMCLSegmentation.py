"""UGMCL Segmentation: the module as Slicer finds it. Its parts are in UGMCLSegmentationLib."""

import importlib.util
import os
import sys

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

if importlib.util.find_spec("ugmcl_core") is None:
    # in a source tree only the module's folder is on the path, and ugmcl_core is beside it
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from UGMCLSegmentationLib.logic import UGMCLSegmentationLogic
from UGMCLSegmentationLib.scene import sampleData
from UGMCLSegmentationLib.selftest import UGMCLSegmentationTest
from UGMCLSegmentationLib.widget import UGMCLSegmentationWidget

__all__ = [
    "UGMCLSegmentation",
    "UGMCLSegmentationLogic",
    "UGMCLSegmentationTest",
    "UGMCLSegmentationWidget",
]


class UGMCLSegmentation(ScriptedLoadableModule):
    """What Slicer shows of the module in its menus and help."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("UGMCL Segmentation")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Colors", "Markups", "Segmentations", "SubjectHierarchy"]
        parent.contributors = ["UGMCL Segmentation contributors"]
        parent.helpText = _(
            "Segments a structure with a model trained by uncertainty-guided mutual consistency "
            "learning, and shows its signed distance and where the model is unsure. "
            "Select a volume and click Segment. For research, not for clinical use."
        )
        parent.acknowledgementText = _(
            "The method is that of Zhang, Jiao, Liao, Li and Zhang: Uncertainty-guided mutual "
            "consistency learning for semi-supervised medical image segmentation (2022)."
        )
        # the Sample Data module is there only then
        slicer.app.connect("startupCompleted()", sampleData.register)
