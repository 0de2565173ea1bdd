"""What a first run still needs: one message, and buttons that install it."""

from __future__ import annotations

import time
from collections.abc import Callable

import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.qtHelpers import askForFolder
from UGMCLSegmentationLib.panel.setup import dependencies, installation
from UGMCLSegmentationLib.panel.setup.dependencies import Situation
from UGMCLSegmentationLib.storage import userFolder

_LINES_SHOWN = 3

_LABELS = {
    dependencies.NO_EXTENSION: lambda: _("Install the PyTorch extension…"),
    dependencies.RESTART: lambda: _("Restart Slicer"),
    dependencies.NO_TORCH: lambda: _("Install PyTorch…"),
    dependencies.OLD_TORCH: lambda: _("Update PyTorch…"),
    dependencies.SLOW_TORCH: lambda: _("Update PyTorch…"),
    dependencies.NUMPY: lambda: _("Repair NumPy…"),
    dependencies.NO_OTHERS: lambda: _("Install…"),
    dependencies.CPU_TORCH: lambda: _("Install PyTorch for the GPU…"),
}
_WAYS = {
    dependencies.NO_EXTENSION: installation.extension,
    dependencies.NO_TORCH: installation.torch,
    dependencies.OLD_TORCH: installation.reinstallTorch,
    dependencies.SLOW_TORCH: installation.reinstallTorch,
    dependencies.NUMPY: installation.numpy,
    dependencies.NO_OTHERS: installation.others,
    dependencies.CPU_TORCH: installation.reinstallTorch,
}


def _keep(lines: list[str]) -> None:
    """Keep the log for support requests; the panel's own ends with Slicer."""
    try:
        path = userFolder.logs() / time.strftime("installation-%Y%m%d-%H%M%S.txt")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except (OSError, PanelError):
        return  # the panel's log still has it


class SetupSection:
    """Calls `onLog` with the installers' output, `onInstalling` before packages change (it raises
    PanelError if they must not) and `onInstalled` afterwards."""

    def __init__(
        self,
        ui,
        connections,
        onLog: Callable[[str], None],
        onInstalling: Callable[[], None],
        onInstalled: Callable[[], None],
    ) -> None:
        self._ui = ui
        self._onLog = onLog
        self._onInstalling = onInstalling
        self._onInstalled = onInstalled
        self.situation = Situation(dependencies.READY)
        connections.connect(ui.installButton, "clicked(bool)", self._onWay)
        connections.connect(ui.otherWayButton, "clicked(bool)", self._onOtherWay)
        self.refresh()

    @property
    def isBlocking(self) -> bool:
        return self.situation.isBlocking

    def refresh(self) -> None:
        """Check again."""
        self.situation = dependencies.situation()
        self._show(self.situation.message)

    def resolve(self) -> bool:
        """Install until nothing blocks a run; returns whether that succeeded."""
        while self.situation.isBlocking:
            before = self.situation
            self._onWay()
            if self.situation == before or before.kind == dependencies.RESTART:
                return False
        return True

    def _onWay(self, _checked: bool = False) -> None:
        kind = self.situation.kind
        if kind == dependencies.RESTART:
            self._restart()
        elif kind in _WAYS:
            self._try(_WAYS[kind])

    def _restart(self) -> None:
        """After confirmation, as Slicer does not offer to save then; not during a run."""
        try:
            self._onInstalling()
        except PanelError as error:
            self._show(str(error))
            return
        text = _("Restart Slicer now? Unsaved changes to the scene are lost.")
        if slicer.util.confirmYesNoDisplay(text):
            slicer.util.restart()

    def _onOtherWay(self, _checked: bool = False) -> None:
        if self.situation.kind == dependencies.CPU_TORCH:
            slicer.app.settings().setValue(dependencies.KEEP_CPU, "yes")
            self.refresh()
            return
        if folder := askForFolder(_("Folder of downloaded packages (*.whl)")):
            self._try(lambda: installation.fromFolder(folder))

    def _try(self, way: Callable[[], None]) -> None:
        before = self.situation
        try:
            self._onInstalling()
        except PanelError as error:
            self._show(str(error))
            return
        self._ui.installButton.enabled = self._ui.otherWayButton.enabled = False
        self._show(_("Installing…"))
        slicer.app.processEvents()
        try:
            way()
        except installation.Declined:
            self.refresh()
            self._show(_("Nothing was installed. {what}").format(what=self.situation.message))
        except installation.Failed as failure:
            self.refresh()
            self._onLog("\n".join(failure.lines))
            _keep(failure.lines)
            self._showFailure(failure)
        else:
            self.refresh()
            if self.situation == before:
                self._show(
                    _("The installation ended, but the problem remains: {what}").format(
                        what=self.situation.message
                    )
                )
            self._onInstalled()
        finally:
            self._ui.installButton.enabled = self._ui.otherWayButton.enabled = True

    def _showFailure(self, failure: installation.Failed) -> None:
        if failure.isOffline:
            text = _(
                "Nothing could be downloaded: this computer seems to be offline. Try again when "
                "it is online, or install from a folder of downloaded packages."
            )
        else:
            last = "\n".join(failure.lines[-_LINES_SHOWN:])
            text = _("The installation failed:\n{lines}").format(lines=last)
        self._show(text, isFailure=True)

    def _show(self, message: str, isFailure: bool = False) -> None:
        kind, ui = self.situation.kind, self._ui
        messages.show(ui.setupLabel, message, isFailure)
        hasWay = kind in _LABELS
        ui.installButton.setVisible(hasWay)
        ui.otherWayButton.setVisible(hasWay and kind != dependencies.RESTART)
        if hasWay:
            ui.installButton.text = _("Try again") if isFailure else _LABELS[kind]()
        if kind == dependencies.CPU_TORCH:
            ui.otherWayButton.text = _("Keep the CPU")
        else:
            ui.otherWayButton.text = _("Install from a folder…")
