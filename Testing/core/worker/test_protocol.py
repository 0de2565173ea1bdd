"""Requests of the worker's protocol are checked before anything runs."""

from __future__ import annotations

import os

import pytest

from ugmcl_core.errors import InputError
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
        ({"stem": "../../etc/passwd"}, "stem"),
        ({"stem": ".."}, "stem"),
        ({"image": 7}, "image"),
        ({"image": "a\0b"}, "image"),
        ({"colour": "red"}, "colour"),
        ({"uncertainty": "dice"}, "uncertainty"),
        ({"command": "rank", "images": [], "model": "m"}, "no images"),
        ({"command": "rank", "images": "a", "model": "m"}, "list of texts"),
        ({"command": "rank", "images": ["a"], "model": "m", "passes": 0}, "choose 1 to 64"),
        ({"command": "evaluate", "prediction": "a", "reference": "b", "values": [1.5]}, "values"),
        ({"command": "finetune", "output": "o"}, "needs case_list"),
        ({"command": "finetune", "output": "o", "case_list": "c", "iterations": 0}, "at least 1"),
        ({"command": "estimate", "output": "o", "case_list": "c", "seed": -1}, "seed -1: choose"),
        ({"command": "finetune", "output": "o", "case_list": "c", "compare": 1}, "compare"),
    ],
)
def test_requests_are_checked(tmp_path, content, word):
    plain = {"command": "segment", "image": "i", "model": "m", "output": str(tmp_path)}
    given = content if content.get("command") else {**plain, **content}
    with pytest.raises(InputError, match=word):
        protocol.parse(given)


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
