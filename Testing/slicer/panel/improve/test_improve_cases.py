"""The cases table: what is listed, how it is labeled, what is missing, and what is kept."""

from __future__ import annotations

from pathlib import Path

import harness
import improve_support as improve
import module_support as support
import numpy as np
import pytest


@pytest.fixture
def panel(scene, tmp_path):
    panel = improve.cases_panel(tmp_path)
    yield panel
    panel.close()


def test_volumes_are_listed_and_labels_found(panel):
    drawn, bare = support.add_volume(name="drawn"), support.add_volume(name="bare")
    improve.add_segmentation(drawn, {"Left_Atrium": improve.bright(drawn)})
    panel.segment(bare)  # an unedited result labels nothing, and its volumes are no cases
    improve.open_improve(panel)
    assert improve.rows(panel) == {
        "drawn": ("Labeled", "drawn drawn", ""), "bare": ("Unlabeled", "", ""),
    }  # fmt: skip
    size = panel.ui.casesTable.item(0, 4)
    assert size.text() == "x".join(map(str, drawn.GetImageData().GetDimensions()))
    assert " mm: " in size.toolTip()
    label = panel.ui.casesTable.cellWidget(0, 2)
    assert "drawn drawn" in label.toolTip  # which the column cuts off
    lines = panel.ui.casesLabel.text.splitlines()
    assert lines[0] == "1 labeled, 1 unlabeled, 0 hold-out"
    assert lines[1:] == ["drawn: without scar, which is learned as not being there."]


def test_the_table_follows_the_scene_by_itself(panel):
    import slicer

    improve.open_improve(panel)
    assert "no volumes" in panel.ui.casesLabel.text
    volume = support.add_volume(name="new")
    improve.wait_for_table(panel, "new")
    node = improve.add_segmentation(volume, {"left atrium": improve.bright(volume)})
    harness.wait_until(lambda: panel.ui.casesLabel.text.startswith("1 labeled"), 5)
    volume.SetName("renamed")
    improve.wait_for_table(panel, "renamed")
    slicer.mrmlScene.RemoveNode(node)
    harness.wait_until(lambda: panel.ui.casesLabel.text.startswith("0 labeled"), 5)
    slicer.mrmlScene.RemoveNode(volume)
    harness.wait_until(lambda: panel.ui.casesTable.rowCount == 0, 5)


def test_an_edited_result_labels_its_volume(panel):
    import slicer

    volume = support.add_volume()
    node = panel.segment(volume)
    improve.open_improve(panel)
    assert improve.rows(panel)["scan"][0] == "Unlabeled"
    voxels = support.segment_array(node, volume).copy()
    voxels[0, 0, 0] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, "class_1", volume)
    harness.wait_until(lambda: panel.ui.casesLabel.text.startswith("1 labeled"), 5)
    assert improve.rows(panel)["scan"][:2] == ("Labeled", "scan segmentation")


def test_roles_of_one_and_of_all_selected_rows(panel):
    for name in "abcd":
        support.add_volume(name=name)
    improve.open_improve(panel)
    improve.set_role(panel, "a", "Ignore")
    improve.select_rows(panel, "b", "c")
    improve.set_role(panel, "c", "Hold-out")
    roles = {name: row[0] for name, row in improve.rows(panel).items()}
    assert roles == {"a": "Ignore", "b": "Hold-out", "c": "Hold-out", "d": "Unlabeled"}


def test_the_selected_cases_stay_selected_when_the_order_changes(panel):
    import slicer
    from UGMCLSegmentationLib.panel.improve.cases import cases

    for name in "abc":
        support.add_volume(name=name)
    improve.open_improve(panel)
    improve.select_rows(panel, "a", "b")
    cases.setRank(slicer.util.getNode("c"), cases.Rank(0.9, None, "heart"))
    assert list(improve.rows(panel)) == ["c", "a", "b"]
    assert [case.name for case in panel.widget.improve.cases.selected] == ["a", "b"]
    panel.ui.caseFilterEdit.text = "b"
    assert [case.name for case in panel.widget.improve.cases.selected] == ["b"]


def test_what_is_missing_is_named(panel):
    volume, other = support.add_volume(name="a"), support.add_volume(name="b")
    improve.open_improve(panel)
    improve.set_role(panel, "a", "Labeled")
    assert "a: choose the segmentation" in panel.ui.casesLabel.text
    improve.add_segmentation(volume, {"left atrium": None}, "empty")
    panel.widget.improve.caseList.update()
    assert "a: empty segments (left atrium)" in panel.ui.casesLabel.text
    improve.add_segmentation(volume, {"kidney": improve.bright(volume)}, "another")
    improve.choose_label(panel, "a", "another")
    assert "no segment is used" in panel.ui.casesLabel.text
    assert "kidney" in panel.ui.structuresLabel.text
    far = support.matrix(origin=(5000.0, 0.0, 0.0))
    away = support.add_volume(name="away", geometry=far)
    improve.add_segmentation(away, {"left atrium": improve.bright(away)}, "elsewhere")
    panel.widget.improve.caseList.update()
    improve.choose_label(panel, "a", "elsewhere")
    assert "elsewhere lies outside" in panel.ui.casesLabel.text
    improve.set_role(panel, "a", "Ignore")
    assert "outside" not in panel.ui.casesLabel.text
    other.GetImageData().AllocateScalars(3, 3)
    other.Modified()
    panel.widget.improve.caseList.update()
    assert "b has 3 components" in panel.ui.casesLabel.text


def test_another_geometry_is_resampled_with_a_notice(panel):
    import slicer
    from UGMCLSegmentationLib.scene import labelmaps

    fine = support.add_volume(name="fine")
    coarse = support.add_volume(
        support.blob((20, 18, 15)), support.matrix(spacing=(2.3, 2.6, 3.7)), "coarse"
    )
    node = improve.add_segmentation(coarse, {"left atrium": improve.bright(coarse)}, "lent")
    improve.open_improve(panel)
    improve.set_role(panel, "fine", "Labeled")
    improve.choose_label(panel, "fine", "lent")
    assert "fine: lent has another geometry and will be resampled" in panel.ui.casesLabel.text
    identifier = node.GetSegmentation().GetNthSegmentID(0)
    found = _finish(labelmaps.build(node, {identifier: 3}, fine))
    expected = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, fine)
    assert expected.any()
    assert np.array_equal(found == 3, expected > 0)


def test_labels_keep_their_voxels_under_any_transform(panel):
    import slicer
    import vtk
    from UGMCLSegmentationLib.scene import labelmaps

    volume = support.add_volume()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    turn = vtk.vtkTransform()
    turn.RotateWXYZ(20, 1, 1, 0)
    transform.SetMatrixTransformToParent(turn.GetMatrix())
    mask = improve.bright(volume)
    node = improve.add_segmentation(volume, {"left atrium": mask})
    identifier = node.GetSegmentation().GetNthSegmentID(0)
    for node_too in (False, True):
        volume.SetAndObserveTransformNodeID(transform.GetID())
        node.SetAndObserveTransformNodeID(transform.GetID() if node_too else None)
        found = _finish(labelmaps.build(node, {identifier: 1}, volume)) == 1
        if node_too:
            assert np.array_equal(found, mask)
        else:
            expected = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume) > 0
            assert expected.any() and not np.array_equal(found, mask)
            assert np.array_equal(found, expected)


def test_overlap_and_what_nobody_annotated(panel):
    from UGMCLSegmentationLib.scene import labelmaps

    volume = support.add_volume()
    whole, half = improve.bright(volume, 60), improve.bright(volume, 120)
    unknown = np.zeros_like(whole)
    unknown[:, :, :20] = True
    node = improve.add_segmentation(
        volume, {"ignore": unknown, "left atrium": whole, "scar": half}
    )
    improve.open_improve(panel)
    case = panel.widget.improve.caseList.contents
    from UGMCLSegmentationLib.panel.improve.cases import structures

    values = structures.values(case.cases[0], case.structures, case.classes)
    assert sorted(values.values()) == [1, 2, 255]
    found = _finish(labelmaps.build(node, values, volume))
    expected = np.where(half, 2, np.where(whole, 1, np.where(unknown, 255, 0)))
    assert np.array_equal(found, expected)


def test_segments_map_by_terminology_then_by_name(panel):
    volume = support.add_volume()
    mask = improve.bright(volume)
    improve.add_segmentation(
        volume, {"Segment_1": mask, "SCAR": mask, "pouch": mask},
        terminology={"Segment_1": "82471001", "SCAR": "85756007"},
    )  # fmt: skip
    improve.open_improve(panel)
    table = panel.ui.structuresTable
    shown = {
        table.item(r, 0).text(): table.cellWidget(r, 1).currentText for r in range(table.rowCount)
    }
    assert shown == {"Segment_1": "left atrium", "SCAR": "scar", "pouch": "Not used"}
    assert panel.ui.structuresLabel.text == "Not used: pouch."
    selector = table.cellWidget(2, 1)
    selector.currentIndex = selector.findText("A new structure")
    contents = panel.widget.improve.caseList.update()
    from UGMCLSegmentationLib.panel.improve.cases import structures

    classes = structures.allClasses(contents.structures, contents.classes)
    assert [(c.value, c.name) for c in classes] == [(1, "left atrium"), (2, "scar"), (3, "pouch")]
    assert sorted(structures.values(contents.cases[0], contents.structures, classes).values()) == [
        1,
        2,
        3,
    ]
    panel.parameters.base = "(scratch)"  # , every structure is new
    contents = panel.widget.improve.caseList.update()
    names = [c.name for c in structures.allClasses(contents.structures, contents.classes)]
    assert names == ["Segment_1", "SCAR", "pouch"]


def test_a_code_that_several_classes_have_and_the_default_code_match_nothing(panel):
    from UGMCLSegmentationLib.panel.improve.cases import structures

    from ugmcl_core.models.card import ClassInfo, Terminology

    volume = support.add_volume()
    codes = {"Segment_1": "85756007", "kidney": "64033007", "right": "64033007", "LA": "82471001"}
    codes["left"] = "82471001"  # says atrium, whatever it is called
    drawn = improve.add_segmentation(volume, dict.fromkeys(codes), terminology=codes)
    classes = [
        ClassInfo(v, n, terminology=Terminology("SCT", c, "x"))
        for v, (n, c) in enumerate((("tissue", "85756007"), ("left", "64033007"),
                                    ("right", "64033007"), ("atrium", "82471001")), 1)
    ]  # fmt: skip
    segmentation = drawn.GetSegmentation()
    found = [structures.matching(segmentation.GetNthSegment(n), classes) for n in range(5)]
    assert [info and info.value for info in found] == [None, None, 3, 4, 4]
    assert structures.terminologyOf(segmentation.GetNthSegment(0)) is None


def test_segments_of_one_case_can_be_left_out(panel):
    import qt

    volume = support.add_volume()
    mask = improve.bright(volume)
    improve.add_segmentation(volume, {"left atrium": mask, "scar": mask})
    improve.open_improve(panel)
    assert panel.ui.caseSegmentsSelector.isHidden()
    improve.select_rows(panel, "scan")
    selector = panel.ui.caseSegmentsSelector
    assert not selector.isHidden() and selector.count == 2
    selector.setCheckState(selector.model().index(1, 0), qt.Qt.Unchecked)
    contents = panel.widget.improve.caseList.update()
    assert [s.name for s in contents.structures] == ["left atrium"]
    assert len(panel.ui.caseSegmentsSelector.checkedIndexes()) == 1


def test_filters_hide_rows_and_keep_roles(panel):
    import slicer

    for name in ("knee left", "knee right", "hip left"):
        support.add_volume(name=name)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Study A")
    hip = slicer.util.getNode("hip left")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(hip), folder)
    improve.open_improve(panel)
    panel.ui.caseFilterEdit.text = "LEFT"
    assert list(improve.rows(panel)) == ["knee left", "hip left"]
    box = panel.ui.caseFolderSelector
    assert not box.isHidden()
    box.currentIndex = box.findText("Study A")
    assert list(improve.rows(panel)) == ["hip left"]
    assert panel.ui.casesLabel.text.startswith("0 labeled, 3 unlabeled")


def test_segmentations_and_results_are_no_images(tmp_path):
    import SimpleITK as sitk
    from UGMCLSegmentationLib.panel.improve.cases import caseFiles

    image = sitk.GetImageFromArray(np.ones((4, 5, 6), np.uint8))
    names = ("a", "a.seg", "b", "b_label", "c.label", "c", "a_sdf", "a_sdf_scar", "b_uncertainty")
    for name in names:
        sitk.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    found = {Path(f.image).name: Path(f.label).name for f in caseFiles.find(tmp_path)[0]}
    assert found == {"a.nrrd": "a.seg.nrrd", "b.nrrd": "b_label.nrrd", "c.nrrd": "c.label.nrrd"}
    for kind, inner in (("images", ("a", "b_seg")), ("labels", ("a.seg", "b_seg"))):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for name in inner:
            sitk.WriteImage(image, str(tmp_path / "set" / kind / f"{name}.nrrd"))
    found = {Path(f.image).name: Path(f.label).name for f in caseFiles.find(tmp_path / "set")[0]}
    assert found == {"a.nrrd": "a.seg.nrrd", "b_seg.nrrd": "b_seg.nrrd"}


@pytest.mark.parametrize("kind", ["scene.mrb", "folder"])
def test_the_table_survives_saving_and_loading(panel, tmp_path, kind):
    import slicer

    a, b = support.add_volume(name="a"), support.add_volume(name="b")
    support.add_volume(name="c")
    for volume in (a, b):
        improve.add_segmentation(volume, {"left atrium": improve.bright(volume)})
    improve.add_segmentation(b, {"pouch": improve.bright(b)}, "second")
    improve.open_improve(panel)
    improve.set_role(panel, "a", "Hold-out")
    improve.set_role(panel, "c", "Ignore")
    improve.choose_label(panel, "b", "second")
    table = panel.ui.structuresTable
    row = [table.item(r, 0).text() for r in range(table.rowCount)].index("pouch")
    selector = table.cellWidget(row, 1)
    selector.currentIndex = selector.findText("scar")
    before = improve.rows(panel)
    assert harness.save_scene(tmp_path / kind)
    path = tmp_path / kind
    path = next(path.glob("*.mrml")) if path.is_dir() else path
    slicer.mrmlScene.Clear(False)
    harness.process_events(300)
    assert panel.ui.casesTable.rowCount == 0
    assert harness.load_scene(path)
    assert improve.rows(panel) == before == {
        "a": ("Hold-out", "a drawn", ""), "b": ("Labeled", "second", ""), "c": ("Ignore", "", ""),
    }  # fmt: skip
    contents = panel.widget.improve.caseList.contents
    assert {s.name: s.target for s in contents.structures} == {"left atrium": "1", "pouch": "2"}


def _finish(work):
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("order", [("left atrium", "scar"), ("scar", "left atrium")])
def test_a_segment_inside_of_another_is_kept_and_said(panel, tmp_path, order):
    import slicer
    from UGMCLSegmentationLib.scene import labelmaps

    volume = support.add_volume(name="drawn")
    whole = improve.bright(volume)
    inner = np.zeros_like(whole)
    places = np.argwhere(whole)
    inner[tuple(places[: len(places) // 4].T)] = 1
    masks = {"left atrium": whole, "scar": inner}
    node = improve.add_segmentation(volume, {})
    segmentation = node.GetSegmentation()
    for name in order:  # as the Segment Editor leaves them where overlap is allowed
        other = improve.add_segmentation(volume, {name: masks[name]})
        segmentation.CopySegmentFromSegmentation(
            other.GetSegmentation(), other.GetSegmentation().GetNthSegmentID(0)
        )
        slicer.mrmlScene.RemoveNode(other)
    improve.open_improve(panel)
    assert "scar overlaps left atrium; the voxels of both count as scar" in (
        panel.ui.casesLabel.text
    )
    values = {}
    for n in range(2):
        identifier = segmentation.GetNthSegmentID(n)
        name = segmentation.GetSegment(identifier).GetName()
        values[identifier] = {"left atrium": 1, "scar": 2}[name]
    building = labelmaps.build(node, values, volume)
    while True:
        try:
            next(building)
        except StopIteration as end:
            array = end.value
            break
    assert ((array == 2) == (inner > 0)).all(), "voxels of the scar were lost"
    assert ((array == 1) == ((whole > 0) & (inner == 0))).all()
