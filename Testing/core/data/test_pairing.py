"""Which label map belongs to which image."""

from pathlib import Path

import pytest

from ugmcl_core.data.pairing import (
    LABELS,
    Pair,
    left_over,
    pair_folder,
    pair_folders,
    read_list,
    source_of,
)
from ugmcl_core.errors import InputError


def files(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "label",
    ["a-labels.nrrd", "a_labels.nii.gz", "a-label.nrrd", "a_label.mha", "a-seg.nii", "a_SEG.nrrd",
     "a.seg.nrrd", "a.seg.nii.gz", "a.label.nrrd"],
)  # fmt: skip
def test_labels_beside_their_image_have_an_ending(tmp_path, label):
    files(tmp_path, "a.nrrd", label, "b.nii.gz", "c-label.nrrd", ".hidden.nrrd", "notes.txt")
    files(tmp_path, "a_sdf.nrrd", "a_sdf_left-atrium.nrrd", "a_uncertainty.nrrd")
    assert pair_folder(tmp_path) == [
        Pair("a", tmp_path / "a.nrrd", tmp_path / label), Pair("b", tmp_path / "b.nii.gz")
    ]  # fmt: skip


def test_labels_in_a_folder_of_their_own_have_the_name_or_the_name_and_an_ending(tmp_path):
    files(tmp_path, "images/a.nrrd", "images/b.nii.gz", "images/c.nrrd", "images/a-seg.nrrd")
    files(tmp_path, "images/a_uncertainty.nrrd")  # a result is no image
    files(tmp_path, "labels/a.nrrd", "labels/a_label.nrrd", "labels/b-label.mha")
    files(tmp_path, "labels/a-seg.nrrd", "labels/other.nrrd")
    found = {pair.name: pair.label and pair.label.name for pair in pair_folder(tmp_path)}
    assert found == {"a": "a.nrrd", "a-seg": "a-seg.nrrd", "b": "b-label.mha", "c": None}
    assert pair_folder(tmp_path) == pair_folders(tmp_path / "images", tmp_path / "labels")
    assert all(pair.label is None for pair in pair_folders(tmp_path / "images"))


@pytest.mark.parametrize(
    "names",
    [("a.nrrd", "a.nii.gz"), ("a.nrrd", "a-label.nrrd", "a_seg.nrrd"),
     ("images/a.nrrd", "labels/a_seg.nrrd", "labels/a-seg.nrrd"),
     ("images/a.nrrd", "labels/a.nrrd", "labels/a.mha")],
)  # fmt: skip
def test_two_files_for_one_name_are_refused(tmp_path, names):
    with pytest.raises(InputError, match="have the same name; which one is meant"):
        pair_folder(files(tmp_path, *names))


def test_the_names_of_nnunet(tmp_path):
    files(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/a.nii.gz")
    assert pair_folder(tmp_path) == [
        Pair("a", tmp_path / "imagesTr/a_0000.nii.gz", tmp_path / "labelsTr/a.nii.gz"),
        Pair("b_0000", tmp_path / "imagesTr/b_0000.nii.gz"),
    ]
    files(tmp_path, "imagesTr/a_0001.nii.gz")
    with pytest.raises(InputError, match="several images or channels"):
        pair_folder(tmp_path)


def test_a_number_at_the_end_of_both_names_is_no_channel(tmp_path):
    files(tmp_path, "images/scan_0001.nrrd", "images/scan_0002.nrrd")
    files(tmp_path, "labels/scan_0001.nrrd", "labels/scan_0002.nrrd")
    assert [p.name for p in pair_folder(tmp_path)] == ["scan_0001", "scan_0002"]
    assert all(p.label for p in pair_folder(tmp_path))


def test_what_pairs_with_nothing_is_named(tmp_path):
    files(tmp_path, "images/a.nrrd", "images/b.nrrd", "labels/A.nrrd", "labels/b_label.nrrd")
    files(tmp_path, "labels/c.nrrd", "labels/b_sdf.nrrd")
    (tmp_path / "images/d.nrrd").symlink_to(tmp_path / "nowhere.nrrd")
    link, other_case, lonely = left_over(tmp_path / "images", tmp_path / "labels")
    assert "d.nrrd: the link leads nowhere" in link
    assert "A.nrrd" in other_case and "a.nrrd differs in upper and lower case" in other_case
    assert "c.nrrd: no image of that name" in lonely
    assert left_over(tmp_path / "labels", None) == []


def test_no_folder():
    for call in (pair_folder, pair_folders):
        with pytest.raises(InputError, match="nowhere: no such folder"):
            call(Path("nowhere"))


def test_results_name_their_image():
    assert source_of("scan" + LABELS) == source_of("scan_sdf_left-atrium") == "scan"
    assert source_of("scan") is None and source_of("_sdf") is None


def test_a_list_names_each_case_once(tmp_path):
    path = tmp_path / "dev.txt"
    path.write_text("a.nrrd  # the first\n\nb\n")
    assert read_list(path) == ["a", "b"]
    path.write_text("a\na.nii.gz\n")
    with pytest.raises(InputError, match="a is listed more than once"):
        read_list(path)


def test_the_folder_of_a_data_set_stands_for_those_in_it(tmp_path):
    files(tmp_path, "dataset.json", "imagesTr/a.nii.gz", "imagesTr/._a.nii.gz")
    files(tmp_path, "labelsTr/a.nii.gz", "labelsTr/lone.nii.gz", "imagesTs/b.nii.gz")
    pair = Pair("a", tmp_path / "imagesTr/a.nii.gz", tmp_path / "labelsTr/a.nii.gz")
    assert pair_folders(tmp_path, tmp_path) == [pair]
    assert pair_folders(tmp_path, tmp_path / "labelsTr") == [pair]
    (line,) = left_over(tmp_path, tmp_path)
    assert "lone.nii.gz: no image of that name" in line
