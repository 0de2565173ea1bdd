"""DICOM segmentations: what is asked of Slicer's exporter, and what comes before it.

The exporter itself (extension QuantitativeReporting) does not exist outside of the application; a
stand-in takes the one call.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import module_support as support
import pytest


def tree():
    import slicer

    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def from_dicom(volume) -> int:
    """Make a volume look as the DICOM module leaves it; returns the study's item."""
    hierarchy = tree()
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    study = hierarchy.CreateStudyItem(patient, "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), study)
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    return study


@pytest.fixture
def plugin(monkeypatch):
    """What examines, with the folders that it was told; writes a file unless told otherwise."""
    told = types.SimpleNamespace(items=[], parents=[], result="", writes=True)

    class DICOMSegmentationPluginClass:
        def examineForExport(self, item):
            told.items.append(item)
            told.parents.append(tree().GetItemParent(item))
            return [types.SimpleNamespace(directory="", item=item)]

        def export(self, exportables):
            for exportable in exportables:
                if told.writes:
                    folder = Path(exportable.directory) / "IMG0001"
                    folder.mkdir()
                    (folder / f"{exportable.item}.dcm").touch()
            return told.result

    module = types.ModuleType("DICOMSegmentationPlugin")
    module.DICOMSegmentationPluginClass = DICOMSegmentationPluginClass
    monkeypatch.setitem(sys.modules, "DICOMSegmentationPlugin", module)
    return told


def said(panel) -> str:
    return panel.ui.exportMessageLabel.text


def test_the_result_of_a_dicom_volume_is_exported_from_its_study(panel, plugin, tmp_path):
    volume = support.add_volume()
    study = from_dicom(volume)
    node = panel.segment(volume)
    hierarchy = tree()
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), hierarchy.GetSceneItemID())
    panel.ui.exportFolderEdit.currentPath = str(tmp_path)
    panel.click("exportDicomButton")
    assert plugin.items == [hierarchy.GetItemByDataNode(node)]
    assert plugin.parents == [study]  # it was put back before
    assert said(panel) == f"Wrote {plugin.items[0]}.dcm."


def test_other_volumes_have_no_dicom_export(panel, plugin, tmp_path):
    from UGMCLSegmentationLib.errors import PanelError
    from UGMCLSegmentationLib.panel.export import dicom

    volume = support.add_volume()
    node = panel.segment(volume)
    panel.ui.exportFolderEdit.currentPath = str(tmp_path)
    assert not panel.ui.exportDicomButton.enabled
    assert "DICOM" in panel.ui.exportDicomButton.toolTip
    with pytest.raises(PanelError, match="was not loaded from DICOM"):
        dicom.export([node], tmp_path)
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3")  # but in no study
    assert not dicom.isFromDicom(volume)


def test_without_the_exporter_the_extension_is_named(panel, tmp_path):
    volume = support.add_volume()
    from_dicom(volume)
    panel.segment(volume)
    panel.ui.exportFolderEdit.currentPath = str(tmp_path)
    panel.click("exportDicomButton")
    assert "QuantitativeReporting" in said(panel)


@pytest.mark.parametrize(("result", "writes", "expected"), [
    ("missing reference", True, "missing reference"), (True, False, "wrote no file"),
    (None, True, "Wrote"),
])  # fmt: skip
def test_what_the_exporter_says_is_told(panel, plugin, tmp_path, result, writes, expected):
    plugin.result, plugin.writes = result, writes
    volume = support.add_volume()
    from_dicom(volume)
    panel.segment(volume)
    panel.ui.exportFolderEdit.currentPath = str(tmp_path)
    panel.click("exportDicomButton")
    assert expected in said(panel)
