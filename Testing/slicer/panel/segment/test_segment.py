"""Click Segment: the voxels of the worker's files are those of the scene, wherever it lies."""

from __future__ import annotations

import json

import harness
import module_support as support
import numpy as np
import pytest
import SimpleITK as sitk

AXES = {
    "oblique": support.OBLIQUE,
    "identity": np.eye(3),
    "lps": np.diag([-1, -1, 1]),
    "left-handed": np.diag([1, 1, -1]) @ np.array(support.OBLIQUE),
    "permuted": np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]]),
}


@pytest.fixture
def panel(scene, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_KEEP", str(tmp_path))
    panel = support.Panel()
    yield panel
    panel.close()


def file_array(tmp_path, name):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"image_{name}.nrrd")))


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("transformed", [False, True])
def test_voxels_equal_the_workers(panel, tmp_path, axes, transformed):
    import slicer
    import vtk

    volume = support.add_volume(geometry=support.matrix(AXES[axes]))
    if transformed:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        rotation = vtk.vtkTransform()
        rotation.RotateWXYZ(33, 1, 2, 3)
        rotation.Translate(5, -8, 13)
        transform.SetMatrixTransformToParent(rotation.GetMatrix())
        volume.SetAndObserveTransformNodeID(transform.GetID())
    node = panel.segment(volume)
    labels = file_array(tmp_path, "labels")
    assert labels.any()
    assert np.array_equal(support.segment_array(node, volume), labels == 1)
    distance = results().distanceOf(volume, 1)
    uncertainty = results().uncertaintyOf(volume)
    assert np.array_equal(slicer.util.arrayFromVolume(distance), file_array(tmp_path, "sdf_1"))
    assert np.array_equal(
        slicer.util.arrayFromVolume(uncertainty), file_array(tmp_path, "uncertainty")
    )
    for result in (node, distance, uncertainty):
        assert result.GetTransformNodeID() == volume.GetTransformNodeID()
    ours, theirs = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(theirs)
    distance.GetIJKToRASMatrix(ours)
    assert np.allclose(
        slicer.util.arrayFromVTKMatrix(ours), slicer.util.arrayFromVTKMatrix(theirs), atol=1e-9
    )


def results():
    from UGMCLSegmentationLib.scene import results

    return results


def test_segment_has_name_color_and_terminology(panel):
    import slicer

    node = panel.segment(support.add_volume())
    segment = node.GetSegmentation().GetSegment("class_1")
    assert segment.GetName() == "left atrium"
    assert np.allclose(segment.GetColor(), (0.86, 0.36, 0.31))
    entry = slicer.vtkSlicerTerminologyEntry()
    import vtk

    tag = vtk.reference("")
    assert segment.GetTag(segment.GetTerminologyEntryTagName(), tag)
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    assert logic.DeserializeTerminologyEntry(str(tag), entry)
    kind = entry.GetTypeObject()
    assert (kind.GetCodingSchemeDesignator(), kind.GetCodeValue()) == ("SCT", "82471001")
    assert kind.GetCodeMeaning() == "Left atrium"


def test_measures_are_shown(panel):
    volume = support.add_volume()
    node = panel.segment(volume)
    voxels = support.segment_array(node, volume).sum()
    expected = voxels * 1.25 * 1.25 * 2 / 1000
    text = panel.ui.statisticsLabel.text
    assert text.startswith("left atrium: ")
    assert float(text.split(":")[1].split("mL")[0]) == pytest.approx(expected, abs=0.051)
    structure, case = text.splitlines()
    assert structure.endswith("6 % of the surface may be off by more than 2 mm")
    assert case == "Predicted Dice: 0.93 (95 % interval 0.89 to 0.97)"


def test_running_again_updates_the_same_nodes(panel, monkeypatch, tmp_path):
    volume = support.add_volume()
    node = panel.segment(volume)
    before = support.node_counts()
    monkeypatch.setenv("FAKE_LEVEL", "120")
    panel.widget.logic.worker.kill()  # so that a worker with the new level is started
    assert panel.segment() is node
    assert np.array_equal(
        support.segment_array(node, volume), file_array(tmp_path, "labels") == 1
    )
    assert support.node_counts() == before


def test_colors_and_names_of_nodes_survive_a_second_run(panel):
    node = panel.segment(support.add_volume())
    node.SetName("my result")
    node.GetSegmentation().GetSegment("class_1").SetColor(0.1, 0.2, 0.9)
    assert panel.segment() is node
    assert node.GetName() == "my result"
    assert np.allclose(node.GetSegmentation().GetSegment("class_1").GetColor(), (0.1, 0.2, 0.9))


def test_edited_segmentation_is_kept(panel):
    volume = support.add_volume()
    node = panel.segment(volume)
    edited = support.fill(node, volume, slice(3), 1)
    new = panel.segment()
    assert new is not node
    assert np.array_equal(support.segment_array(node, volume) > 0, edited > 0)
    assert panel.segment() is new


@pytest.mark.parametrize("how", ["accepted", "chosen as a label"])
def test_a_result_that_the_user_relies_on_is_kept(panel, monkeypatch, how):
    from UGMCLSegmentationLib.panel.improve.cases import cases

    volume = support.add_volume()
    node = panel.segment(volume)
    if how == "accepted":
        cases.accept(volume, node)
    else:
        cases.setLabel(volume, node)
        cases.setRole(volume, cases.HOLDOUT)
    before = support.segment_array(node, volume).copy()
    monkeypatch.setenv("FAKE_LEVEL", "120")
    panel.widget.logic.worker.kill()
    new = panel.segment()
    assert new is not node and panel.parameters.segmentation is new
    assert np.array_equal(support.segment_array(node, volume), before)
    assert not np.array_equal(support.segment_array(new, volume), before)
    assert cases.labelOf(volume, lambda _node: False) is node


def test_a_kept_result_keeps_its_distance_and_uncertainty(panel, monkeypatch):
    import slicer

    volume = support.add_volume()
    node = panel.segment(volume)
    support.fill(node, volume, slice(3), 1)
    own = results().distanceOf(volume, 1, node), results().uncertaintyOf(volume, node)
    arrays = [slicer.util.arrayFromVolume(n).copy() for n in own]
    monkeypatch.setenv("FAKE_LEVEL", "120")
    panel.widget.logic.worker.kill()
    new = panel.segment()
    others = results().distanceOf(volume, 1, new), results().uncertaintyOf(volume, new)
    for a, b, array in zip(own, others, arrays, strict=True):
        assert a is not b and a.GetName() != b.GetName()
        assert np.array_equal(slicer.util.arrayFromVolume(a), array)
        assert not np.array_equal(slicer.util.arrayFromVolume(b), array)
    panel.ui.resultSelector.setCurrentNode(node)
    composite = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
    assert composite.GetForegroundVolumeID() == own[0].GetID()
    slicer.mrmlScene.RemoveNode(new)
    counts = support.node_counts()
    panel.select(volume)
    panel.parameters.segmentation = None
    panel.segment()  # what the removed one has left is used again
    counts["vtkMRMLSegmentationNode"] += 1
    after = support.node_counts()
    assert after["vtkMRMLScalarVolumeNode"] == counts["vtkMRMLScalarVolumeNode"]


def test_another_structure_has_the_color_of_its_model(panel, monkeypatch):
    node = panel.segment(support.add_volume())
    node.GetSegmentation().GetSegment("class_1").SetColor(0.5, 0.5, 0.5)
    monkeypatch.setenv("FAKE_STRUCTURE", "liver")
    panel.widget.logic.worker.kill()
    assert panel.segment() is node
    segment = node.GetSegmentation().GetSegment("class_1")
    assert segment.GetName() == "liver" and np.allclose(segment.GetColor(), (0.1, 0.8, 0.2))


def test_the_measures_are_of_what_is_there_now(panel):
    volume = support.add_volume()
    node = panel.segment(volume)
    before, interval = panel.ui.statisticsLabel.text.split(",")[0].split(" (")
    assert interval.startswith("95 % interval ")
    voxels = support.fill(node, volume, slice(15), 0)
    panel.loaded.exit()
    panel.loaded.enter()
    text = panel.ui.statisticsLabel.text
    expected = voxels.sum() * 1.25 * 1.25 * 2 / 1000
    assert float(text.split(":")[1].split("mL")[0]) == pytest.approx(expected, abs=0.051)
    voxels = support.fill(node, volume, slice(18), 0)  # the panel in view, beside the editor
    expected = f"{voxels.sum() * 1.25 * 1.25 * 2 / 1000:.1f} mL"
    assert expected not in text
    harness.wait_until(lambda: expected in panel.ui.statisticsLabel.text, 10)
    former = before.split(": ")[1]
    assert f"{former} before it was changed" in text and "interval" not in text
    assert "uncertainty" not in text
    node.GetSegmentation().RemoveSegment("class_1")
    panel.loaded.exit()
    panel.loaded.enter()
    assert panel.ui.statisticsLabel.text == ""


def test_two_volumes_have_results_of_their_own(panel):
    first, second = support.add_volume(name="a"), support.add_volume(name="b")
    nodes = panel.segment(first), panel.segment(second)
    assert nodes[0] is not nodes[1]
    panel.select(first)
    assert panel.parameters.segmentation is nodes[0]
    assert panel.segment() is nodes[0]


def test_no_passes_no_uncertainty(panel):
    volume = support.add_volume()
    panel.segment(volume)
    assert results().uncertaintyOf(volume) is not None
    panel.ui.passesSpinBox.value = 0
    panel.segment()
    assert results().uncertaintyOf(volume) is None
    assert not panel.ui.nextSpotButton.enabled


def test_several_classes(panel, monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_CLASSES", "2")
    volume = support.add_volume()
    node = panel.segment(volume)
    labels = file_array(tmp_path, "labels")
    assert set(np.unique(labels)) == {0, 1, 4}
    for value in (1, 4):
        assert np.array_equal(support.segment_array(node, volume, value), labels == value)
    assert not panel.ui.classSelector.isHidden()
    panel.ui.classSelector.currentIndex = 1
    assert panel.parameters.shownClass == 4


def test_compressed_files_are_read(panel, monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_COMPRESS", "1")
    volume = support.add_volume()
    node = panel.segment(volume)
    assert np.array_equal(
        support.segment_array(node, volume), file_array(tmp_path, "labels") == 1
    )


def test_empty_result(panel, monkeypatch, capfd):
    monkeypatch.setenv("FAKE_LEVEL", "1000")
    volume = support.add_volume()
    node = panel.segment(volume)
    assert node.GetSegmentation().GetNumberOfSegments() == 1
    assert panel.ui.statisticsLabel.text == "left atrium: not found"
    assert panel.segment() is node
    assert "ERR" not in capfd.readouterr().err  # of VTK, which has no surface to make


def test_results_share_one_folder(panel):
    import slicer

    volume = support.add_volume()
    node = panel.segment(volume)
    panel.segment(support.add_volume(name="other"))
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    nodes = [node, results().distanceOf(volume, 1), results().uncertaintyOf(volume)]
    nodes += results().find("segmentation")
    parents = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(n)) for n in nodes}
    assert len(parents) == 1
    assert hierarchy.GetItemName(parents.pop()) == "UGMCL results"


def test_results_go_under_the_study_of_the_source(panel):
    import slicer

    volume = support.add_volume()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    subject = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    study = hierarchy.CreateStudyItem(subject, "study")
    item = hierarchy.GetItemByDataNode(volume) or hierarchy.CreateItem(study, volume)
    hierarchy.SetItemParent(item, study)
    node = panel.segment(volume)
    for result in (node, results().distanceOf(volume, 1), results().uncertaintyOf(volume)):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result)) == study


def test_worker_gets_what_the_panel_says(panel, monkeypatch):
    asked = {}
    worker = panel.widget.logic.worker
    original = worker.request
    monkeypatch.setattr(worker, "request", lambda c, *r: (asked.update(c), original(c, *r))[1])
    panel.ui.passesSpinBox.value = 3
    panel.ui.allComponentsCheckBox.checked = True
    panel.ui.deviceSelector.currentIndex = panel.ui.deviceSelector.findData("cpu")
    panel.segment(support.add_volume())
    assert asked["passes"] == 3 and asked["all_components"] is True and asked["device"] == "cpu"
    assert asked["model"] == "fake" and asked["roi"] is None
    assert json.dumps(asked)
