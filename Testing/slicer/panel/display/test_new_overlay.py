"""One more overlay needs a field in the result, a row in the table and two widgets."""

from __future__ import annotations

import dataclasses
import re
import sys

import harness
import module_support as support
import numpy as np
import pytest

CONFIDENCE = "confidence"


def drop_library() -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "UGMCLSegmentationLib"]:
        del sys.modules[name]


def with_widgets(text: str) -> str:
    """Display.ui with a check box and a slider for the new overlay."""
    items = [re.search(rf' *<item row="2" column="{n}">.*?\n     </item>\n', text, re.DOTALL)
             for n in (0, 1)]  # fmt: skip
    block = "".join(item.group() for item in items)
    new = block.replace('row="2"', 'row="4"')
    new = new.replace("Uncertainty", "Confidence").replace("uncertainty", CONFIDENCE)
    assert 'name="showConfidenceCheckBox"' in new and "confidenceOpacity" in new
    return text.replace(block, block + new)


@pytest.fixture
def panel(scene, monkeypatch, tmp_path):
    import slicer

    monkeypatch.syspath_prepend(str(support.ENTRY.parent))
    drop_library()
    from UGMCLSegmentationLib.scene import overlays

    row = dataclasses.replace(
        overlays.OVERLAYS[1], role=CONFIDENCE, field=CONFIDENCE, title="Confidence", unit="%",
        nodeName="{volume} confidence", range=(20.0, 90.0), threshold=(30.0, 80.0), outside=10.0,
        opacity=0.6, isShown=True, shortcut="Alt+5",
    )  # fmt: skip
    monkeypatch.setattr(overlays, "OVERLAYS", (*overlays.OVERLAYS, row))
    load = slicer.util.loadUI

    def load_with_widgets(path):
        if not path.endswith("Display.ui"):
            return load(path)
        with open(path, encoding="utf-8") as file:
            text = with_widgets(file.read())
        (tmp_path / "Display.ui").write_text(text, encoding="utf-8")
        return load(str(tmp_path / "Display.ui"))

    monkeypatch.setattr(slicer.util, "loadUI", load_with_widgets)
    monkeypatch.setenv("FAKE_FIELD", CONFIDENCE)
    panel = support.Panel()
    yield panel
    panel.close()
    drop_library()  # the next test gets the table of the product


def test_a_new_overlay_is_a_field_a_row_and_two_widgets(panel):
    import slicer
    from UGMCLSegmentationLib.scene import results

    volume = support.add_volume()
    panel.segment(volume)
    (node,) = results.find(CONFIDENCE, volume)
    assert node.GetName() == "scan confidence" and results.isResultVolume(node)
    assert slicer.util.arrayFromVolume(node).max() == pytest.approx(100)
    display = node.GetDisplayNode()
    assert display.GetColorNode().GetSingletonTag() == "UGMCLConfidence"
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (20.0, 90.0)
    assert (display.GetLowerThreshold(), display.GetUpperThreshold()) == (30.0, 80.0)

    composite = harness.slice_view("Red").composite
    assert composite.GetNthLayerVolume(1) is results.distanceOf(volume, 1)
    names = [composite.GetNthLayerVolume(n).GetName() for n in range(3, 6)]
    assert names == [f"{t} in slices" for t in ("Distance", "Uncertainty", "Confidence")]
    assert composite.GetNthLayerOpacity(5) == pytest.approx(0.6)
    panel.ui.confidenceOpacitySlider.value = 0.25
    assert composite.GetNthLayerOpacity(5) == pytest.approx(0.25)

    assert titles() == ["Confidence (%)", "Distance (mm)", "Uncertainty"]
    shortcut = {s.key.toString(): s for s, _slot in panel.widget.shortcuts._made}["Alt+5"]
    shortcut.activated.emit()
    assert not panel.ui.showConfidenceCheckBox.checked
    assert "Alt+5" in panel.ui.showConfidenceCheckBox.toolTip
    assert composite.GetNumberOfAdditionalLayers() == 2
    assert titles() == ["Distance (mm)", "Uncertainty"]
    for other in ("Distance", "Uncertainty"):  # now it is the foreground, with its own legend
        getattr(panel.ui, f"show{other}CheckBox").checked = False
    panel.ui.showConfidenceCheckBox.checked = True
    assert composite.GetForegroundVolumeID() == node.GetID() and titles() == ["Confidence (%)"]
    view = harness.slice_view("Red")
    on = view.pixels()
    panel.ui.showConfidenceCheckBox.checked = False
    assert (on != view.pixels()).any()


def test_a_run_without_the_field_removes_its_node(panel, monkeypatch):
    from UGMCLSegmentationLib.scene import results

    volume = support.add_volume()
    panel.segment(volume)
    monkeypatch.delenv("FAKE_FIELD")
    panel.widget.logic.worker.kill()
    panel.segment()
    assert results.find(CONFIDENCE) == [] and results.uncertaintyOf(volume) is not None


def test_voxels_outside_the_region_have_the_value_of_the_table(panel):
    import slicer
    from UGMCLSegmentationLib.scene import results

    volume = support.add_volume()
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    bounds = np.zeros(6)
    volume.GetRASBounds(bounds)
    roi.SetCenterWorld(bounds.reshape(3, 2).mean(axis=1))
    roi.SetSizeWorld(np.diff(bounds.reshape(3, 2))[:, 0] * 0.4)
    panel.parameters.roi = roi
    panel.segment(volume)
    (node,) = results.find(CONFIDENCE, volume)
    assert slicer.util.arrayFromVolume(node)[0, 0, 0] == 10.0


def titles() -> list[str]:
    """Of the legends that are shown."""
    import slicer

    legends = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    return sorted(legend.GetTitleText() for legend in legends if legend.GetVisibility())
