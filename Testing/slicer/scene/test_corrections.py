"""How a result was corrected: changed voxels, minutes, ticked spots, the report."""

from __future__ import annotations

import harness
import improve_support as improve
import module_support as support
import numpy as np
import pytest


@pytest.fixture
def panel(scene, tmp_path, monkeypatch):
    panel = improve.finetune_panel(tmp_path, monkeypatch)
    yield panel
    panel.close()


def edit(node, volume, change) -> None:
    """Change the voxels of the first segment, as the Segment Editor does."""
    import slicer

    identifier = node.GetSegmentation().GetNthSegmentID(0)
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume).copy()
    change(voxels)
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, identifier, volume)


def test_changed_voxels_are_counted_also_after_the_scene_was_saved(panel, tmp_path):
    import slicer
    from UGMCLSegmentationLib.scene import corrections

    volume = support.add_volume(name="scan")
    node = panel.segment(volume)
    before = support.segment_array(node, volume) > 0
    assert sum(m.voxels.sum() for m in corrections.changes(node)) == 0
    inside = np.argwhere(before)[100]

    def change(voxels):
        voxels[tuple(inside)] = 0
        voxels[0, 0, :3] = 1  # beyond the box of the result

    edit(node, volume, change)
    (mask,) = [m for m in corrections.changes(node) if m.voxels.any()]
    places = np.argwhere(mask.voxels) + mask.start
    assert sorted(map(tuple, places)) == sorted([(0, 0, 0), (0, 0, 1), (0, 0, 2), tuple(inside)])
    found = corrections.finish(node)
    assert (found.edited, found.whole) == (4, int(before.sum()) + 2)
    assert found.kept == pytest.approx(1 - 4 / found.whole)
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(path))
    node = slicer.util.getNode("scan segmentation")
    assert corrections.of(node) == found
    assert sum(m.voxels.sum() for m in corrections.changes(node)) == 4


def test_what_cannot_be_compared_is_unknown(panel):
    import slicer
    from UGMCLSegmentationLib.scene import corrections

    volume = support.add_volume(name="scan")
    drawn = improve.add_segmentation(volume, {"left atrium": improve.bright(volume)})
    assert corrections.changes(drawn) is None and corrections.finish(drawn) is None
    assert corrections.of(drawn) is None
    node = panel.segment(volume)
    node.GetSegmentation().RemoveSegment(node.GetSegmentation().GetNthSegmentID(0))
    assert sum(m.voxels.sum() for m in corrections.changes(node)) > 0, "a removed segment"
    volume.SetSpacing(*(2 * s for s in volume.GetSpacing()))
    other = improve.add_segmentation(volume, {"left atrium": improve.bright(volume)})
    node.GetSegmentation().CopySegmentFromSegmentation(
        other.GetSegmentation(), other.GetSegmentation().GetNthSegmentID(0)
    )
    volume.SetSpacing(*(s / 2 for s in volume.GetSpacing()))
    assert corrections.changes(node) is None, "another grid"
    slicer.mrmlScene.RemoveNode(volume)
    assert corrections.changes(node) is None and not corrections.editedSegments(node), "no volume"


def test_breaks_count_in_part(panel, monkeypatch):
    from UGMCLSegmentationLib.scene import corrections

    now = [100.0]
    monkeypatch.setattr(corrections.time, "monotonic", lambda: now[0])
    volume = support.add_volume(name="scan")
    node = panel.segment(volume)
    watch = corrections.Stopwatch()
    watch.start(node)
    for seconds in (30, 20, 3600):
        now[0] += seconds
        watch.tick()
    assert corrections.finish(node).minutes == pytest.approx((30 + 20 + 120) / 60, abs=0.01)
    watch.start(None)
    watch.tick()


def test_a_corrected_spot_is_ticked(panel):
    import qt

    volume = support.add_volume(name="scan")
    node = panel.segment(volume)
    panel.ui.spotsSection.collapsed = False
    table = panel.ui.spotsTable
    spots = panel.widget.display._review._spots
    assert table.rowCount > 1
    ticked = lambda: [  # noqa: E731
        table.item(r, 0).checkState() == qt.Qt.Checked for r in range(table.rowCount)
    ]
    assert not any(ticked())
    i, j, k = spots[0].ijk

    def change(voxels):
        voxels[k, j, i] = 1 - voxels[k, j, i]

    edit(node, volume, change)
    harness.wait_until(lambda: ticked()[0], 5)
    far = [n for n, s in enumerate(spots) if np.abs(np.subtract(s.ijk, (i, j, k))).max() > 12]
    assert not any(ticked()[n] for n in far)
    improve.open_improve(panel)
    improve.set_role(panel, "scan", "Unlabeled")  # as Correct next does
    panel.click("acceptButton")
    assert all(ticked()), "an accepted result is confirmed as a whole"
    panel.widget.display.refresh()
    assert all(ticked())


def test_a_spot_that_was_corrected_before_it_was_listed_is_ticked(panel):
    import qt
    from UGMCLSegmentationLib.panel.display import doubtfulSpots
    from UGMCLSegmentationLib.scene import results

    volume = support.add_volume(name="scan")
    node = panel.segment(volume)
    first, *_others = doubtfulSpots.find(results.surfaceErrorOf(volume, node))
    i, j, k = first.ijk
    edit(node, volume, lambda voxels: voxels.__setitem__((k, j, i), 1 - voxels[k, j, i]))
    panel.ui.spotsSection.collapsed = False
    assert panel.ui.spotsTable.item(0, 0).checkState() == qt.Qt.Checked
    panel.click("nextSpotButton")
    assert not panel.ui.spotLabel.text.startswith("Spot 1 of")


@pytest.mark.parametrize("isAccepted", [True, False])
def test_the_report_shows_the_work_saved(panel, isAccepted):
    import slicer
    from UGMCLSegmentationLib.panel.improve.cases import cases

    improve.prepare(panel, 1, 1, 0)
    volume = slicer.util.getNode("un0")
    node = panel.segment(volume)
    edit(node, volume, lambda voxels: voxels.__setitem__((0, 0, slice(0, 5)), 1))
    if isAccepted:
        cases.accept(volume, node)
    else:  # an edited result is Labeled without it
        panel.widget.improve.caseList.update()
        assert improve.rows(panel)["un0"][0] == "Labeled"
    panel.click("finetuneButton")
    improve.finish(panel)
    panel.click("reportButton")
    page = panel.shown[-1].read_text()
    assert "Work saved" in page and "of 1 corrected cases; 5 voxels and" in page
    assert "<td>un0</td><td>5</td>" in page
    about = slicer.util.getNode("Report on my-model").GetDescription()
    assert "Work saved: models drew" in about
