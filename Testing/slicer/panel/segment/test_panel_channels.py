"""Several volumes of one patient make a case: found by study and by name, chosen in a table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import improve_support as improve
import module_support as support
import numpy as np
import pytest
import SimpleITK as sitk


def add_model(folder: Path, *channels: str) -> str:
    """A model's card with these channels; returns its folder."""
    from ugmcl_core.models.card import ModelCard

    folder = Path(improve.add_model(folder, ("left atrium", "82471001")))
    card = ModelCard.from_json((folder / "model.json").read_text())
    (folder / "model.json").write_text(replace(card, channels=channels).to_json())
    return str(folder)


@pytest.fixture
def panel(scene, tmp_path, monkeypatch):
    """A panel with the fake worker and a model of two channels."""
    monkeypatch.setenv("FAKE_KEEP", str(tmp_path))
    model = add_model(tmp_path / "pair", "T1", "FLAIR")
    panel = support.Panel()
    panel.parameters.model = panel.parameters.base = model
    panel.parameters.passes = 0
    yield panel
    panel.close()


def add(name: str, level: float = 0.0):
    return support.add_volume(support.blob(seed=3) + np.int16(level), name=name)


def shown(table) -> dict[str, str]:
    """The volume of each channel as the table shows it."""
    return {
        table.item(row, 0).text(): table.cellWidget(row, 1).currentText
        for row in range(table.rowCount)
    }


def choose(table, row: int, name: str) -> None:
    selector = table.cellWidget(row, 1)
    selector.currentIndex = selector.findText(name)


def names(found) -> list[str | None]:
    return [node and node.GetName() for node in found]


def test_volumes_are_found_by_the_names_of_channels(panel):
    from UGMCLSegmentationLib.scene import channels

    pair = ("T1", "FLAIR")
    first, second = add("p1_t1"), add("p1-FLAIR")
    other, alone = add("p2 T1"), add("Scan")
    more = add("p1_t1c")  # another word
    assert names(channels.volumesOf(first, pair)) == ["p1_t1", "p1-FLAIR"]
    assert names(channels.volumesOf(second, pair)) == ["p1_t1", "p1-FLAIR"]
    assert names(channels.volumesOf(other, pair)) == ["p2 T1", None]
    assert names(channels.volumesOf(alone, pair)) == ["Scan", None]
    assert channels.volumesOf(alone, ("image",)) == [alone]
    found = names(channels.leads([first, second, other, alone, more], pair))
    assert found == ["p1_t1", "p2 T1", "Scan"]
    channels.choose(other, pair, "FLAIR", alone)
    assert names(channels.volumesOf(other, pair)) == ["p2 T1", "Scan"]
    assert names(channels.leads([first, second, other, alone], pair)) == ["p1_t1", "p2 T1"]


def test_a_choice_holds_for_all_volumes_of_the_case(panel):
    from UGMCLSegmentationLib.scene import channels

    pair = ("T1", "FLAIR")
    first, second, third = add("p T1"), add("p FLAIR"), add("p T1 new")
    channels.choose(second, pair, "T1", third)  # not by the volume that leads
    assert names(channels.volumesOf(second, pair)) == ["p T1 new", "p FLAIR"]
    assert names(channels.volumesOf(third, pair)) == ["p T1 new", "p FLAIR"]
    assert names(channels.leads([first, second, third], pair)) == ["p T1 new"]
    channels.choose(third, pair, "T1", first)
    assert names(channels.volumesOf(second, pair)) == ["p T1", "p FLAIR"]
    assert names(channels.leads([first, second, third], pair)) == ["p T1"]
    channels.choose(first, pair, "FLAIR", None)  # found again by its name
    assert names(channels.volumesOf(first, pair)) == ["p T1", "p FLAIR"]


def test_volumes_are_found_by_the_study(panel):
    import slicer
    from UGMCLSegmentationLib.scene import channels, subjectHierarchy

    tree = subjectHierarchy.tree()
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    volumes = {}
    for patient in ("Ann", "Bob"):
        item = tree.CreateSubjectItem(tree.GetSceneItemID(), patient)
        study = tree.CreateStudyItem(item, "today")
        assert tree.GetItemLevel(study) == constants.GetDICOMLevelStudy()
        for kind in ("T1 sag", "FLAIR tra"):
            volumes[patient, kind] = node = add(kind)
            tree.CreateItem(study, node)
    found = channels.volumesOf(volumes["Bob", "FLAIR tra"], ("T1", "FLAIR"))
    assert found == [volumes["Bob", "T1 sag"], volumes["Bob", "FLAIR tra"]]


def test_what_does_not_fit_is_named(panel):
    from UGMCLSegmentationLib.errors import PanelError
    from UGMCLSegmentationLib.scene import channels

    pair = ("T1", "FLAIR")
    first = add("p T1")
    with pytest.raises(PanelError, match="p T1 has no volume for FLAIR"):
        channels.check(first, pair)
    second = add("p FLAIR")
    assert channels.check(first, pair) == [first, second]
    second.SetOrigin(1000.0, 0.0, 0.0)
    with pytest.raises(PanelError, match="p FLAIR is on a different grid than p T1"):
        channels.check(first, pair)
    channels.choose(first, pair, "FLAIR", first)
    with pytest.raises(PanelError, match="p T1 is used for two channels"):
        channels.check(first, pair)


def test_segment_offers_a_volume_for_each_channel(panel, tmp_path):
    import slicer

    table = panel.ui.channelsTable
    first, third = add("a T1"), add("b", 9)
    panel.parameters.inputVolume = first
    assert shown(table) == {"T1": "a T1", "FLAIR": "Choose…"}
    second = add("a FLAIR", 40)
    assert not table.isHidden()
    assert shown(table) == {"T1": "a T1", "FLAIR": "a FLAIR"}
    node = panel.segment(first)
    mean = sum(slicer.util.arrayFromVolume(v).astype(float) for v in (first, second)) / 2
    assert np.array_equal(support.segment_array(node, first), mean > 100)
    choose(table, 1, "b")
    assert shown(table) == {"T1": "a T1", "FLAIR": "b"}
    panel.parameters.inputVolume = third
    assert shown(table) == {"T1": "a T1", "FLAIR": "b"}, "the same case, whichever is selected"
    panel.parameters.inputVolume = add("c")
    assert shown(table) == {"T1": "c", "FLAIR": "Choose…"}
    panel.ui.segmentButton.click()
    assert "c has no volume for FLAIR" in panel.ui.messageLabel.text
    panel.parameters.model = add_model(tmp_path / "one", "image")
    assert table.isHidden()


def test_a_batch_and_a_ranking_take_each_patient_once(panel):
    for name in ("a T1", "a FLAIR", "b T1", "b FLAIR"):
        add(name, 5.0 if "FLAIR" in name else 0.0)
    improve.open_improve(panel)
    panel.ui.nextSection.collapsed = False
    panel.ui.rankButton.click()
    improve.wait(panel)
    assert set(improve.rows(panel)) == {"a T1", "b T1"}
    assert all(uncertainty for _, _, uncertainty in improve.rows(panel).values())
    panel.ui.batchButton.click()
    improve.wait(panel)
    assert "2 of 2 volumes were segmented" in panel.ui.batchLabel.text


def test_improve_groups_the_volumes_of_a_patient(panel, tmp_path):
    first, _second = add("a T1"), add("a FLAIR", 5)
    add("b T1")
    drawn = improve.add_segmentation(_second, {"left atrium": improve.bright(first)})
    improve.open_improve(panel)
    rows = improve.rows(panel)
    assert list(rows) == ["a T1", "b T1"]
    assert rows["a T1"][:2] == ("Labeled", drawn.GetName())
    assert "b T1 has no volume for FLAIR" in panel.ui.casesLabel.text
    table = panel.ui.caseChannelsTable
    assert shown(table) == {"T1": "b T1", "FLAIR": "Choose…"}
    improve.select_rows(panel, "a T1")
    assert shown(table) == {"T1": "a T1", "FLAIR": "a FLAIR"}
    improve.set_role(panel, "b T1", "Ignore")
    from UGMCLSegmentationLib.panel.improve.finetuning import caseListExport

    export = caseListExport.prepare(panel.widget.improve.caseList.update())
    (tmp_path / "run" / "cases").mkdir(parents=True)
    for _ in caseListExport.write(export, tmp_path / "run"):
        pass
    (path,) = (tmp_path / "run").glob("*.json")
    content = json.loads(path.read_text())
    (row,) = content["cases"]
    assert content["channels"] == ["T1", "FLAIR"] and len(row["image"]) == 2
    voxels = [sitk.GetArrayFromImage(sitk.ReadImage(str(path.parent / p))) for p in row["image"]]
    assert np.array_equal(voxels[0] + 5, voxels[1])
    panel.parameters.base = "(scratch)"
    assert len(improve.rows(panel)) == 3, "one image a case"
    panel.parameters.channels = "t1, flair"
    assert list(improve.rows(panel)) == ["a T1", "b T1"]


def test_files_of_several_channels_are_cases(panel, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("p_t1", "p_flair", "q_t1", "q_flair", "p_seg", "r_t1"):
        image = sitk.GetImageFromArray(np.zeros((4, 5, 6), np.uint8))
        sitk.WriteImage(image, str(folder / f"{name}.nrrd"))
    improve.open_improve(panel)
    panel.widget.improve.cases.addFolder(str(folder))
    improve.rows(panel)
    found = {case.name: case for case in panel.widget.improve.caseList.contents.cases}
    assert [Path(p).name for p in found["p_t1"].images] == ["p_t1.nrrd", "p_flair.nrrd"]
    assert (found["p_t1"].role, found["q_t1"].role) == ("labeled", "unlabeled")
    assert "r has no FLAIR (r_FLAIR); the case is left out" in panel.ui.casesLabel.text


@pytest.mark.slow
def test_the_worker_gets_all_channels(scene, tmp_path, monkeypatch):
    """The real one, by the panel and by the console: a segmentation and a fine-tuning."""
    import module_models as models
    import slicer

    from ugmcl_core.models.model import open_model

    model = models.train_tiny(tmp_path / "tiny", channels=("T1", "FLAIR"))
    panel = improve.real_panel(model, monkeypatch)
    first = support.add_volume(support.blob(seed=9), name="a T1")
    support.add_volume(support.blob(seed=9)[:, ::-1, ::-1].copy(), name="a FLAIR")
    panel.parameters.passes = 0
    found = support.segment_array(panel.segment(first), first) > 0
    truth = slicer.util.arrayFromVolume(first) > models.LEVEL
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.7
    drawn = improve.add_segmentation(first, {"class 1": truth})
    result = panel.widget.logic.finetune(
        {first: drawn}, base=str(model), name="tuned", iterations=2, method="dual-task"
    )
    assert open_model(result["model"]).card.channels == ("T1", "FLAIR")
    panel.close()
