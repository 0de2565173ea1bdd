"""Cases that cannot be trained on: exit code 2, one line, and no output file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_support import refuse
from samples import tiny_model

from ugmcl_core.__main__ import main
from ugmcl_core.data import phantoms, volume


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny").folder


@pytest.fixture
def cohort(tmp_path):
    phantoms.write_cohort(tmp_path, 2, shape=(24, 20, 16), spacing=(4.0, 4.0, 3.5))
    return tmp_path


def train(cohort, model, out, *more):
    return ["train", "--images", cohort / "images", "--labels", cohort / "labels", "--base", model,
            "--output", out, "--iterations", "1", "--device", "cpu", *more]  # fmt: skip


def relabel(cohort: Path, change) -> Path:
    path = cohort / "labels" / "phantom-000.nrrd"
    volume.write(path, change(volume.read(path)))
    return path


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("elsewhere", "a different grid"),
        ("empty", "label is empty"),
        ("not whole", "whole numbers"),
        ("unknown class", "label 5"),
        ("negative", "between 0 and 65535"),
        ("NaN", "NaN"),
    ],
)
def test_labels(kind, why, cohort, model, capsys):
    def change(labels: volume.Volume) -> volume.Volume:
        array, grid = labels.array.astype(np.float32), labels.grid
        if kind == "elsewhere":
            return volume.Volume(labels.array, replace(grid, origin=(900.0, 0.0, 0.0)))
        if kind == "empty":
            array *= 0
        elif kind == "not whole":
            array += 0.5 * (array > 0)
        elif kind == "unknown class":
            array *= 5
        elif kind == "negative":
            array -= 1
        else:
            array[0, 0, 0] = np.nan
        return volume.Volume(array, grid)

    path = relabel(cohort, change)
    out = cohort / "run"
    code = main([str(w) for w in train(cohort, model, out)])
    told = capsys.readouterr()
    (line,) = [x for x in told.err.splitlines() if x.startswith("ugmcl: ")]
    assert code == 2 and told.out == ""
    assert why in line and path.name in line
    assert not out.exists()


def test_a_training_folder_without_images(tmp_path, model, capsys):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    out = tmp_path / "run"
    refuse(capsys, *train(tmp_path, model, out), why="no images", out=out)


def test_a_list_that_names_an_unknown_case(cohort, model, capsys):
    (cohort / "list.txt").write_text("phantom-000\nghost\n")
    out = cohort / "run"
    words = train(cohort, model, out, "--labeled-list", cohort / "list.txt")
    refuse(capsys, *words, why="ghost", out=out)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00"])
def test_a_list_that_is_none(content, cohort, model, capsys):
    (cohort / "list.txt").write_bytes(content)
    out = cohort / "run"
    words = train(cohort, model, out, "--exclude-list", cohort / "list.txt")
    refuse(capsys, *words, why="list.txt", out=out)


def test_a_list_that_names_a_case_twice(cohort, model, capsys):
    (cohort / "list.txt").write_text("phantom-000\nphantom-001\nphantom-000.nrrd\n")
    out = cohort / "run"
    words = train(cohort, model, out, "--labeled-list", cohort / "list.txt")
    refuse(capsys, *words, why="phantom-000 is listed more than once", out=out)


def test_a_training_folder_that_is_a_file(cohort, model, capsys):
    (cohort / "run").write_text("precious")
    code = main([str(w) for w in train(cohort, model, cohort / "run")])
    assert code == 2
    assert "cannot be written" in capsys.readouterr().err
    assert (cohort / "run").read_text() == "precious"


def test_an_empty_label_is_an_example_when_the_user_says_so(cohort, model, tmp_path, capsys):
    relabel(cohort, lambda labels: replace(labels, array=np.zeros_like(labels.array)))
    words = train(cohort, model, tmp_path / "out")
    assert main([str(word) for word in words]) == 2
    assert "if nothing is there, give --empty-labels" in capsys.readouterr().err
    words = train(cohort, model, tmp_path / "out", "--empty-labels")
    assert main([str(word) for word in words]) == 0
    assert (tmp_path / "out" / "model" / "model.json").is_file()


def test_why_no_labeled_case_is_left(cohort, model, tmp_path, capsys):
    (tmp_path / "out.txt").write_text("phantom-000\n")
    (tmp_path / "held.txt").write_bytes("phantom-001\n".encode("utf-8-sig"))
    lists = ["--exclude-list", tmp_path / "out.txt", "--holdout-list", tmp_path / "held.txt"]
    refuse(capsys, *train(cohort, model, tmp_path / "out", *lists),
           why="of 2, 1 excluded and 1 held out", out=tmp_path / "out")  # fmt: skip


def test_a_hold_out_case_in_another_format_is_not_learned_from(cohort, model, tmp_path, capsys):
    for kind in ("images", "labels"):
        original = volume.read(cohort / kind / "phantom-000.nrrd")
        volume.write(cohort / kind / "copy.nii.gz", original)
    (tmp_path / "held.txt").write_text("copy\n")
    words = train(cohort, model, tmp_path / "out", "--holdout-list", tmp_path / "held.txt")
    assert main([str(word) for word in words]) == 2
    told = capsys.readouterr().err
    assert "hold-out case copy has the same image as phantom-000" in told
    assert not (tmp_path / "out").exists()
