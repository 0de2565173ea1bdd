"""The model and device selectors: lists that are known only at run time."""

from __future__ import annotations

from slicer.i18n import tr as _

from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.panel.qtHelpers import fill
from UGMCLSegmentationLib.parameters import Parameters


class Choices:
    """Fills the two combo boxes and keeps them and the parameter node alike."""

    def __init__(self, ui, connections) -> None:
        self._ui = ui
        self._parameters: Parameters | None = None
        self._updating = False
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
        self._fill(self._ui.modelSelector, entries, self._parameters.model)
        self._fillDevices()

    def setDevices(self, devices: list[dict[str, str]]) -> None:
        """What the worker found on this computer."""
        self._devices = devices
        self._fillDevices()

    def addModel(self, info: models.ModelInfo) -> None:
        """A model of the user's own, chosen at once."""
        self._own = [other for other in self._own if other.key != info.key] + [info]
        self._parameters.model = info.key
        self.refresh()

    def update(self) -> None:
        """Follow the parameter node."""
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
        current = self._parameters.device
        if current not in [entry[1] for entry in entries]:
            entries.append((current, current, ""))
        self._fill(self._ui.deviceSelector, entries, current)

    def _fill(self, selector, entries: list[tuple[str, str, str]], current: str) -> None:
        self._updating = True
        fill(selector, entries, current)
        self._updating = False

    def _onModelChanged(self, index: int) -> None:
        if not self._updating and self._parameters is not None and index >= 0:
            self._parameters.model = self._ui.modelSelector.itemData(index)

    def _onDeviceChanged(self, index: int) -> None:
        if not self._updating and self._parameters is not None and index >= 0:
            self._parameters.device = self._ui.deviceSelector.itemData(index)


def _unknown(key: str) -> models.ModelInfo:
    """What a loaded scene names and this computer does not have; the worker will say so."""
    try:
        return models.fromFolder(key)
    except Exception:
        return models.ModelInfo(key, _("{name} (not found)").format(name=key), "")
