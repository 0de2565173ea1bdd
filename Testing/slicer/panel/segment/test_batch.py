"""Many volumes at once, and segmentations that are surfaces, through the panel with the fake
worker."""

from __future__ import annotations

import harness
import improve_support as improve
import module_support as support
import pytest


@pytest.fixture
def panel(scene, tmp_path, monkeypatch):
    panel = improve.next_panel(tmp_path, monkeypatch)
    yield panel
    panel.close()


def test_all_volumes_with_the_model_loaded_once(panel, tmp_path):
    for name in ("a", "b", "c", "skipped"):
        support.add_volume(name=name)
    flat = support.add_volume(support.blob((20, 20, 1)), name="flat")
    improve.open_improve(panel)
    improve.set_role(panel, "skipped", "Ignore")
    panel.click("batchButton")
    pid = None
    while panel.widget.logic.running:
        harness.process_events(5)
        now = panel.widget.logic.worker.pid
        assert pid in (None, 0, now)
        pid = now
    assert panel.ui.batchLabel.text.startswith("3 of 4 volumes were segmented.")
    assert panel.ui.batchLabel.text.splitlines()[1].startswith("flat is a single slice")
    assert flat is not None
    panel.ui.exportAllCheckBox.checked = True
    panel.ui.exportPatternEdit.text = "{number}-{name}-{model}"
    panel.ui.exportFolderEdit.currentPath = str(tmp_path)
    panel.click("exportButton")
    written = sorted(p.name for p in tmp_path.glob("*.nrrd"))
    assert written == ["1-a-heart.nrrd", "2-b-heart.nrrd", "3-c-heart.nrrd"]
    panel.ui.exportPatternEdit.text = "{patient}"
    panel.click("exportButton")
    assert "{patient} is not a pattern" in panel.ui.exportMessageLabel.text


def test_what_a_model_advises_of_a_volume_is_said_after_a_batch(panel, monkeypatch):
    monkeypatch.setenv("FAKE_ADVICE", "The field of view is too wide.")
    for name in "ab":
        support.add_volume(name=name)
    panel.click("batchButton")
    improve.wait(panel)
    lines = panel.ui.batchLabel.text.splitlines()
    assert lines[0].startswith("2 of 2 volumes were segmented.")
    assert lines[1:] == [f"{name}: The field of view is too wide." for name in "ab"]
    monkeypatch.delenv("FAKE_ADVICE")
    panel.widget.logic.worker.kill()
    panel.click("batchButton")
    improve.wait(panel)
    assert panel.ui.batchLabel.text == "2 of 2 volumes were segmented."


def test_a_batch_can_be_canceled(panel, monkeypatch):
    monkeypatch.setenv("FAKE_SLOW", "0.5")
    for name in "abc":
        support.add_volume(name=name)
    panel.click("batchButton")
    harness.wait_until(lambda: len(support.result_nodes()) > 0, 20)
    panel.click("cancelBatchButton")
    improve.wait(panel, 2)
    assert panel.ui.batchLabel.text.startswith("Canceled. ")
    made = len(support.result_nodes())
    harness.process_events(800)
    assert len(support.result_nodes()) == made < 9
    harness.wait_until(lambda: support.private_folders() == [], 6)


def surface_of(volume, segments, name):
    """A segmentation that holds surfaces alone, as read from an STL file."""

    node = improve.add_segmentation(volume, segments, name)
    assert node.CreateClosedSurfaceRepresentation()
    segmentation = node.GetSegmentation()
    segmentation.SetSourceRepresentationName("Closed surface")
    segmentation.RemoveRepresentation("Binary labelmap")
    assert not segmentation.ContainsRepresentation("Binary labelmap")
    return node


def test_surfaces_can_be_compared_with(panel):
    from UGMCLSegmentationLib.panel.evaluate import evaluation

    volume = support.add_volume()
    result = panel.segment(volume)
    found = support.segment_array(result, volume) > 0
    reference = surface_of(volume, {"left atrium": found}, "from STL")
    panel.ui.evaluateSection.collapsed = False
    panel.ui.referenceSelector.setCurrentNode(reference)
    panel.click("evaluateButton")
    improve.wait(panel)
    table = evaluation.table().GetTable()
    assert float(table.GetValueByName(0, "Dice").ToString()) > 0.9
    assert reference.GetSegmentation().GetSourceRepresentationName() == "Closed surface"


def test_surfaces_can_be_learned_from(panel):
    improve.prepare(panel, 1, 1, 0)
    volume = support.add_volume(name="drawn elsewhere")
    found = support.blob() > 100
    surface_of(volume, {"left atrium": found}, "from STL")
    panel.widget.improve.caseList.update()
    case = next(c for c in panel.widget.improve.caseList.contents.cases if c.volumeNode is volume)
    assert case.role == "labeled" and case.problem == ""
    assert any("resampled" in text for text in case.notices)
