"""Results in tables: all of the scene, and Slicer's Segment Statistics."""

from __future__ import annotations

from types import SimpleNamespace

import improve_support as improve
import module_support as support
import numpy as np
import pytest


@pytest.fixture
def panel(scene, tmp_path, monkeypatch):
    panel = improve.finetune_panel(tmp_path, monkeypatch)
    yield panel
    panel.close()


def test_a_table_of_several_timepoints(panel, monkeypatch):
    import slicer
    from UGMCLSegmentationLib.scene import segmentStatistics

    assert panel.ui.resultsTableButton.isHidden() and segmentStatistics.table() is None
    scans = [support.add_volume(support.blob(seed=n), name=f"{year} scan")
             for n, year in enumerate((2026, 2024))]  # fmt: skip
    nodes = [panel.segment(volume) for volume in scans]
    improve.add_segmentation(scans[0], {"left atrium": improve.bright(scans[0])})  # no result
    shown = []
    monkeypatch.setattr(segmentStatistics, "show", shown.append)
    panel.click("resultsTableButton")
    found = improve.columns("All results")
    assert found["Volume"] == ["2024 scan", "2026 scan"]
    assert found["Structure"] == ["left atrium"] * 2
    for text, low, high in zip(found["mL"], found["mL, lower"], found["mL, upper"], strict=True):
        assert float(low) < float(text) < float(high)
    assert found["Predicted Dice"] == ["0.930"] * 2
    assert [node.GetName() for node in shown] == ["All results"]
    # an edited result has its own volume alone
    support.fill(nodes[0], scans[0], slice(15), 0)
    assert shown[0].GetName() == "All results (before a change)"
    panel.click("resultsTableButton")
    found = improve.columns("All results")
    voxels = np.count_nonzero(support.segment_array(nodes[0], scans[0]))
    expected = voxels * np.prod(scans[0].GetSpacing()) / 1000
    assert float(found["mL"][1]) == pytest.approx(expected, abs=0.006)
    assert found["mL, lower"][1] == found["Predicted Dice"][1] == ""
    # a structure of the same volume at another place is no longer the model's
    whole = support.segment_array(nodes[1], scans[1])
    moved = np.roll(whole, 1, axis=0).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(moved, nodes[1], "class_1", scans[1])
    panel.click("resultsTableButton")
    found = improve.columns("All results")
    assert float(found["mL"][0]) > 0 and found["Predicted Dice"] == ["", ""]
    panel.segment(support.add_volume(name="2025 scan"))
    assert shown[0].GetName() == "All results (before a change)"
    panel.click("resultsTableButton")
    assert improve.columns("All results")["Predicted Dice"] == ["", "0.930", ""]
    tables = [n.GetName() for n in slicer.util.getNodesByClass("vtkMRMLTableNode")]
    assert tables.count("All results") == 1


def test_the_result_in_segment_statistics(panel, monkeypatch):
    import slicer

    chosen = {}

    def selector(name):
        return SimpleNamespace(setCurrentNode=lambda node: chosen.update({name: node}))

    widget = SimpleNamespace(
        segmentationSelector=selector("segmentation"), scalarSelector=selector("volume")
    )
    module = SimpleNamespace(widgetRepresentation=lambda: SimpleNamespace(self=lambda: widget))
    monkeypatch.setattr(slicer.modules, "segmentstatistics", module, raising=False)
    monkeypatch.setattr(slicer.util, "selectModule", lambda name: chosen.update(module=name))
    volume = support.add_volume()
    node = panel.segment(volume)
    panel.click("segmentStatisticsButton")
    assert chosen == {"module": "SegmentStatistics", "segmentation": node, "volume": volume}


def test_the_table_is_shown_in_a_table_view(panel):
    """With the real call: the headless Slicer has the tables' logic."""
    import slicer

    panel.segment(support.add_volume())
    panel.click("resultsTableButton")
    selected = slicer.app.applicationLogic().GetSelectionNode().GetActiveTableID()
    assert slicer.mrmlScene.GetNodeByID(selected).GetName() == "All results"
