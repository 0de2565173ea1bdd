"""Export: what is in the files is what is in the scene."""

from __future__ import annotations

import os
from pathlib import Path

import module_support as support
import numpy as np
import pytest
import SimpleITK as sitk

SUFFIXES = (".nrrd", ".nii.gz", ".seg.nrrd")


def export(panel, folder: Path, suffix: str) -> str:
    panel.ui.exportFolderEdit.currentPath = str(folder)
    panel.parameters.exportFormat = suffix
    panel.click("exportButton")
    return panel.ui.exportMessageLabel.text


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("classes", ["1", "2"])
def test_round_trip(panel, tmp_path, monkeypatch, suffix, classes):
    monkeypatch.setenv("FAKE_CLASSES", classes)
    import slicer

    volume = support.add_volume()
    node = panel.segment(volume)
    message = export(panel, tmp_path, suffix)
    path = tmp_path / f"scan segmentation{suffix}"
    assert path.name in message
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    values = (1, 4)[: int(classes)]
    expected = sum(support.segment_array(node, volume, v).astype(int) * v for v in values)
    if suffix == ".seg.nrrd":
        logic = slicer.modules.segmentations.logic()
        again = logic.LoadSegmentationFromFile(str(path), True, "again")
        loaded = sum(support.segment_array(again, volume, v).astype(int) * v for v in values)
        assert np.array_equal(loaded, expected)
        assert again.GetSegmentation().GetSegment("class_1").GetName() == "left atrium"
        return
    image = sitk.ReadImage(str(path))
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    geometry = np.diag([-1, -1, 1, 1]) @ lps
    assert np.allclose(geometry, support.matrix(), atol=1e-3)
    assert np.array_equal(sitk.GetArrayFromImage(image), expected)
    assert "integer" in image.GetPixelIDTypeAsString()


def test_all_results_of_the_scene(panel, tmp_path):
    for name in ("a", "b/c", "b:c"):
        panel.segment(support.add_volume(name=name))
    panel.ui.exportAllCheckBox.checked = True
    export(panel, tmp_path, ".nrrd")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a segmentation.nrrd", "b_c segmentation.nrrd", "b_c segmentation_2.nrrd",
    ]  # fmt: skip
    panel.ui.exportAllCheckBox.checked = False
    export(panel, tmp_path, ".nii.gz")
    assert len(list(tmp_path.glob("*.nii.gz"))) == 1


def test_segments_that_the_user_added_get_labels_of_their_own(panel, tmp_path):
    import slicer

    volume = support.add_volume()
    node = panel.segment(volume)
    extra = np.zeros_like(support.segment_array(node, volume))
    extra[:2] = 1
    identifier = node.GetSegmentation().AddEmptySegment("extra", "extra")
    slicer.util.updateSegmentBinaryLabelmapFromArray(extra, node, identifier, volume)
    export(panel, tmp_path, ".nrrd")
    image = sitk.ReadImage(str(tmp_path / "scan segmentation.nrrd"))
    assert set(np.unique(sitk.GetArrayFromImage(image))) == {0, 1, 2}


def test_the_source_may_be_gone(panel, tmp_path):
    import slicer

    volume = support.add_volume()
    node = panel.segment(volume)
    expected = support.segment_array(node, volume).astype(int)
    slicer.mrmlScene.RemoveNode(volume)
    panel.parameters.segmentation = node
    export(panel, tmp_path, ".nrrd")
    image = sitk.ReadImage(str(tmp_path / "scan segmentation.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(image), expected)


def test_nothing_to_export_nowhere_to_go(panel, tmp_path):
    panel.ui.exportFolderEdit.currentPath = str(tmp_path)
    assert not panel.ui.exportButton.enabled
    panel.segment(support.add_volume())
    assert panel.ui.exportButton.enabled
    (tmp_path / "file").write_text("")
    inFile = export(panel, tmp_path / "file" / "below", ".nrrd")
    assert inFile.startswith("The folder ") and inFile.count("\n") == 0, inFile
    assert "is a file: choose a folder" in export(panel, tmp_path / "file", ".nrrd")
    assert "by its whole path" in export(panel, Path("part of a path"), ".nrrd")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_that_does_not_exist_is_made(panel, tmp_path, suffix):
    panel.segment(support.add_volume())
    folder = tmp_path / "new" / "results"
    panel.parameters.exportPattern = "{nothing}"
    assert "not a pattern" in export(panel, folder, suffix) and not folder.parent.exists()
    panel.parameters.exportPattern = "{result}"
    export(panel, folder, suffix)
    assert [path.name for path in folder.iterdir()] == [f"scan segmentation{suffix}"]


def test_what_cannot_be_written_leaves_nothing(panel, tmp_path, monkeypatch):
    from UGMCLSegmentationLib.panel.export import export as exporting

    panel.segment(support.add_volume())

    def half(node, path, suffix):
        path.write_bytes(b"half")
        return False

    monkeypatch.setattr(exporting, "_write", half)
    Answer(monkeypatch, True)
    (tmp_path / "scan segmentation.nrrd").write_bytes(b"before")
    assert "cannot be written" in export(panel, tmp_path, ".nrrd")
    assert [p.name for p in tmp_path.iterdir()] == ["scan segmentation.nrrd"]
    assert (tmp_path / "scan segmentation.nrrd").read_bytes() == b"before"


class Answer:
    """To the question whether files may be replaced."""

    def __init__(self, monkeypatch, isYes: bool) -> None:
        import slicer

        self.asked: list[str] = []
        self.isYes = isYes
        monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", self)

    def __call__(self, text, *_rest, **_options):
        self.asked.append(text)
        return self.isYes


@pytest.mark.parametrize("way", ["panel", "link", "console"])
def test_the_scan_itself_is_never_replaced(panel, tmp_path, monkeypatch, way):
    import slicer
    from UGMCLSegmentationLib.errors import PanelError
    from UGMCLSegmentationLib.panel.export import export as exporting

    answer = Answer(monkeypatch, True)
    home = tmp_path / "data"
    home.mkdir()
    assert slicer.util.saveNode(support.add_volume(), str(home / "scan.nrrd"))
    slicer.mrmlScene.Clear(False)
    panel.parameters.model = "fake"
    before = (home / "scan.nrrd").read_bytes()
    node = panel.segment(slicer.util.loadVolume(str(home / "scan.nrrd")))
    folder = home
    if way == "link":
        folder = tmp_path / "link"
        folder.symlink_to(home, target_is_directory=True)
    if way == "console":  # its names are numbered
        (path,) = panel.widget.logic.exportAll([node], home, pattern="{name}")
        assert path.name == "scan_2.nrrd" and path.is_file()
        with pytest.raises(PanelError, match="in the scene"):
            exporting.export([node], home, ".nrrd", "{name}", answer)
    else:
        panel.ui.exportPatternEdit.text = "{name}"
        message = export(panel, folder, ".nrrd")
        assert "scan.nrrd" in message and "in the scene" in message
        assert [p.name for p in home.iterdir()] == ["scan.nrrd"]
    assert (home / "scan.nrrd").read_bytes() == before
    assert answer.asked == []


@pytest.mark.parametrize("isYes", [False, True])
def test_the_file_of_the_segmentation_itself_is_asked_about(panel, tmp_path, monkeypatch, isYes):
    import slicer

    answer = Answer(monkeypatch, isYes)
    volume = support.add_volume()
    node = panel.segment(volume)
    path = tmp_path / "scan segmentation.seg.nrrd"
    assert slicer.util.saveNode(node, str(path))
    before = path.read_bytes()
    edited = np.zeros_like(support.segment_array(node, volume))
    edited[:2] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(edited, node, "class_1", volume)
    message = export(panel, tmp_path, ".seg.nrrd")
    assert len(answer.asked) == 1 and path.name in answer.asked[0]
    assert (path.name in message) == isYes and (path.read_bytes() == before) != isYes
    other = panel.segment(volume)
    assert other is not node
    panel.ui.exportPatternEdit.text = node.GetName()  # the file of another than the exported
    message = export(panel, tmp_path, ".seg.nrrd")
    assert "in the scene" in message and len(answer.asked) == 1


def test_each_file_of_the_scene_is_looked_at_once(panel, tmp_path, monkeypatch):
    from UGMCLSegmentationLib.panel.export import export as exporting

    Answer(monkeypatch, True)
    volume = support.add_volume()
    panel.segment(volume)
    volume.AddDefaultStorageNode(str(tmp_path / "0.dcm"))
    for number in range(300):
        volume.GetStorageNode().AddFileName(str(tmp_path / f"{number}.dcm"))
    seen: list[str] = []
    identity = exporting._identity
    monkeypatch.setattr(
        exporting, "_identity", lambda path: seen.append(str(path)) or identity(path)
    )
    export(panel, tmp_path, ".nrrd")
    assert seen == []  # there is no file to be replaced
    export(panel, tmp_path, ".nrrd")
    assert len(seen) == len(set(seen)) == 1 + 300


def test_other_files_are_replaced_only_after_a_question(panel, tmp_path, monkeypatch):
    answer = Answer(monkeypatch, False)
    for name in ("a", "b"):
        panel.segment(support.add_volume(name=name))
    panel.ui.exportAllCheckBox.checked = True
    old = tmp_path / "b segmentation.nrrd"
    old.write_bytes(b"of somebody")
    assert "Nothing" in export(panel, tmp_path, ".nrrd")
    assert [p.name for p in tmp_path.iterdir()] == [old.name]
    assert old.read_bytes() == b"of somebody"
    assert len(answer.asked) == 1 and old.name in answer.asked[0]
    assert "a segmentation" not in answer.asked[0]
    answer.isYes = True
    assert old.name in export(panel, tmp_path, ".nrrd")
    assert len(answer.asked) == 2
    assert sitk.ReadImage(str(old)).GetSize() == (40, 36, 30)
    export(panel, tmp_path, ".nrrd")  # once more: one question for both
    assert len(answer.asked) == 3 and "a segmentation.nrrd" in answer.asked[2]
    assert len(list(tmp_path.iterdir())) == 2


def test_the_console_numbers_what_would_be_replaced(panel, tmp_path):
    node = panel.segment(support.add_volume())
    paths = [panel.widget.logic.exportAll([node, node], tmp_path) for _ in range(2)]
    assert [p.name for p in paths[0] + paths[1]] == [
        "scan segmentation.nrrd", "scan segmentation_2.nrrd",
        "scan segmentation_3.nrrd", "scan segmentation_4.nrrd",
    ]  # fmt: skip
    assert all(p.is_file() for p in paths[0] + paths[1])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_no_permission(panel, tmp_path):
    panel.segment(support.add_volume())
    tmp_path.chmod(0o500)
    assert "cannot be written" in export(panel, tmp_path, ".nrrd")
    tmp_path.chmod(0o700)
