"""Requests of the worker's protocol are checked before anything runs."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugmcl_core.errors import InputError, in_one_line
from ugmcl_core.worker.server import protocol


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"command": "segment"}, "needs image"),
        ({"passes": 65}, "passes"),
        ({"passes": True}, "passes"),
        ({"passes": "8"}, "passes"),
        ({"all_components": 1}, "all_components"),
        ({"roi": [0, 1, 0, 1, 0, float("nan")]}, "roi"),
        ({"roi": [1, 0, 0, 1, 0, 1]}, "roi"),
        ({"roi": [0, 10**400, 0, 1, 0, 1]}, "roi"),
        ({"stem": "../../etc/passwd"}, "stem"),
        ({"stem": ".."}, "stem"),
        ({"image": 7}, "image"),
        ({"image": "a\0b"}, "image"),
        ({"image": "a\ud800b"}, "image .* contains an invalid character"),
        ({"image": [["x" * 1000] * 1000]}, r"image must be a string, not \['x"),
        ({"image": []}, "image must be a path, or a list of paths"),
        ({"colour": "red"}, "colour"),
        ({"uncertainty": "dice"}, "uncertainty"),
        ({"command": "rank", "images": [], "model": "m"}, "no images"),
        ({"command": "rank", "images": "a", "model": "m"}, "list of strings"),
        ({"command": "rank", "images": ["a"], "model": "m", "passes": 0}, "choose 1 to 64"),
        ({"command": "evaluate", "prediction": "a", "reference": "b", "values": [1.5]}, "values"),
        (
            {"command": "evaluate", "prediction": "a", "reference": "b", "values": [10**400]},
            "is not a label from 0 to 65535",
        ),
        ({"command": "finetune", "output": "o"}, "needs case_list"),
        ({"command": "finetune", "output": "o", "case_list": "c", "iterations": 10**400}, "iter"),
        ({"command": "finetune", "output": "o", "case_list": "c", "seed": 10**400}, "seed"),
        ({"command": "finetune", "output": "o", "case_list": "c", "iterations": 0}, "0 iter"),
        ({"command": "estimate", "output": "o", "case_list": "c", "seed": -1}, "seed -1: choose"),
        ({"command": "finetune", "output": "o", "case_list": "c", "compare": 1}, "compare"),
    ],
)
def test_requests_are_checked(tmp_path, content, word):
    plain = {"command": "segment", "image": "i", "model": "m", "output": str(tmp_path)}
    given = content if content.get("command") else {**plain, **content}
    with pytest.raises(InputError, match=word):
        protocol.parse(given)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(),
    st.just("x" * 5000), st.just("\ud800"),
    st.lists(st.integers() | st.floats() | st.text(), max_size=6),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip
KEYS = sorted({name for kind in protocol.KINDS.values() for name in kind.__dataclass_fields__})


@settings(deadline=None)
@given(st.sampled_from([*protocol.KINDS, "none"]), st.dictionaries(st.sampled_from(KEYS), ODD))
def test_whatever_is_sent_is_a_request_or_an_error_of_the_users(command, content):
    content = json.loads(json.dumps({"command": command, **content}))  # as it arrives
    try:
        protocol.parse(content)
    except InputError as error:
        assert len(str(error)) < 2000
    except OSError as error:  # a name that is too long
        assert "unexpected" not in in_one_line(error)


def test_a_request_without_options_has_defaults(tmp_path):
    plain = {"id": 3, "command": "segment", "image": "/x/scan.nii.gz", "model": "m",
             "output": str(tmp_path)}  # fmt: skip
    found = protocol.parse(plain)
    assert (found.passes, found.device, found.roi, found.output_stem) == (8, "auto", None, "scan")


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_outputs_are_named_after_the_link_that_was_given(tmp_path):
    (tmp_path / "true.nrrd").touch()
    (tmp_path / "given.nrrd").symlink_to(tmp_path / "true.nrrd")
    plain = {"command": "segment", "image": str(tmp_path / "given.nrrd"), "model": "m",
             "output": str(tmp_path)}  # fmt: skip
    assert protocol.parse(plain).output_stem == "given"
