"""Which case next, review, evaluation and batch, through the panel with the fake worker."""

from __future__ import annotations

import json
import os

import harness
import improve_support as improve
import module_support as support
import numpy as np
import pytest


@pytest.fixture
def panel(scene, tmp_path, monkeypatch):
    panel = improve.next_panel(tmp_path, monkeypatch)
    yield panel
    panel.close()


def corrupt(name: str) -> None:
    """Noise over the whole image of a case."""
    import slicer

    volume = slicer.util.getNode(name)
    array = slicer.util.arrayFromVolume(volume)
    noise = np.random.default_rng(0).normal(0, 80, array.shape)
    slicer.util.updateVolumeFromArray(volume, (array + noise).astype(np.float32))


def test_ranking_puts_the_corrupted_volume_first(panel):
    improve.prepare(panel)
    corrupt("un2")
    panel.click("rankButton")
    assert not panel.ui.segmentButton.enabled and panel.ui.cancelNextButton.enabled
    improve.wait(panel)
    rows = improve.rows(panel)
    assert next(iter(rows)) == "un2"
    shown = [float(row[2]) for row in rows.values() if row[2]]
    assert len(shown) == 4 and shown == sorted(shown)
    assert "un2" in panel.ui.nextLabel.text
    assert "Dice" in panel.ui.casesTable.item(0, 3).toolTip()
    assert support.private_folders() == []


def test_a_volume_in_which_nothing_is_found_comes_first(panel):
    improve.prepare(panel)
    empty = support.add_volume(np.zeros((8, 9, 10), np.float32), name="empty")
    panel.click("rankButton")
    improve.wait(panel)
    rows = improve.rows(panel)
    assert next(iter(rows)) == "empty" and rows["empty"][2] == "0.00"
    ranks = panel.widget.logic.rank([empty], model="heart")
    assert [(node.GetName(), rank.uncertainty) for node, rank in ranks] == [("empty", 1.0)]


def test_ranks_survive_saving(panel, tmp_path):
    import slicer

    improve.prepare(panel, 1, 2, 0)
    panel.click("rankButton")
    improve.wait(panel)
    before = improve.rows(panel)
    assert harness.save_scene(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(False)
    assert harness.load_scene(tmp_path / "scene.mrb")
    assert improve.rows(panel) == before


def test_the_top_case_is_corrected_accepted_and_learned_from(panel, tmp_path, monkeypatch):
    import SimpleITK as sitk
    import slicer

    monkeypatch.setenv("FAKE_OPEN_AT", str(tmp_path / "asked.json"))
    monkeypatch.setenv("FAKE_STEP", "0.1")
    improve.prepare(panel, 1, 3, 0)
    corrupt("un1")
    assert not panel.ui.acceptButton.enabled
    panel.click("rankButton")
    improve.wait(panel)
    panel.click("openNextButton")
    improve.wait(panel)
    volume = slicer.util.getNode("un1")
    assert [(a.GetName(), b.GetName()) for a, b in panel.edited] == [("un1 segmentation", "un1")]
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {c.GetBackgroundVolumeID() for c in composites} == {volume.GetID()}
    assert not any(c.GetForegroundVolumeID() for c in composites)  # nothing over what is drawn on
    assert not any(c.GetNumberOfAdditionalLayers() for c in composites)
    node = panel.edited[0][0]
    voxels = support.segment_array(node, volume).copy()
    voxels[1, 2, 3] = 1 - voxels[1, 2, 3]  # what the user does in the Segment Editor
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, "class_1", volume)
    panel.widget.improve.caseList.update()
    assert improve.rows(panel)["un1"][0] == "Unlabeled"
    assert panel.ui.acceptButton.enabled
    panel.click("acceptButton")
    assert improve.rows(panel)["un1"] == ("Labeled", "un1 segmentation", "")
    panel.click("finetuneButton")
    harness.wait_until(lambda: panel.ui.pauseButton.enabled, 20)
    cases = json.loads((tmp_path / "asked.json").read_text())["list"]["cases"]
    case = next(c for c in cases if c["name"] == "un1")
    assert case["role"] == "labeled"
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(case["label"])), voxels)
    panel.click("cancelFinetuneButton")
    improve.finish(panel, 3)


def test_a_result_that_is_right_as_it_is_can_be_accepted(panel):
    improve.prepare(panel, 1, 2, 0)
    improve.select_rows(panel, "un1")
    panel.click("openNextButton")  # the selected one, as nothing is ranked
    improve.wait(panel)
    panel.widget.improve.caseList.update()
    assert improve.rows(panel)["un1"][0] == "Unlabeled"
    panel.click("acceptButton")
    assert improve.rows(panel)["un1"][:2] == ("Labeled", "un1 segmentation")
    assert not panel.ui.acceptButton.enabled
    assert "un1 is Labeled now" in panel.ui.nextLabel.text


def test_files_beside_the_scene_are_ranked_too(panel, tmp_path):
    import SimpleITK as sitk

    for seed in range(2):
        image = sitk.GetImageFromArray(support.blob(seed=seed))
        sitk.WriteImage(image, str(tmp_path / f"file{seed}.nrrd"))
    improve.open_improve(panel)
    panel.widget.improve.cases.addFolder(str(tmp_path))
    assert len(improve.rows(panel)) == 2
    panel.click("rankButton")
    improve.wait(panel)
    assert all(float(row[2]) > 0 for row in improve.rows(panel).values())
    panel.click("openNextButton")
    assert "Load an unlabeled volume" in panel.ui.nextLabel.text


def test_what_runs_is_why_nothing_else_can_start(panel):
    ui = panel.ui
    improve.prepare(panel)
    panel.click("rankButton")
    for button in (ui.segmentButton, ui.batchButton, ui.evaluateButton, ui.openNextButton):
        assert not button.enabled and "A ranking is running." in button.toolTip
    with pytest.raises(RuntimeError, match=r"A ranking is running\. Wait or cancel it\."):
        panel.widget.logic.startBatch([], panel.parameters, None)
    panel.click("cancelNextButton")
    improve.wait(panel, 2)
    assert ui.rankButton.enabled and "running" not in ui.batchButton.toolTip
    panel.click("batchButton")
    assert "A batch is running." in ui.rankButton.toolTip
    panel.click("cancelBatchButton")
    improve.wait(panel, 2)


def test_ranking_can_be_canceled(panel):
    improve.prepare(panel)
    panel.click("rankButton")
    panel.click("cancelNextButton")
    improve.wait(panel, 2)
    assert panel.ui.nextLabel.text == "Canceled." and panel.ui.rankButton.enabled
    harness.wait_until(lambda: support.private_folders() == [], 6)



def test_evaluation_against_a_reference(panel):
    from UGMCLSegmentationLib.panel.evaluate import evaluation

    volume = support.add_volume()
    result = panel.segment(volume)
    found = support.segment_array(result, volume) > 0
    truth = np.roll(found, 2, axis=2)
    reference = improve.add_segmentation(volume, {"Left Atrium": truth}, "expert")
    panel.ui.evaluateSection.collapsed = False
    assert not panel.ui.evaluateButton.enabled
    panel.ui.referenceSelector.setCurrentNode(reference)
    panel.click("evaluateButton")
    assert "An evaluation is running." in panel.ui.segmentButton.toolTip
    improve.wait(panel)
    table = evaluation.table().GetTable()
    row = {table.GetColumnName(c): table.GetValue(0, c).ToString() for c in range(5)}
    dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    jaccard = (found & truth).sum() / (found | truth).sum()
    assert row["Structure"] == "left atrium"
    assert float(row["Dice"]) == pytest.approx(dice, abs=6e-4)
    assert float(row["Jaccard"]) == pytest.approx(jaccard, abs=6e-4)
    assert 0 < float(row["ASD (mm)"]) <= float(row["95HD (mm)"]) <= 2 * 1.25 + 0.01
    overlay = evaluation.overlay()
    shown = [support_array(overlay, f"error_{value}", volume) > 0 for value in (1, 2)]
    assert np.array_equal(shown[0], found & ~truth)
    assert np.array_equal(shown[1], truth & ~found)
    assert overlay.GetDisplayNode().GetVisibility()
    panel.ui.showErrorsCheckBox.checked = False
    assert not overlay.GetDisplayNode().GetVisibility()
    counts = support.node_counts()
    panel.click("evaluateButton")
    improve.wait(panel)
    assert support.node_counts() == counts
    assert panel.ui.evaluateTable.model().rowCount() == 1


def test_a_non_linear_transform_during_an_evaluation(panel):
    import slicer
    from UGMCLSegmentationLib.panel.evaluate import evaluation

    volume = support.add_volume()
    panel.segment(volume)
    reference = improve.add_segmentation(volume, {"left atrium": improve.bright(volume)}, "expert")
    panel.ui.referenceSelector.setCurrentNode(reference)
    panel.click("evaluateButton")
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    volume.SetAndObserveTransformNodeID(warp.GetID())
    improve.wait(panel)
    assert "harden" in panel.ui.evaluateLabel.text
    assert evaluation.overlay() is None and evaluation.table() is None


def test_the_console_gives_numbers_in_every_language(panel, monkeypatch):
    from UGMCLSegmentationLib.panel.evaluate import evaluation

    from ugmcl_core.models.card import ClassInfo

    monkeypatch.setattr(evaluation, "_", lambda text: f"<{text}>")
    volume = support.add_volume()
    mask = improve.bright(volume)
    result = improve.add_segmentation(volume, {"heart": mask, "scar": mask}, "found")
    reference = improve.add_segmentation(volume, {"heart": np.roll(mask, 1, axis=2)}, "expert")
    (row,) = panel.widget.logic.evaluate(result, reference)
    truth = support_array(reference, reference.GetSegmentation().GetNthSegmentID(0), volume)
    dice = 2 * (mask & (truth > 0)).sum() / (mask.sum() + (truth > 0).sum())
    assert list(row) == ["Structure", "Dice", "Jaccard", "ASD (mm)", "95HD (mm)"]
    assert row["Structure"] == "heart" and row["Dice"] == pytest.approx(dice, abs=1e-9)
    measured = {"value": 1, "dice": 0.0, "jaccard": float("nan"), "asd_mm": None, "hd95_mm": None}
    (row,) = evaluation.rowsOf([measured], [ClassInfo(1, "heart")])
    assert row == {"Structure": "heart", "Dice": 0.0, **dict.fromkeys(list(row)[2:])}


def support_array(node, identifier, volume):
    import slicer

    return slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume)


def test_confused_structures_are_shown(panel):
    from UGMCLSegmentationLib.panel.evaluate import evaluation

    volume = support.add_volume()
    mask, other = improve.bright(volume), np.zeros(support.blob().shape, bool)
    other[:3, :3, :3] = True
    result = improve.add_segmentation(volume, {"heart": mask, "scar": other}, "found")
    reference = improve.add_segmentation(volume, {"scar": mask, "heart": other}, "expert")
    panel.widget.logic.evaluate(result, reference)
    shown = support_array(evaluation.overlay(), "error_3", volume) > 0
    assert np.array_equal(shown, mask | other)


def test_nothing_in_common_is_said(panel):
    volume = support.add_volume()
    panel.segment(volume)
    mask = improve.bright(volume)
    reference = improve.add_segmentation(volume, {"kidney": mask, "liver": mask}, "other")
    panel.ui.referenceSelector.setCurrentNode(reference)
    panel.click("evaluateButton")
    assert "no structure in common" in panel.ui.evaluateLabel.text
    assert not panel.widget.logic.running and panel.ui.evaluateButton.enabled


def test_numbers_and_differences_of_another_pair_are_not_shown(panel):
    from UGMCLSegmentationLib.panel.evaluate import evaluation

    volume = support.add_volume()
    result, ui = panel.segment(volume), panel.ui
    mask = support.segment_array(result, volume) > 0
    reference = improve.add_segmentation(volume, {"left atrium": mask}, "expert")
    other = improve.add_segmentation(volume, {"kidney": mask, "liver": mask}, "other")
    for spoil in (
        lambda: ui.referenceSelector.setCurrentNode(other),
        lambda: setattr(panel.parameters, "segmentation", other),
        lambda: (reference.GetSegmentation().GetNthSegment(0).SetName("a"),
                 result.GetSegmentation().GetNthSegment(0).SetName("b"),
                 reference.GetSegmentation().AddEmptySegment("", "c"),
                 panel.click("evaluateButton")),
    ):  # fmt: skip
        panel.parameters.segmentation = result
        ui.referenceSelector.setCurrentNode(reference)
        panel.click("evaluateButton")
        improve.wait(panel)
        shown = evaluation.overlay().GetDisplayNode()
        assert ui.evaluateTable.isVisibleTo(ui.evaluateSection) and shown.GetVisibility()
        assert ui.evaluateLabel.text.startswith("scan segmentation against expert.")
        spoil()
        assert not ui.evaluateTable.isVisibleTo(ui.evaluateSection)
        assert not shown.GetVisibility() and "against" not in ui.evaluateLabel.text
    assert "no structure in common" in ui.evaluateLabel.text


@pytest.mark.parametrize("when", ["after", "during"])
@pytest.mark.parametrize("edited", ["result", "reference", "place"])
def test_numbers_of_a_segmentation_that_was_edited_are_not_shown(panel, edited, when):
    import slicer
    from UGMCLSegmentationLib.panel.evaluate import evaluation

    volume = support.add_volume()
    result, ui = panel.segment(volume), panel.ui
    mask = support.segment_array(result, volume) > 0
    reference = improve.add_segmentation(volume, {"left atrium": mask}, "expert")
    ui.referenceSelector.setCurrentNode(reference)

    def edit():
        if edited == "place":
            transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
            reference.SetAndObserveTransformNodeID(transform.GetID())
            return
        node = result if edited == "result" else reference
        name = node.GetSegmentation().GetNthSegmentID(0)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            np.roll(mask, 1, axis=2).astype(np.uint8), node, name, volume
        )

    panel.click("evaluateButton")
    if when == "during":
        edit()
    improve.wait(panel)
    shown = evaluation.overlay().GetDisplayNode()
    if when == "after":
        assert ui.evaluateTable.isVisibleTo(ui.evaluateSection) and shown.GetVisibility()
        edit()
    name = result.GetName() if edited == "result" else "expert"
    assert not ui.evaluateTable.isVisibleTo(ui.evaluateSection) and not shown.GetVisibility()
    assert ui.evaluateLabel.text == f"{name} has changed since it was measured: evaluate again."
    assert evaluation.table().GetName() == "scan segmentation against expert (before a change)"
    panel.click("evaluateButton")
    improve.wait(panel)
    assert ui.evaluateTable.isVisibleTo(ui.evaluateSection) and shown.GetVisibility()
    assert evaluation.table().GetName() == "scan segmentation against expert"
    panel.widget.setParameters(None)  # as when a scene with both of them is loaded
    panel.widget.initializeParameterNode()
    panel.parameters.segmentation, panel.parameters.reference = result, reference
    assert shown.GetVisibility()
    result.GetSegmentation().RemoveSegment(result.GetSegmentation().GetNthSegmentID(0))
    assert not shown.GetVisibility()


def test_the_kind_of_uncertainty_is_told(panel, monkeypatch):
    asked = []
    worker = panel.widget.logic.worker
    monkeypatch.setattr(worker, "request", lambda content, *_rest: asked.append(content))
    panel.select(support.add_volume())
    for kind in ("dropout", "flips", "both"):
        selector = panel.ui.uncertaintySelector
        selector.currentIndex = selector.findText(kind)
        panel.click("segmentButton")
        harness.wait_until(lambda: asked, 5)
        assert asked.pop().get("uncertainty", "dropout") == kind
        panel.widget.logic.run.abandon()
        panel.widget.updateButtons()


def test_the_console(panel, tmp_path):
    """What docs/console.md shows."""
    from UGMCLSegmentationLib.panel.evaluate import evaluation

    from UGMCLSegmentation import UGMCLSegmentationLogic

    logic = UGMCLSegmentationLogic(support.FAKE)
    volumes = [support.add_volume(name=name) for name in "ab"]
    node = logic.segment(volumes[0], model="heart", passes=2)
    assert support.segment_array(node, volumes[0]).any()
    nodes = logic.segmentAll(volumes, model="heart", uncertainty="flips")
    assert [n.GetName() for n in nodes] == ["a segmentation", "b segmentation"]
    paths = logic.exportAll(nodes, tmp_path, pattern="{name}")
    assert [p.name for p in paths] == ["a.nrrd", "b.nrrd"]
    rows = logic.evaluate(nodes[0], improve.add_segmentation(
        volumes[0], {"left atrium": improve.bright(volumes[0])}))  # fmt: skip
    assert rows[0]["Structure"] == "left atrium" and rows[0]["Dice"] > 0.99
    assert evaluation.table() is None
    ranks = logic.rank(volumes, model="heart")
    assert {n.GetName() for n, _rank in ranks} == {"a", "b"}
    assert ranks[0][1].predictedDice <= ranks[1][1].predictedDice
    drawn = improve.add_segmentation(volumes[0], {"left atrium": improve.bright(volumes[0])}, "d")
    result = logic.finetune({volumes[0]: drawn}, [volumes[1]], name="mine", iterations=10)
    assert result["report"] == "none"
    assert result["about"]["cases"] == "1 labeled, 1 unlabeled, 0 hold-out"
    pair = {v: improve.add_segmentation(v, {"left atrium": improve.bright(v)}) for v in volumes}
    result = logic.finetune(pair, name="new", fromScratch=True, iterations=10)
    assert result["request"]["base"] == "" and result["request"]["overrides"] == []
    result = logic.finetune(pair, name="left-out", iterations=10, compare=True, leaveOneOut=True)
    assert result["report"] == "leave-one-out" and result["cases"][1]["supervised"]
    assert os.path.isfile(os.path.join(result["model"], "model.json"))
    flat = support.add_volume(support.blob((20, 20, 1)), name="flat")
    with pytest.raises(RuntimeError, match="single slice"):
        logic.segment(flat, model="heart")
    runs = improve.user_runs()
    with pytest.raises(RuntimeError, match="0 iterations"):
        logic.finetune({volumes[0]: drawn}, iterations=0)
    assert improve.user_runs() == runs
    logic.shutdown()
