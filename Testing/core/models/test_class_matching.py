"""Which class a structure is: by terminology, then by name."""

import pytest

from ugmcl_core.models.card import ClassInfo, Terminology
from ugmcl_core.models.class_matching import match_class, match_classes, name_key

ATRIUM = ClassInfo(1, "left atrium", terminology=Terminology("SCT", "82471001", "Left atrium"))
SCAR = ClassInfo(2, "scar")
KIDNEY = Terminology("SCT", "64033007", "Kidney")
LEFT, RIGHT = ClassInfo(1, "left", terminology=KIDNEY), ClassInfo(2, "right", terminology=KIDNEY)
TISSUE = {"scheme": "SCT", "code": "85756007", "meaning": "Tissue"}


@pytest.mark.parametrize(
    ("name", "terminology", "classes", "wanted"),
    [
        ("LA", ATRIUM.terminology, (ATRIUM, SCAR), ATRIUM),
        ("scar", {"scheme": "SCT", "code": "82471001"}, (ATRIUM, SCAR), ATRIUM),  # code first
        ("Left_Atrium ", TISSUE, (ATRIUM, SCAR), ATRIUM),
        ("SCAR", Terminology("SCT", "12402003", "Scar"), (ATRIUM, SCAR), SCAR),  # SCAR has none
        ("aorta", None, (ATRIUM, SCAR), None),
        ("RIGHT", KIDNEY, (LEFT, RIGHT), RIGHT),  # a code of two classes decides nothing
        ("dexter", KIDNEY, (LEFT, RIGHT), None),
        ("tissue", TISSUE, (ClassInfo(1, "x", terminology=Terminology(**TISSUE)),), None),
    ],
)
def test_the_code_decides_before_the_name(name, terminology, classes, wanted):
    assert match_class(name, terminology, classes) is wanted


def test_a_list_is_matched_by_elimination_and_never_ambiguously():
    dexter, other = (ClassInfo(n, name, terminology=KIDNEY) for n, name in ((5, "a"), (6, "b")))
    assert match_classes((LEFT, dexter), (LEFT, RIGHT)) == [LEFT, RIGHT]
    assert match_classes((LEFT, dexter, other), (LEFT, RIGHT)) == [LEFT, None, None]
    assert match_classes((dexter, LEFT), (LEFT,)) == [None, LEFT]  # the one with its name
    assert match_classes((dexter, other), (LEFT,)) == [LEFT, LEFT]  # for the caller to refuse
    assert match_classes((), (LEFT,)) == []


def test_case_spaces_and_underscores_do_not_count():
    assert name_key(" Left_ATRIUM") == name_key("left  atrium") != name_key("leftatrium")
