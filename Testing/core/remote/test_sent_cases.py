"""What of a case list or of folders is sent, and how it is called there."""

import json

import pytest

from ugmcl_core.errors import InputError
from ugmcl_core.remote import cases


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_a_case_list_names_the_files_there(tmp_path):
    write(tmp_path, "t1.nrrd", "flair.nii.gz", "label.nrrd", "u.nrrd", "u-label.nrrd")
    content = {"cases": [
        {"name": "a", "role": "labeled", "image": ["t1.nrrd", "flair.nii.gz"],
         "label": "label.nrrd"},
        {"name": "b", "role": "unlabeled", "image": "u.nrrd", "label": "u-label.nrrd"},
    ], "classes": None}  # fmt: skip
    (tmp_path / "cases.json").write_text(json.dumps(content))
    listed = cases.read(tmp_path / "cases.json")
    names = {path.name: name.split("/") for path, name in listed.names().items()}
    assert {name: there for name, (_, there) in names.items()} == {
        "t1.nrrd": "image.nrrd", "flair.nii.gz": "image.nii.gz",
        "label.nrrd": "image.nrrd", "u.nrrd": "image.nrrd",
    }  # fmt: skip
    assert len({folder for folder, _ in names.values()}) == 4
    again = cases.read(tmp_path / "cases.json").names()
    assert again == listed.names()  # so that a file is sent once
    (tmp_path / "label.nrrd").write_bytes(b"another one")
    now = cases.read(tmp_path / "cases.json").names()
    assert [p.name for p in now if now[p] != again[p]] == ["label.nrrd"]
    folders = iter(range(1, 5))
    there = listed.with_paths(
        {p: f"/there/{next(folders)}/{n.split('/')[1]}" for p, n in again.items()}
    )
    assert there["cases"] == [
        {"name": "a", "role": "labeled",
         "image": ["/there/1/image.nrrd", "/there/2/image.nii.gz"],
         "label": "/there/3/image.nrrd"},
        {"name": "b", "role": "unlabeled", "image": "/there/4/image.nrrd"},
    ]  # fmt: skip
    (tmp_path / "flair.nii.gz").unlink()
    with pytest.raises(InputError, match=r"case a: there is no image .*flair\.nii\.gz"):
        cases.read(tmp_path / "cases.json")


def test_of_a_data_set_its_images_and_what_describes_them(tmp_path):
    write(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz",
          "imagesTr/notes.txt", "dataset.json", "imagesTs/b_0000.nii.gz")  # fmt: skip
    images = cases.images_of(str(tmp_path), 0)
    assert set(images) == {"a_0000.nii.gz", "a_0001.nii.gz", "dataset.json"}
    assert set(cases.images_of(str(tmp_path), 1)) == {"a.nii.gz"}
    with pytest.raises(InputError, match="no such folder"):
        cases.images_of(str(tmp_path / "none"), 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images here"):
        cases.images_of(str(tmp_path / "empty"), 0)
