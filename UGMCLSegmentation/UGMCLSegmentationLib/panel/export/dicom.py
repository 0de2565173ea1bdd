"""Results as DICOM segmentation objects, written by Slicer's own exporter.

That is the plugin of the extension QuantitativeReporting. It takes patient and study from the
subject hierarchy, where `subjectHierarchy.place` puts results beside their source.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel.export.export import makeFolder
from UGMCLSegmentationLib.scene import results, subjectHierarchy

_INSTANCES = "DICOM.instanceUIDs"  # the attribute by which Slicer links a volume to its files


def isFromDicom(volumeNode) -> bool:
    """Whether the volume was loaded from DICOM files and is still in their study."""
    if volumeNode is None or not volumeNode.GetAttribute(_INSTANCES):
        return False
    return subjectHierarchy.studyOf(volumeNode) != subjectHierarchy.tree().GetInvalidItemID()


def export(segmentationNodes: Sequence, folder: Path) -> list[Path]:
    """Write one DICOM SEG for each segmentation; returns the new files. A folder that does
    not exist is made. Raises PanelError."""
    sources = [results.sourceOf(node) for node in segmentationNodes]
    for node, source in zip(segmentationNodes, sources, strict=True):
        if not isFromDicom(source):
            raise PanelError(
                _("{name} was not loaded from DICOM: export it as a label map.").format(
                    name=node.GetName()
                )
            )
    try:
        import DICOMSegmentationPlugin
    except ImportError:
        raise PanelError(
            _("Install the extension QuantitativeReporting, which writes DICOM segmentations.")
        ) from None
    makeFolder(folder)
    before = set(folder.rglob("*"))
    plugin = DICOMSegmentationPlugin.DICOMSegmentationPluginClass()
    for node, source in zip(segmentationNodes, sources, strict=True):
        subjectHierarchy.place(node, source)  # a user may have moved it
        exportables = plugin.examineForExport(subjectHierarchy.tree().GetItemByDataNode(node))
        for exportable in exportables:
            exportable.directory = str(folder)
        problem = plugin.export(exportables) if exportables else _("nothing to export")
        if isinstance(problem, str) and problem:
            raise PanelError(
                _("{name} cannot be written as DICOM: {why}").format(
                    name=node.GetName(), why=problem
                )
            )
    written = sorted(p for p in set(folder.rglob("*")) - before if p.is_file())
    if len(written) < len(segmentationNodes):
        raise PanelError(_("The exporter wrote no file: see the Python console."))
    return written
