"""The panel."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.logic import UGMCLSegmentationLogic
from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.display import appearance, legends
from UGMCLSegmentationLib.panel.display.section import SeeSection
from UGMCLSegmentationLib.panel.evaluate.section import EvaluateSection
from UGMCLSegmentationLib.panel.export.section import ExportSection
from UGMCLSegmentationLib.panel.improve.section import ImproveSection
from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.panel.models.section import ModelsSection
from UGMCLSegmentationLib.panel.qtHelpers import Connections
from UGMCLSegmentationLib.panel.segment.batchSection import BatchSection
from UGMCLSegmentationLib.panel.segment.section import Choices
from UGMCLSegmentationLib.panel.setup import dependencies, license
from UGMCLSegmentationLib.panel.setup.section import SetupSection
from UGMCLSegmentationLib.panel.shortcuts import Shortcuts
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.scene import labelmaps, overlays, resultNodes, results, volumes
from UGMCLSegmentationLib.storage import runFolder, temporaryFolders
from UGMCLSegmentationLib.worker.run import CANCELED, DONE, TaskResult

_SECTIONS = ("Improve", "Evaluate", "Batch")  # files of their own
_FIRST_SECTION = 2  # the first one's place in the panel, after Segment and See


class UGMCLSegmentationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Binds the .ui to the parameter node, starts runs and tells of them."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: UGMCLSegmentationLogic | None = None
        self.parameters: Parameters | None = None
        self._guiTag: int | None = None
        self._inputVolume = None
        self._isSegmenting = False  # with the Segment button
        self._unshown = None  # the result of a run that ended while another module was open

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/UGMCLSegmentation.ui"))
        self.layout.addWidget(panel)
        for place, name in enumerate(_SECTIONS, start=_FIRST_SECTION):
            section = slicer.util.loadUI(self.resourcePath(f"UI/{name}.ui"))
            panel.layout().insertWidget(place, section)
        stored = slicer.util.loadUI(self.resourcePath("UI/Models.ui"))
        panel.layout().insertWidget(panel.layout().count() - 1, stored)  # above the spacer
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)

        self.logic = UGMCLSegmentationLogic()
        self.logic.worker.onHello = self.onHello
        self.logic.worker.onLog = self.onLog
        self.connections = Connections()
        self.choices = Choices(self.ui, self.connections)
        self.see = SeeSection(self.ui, self.connections)
        self.export = ExportSection(self.ui, self.connections)
        self.setupSection = SetupSection(
            self.ui,
            self.connections,
            self.ui.logText.appendPlainText,
            self.onInstalling,
            self.logic.dropWorkers,
        )
        self.shortcuts = Shortcuts(self.ui, panel)
        self.modelsSection = ModelsSection(
            self.ui, self.connections, self.onModelChanged, lambda: self.isBusy
        )
        common = (self.ui, self.connections, self.logic, self.isReady)
        after = (self.onNewModel, self.showResult, self.updateButtons)
        self.improve = ImproveSection(*common, lambda: self.parent.isEntered, *after)
        self.evaluate = EvaluateSection(*common, self.updateButtons)
        self.batch = BatchSection(*common, self.updateButtons, self.showResult)
        for widget, signal, slot in (
            (self.ui.segmentButton, "clicked(bool)", self.onSegment),
            (self.ui.cancelButton, "clicked(bool)", self.onCancel),
            (self.ui.modelFolderButton, "clicked(bool)", self.onModelFolder),
            (self.ui.advancedSection, "toggled(bool)", self.onAdvancedToggled),
            (self.ui.roiSelector, "nodeAddedByUser(vtkMRMLNode*)", self.onRegionAdded),
        ):
            self.connections.connect(widget, signal, slot)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        layoutManager = slicer.app.layoutManager()
        if layoutManager is not None:
            # after Slicer itself, which then knows what is shown: so the priority is low
            node = layoutManager.layoutLogic().GetLayoutNode()
            event = vtk.vtkCommand.ModifiedEvent
            self.addObserver(node, event, self.onLayoutModified, priority=-1.0)

        self.showMessage("")
        temporaryFolders.sweepOrphans()
        runFolder.sweep()
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Nothing of the panel stays: no process, no files, no observers, no connections."""
        self.improve.close()
        self.modelsSection.close()
        self.shortcuts.close()
        if self.logic is not None:
            self.logic.shutdown()
        self.removeObservers()
        self.setParameters(None)
        self.connections.disconnectAll()

    def enter(self) -> None:
        self.setupSection.refresh()
        self.initializeParameterNode()
        self.choices.refresh()
        self.improve.refresh()
        self.modelsSection.refresh()
        self.shortcuts.setEnabled(True)
        unshown, self._unshown = self._unshown, None
        self.showResult(unshown)
        self.see.refresh()

    def exit(self) -> None:
        """A run goes on, and the views stay as they are."""
        self.shortcuts.setEnabled(False)

    def onReload(self) -> None:
        """Slicer re-executes only the entry file: have it import all of the panel's files anew."""
        package = __name__.rpartition(".")[0]
        for name in [n for n in sys.modules if n == package or n.startswith(package + ".")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    # Scene and parameters

    def initializeParameterNode(self) -> None:
        if self.parameters is None:
            self.setParameters(self.logic.getParameterNode())
        if self.parameters.inputVolume is None:
            self.parameters.inputVolume = self.logic.firstVolume()

    def setParameters(self, parameters: Parameters | None) -> None:
        """Bind the panel to a parameter node, or to none."""
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
            node = self.parameters.parameterNode
            if self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self.onParametersModified):
                self.removeObserver(node, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self.parameters = parameters
        self._inputVolume = None
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
            node = parameters.parameterNode
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        parts = (self.choices, self.see, self.export, self.improve, self.evaluate, self.batch)
        for part in parts:
            part.setParameters(parameters)
        self.updateButtons()

    def onParametersModified(self, _caller=None, _event=None) -> None:
        parameters = self.parameters
        if parameters is None or slicer.mrmlScene.IsBatchProcessing():
            return
        volumeNode = parameters.inputVolume
        if volumeNode is not self._inputVolume:
            self._inputVolume = volumeNode
            self.showMessage("")
            if results.sourceOf(parameters.segmentation) is not volumeNode:
                parameters.segmentation = results.latestOf(volumeNode)
        self.choices.update()
        self.see.update()
        self.export.update()
        self.improve.update()
        self.updateButtons()

    def onSceneStartClose(self, _caller, _event) -> None:
        self.logic.cancel()
        self.setParameters(None)

    def onSceneEndClose(self, _caller, _event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, _caller, _event) -> None:
        """A scene was loaded into this one; the opacity of an additional layer is not saved."""
        tag = self.logic.moduleName
        if slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLScriptedModuleNode") is None:
            return
        self.setParameters(self.logic.getParameterNode())
        self.onParametersModified()
        for overlay, node in results.overlayVolumes():
            overlays.restoreColors(node, overlay)
        self.see.refresh()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, _caller, _event, node) -> None:
        isResult = node is not None and node.GetAttribute(results.ROLE) is not None
        if isResult and not slicer.mrmlScene.IsClosing():
            self.see.refresh()
            self.export.update()
        if self.parameters and results.isResultVolume(self.parameters.inputVolume):
            # the selector went on to the removed volume's neighbor
            self.parameters.inputVolume = self.logic.firstVolume()

    def onLayoutModified(self, _caller, _event) -> None:
        if not slicer.mrmlScene.IsBatchProcessing():
            legends.follow()

    # What the user does

    def onSegment(self, _checked: bool = False) -> None:
        self.showMessage("")
        with self.telling(_("The segmentation cannot be started.")):
            if self.isReady(self.parameters.model):
                self.logic.startSegment(self.parameters, self)
                self._isSegmenting = True

    def isReady(self, model: str = "") -> bool:
        """Whether a run with that model can start, after all that is to be asked was asked.

        Raises PanelError if its license was refused.
        """
        if not self.setupSection.resolve():
            return False
        if model and not license.acknowledge(model):
            raise PanelError(_("The model's license was not agreed to."))
        return True

    def onCancel(self, _checked: bool = False) -> None:
        self.ui.cancelButton.enabled = False
        self.logic.cancel()

    def onInstalling(self) -> None:
        """No process holds files that are replaced. Raises PanelError during a run."""
        if self.isBusy:
            raise PanelError(_("A run is under way: wait for its end, then try again."))
        self.logic.dropWorkers()

    def onModelFolder(self, _checked: bool = False) -> None:
        folder = qt.QFileDialog.getExistingDirectory(
            slicer.util.mainWindow(), _("Folder of the model")
        )
        if folder:
            self.useModelFolder(folder)

    def useModelFolder(self, folder: str) -> None:
        with self.telling(_("The model cannot be used.")):
            self.choices.addModel(models.fromFolder(folder))

    def onNewModel(self, key: str, isSelected: bool) -> None:
        """A run made a model; it is selected unless the former one is better. The base stays: the
        next run's report would else judge a base that may have learned from the cases."""
        if isSelected and self.parameters is not None:
            self.parameters.model = key
        self.choices.refresh()

    @property
    def isBusy(self) -> bool:
        """Whether a run uses models or the folder of runs."""
        return self.logic.running or self.logic.trainer.busy or self.improve.finetune.running

    def onModelChanged(self, old: str, new: str) -> None:
        """A model was imported, renamed or deleted; without both, they are in another folder."""
        if not old and not new:
            self.logic.dropWorkers()  # they look for models in the former one
        if self.parameters is not None and (
            self.parameters.model in ("", old) if old else bool(new)
        ):
            self.parameters.model = new
        if self.parameters is not None and old and self.parameters.base == old:
            self.parameters.base = new
        self.choices.refresh()
        self.improve.refresh()

    def onAdvancedToggled(self, isOpen: bool) -> None:
        if isOpen and not self.setupSection.isBlocking:
            self.logic.worker.start()  # it knows the devices

    def onRegionAdded(self, node) -> None:
        volumeNode = self.parameters.inputVolume
        if node is not None and volumeNode is not None and not node.GetNumberOfControlPoints():
            volumes.fitRegion(node, volumeNode)

    # What a run tells (run.TaskListener)

    def onHello(self, event: dict) -> None:
        devices = event.get("devices") or []
        self.choices.setDevices(devices)
        names = ", ".join(device["text"] for device in devices)
        self.onLog("info", f"ugmcl {event.get('version')}, torch {event.get('torch')}: {names}")

    def onProgress(self, fraction: float, text: str, remaining: float | None) -> None:
        if fraction >= 0:
            self.ui.progressBar.value = round(100 * fraction)
        self.ui.progressLabel.text = messages.withTimeLeft(text, remaining)

    def onLog(self, level: str, text: str) -> None:
        self.ui.logText.appendPlainText(text)
        if level == "warning":
            self.showMessage(text)

    def onEnd(self, result: TaskResult) -> None:
        self._isSegmenting = False
        self.ui.progressLabel.text = ""
        if result.kind != DONE:
            message = dependencies.explained(result.message)
            self.showMessage(message, isError=result.kind != CANCELED)
        if result.message:
            self.ui.logText.appendPlainText(result.message)
        with self.telling(_("The result cannot be shown.")):
            if self.parameters is not None and result.kind == DONE:
                self.showResult(result.value)

    def showResult(self, segmentationNode) -> None:
        if not resultNodes.isInScene(segmentationNode):
            return
        if not self.parent.isEntered:
            # the views are somebody else's, the Segment Editor's, say
            self._unshown = segmentationNode
            segmentationNode.GetDisplayNode().SetVisibility(False)
            return
        appearance.showAlone(segmentationNode)
        self.parameters.segmentation = segmentationNode
        self.see.refresh()
        self.export.update()
        for line in labelmaps.lines(segmentationNode):
            self.ui.logText.appendPlainText(line)

    # What the panel shows

    @contextlib.contextmanager
    def telling(self, what: str) -> Iterator[None]:
        """A PanelError becomes the panel's message; all else, which should not happen, gets
        Slicer's error window. The panel stays usable either way."""
        try:
            with messages.showingErrors(self.ui.messageLabel, what):
                yield
        finally:
            self.updateButtons()

    def showMessage(self, text: str, isError: bool = False) -> None:
        messages.show(self.ui.messageLabel, text, isError)

    def updateButtons(self) -> None:
        running = self.logic is not None and self.logic.running
        parameters = self.parameters
        reason = ""
        if running:
            reason = _("The model is at work.")
        elif parameters is None or parameters.inputVolume is None:
            reason = _("Select a volume first.")
        elif not parameters.model:
            reason = _("Select a model first.")
        self.ui.segmentButton.enabled = not reason
        self.ui.segmentButton.toolTip = reason or _(
            "Segment the volume. The results appear over it in the slice views."
        )
        isSegmenting = running and self._isSegmenting
        self.ui.cancelButton.enabled = isSegmenting
        self.ui.progressBar.setVisible(isSegmenting)
        self.ui.progressLabel.setVisible(isSegmenting)
        self.improve.next.update()
        self.evaluate.update()
        self.batch.update()
