"""Case lists: what they say, and one line for everything that is wrong in them."""

from __future__ import annotations

import json

import pytest

from ugmcl_core.errors import InputError
from ugmcl_core.models.card import ClassInfo, Terminology
from ugmcl_core.training.finetuning.case_list import join_classes, read_case_list

ATRIUM = ClassInfo(1, "left atrium", (0.9, 0.3, 0.3), Terminology("SCT", "82471001", "LA"))
SCAR = ClassInfo(2, "scar")


@pytest.fixture()
def files(tmp_path):
    for name in ("a.nrrd", "a-label.nrrd", "b.nrrd", "c.nrrd", "c-label.nrrd"):
        (tmp_path / name).touch()
    return tmp_path


def content(folder, **changes):
    plain = {
        "cases": [
            {"name": "a", "role": "labeled", "image": "a.nrrd", "label": "a-label.nrrd"},
            {"name": "b", "role": "unlabeled", "image": str(folder / "b.nrrd")},
            {"name": "c", "role": "holdout", "image": "c.nrrd", "label": "c-label.nrrd"},
        ],
        "classes": [
            {"value": 7, "name": "Left atrium", "color": [0.1, 0.2, 0.3],
             "terminology": {"scheme": "SCT", "code": "82471001", "meaning": "Left atrium"}},
        ],
        "ignore": 255,
    }  # fmt: skip
    return {**plain, **changes}


def read(folder, **changes):
    path = folder / "cases.json"
    path.write_text(json.dumps(content(folder, **changes)))
    return read_case_list(path)


def test_roles_paths_classes_and_ignore_are_read(files):
    found = read(files)
    (a,), (b,), (c,) = found.cohort.labeled, found.cohort.unlabeled, found.cohort.holdout
    assert (a.name, a.image, a.label) == ("a", files / "a.nrrd", files / "a-label.nrrd")
    assert (b.name, b.image, b.label) == ("b", files / "b.nrrd", None)
    assert (c.name, c.label) == ("c", files / "c-label.nrrd")
    assert found.ignore == 255
    assert (found.classes[0].value, found.classes[0].color) == (7, (0.1, 0.2, 0.3))
    assert read(files, classes=None, ignore=None).classes is None


def cases(**changes):
    first = {"name": "a", "role": "labeled", "image": "a.nrrd", "label": "a-label.nrrd"}
    return {"cases": [{k: v for k, v in {**first, **changes}.items() if v is not None}]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (cases(image="none.nrrd"), "case a: there is no image .*none.nrrd"),
        (cases(label="none.nrrd"), "case a: there is no label .*none.nrrd"),
        (cases(label=None), "case a is labeled and has no label"),
        (cases(image=None), "case a has no image"),
        (cases(role="teacher"), "case a: role is 'teacher'"),
        (cases(name=""), "case 1 has no name"),
        (cases(image=3), "case a: image is not a path"),
        (cases(mask="a.nrrd"), "case a: unknown key 'mask'"),
        (cases(role="unlabeled", label=None), "no case is labeled"),
        ({"cases": [7]}, "case 1 is not an object"),
        ({"cases": cases()["cases"] * 2}, "two cases are named a"),
        ({"cases": None}, "is not a case list"),
        (
            {"cases": [*cases()["cases"], *cases(name="c", role="holdout")["cases"]]},
            "cases a and c have the same image",
        ),
        ({"shade": 1}, "unknown key 'shade'"),
        ({"ignore": 0}, "ignore is 0"),
        ({"ignore": True}, "ignore is True"),
        ({"ignore": 7}, "ignore 7 is the label of Left atrium"),
        ({"classes": []}, "at least one class"),
        ({"classes": [{"value": 0, "name": "x"}]}, "class value 0"),
        ({"classes": [{"value": 1, "name": "x"}, {"value": 1, "name": "y"}]}, "the value 1"),
        ({"classes": [{"value": 1, "name": "x"}, {"value": 2, "name": "x"}]}, "the name 'x'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(files, changes, words):
    with pytest.raises(InputError, match=rf"cases\.json: .*{words}") as found:
        read(files, **changes)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(("text", "words"), [(None, "cannot be read"), ("{", "not valid JSON")])
def test_files_that_are_no_list(tmp_path, text, words):
    if text is not None:
        (tmp_path / "cases.json").write_text(text)
    with pytest.raises(InputError, match=words):
        read_case_list(tmp_path / "cases.json")


def test_classes_are_the_bases_by_code_then_by_name_or_new():
    other = ClassInfo(4, "Atrium sinistrum", terminology=Terminology("SCT", "82471001", "LA"))
    new = ClassInfo(1, "aorta", (0.0, 1.0, 0.0), Terminology("SCT", "15825003", "Aorta"))
    named = ClassInfo(9, "SCAR")
    classes, values = join_classes((ATRIUM, SCAR), (new, named, other))
    assert [c.name for c in classes] == ["left atrium", "scar", "aorta"]
    assert [c.value for c in classes] == [1, 2, 3]
    assert values == (4, 9, 1)
    assert classes[2].color == new.color and classes[2].terminology == new.terminology
    assert join_classes((ATRIUM, SCAR), None) == ((ATRIUM, SCAR), (1, 2))
    scratch = join_classes((), (ClassInfo(5, "x"), ClassInfo(3, "y")))
    assert scratch == ((ClassInfo(1, "x"), ClassInfo(2, "y")), (5, 3))


@pytest.mark.parametrize("code", ["64033007", "85756007"])
def test_classes_of_one_code_are_told_apart_by_name(code):
    term = Terminology("SCT", code, "Kidney or tissue")
    left, right = (ClassInfo(v, n, terminology=term) for v, n in ((1, "left"), (2, "right")))
    both = (left, right)
    assert join_classes(both, both) == (both, (1, 2))
    assert join_classes((left,), both)[0] == both  # the second one is new
    other = ClassInfo(5, "dexter", terminology=term)
    if code == "64033007":
        assert join_classes(both, (left, other)) == (both, (1, 5))
    else:  # Slicer's default says nothing
        with pytest.raises(InputError, match="no class right"):
            join_classes(both, (left, other))


def test_a_class_of_the_base_must_be_in_the_labels_and_only_once():
    with pytest.raises(InputError, match="no class scar, which the base model finds"):
        join_classes((ATRIUM, SCAR), (ATRIUM,))
    with pytest.raises(InputError, match="two classes of the labels match the base's scar"):
        join_classes((SCAR,), (SCAR, ClassInfo(3, "Scar")))


def test_the_former_spelling_of_roles_is_read(files):
    former = json.loads(json.dumps(content(files)).replace("labeled", "labelled"))
    assert {case["role"] for case in former["cases"]} == {"labelled", "unlabelled", "holdout"}
    (files / "former.json").write_text(json.dumps(former))
    assert read_case_list(files / "former.json") == read(files)
