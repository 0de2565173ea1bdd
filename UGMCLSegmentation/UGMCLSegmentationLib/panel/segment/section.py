"""The Segment section of the panel: its inputs, the run and its messages."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.channelTable import ChannelTable
from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.panel.qtHelpers import Connections, askForFolder, enable, fill
from UGMCLSegmentationLib.panel.setup import dependencies
from UGMCLSegmentationLib.panel.shell import Shell
from UGMCLSegmentationLib.panel.taskView import TaskView
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.scene import volumes
from UGMCLSegmentationLib.storage import computers
from UGMCLSegmentationLib.worker.run import TaskResult


class SegmentSection:
    def __init__(self, shell: Shell) -> None:
        self._ui = ui = shell.ui
        self._logic = logic = shell.logic
        self._showResult = shell.showResult
        self._parameters: Parameters | None = None
        ui.inputVolumeSelector.setMRMLScene(slicer.mrmlScene)
        ui.roiSelector.setMRMLScene(slicer.mrmlScene)
        self.choices = Choices(ui, shell.connections)
        self._channels = ChannelTable(ui.channelsTable, self.update)
        self._names: tuple[str, tuple[str, ...]] = ("", ())  # of a model's channels
        self._view = TaskView(shell, ui.progressBar, ui.cancelButton, ui.messageLabel)
        logic.worker.onHello = self._onHello
        logic.worker.onLog = self._onLog
        for widget, signal, slot in (
            (ui.segmentButton, "clicked(bool)", self._onSegment),
            (ui.modelFolderButton, "clicked(bool)", self._onModelFolder),
            (ui.advancedSection, "toggled(bool)", self._onAdvancedToggled),
            (ui.roiSelector, "nodeAddedByUser(vtkMRMLNode*)", self._onRegionAdded),
        ):
            shell.connections.connect(widget, signal, slot)

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self._names = "", ()
        self.choices.setParameters(parameters)
        self.update()

    def update(self) -> None:
        self.choices.update()
        parameters = self._parameters
        reason = ""
        if self._logic.running:
            reason = self._logic.occupation
        elif parameters is None or parameters.inputVolume is None:
            reason = _("Select a volume first.")
        elif not parameters.model:
            reason = _("Select a model first.")
        self.showChannels()
        text = _("Segment the volume. The result appears over it in the slice views.")
        enable(self._ui.segmentButton, text, unless=reason)

    def showChannels(self) -> None:
        """A volume for each channel, if the model takes several images a case; how to get a
        volume if the scene has none."""
        parameters = self._parameters
        isOpen = parameters is not None and not slicer.mrmlScene.IsClosing()
        volumeNode = parameters.inputVolume if isOpen else None
        if volumeNode is not None and self._names[0] != parameters.model:  # else read already
            self._names = parameters.model, models.channelsOf(parameters.model)
        self._channels.show(volumeNode, self._names[1])
        self._ui.emptyLabel.setVisible(isOpen and not volumes.images())

    def showMessage(self, text: str) -> None:
        self._view.show(text)

    def useModelFolder(self, folder: str) -> None:
        """Select the model in a folder of the user's choice."""
        with messages.showingErrors(self._ui.messageLabel, _("The model cannot be used.")):
            self.choices.addModel(models.fromFolder(folder))

    def _onSegment(self, _checked: bool = False) -> None:
        parameters = self._parameters
        self._view.start(
            lambda listener: self._logic.startSegment(parameters, listener),
            self._onDone,
            parameters.model,
            parameters.device,
        )

    def _onDone(self, result: TaskResult) -> None:
        self._showResult(result.value)

    def _onModelFolder(self, _checked: bool = False) -> None:
        if folder := askForFolder(_("Folder of the model")):
            self.useModelFolder(folder)

    def _onAdvancedToggled(self, isOpen: bool) -> None:
        if isOpen and not dependencies.situation().isBlocking:
            self._logic.worker.start()  # it reports the devices

    def _onRegionAdded(self, node) -> None:
        volumeNode = self._parameters.inputVolume
        if node is not None and volumeNode is not None and not node.GetNumberOfControlPoints():
            volumes.fitRegion(node, volumeNode)

    def _onHello(self, event: dict) -> None:
        devices = event.get("devices") or []
        self.choices.setDevices(devices)
        names = ", ".join(device["text"] for device in devices)
        self._onLog("info", f"ugmcl {event.get('version')}, torch {event.get('torch')}: {names}")

    def _onLog(self, level: str, text: str) -> None:
        """A message of the worker itself. During a segmentation, the end of it shows a warning."""
        self._view.onLog(level, text)
        if level == "warning" and not self._view.running:
            self.showMessage(text)


class Choices:
    """The model and device selectors, whose lists are known only at run time. Keeps them and the
    parameter node in agreement."""

    def __init__(self, ui, connections: Connections) -> None:
        self._ui = ui
        self._parameters: Parameters | None = None
        self._devices: list[dict[str, str]] = []
        self._own: list[models.ModelInfo] = []
        connections.connect(ui.modelSelector, "currentIndexChanged(int)", self._onModelChanged)
        connections.connect(ui.deviceSelector, "currentIndexChanged(int)", self._onDeviceChanged)

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self.refresh()

    def refresh(self) -> None:
        """Look for models again and fill both lists."""
        if self._parameters is None:
            return
        found = models.installed() + self._own
        keys = [info.key for info in found]
        if self._parameters.model and self._parameters.model not in keys:
            found.append(_unknown(self._parameters.model))
        elif not self._parameters.model and keys:
            self._parameters.model = keys[0]
        entries = [(info.text, info.key, info.toolTip) for info in found]
        fill(self._ui.modelSelector, entries, self._parameters.model)
        self._fillDevices()

    def setDevices(self, devices: list[dict[str, str]]) -> None:
        """Offer the devices that the worker found on this computer."""
        self._devices = devices
        self._fillDevices()

    def addModel(self, info: models.ModelInfo) -> None:
        """Add a model of the user's own and select it."""
        self._own = [other for other in self._own if other.key != info.key] + [info]
        self._parameters.model = info.key
        self.refresh()

    def update(self) -> None:
        if self._parameters is None:
            return
        for selector, value in (
            (self._ui.modelSelector, self._parameters.model),
            (self._ui.deviceSelector, self._parameters.device),
        ):
            if selector.itemData(selector.currentIndex) != value:
                self.refresh()
                return

    def _fillDevices(self) -> None:
        if self._parameters is None:
            return
        entries = [(_("Automatic"), "auto", ""), (_("CPU"), "cpu", "")]
        for device in self._devices:
            if device["name"] != "cpu":
                entries.append((device["text"], device["name"], ""))
        for computer in computers.listing():
            name = computer.destination
            entries.append((name, computers.joined("auto", name), computer.state))
            gpus = [d for d in computer.devices if d[0] != "cpu"]
            for device, text in gpus if len(gpus) > 1 else ():
                label = _("{name}: {device}").format(name=name, device=text)
                entries.append((label, computers.joined(device, name), device))
        current = self._parameters.device
        if current not in [entry[1] for entry in entries]:
            entries.append((computers.split(current)[1] or current, current, ""))
        fill(self._ui.deviceSelector, entries, current)

    def _onModelChanged(self, index: int) -> None:
        if self._parameters is not None and index >= 0:
            self._parameters.model = self._ui.modelSelector.itemData(index)

    def _onDeviceChanged(self, index: int) -> None:
        if self._parameters is not None and index >= 0:
            self._parameters.device = self._ui.deviceSelector.itemData(index)


def _unknown(key: str) -> models.ModelInfo:
    """A model that a loaded scene names and this computer lacks; a run with it reports that."""
    try:
        return models.fromFolder(key)
    except Exception:
        return models.ModelInfo(key, _("{name} (not found)").format(name=key), "")
