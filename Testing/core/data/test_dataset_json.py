"""What dataset.json says of the labels and images beside it."""

import json

import pytest

from ugmcl_core.data.dataset_json import modality_of, read_of
from ugmcl_core.errors import InputError

DECATHLON = {
    "name": "Task04", "modality": {"0": "MRI"}, "numTraining": 1,
    "labels": {"0": "background", "2": "Posterior", "1": "Anterior"},
    "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
}  # fmt: skip
NNUNET = {
    "channel_names": {"1": "T2", "0": "CT"}, "numTraining": 2, "file_ending": ".nii.gz",
    "labels": {"background": 0, "kidney": 1, "tumor": 4, "ignore": 5},
}  # fmt: skip


def written(folder, content, encoding="utf-8"):
    (folder / "imagesTr").mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "dataset.json").write_text(text, encoding=encoding)
    return folder / "imagesTr"


def test_the_decathlons_and_nnunets_are_read(tmp_path):
    found = read_of(written(tmp_path, DECATHLON, "utf-8-sig"))
    assert found.classes == ((1, "Anterior"), (2, "Posterior"))
    assert (found.modality, found.channels, found.ignore) == ("MR", ("MRI",), None)
    assert read_of(tmp_path) == found, "the folder of the data set"
    found = read_of(written(tmp_path, NNUNET))
    assert found.classes == ((1, "kidney"), (4, "tumor"))
    assert (found.modality, found.channels, found.ignore) == ("CT", ("CT", "T2"), 5)
    (tmp_path / "dataset.json").unlink()
    assert read_of(tmp_path / "imagesTr") is None


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "null", {"labels": {}}, {"labels": {"background": 0}}, {"labels": {"a": "b"}},
     {"labels": {"1": "a", "2": "a"}}, {"labels": {"a": 1, "b": 1}}, {"labels": [1, 2]},
     {"labels": {"1": "a"}, "modality": {"first": "CT"}}, {"labels": {"a": None}}, "[" * 99999],
)  # fmt: skip
def test_another_file_is_refused(tmp_path, content):
    with pytest.raises(InputError, match=r"dataset\.json: holds no .labels.*--classes"):
        read_of(written(tmp_path, content))


def test_regions_are_refused(tmp_path):
    content = {**NNUNET, "labels": {"background": 0, "whole": [1, 2], "core": 2}}
    with pytest.raises(InputError, match="whole is a region of the labels 1, 2"):
        read_of(written(tmp_path, content))


@pytest.mark.parametrize(
    ("text", "kind"),
    [("CT", "CT"), ("LGE-MRI", "MR"), ("t1gd", "MR"), ("FDG PET", "PT"), ("flair", "MR"),
     ("", ""), ("ultrasound", ""), ("octant", ""), ("noNorm", "")],
)  # fmt: skip
def test_the_kind_of_image_in_words(text, kind):
    assert modality_of(text) == kind
