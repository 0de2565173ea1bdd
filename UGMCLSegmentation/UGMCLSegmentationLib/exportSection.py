"""The Export section of the panel."""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _

from . import export
from .connections import Connections
from .errors import PanelError
from .logic import UGMCLSegmentationLogic
from .parameters import Parameters


class ExportSection:
    def __init__(self, ui, connections: Connections) -> None:
        self._ui = ui
        self._parameters: Parameters | None = None
        connections.connect(ui.exportButton, "clicked(bool)", self.onExport)
        connections.connect(ui.exportFolderEdit, "currentPathChanged(QString)", self.update)
        self._ui.exportMessageLabel.setVisible(False)

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self.update()

    def update(self, *_args) -> None:
        hasResult = bool(self._nodes())
        hasFolder = bool(self._ui.exportFolderEdit.currentPath)
        self._ui.exportButton.enabled = hasResult and hasFolder
        if not hasResult:
            self._ui.exportButton.toolTip = _("Segment a volume first.")
        elif not hasFolder:
            self._ui.exportButton.toolTip = _("Choose a folder first.")
        else:
            self._ui.exportButton.toolTip = _("Write the files.")

    def onExport(self, _checked: bool = False) -> None:
        folder = Path(self._ui.exportFolderEdit.currentPath)
        with slicer.util.tryWithErrorDisplay(_("The export failed.")):
            try:
                parameters = self._parameters
                written = export.export(
                    self._nodes(), folder, parameters.exportFormat, parameters.exportPattern
                )
            except PanelError as error:
                self._show(str(error), isError=True)
                return
        self._ui.exportFolderEdit.addCurrentPathToHistory()
        names = ", ".join(path.name for path in written)
        self._show(_("Wrote {names}.").format(names=names), isError=False)

    def _nodes(self) -> list:
        if self._parameters is None:
            return []
        if self._parameters.exportAll:
            return UGMCLSegmentationLogic.resultNodes()
        return [n for n in (self._parameters.segmentation,) if n is not None]

    def _show(self, text: str, isError: bool) -> None:
        self._ui.exportMessageLabel.text = text
        self._ui.exportMessageLabel.styleSheet = "color: #c0392b" if isError else ""
        self._ui.exportMessageLabel.setVisible(True)
