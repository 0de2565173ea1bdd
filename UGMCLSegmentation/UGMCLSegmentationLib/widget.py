"""The shell of the panel: which sections there are, and the events of the scene."""

from __future__ import annotations

import sys

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.logic import UGMCLSegmentationLogic
from UGMCLSegmentationLib.panel.display import legends
from UGMCLSegmentationLib.panel.display.section import DisplaySection
from UGMCLSegmentationLib.panel.evaluate.section import EvaluateSection
from UGMCLSegmentationLib.panel.export.section import ExportSection
from UGMCLSegmentationLib.panel.improve.section import ImproveSection
from UGMCLSegmentationLib.panel.models.computersSection import ComputersSection
from UGMCLSegmentationLib.panel.models.section import ModelsSection
from UGMCLSegmentationLib.panel.qtHelpers import Connections
from UGMCLSegmentationLib.panel.segment.batchSection import BatchSection
from UGMCLSegmentationLib.panel.segment.section import SegmentSection
from UGMCLSegmentationLib.panel.setup import consent, license
from UGMCLSegmentationLib.panel.setup.section import SetupSection
from UGMCLSegmentationLib.panel.shortcuts import Shortcuts
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.scene import overlays, resultNodes, results
from UGMCLSegmentationLib.storage import computers, runFolder, temporaryFolders

_UI = ("Segment", "Display", "Improve", "Evaluate", "Batch", "Export", "Models")  # in this order


class UGMCLSegmentationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Loads the .ui files, binds them to the parameter node and is the sections' `Shell`."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: UGMCLSegmentationLogic | None = None
        self.parameters: Parameters | None = None
        self._guiTag: int | None = None
        self._inputVolume = None
        self._unshown = None  # the result of a run that ended while another module was open

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        panel = qt.QWidget()
        layout = qt.QVBoxLayout(panel)
        layout.setContentsMargins(0, 0, 0, 0)
        for name in _UI:
            layout.addWidget(slicer.util.loadUI(self.resourcePath(f"UI/{name}.ui")))
        layout.addStretch(1)
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)

        self.logic = UGMCLSegmentationLogic()
        self.connections = Connections()
        self.setupSection = SetupSection(
            self.ui,
            self.connections,
            self.ui.logText.appendPlainText,
            self.onInstalling,
            self.logic.dropWorkers,
        )
        self.segment = SegmentSection(self)
        self.display = DisplaySection(self.ui, self.connections)
        self.improve = ImproveSection(self)
        self.evaluate = EvaluateSection(self)
        self.batch = BatchSection(self)
        self.export = ExportSection(self.ui, self.connections)
        self.modelsSection = ModelsSection(self.ui, self.connections, self)
        self.computersSection = ComputersSection(
            self.ui, self.connections, self.onComputersChanged
        )
        self.shortcuts = Shortcuts(self.ui, panel)
        # these follow the parameter node
        self._sections = (
            self.segment, self.display, self.improve, self.evaluate, self.batch, self.export
        )  # fmt: skip
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodeAdded)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        layoutManager = slicer.app.layoutManager()
        if layoutManager is not None:
            # low priority: after Slicer's own observer, which updates what is shown
            node = layoutManager.layoutLogic().GetLayoutNode()
            event = vtk.vtkCommand.ModifiedEvent
            self.addObserver(node, event, self.onLayoutModified, priority=-1.0)

        temporaryFolders.sweepOrphans()
        runFolder.sweep()
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Leave nothing of the panel behind: no process, file, observer or connection."""
        self.improve.close()
        self.modelsSection.close()
        self.computersSection.close()
        self.shortcuts.close()
        if self.logic is not None:
            self.logic.shutdown()
        self.removeObservers()
        self.setParameters(None)
        self.connections.disconnectAll()

    def enter(self) -> None:
        self.setupSection.refresh()
        self.initializeParameterNode()
        self.segment.choices.refresh()
        self.improve.refresh()
        self.modelsSection.refresh()
        self.shortcuts.setEnabled(True)
        unshown, self._unshown = self._unshown, None
        if resultNodes.isInScene(unshown):
            self.showResult(unshown)
        else:
            self.display.refresh()

    def exit(self) -> None:
        """Runs continue, and the views stay as they are."""
        self.shortcuts.setEnabled(False)

    def onReload(self) -> None:
        """Slicer re-executes only the entry file, so drop the package for it to import again."""
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
        for section in self._sections:
            section.setParameters(parameters)

    def onParametersModified(self, _caller=None, _event=None) -> None:
        parameters = self.parameters
        if parameters is None or slicer.mrmlScene.IsBatchProcessing():
            return
        volumeNode = parameters.inputVolume
        if volumeNode is not self._inputVolume:
            self._inputVolume = volumeNode
            self.segment.showMessage("")
            if results.sourceOf(parameters.segmentation) is not volumeNode:
                parameters.segmentation = results.latestOf(volumeNode)
        for section in self._sections:
            section.update()

    def onSceneStartClose(self, _caller, _event) -> None:
        self.logic.cancel()
        self.setParameters(None)

    def onSceneEndClose(self, _caller, _event) -> None:
        if self.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, _caller, _event) -> None:
        """Adopt a loaded scene. Slicer does not save the opacity of additional layers."""
        tag = self.logic.moduleName
        if slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLScriptedModuleNode") is None:
            return
        self.setParameters(self.logic.getParameterNode())
        self.onParametersModified()
        for overlay, node in results.overlayVolumes():
            overlays.restoreColors(node, overlay)
        self.display.refresh()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, _caller, _event, node) -> None:
        if node is not None and node.IsA("vtkMRMLScalarVolumeNode"):
            self.segment.showChannels()  # of which it may be one

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, _caller, _event, node) -> None:
        isResult = node is not None and node.GetAttribute(results.ROLE) is not None
        if isResult and not slicer.mrmlScene.IsClosing():
            self.display.refresh()
            self.export.update()
        if self.parameters and results.isResultVolume(self.parameters.inputVolume):
            # the selector moved on to the neighbor of the removed volume
            self.parameters.inputVolume = self.logic.firstVolume()
        self.segment.showChannels()

    def onLayoutModified(self, _caller, _event) -> None:
        if not slicer.mrmlScene.IsBatchProcessing():
            legends.follow()

    # Runs

    def isReady(self, model: str = "", device: str = "") -> bool:
        destination = computers.split(device)[1]
        if not destination and not self.setupSection.resolve():
            return False
        if destination and not consent.agreed(destination):
            raise PanelError(_("Nothing was sent to {name}.").format(name=destination))
        if model and not license.acknowledge(model):
            raise PanelError(_("The model's license was not agreed to."))
        return True

    @property
    def isEntered(self) -> bool:
        return self.parent.isEntered

    @property
    def isBusy(self) -> bool:
        return self.logic.running or self.logic.trainer.busy or self.improve.finetune.running

    def updateButtons(self) -> None:
        self.segment.update()
        self.improve.ranking.update()
        self.evaluate.update()
        self.batch.update()

    def showResult(self, segmentationNode) -> None:
        if self.parameters is None or not resultNodes.isInScene(segmentationNode):
            return
        if not self.isEntered:
            self._unshown = segmentationNode
            segmentationNode.GetDisplayNode().SetVisibility(False)
            return
        self.display.show(segmentationNode)
        if text := self.ui.statisticsLabel.text:
            self.ui.logText.appendPlainText(text)

    def onAccepted(self) -> None:
        self.display.onAccepted()

    # Models and packages

    def onInstalling(self) -> None:
        """Packages are about to be replaced: no process may use them. Raises PanelError during a
        run."""
        if self.isBusy:
            raise PanelError(_("A run is in progress: wait until it ends, then try again."))
        self.logic.dropWorkers()

    def onNewModel(self, key: str, isSelected: bool) -> None:
        # the base stays: the next report would else judge a base that may know the same cases
        if isSelected and self.parameters is not None:
            self.parameters.model = key
        self.segment.choices.refresh()

    def onModelImported(self, name: str) -> None:
        if self.parameters is not None:
            self.parameters.model = name
        self._refreshModels()

    def onModelRenamed(self, old: str, new: str) -> None:
        """Select the new name where the old one was selected; "" deselects a deleted model."""
        for parameter in ("model", "base") if self.parameters is not None else ():
            if getattr(self.parameters, parameter) == old:
                setattr(self.parameters, parameter, new)
        self._refreshModels()

    def onModelDeleted(self, name: str) -> None:
        isSelected = self.parameters is not None and self.parameters.model == name
        self.onModelRenamed(name, "")
        if isSelected:  # another one took its place
            text = _("The model {name} was deleted; another one is selected now.")
            self.segment.showMessage(text.format(name=name))

    def onStorageMoved(self) -> None:
        self.logic.dropWorkers()  # they look for models in the former folder
        self._refreshModels()

    def onComputersChanged(self) -> None:
        self.logic.dropWorkers()  # the way to start one may be another
        self.segment.choices.refresh()

    def _refreshModels(self) -> None:
        self.segment.choices.refresh()
        self.improve.refresh()
