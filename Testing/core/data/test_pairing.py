"""Which label map belongs to which image."""

import os
from pathlib import Path

import pytest

from ugmcl_core.data.pairing import (
    LABELS,
    Channels,
    Pair,
    grouped,
    left_over,
    left_over_in,
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


def paired(folder, channels=None):
    return {p.name: [f.name for f in (p.image, *p.further)] for p in pair_folder(folder, channels)}


def test_the_channels_of_nnunet_are_one_case_and_a_missing_one_is_named(tmp_path):
    files(tmp_path, *(f"imagesTr/{c}_000{n}.nii.gz" for c in "ab" for n in range(3)))
    files(tmp_path, "imagesTr/c_0000.nii.gz", "imagesTr/c_0002.nii.gz", "imagesTr/d.nii.gz")
    files(tmp_path, "labelsTr/a.nii.gz", "labelsTr/c.nii.gz")  # b is unlabeled
    images, labels = tmp_path / "imagesTr", tmp_path / "labelsTr"
    whole = {c: [f"{c}_000{n}.nii.gz" for n in range(3)] for c in "ab"}
    assert paired(tmp_path) == whole
    assert pair_folder(tmp_path)[0].label == labels / "a.nii.gz"
    lines = left_over(images, labels)
    first, other = images / "c_0000.nii.gz", images / "d.nii.gz"
    assert lines[0] == f"{first}: c has no 0001 (c_0001); the case is left out"
    assert lines[1] == f"{other} is left out: channels end with _0000, _0001, _0002"
    assert lines[2].endswith("c.nii.gz: no image of that name; the label is left out")
    names = '{"labels": {"x": 1}, "channel_names": {"0": "T1", "1": "T2", "2": "FLAIR"}}'
    (tmp_path / "dataset.json").write_text(names)
    assert paired(tmp_path) == whole
    assert "c has no T2 (c_0001)" in left_over(images, labels)[0]
    assert paired(tmp_path, Channels(("flair",), ("_0002",))) == {
        c: [f"{c}_0002.nii.gz"] for c in "abc"
    }
    with pytest.raises(InputError, match=r"a_0002.nii.gz: there are more channels than T1, T2"):
        paired(tmp_path, Channels(("T1", "T2")))


def test_channels_are_found_by_their_names_and_by_given_endings(tmp_path):
    files(tmp_path, "images/p_T1.nii.gz", "images/p_t1c.nii.gz", "images/q_t1.nrrd")
    files(tmp_path, "images/q_t1c.nrrd", "labels/p_seg.nii.gz", "labels/q.nrrd")
    two = {"p": ["p_T1.nii.gz", "p_t1c.nii.gz"], "q": ["q_t1.nrrd", "q_t1c.nrrd"]}
    assert paired(tmp_path, Channels(("t1", "t1c"))) == two
    assert all(pair.label for pair in pair_folder(tmp_path, Channels(("t1", "t1c"))))
    swapped = Channels(("contrast", "plain"), ("_t1c", "_t1"))
    assert paired(tmp_path, swapped) == {name: both[::-1] for name, both in two.items()}
    assert set(paired(tmp_path)) == {"p_T1", "p_t1c", "q_t1", "q_t1c"}, "one image a case as ever"
    files(tmp_path, "images/q_0000.nrrd")
    with pytest.raises(InputError, match=r"named by its channel and q_0000.nrrd by a number"):
        paired(tmp_path, Channels(("t1", "t1c")))
    by_stem = {name: Path(f"{name}.nrrd") for name in ("p_t1", "p_T1")}
    with pytest.raises(InputError, match=r"p_t1.nrrd and p_T1.nrrd are both the t1 of p"):
        grouped(by_stem, Channels(("t1",), ("_t1",)))


def test_without_channels_among_the_names_each_file_holds_them_all(tmp_path):
    files(tmp_path, "images/a.nii.gz", "images/b.nii.gz", "labels/a.nii.gz")
    assert paired(tmp_path, Channels(("t1", "t2"))) == {"a": ["a.nii.gz"], "b": ["b.nii.gz"]}


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
    files(tmp_path, "images/e.hdr", "images/later/f.nrrd", "images/readme.txt")
    os.mkfifo(tmp_path / "images/g.nrrd")
    (tmp_path / "images/IM1").write_bytes(bytes(128) + b"DICM")
    told = left_over(tmp_path / "images", tmp_path / "labels")[1:4]
    assert [line.split(" (")[-1] for line in told[:2]] == ["later)", "e.hdr, g.nrrd)"]
    assert "its DICOM files are left out" in told[2]


def test_what_pairs_with_nothing_in_one_folder_is_named(tmp_path):
    """As the panel has it, and a folder that is given for both, images and labels."""
    files(tmp_path, "a.nrrd", "a-label.nrrd", "B_seg.nrrd", "b.nrrd", "b_sdf.nrrd")
    (tmp_path / "c.nrrd").symlink_to(tmp_path / "nowhere.nrrd")
    link, lonely = left_over_in(tmp_path)
    assert "c.nrrd: the link leads nowhere" in link
    assert "B_seg.nrrd: left out, as b.nrrd differs in upper and lower case" in lonely
    assert left_over(tmp_path, tmp_path) == [link, lonely]
    pairs = pair_folders(tmp_path, tmp_path)
    assert [(p.name, p.label and p.label.name) for p in pairs] == [
        ("a", "a-label.nrrd"), ("b", None)
    ]  # fmt: skip
    assert left_over_in(tmp_path.parent / tmp_path.name) == [link, lonely]


def test_a_second_label_of_an_image_is_named(tmp_path):
    files(tmp_path, "images/a.nrrd", "labels/a.nrrd", "labels/a_seg.nrrd")
    (line,) = left_over_in(tmp_path)
    assert "a_seg.nrrd: left out, as a.nrrd is the label of a" in line


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
