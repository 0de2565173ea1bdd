"""The Export section of the panel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.export import dicom, export
from UGMCLSegmentationLib.panel.qtHelpers import Connections, enable
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.scene import results

_MOST_NAMES = 10  # names in a question


class ExportSection:
    def __init__(self, ui, connections: Connections) -> None:
        self._ui = ui
        self._parameters: Parameters | None = None
        connections.connect(ui.exportButton, "clicked(bool)", self.onExport)
        connections.connect(ui.exportDicomButton, "clicked(bool)", self.onExportDicom)
        connections.connect(ui.exportFolderEdit, "currentPathChanged(QString)", self.update)
        self._ui.exportMessageLabel.setVisible(False)

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self.update()

    def update(self, *_args) -> None:
        hasResult = bool(self._nodes())
        hasFolder = bool(self._ui.exportFolderEdit.currentPath.strip())
        reason = ""
        if not hasResult:
            reason = _("Segment a volume first.")
        elif not hasFolder:
            reason = _("Choose a folder first.")
        enable(self._ui.exportButton, _("Write the files."), unless=reason)
        sources = [results.sourceOf(node) for node in self._nodes()]
        if sources and not all(map(dicom.isFromDicom, sources)):
            reason = _("For volumes that were loaded from DICOM.")
        enable(self._ui.exportDicomButton, _("Write the files."), unless=reason)

    def onExport(self, _checked: bool = False) -> None:
        parameters = self._parameters
        self._export(
            lambda folder: export.export(
                self._nodes(),
                folder,
                parameters.exportFormat,
                parameters.exportPattern,
                _mayReplace,
            )
        )

    def onExportDicom(self, _checked: bool = False) -> None:
        self._export(lambda folder: dicom.export(self._nodes(), folder))

    def _export(self, write: Callable[[Path], list[Path]]) -> None:
        label = self._ui.exportMessageLabel
        with messages.showingErrors(label, _("The export failed.")):
            written = write(Path(self._ui.exportFolderEdit.currentPath.strip()))
            if not written:
                messages.show(label, _("Nothing was written."))
                return
            self._ui.exportFolderEdit.addCurrentPathToHistory()
            names = ", ".join(path.name for path in written)
            messages.show(label, _("Wrote {names}.").format(names=names))

    def _nodes(self) -> list:
        if self._parameters is None:
            return []
        if self._parameters.exportAll:
            return results.find(results.SEGMENTATION)
        return [n for n in (self._parameters.segmentation,) if n is not None]


def _mayReplace(paths: list[Path]) -> bool:
    """Whether the user confirms replacing the files, for example with a corrected result."""
    names = "\n".join(path.name for path in paths[:_MOST_NAMES])
    if len(paths) > _MOST_NAMES:
        names += "\n" + _("and {n} more").format(n=len(paths) - _MOST_NAMES)
    question = _("{folder} holds these files already. Replace them?\n\n{names}").format(
        folder=paths[0].parent, names=names
    )
    return slicer.util.confirmOkCancelDisplay(question, _("Export"))
