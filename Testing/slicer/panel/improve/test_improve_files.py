"""Cases that are files beside the scene."""

from __future__ import annotations

import improve_support as improve
import module_support as support
import numpy as np
import pytest
import SimpleITK as sitk


@pytest.fixture
def panel(scene, tmp_path):
    panel = improve.cases_panel(tmp_path)
    yield panel
    panel.close()


def test_files_beside_the_scene(panel, tmp_path):
    folder = tmp_path / "files"
    for name, kind, shape in (
        ("a", "images", (8, 9, 10)), ("b", "images", (8, 9, 10)), ("c", "images", (8, 9, 10)),
        ("a", "labels", (8, 9, 10)), ("c", "labels", (8, 9, 11)),
    ):  # fmt: skip
        (folder / kind).mkdir(parents=True, exist_ok=True)
        image = sitk.GetImageFromArray(np.ones(shape, np.uint8))
        sitk.WriteImage(image, str(folder / kind / f"{name}.nii.gz"))
    improve.open_improve(panel)
    assert panel.ui.removeFilesButton.isHidden()
    panel.widget.improve.cases.addFolder(str(folder))
    assert improve.rows(panel) == {
        "a": ("Labeled", "a.nii.gz", ""), "b": ("Unlabeled", "", ""),
        "c": ("Labeled", "c.nii.gz", ""),
    }  # fmt: skip
    assert "other dimensions (11x9x8)" in panel.ui.casesLabel.text
    assert "resampled" not in panel.ui.casesLabel.text
    improve.set_role(panel, "c", "Ignore")
    improve.set_role(panel, "a", "Hold-out")
    panel.widget.improve.cases.addFolder(str(folder))  # again: the roles stay
    assert [row[0] for row in improve.rows(panel).values()] == ["Hold-out", "Unlabeled", "Ignore"]
    improve.select_rows(panel, "b")
    panel.click("removeFilesButton")
    assert list(improve.rows(panel)) == ["a", "c"]
    panel.widget.improve.cases.addFolder(str(tmp_path))
    assert "holds no images" in panel.ui.casesLabel.text


def test_files_that_cannot_be_read_are_left_out_and_named(panel, tmp_path):
    image = sitk.GetImageFromArray(np.ones((8, 9, 10), np.uint8))
    sitk.WriteImage(image, str(tmp_path / "good.nii.gz"))
    for name in ("empty.nii.gz", "text.nrrd"):
        (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"hello")
    improve.open_improve(panel)
    panel.widget.improve.cases.addFolder(str(tmp_path))
    assert list(improve.rows(panel)) == ["good"]
    for name in ("empty.nii.gz", "text.nrrd"):
        assert f"{name} cannot be read and was left out" in panel.ui.casesLabel.text


def test_files_are_removed_from_the_list_only_where_that_is_seen(panel, tmp_path):
    support.add_volume(name="in the scene")
    for name in ("apple", "banana", "cherry"):
        image = sitk.GetImageFromArray(np.ones((8, 9, 10), np.uint8))
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    improve.open_improve(panel)
    panel.widget.improve.cases.addFolder(str(tmp_path))
    improve.select_rows(panel, "in the scene")  # no file
    panel.click("removeFilesButton")
    assert set(improve.rows(panel)) == {"in the scene", "apple", "banana", "cherry"}
    improve.select_rows(panel, "apple")
    panel.ui.caseFilterEdit.text = "banana"  # apple is selected, but hidden
    panel.click("removeFilesButton")
    panel.ui.caseFilterEdit.text = ""
    assert set(improve.rows(panel)) == {"in the scene", "apple", "cherry"}
    panel.ui.casesTable.clearSelection()
    panel.click("removeFilesButton")
    assert set(improve.rows(panel)) == {"in the scene"}
    assert len(list(tmp_path.glob("*.nii.gz"))) == 3


@pytest.mark.parametrize(
    ("shape", "spacing", "origin", "problem", "notice"),
    [
        ((8, 9, 10), (1.0, 1.0, 1.0), (0.02, 0.0, 0.0), "", ""),
        ((8, 9, 10), (1.0, 1.0, 1.0), (0.5, 0.0, 0.0), "", "will be resampled"),
        ((16, 18, 20), (0.5, 0.5, 0.5), (0.0, 0.0, 0.0), "", "will be resampled"),
        ((4, 5, 6), (1.0, 1.0, 1.0), (3.0, 2.0, 1.0), "", "will be resampled"),
        ((8, 9, 10), (1.0, 1.0, 1.0), (50.0, 0.0, 0.0), "lies outside of a.nii.gz", ""),
        ((8, 9, 11), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), "(11x9x8) than a.nii.gz (10x9x8)", ""),
        ((8, 9), (1.0, 1.0), (0.0, 0.0), "(9x8) than a.nii.gz (10x9x8)", ""),
    ],
)
def test_label_files_of_another_geometry(panel, tmp_path, shape, spacing, origin, problem, notice):
    from UGMCLSegmentationLib.panel.improve.cases import caseFiles

    sitk.WriteImage(sitk.GetImageFromArray(np.ones((8, 9, 10))), str(tmp_path / "a.nii.gz"))
    label = sitk.GetImageFromArray(np.ones(shape, np.uint8))
    label.SetSpacing(spacing)
    label.SetOrigin(origin)
    sitk.WriteImage(label, str(tmp_path / "a_label.nii.gz"))
    (case,) = [file.case() for file in caseFiles.find(tmp_path)[0]]
    assert problem in case.problem and bool(problem) == bool(case.problem)
    assert notice in "".join(case.notices) and bool(notice) == bool(case.notices)
    improve.open_improve(panel)
    panel.widget.improve.cases.addFolder(str(tmp_path))
    assert list(improve.rows(panel)) == ["a"]
    assert (problem or notice) in panel.ui.casesLabel.text
    improve.set_role(panel, "a", "Unlabeled")
    case = panel.widget.improve.caseList.contents.cases[0]
    assert (case.problem, case.notices) == ("", ()), "its label is not used"


def test_a_volume_and_its_own_file_are_not_two_cases(panel, tmp_path):
    import slicer
    from UGMCLSegmentationLib.errors import PanelError
    from UGMCLSegmentationLib.panel.improve.finetuning import caseListExport

    folder, link = tmp_path / "files", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    drawn = support.add_volume(name="drawn")
    improve.add_segmentation(drawn, {"left atrium": improve.bright(drawn)})
    assert slicer.util.saveNode(drawn, str(folder / "scan.nrrd"))
    slicer.util.saveNode(support.add_volume(name="other"), str(tmp_path / "scan.nrrd"))
    improve.open_improve(panel)
    panel.widget.improve.cases.addFolder(str(link))
    with pytest.raises(PanelError, match="is loaded as drawn: set one of the two"):
        caseListExport.prepare(panel.widget.improve.caseList.update())
    improve.set_role(panel, "scan", "Ignore")
    export = caseListExport.prepare(panel.widget.improve.caseList.update())
    assert [case.name for case in export.cases] == ["drawn", "other"]


def test_one_image_in_two_formats_is_not_two_cases(panel, tmp_path):
    import slicer
    from UGMCLSegmentationLib.errors import PanelError
    from UGMCLSegmentationLib.panel.improve.finetuning import caseListExport

    for suffix in ("nrrd", "nii.gz"):
        volume = support.add_volume(name=f"as {suffix}")
        improve.add_segmentation(volume, {"left atrium": improve.bright(volume)})
        assert slicer.util.saveNode(volume, str(tmp_path / f"case.{suffix}"))
    improve.open_improve(panel)
    improve.set_role(panel, "as nrrd", "Hold-out")
    with pytest.raises(PanelError, match="are one case: set one of the two to Ignore"):
        caseListExport.prepare(panel.widget.improve.caseList.update())
    improve.set_role(panel, "as nrrd", "Ignore")
    caseListExport.prepare(panel.widget.improve.caseList.update())
