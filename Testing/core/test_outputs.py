"""The files of a segmentation are written all together, or the folder stays as it was."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from cli_support import refuse
from samples import contents, left_over, on_grid, tiny_model, write_image

from ugmcl_core import outputs
from ugmcl_core.errors import InputError
from ugmcl_core.inference import Segmentation

NAMES = ["x_labels.nrrd", "x_sdf.nrrd", "x_uncertainty.nrrd"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def segmentation(value: int = 1, uncertainty: bool = True) -> Segmentation:
    labels = on_grid(np.full((3, 4, 5), value, np.uint8))
    field = on_grid(np.full((3, 4, 5), value, np.float32))
    return Segmentation(labels, (field,), field if uncertainty else None, (), (), 0.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("former", [False, True])
def test_a_folder_in_the_place_of_a_file(name, former, model, tmp_path):
    if former:
        outputs.write(segmentation(), model, tmp_path, "x")
        (tmp_path / name).unlink()
    before = contents(tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").write_text("stays")
    with pytest.raises(InputError, match=rf"{name} is a folder; move it away"):
        outputs.write(segmentation(2), model, tmp_path, "x")
    assert (tmp_path / name / "precious").read_text() == "stays"
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before
    assert left_over(tmp_path) == []


def fail(monkeypatch, count: int, error: BaseException) -> None:
    """Let the renaming of files fail once, the time that `count` says."""
    real, calls = Path.replace, itertools.count(1)

    def replace(path: Path, target: Path) -> Path:
        if next(calls) == count:
            raise error
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)


# Three files are written (renamed once each), moved in turns with the former ones, and then the
# outdated one is moved aside.
@pytest.mark.parametrize("count", range(4, 11))
@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), KeyboardInterrupt()])
def test_a_rename_that_fails_is_rolled_back(count, error, model, tmp_path, monkeypatch):
    outputs.write(segmentation(), model, tmp_path, "x")
    (tmp_path / "x_sdf_old.nrrd").write_bytes((tmp_path / "x_sdf.nrrd").read_bytes())
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        fail(patch, count, error)
        kind = InputError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(kind):
            outputs.write(segmentation(2), model, tmp_path, "x")
    assert contents(tmp_path) == before
    outputs.write(segmentation(2), model, tmp_path, "x")
    assert sorted(contents(tmp_path)) == NAMES, "the outdated file is gone"
    assert all(contents(tmp_path)[name] != before[name] for name in NAMES)


@pytest.mark.parametrize("count", range(4, 7))
def test_nothing_is_left_where_nothing_was(count, model, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        fail(patch, count, PermissionError(13, "Permission denied"))
        with pytest.raises(InputError, match="cannot write there"):
            outputs.write(segmentation(), model, tmp_path, "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_a_link_in_the_place_of_a_file_is_replaced(model, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "file").write_text("stays")
    (tmp_path / "x_labels.nrrd").symlink_to("elsewhere")
    (tmp_path / "x_sdf.nrrd").symlink_to("file")
    (tmp_path / "x_uncertainty.nrrd").symlink_to("nowhere")
    outputs.write(segmentation(), model, tmp_path, "x")
    assert not any((tmp_path / name).is_symlink() for name in NAMES)
    assert (tmp_path / "elsewhere").is_dir() and (tmp_path / "file").read_text() == "stays"


def test_the_command_line_leaves_no_file_beside_the_folder(model, tmp_path, capsys):
    out = tmp_path / "out"
    (out / "x_sdf.nrrd").mkdir(parents=True)
    words = ["segment", write_image(tmp_path / "x.nrrd"), "--model", model.folder, "--output", out,
             "--device", "cpu", "--uncertainty-passes", "1"]  # fmt: skip
    refuse(capsys, *words, why="x_sdf.nrrd is a folder", out=out)
