"""A small scripted module, written as one for Slicer, on which the harness is tested."""

import enum
import pathlib
import sys
from typing import Annotated

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class HarnessDemo(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Harness demo")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.contributors = ["Nobody"]
        slicer.app.connect("startupCompleted()", self.onStartup)
        self.started = 0

    def onStartup(self):
        self.started += 1


class Smoothing(enum.Enum):
    NONE = "none"
    MEDIAN = "median"


@parameterNodeWrapper
class HarnessDemoParameterNode:
    inputVolume: slicer.vtkMRMLScalarVolumeNode
    outputSegmentation: slicer.vtkMRMLSegmentationNode
    threshold: Annotated[float, WithinRange(0, 200), Default(90.0)]
    device: Annotated[str, Choice(["auto", "cpu"]), Default("auto")]
    smoothing: Smoothing = Smoothing.MEDIAN
    keepLargest: bool = True
    folder: pathlib.Path
    roles: dict[str, str]
    region: list[float]


class HarnessDemoWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.parameters = None
        self.guiTag = None
        self.process = None
        self.lines = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/HarnessDemo.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = HarnessDemoLogic()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.initializeParameterNode()

    def cleanup(self):
        self.removeObservers()
        self.setParameterNode(None)
        if self.process is not None:
            self.process.kill()
            self.process.waitForFinished(1000)

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(HarnessDemoParameterNode(self.logic.getParameterNode()))

    def setParameterNode(self, parameters):
        if self.parameters is not None:
            self.parameters.disconnectGui(self.guiTag)
            self.removeObserver(
                self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.update
            )
        self.parameters = parameters
        if parameters is not None:
            self.guiTag = parameters.connectGui(self.ui)
            self.addObserver(
                parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.update
            )
            self.update()

    def update(self, caller=None, event=None):
        ready = self.parameters is not None and self.parameters.inputVolume is not None
        self.ui.applyButton.enabled = ready
        self.ui.applyButton.toolTip = _("Segment") if ready else _("Select a volume")

    def onApply(self):
        with slicer.util.tryWithErrorDisplay(_("Failed."), waitCursor=True):
            self.parameters.outputSegmentation = self.logic.segment(
                self.parameters.inputVolume, self.parameters.threshold
            )
            self.ui.statusLabel.text = _("Done")

    def runProcess(self, code):
        """Start a child Python; what it prints ends in self.lines, echoing what it is sent."""
        self.process = qt.QProcess()
        self.process.connect("readyReadStandardOutput()", self.onOutput)
        self.process.connect("finished(int,QProcess::ExitStatus)", self.onFinished)
        self.process.connect("errorOccurred(QProcess::ProcessError)", self.onProcessError)
        self.process.setProgram(sys.executable)
        self.process.setArguments(["-u", "-c", code])
        self.process.start()

    def onOutput(self):
        text = self.process.readAllStandardOutput().data().decode()
        self.lines += text.splitlines()

    def onFinished(self, code, status):
        self.lines.append(f"finished {code} {status == qt.QProcess.NormalExit}")

    def onProcessError(self, error):
        self.lines.append(f"error {error == qt.QProcess.FailedToStart}")


class HarnessDemoLogic(ScriptedLoadableModuleLogic):
    def segment(self, volume, threshold):
        segmentation = slicer.mrmlScene.AddNewNodeByClass(
            "vtkMRMLSegmentationNode", volume.GetName() + " segmentation"
        )
        segmentation.CreateDefaultDisplayNodes()
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        segment = segmentation.GetSegmentation().AddEmptySegment(
            "target", "Target", (0.1, 0.9, 0.2)
        )
        mask = (slicer.util.arrayFromVolume(volume) > threshold).astype("uint8")
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segment, volume)
        return segmentation


class HarnessDemoTest(ScriptedLoadableModuleTest):
    def runTest(self):
        self.delayDisplay("Nothing to test", 0)
