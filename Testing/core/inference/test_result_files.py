"""The files of a segmentation are written all together, or the folder stays as it was."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from cli_support import refuse
from samples import contents, left_over, on_grid, tiny_model, write_image

from ugmcl_core.data import volume
from ugmcl_core.errors import InputError
from ugmcl_core.inference import result_files
from ugmcl_core.inference.segmenter import Segmentation, Segmenter

NAMES = ["x_labels.nrrd", "x_sdf.nrrd", "x_surface_error.nrrd", "x_uncertainty.nrrd"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def segmentation(value: int = 1, uncertainty: bool = True) -> Segmentation:
    labels = on_grid(np.full((3, 4, 5), value, np.uint8))
    field = on_grid(np.full((3, 4, 5), value, np.float32))
    unsure = field if uncertainty else None
    return Segmentation(labels, (field,), unsure, unsure, None, (), (), 0.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("former", [False, True])
def test_a_folder_in_the_place_of_a_file(name, former, model, tmp_path):
    if former:
        result_files.write(segmentation(), model, tmp_path, "x")
        (tmp_path / name).unlink()
    before = contents(tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").write_text("stays")
    with pytest.raises(InputError, match=rf"{name} is a folder; move it away"):
        result_files.write(segmentation(2), model, tmp_path, "x")
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


# Four files are written (renamed once each), moved in turns with the former ones, and then the
# outdated one is moved aside.
@pytest.mark.parametrize("count", range(5, 14))
@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), KeyboardInterrupt()])
def test_a_rename_that_fails_is_rolled_back(count, error, model, tmp_path, monkeypatch):
    result_files.write(segmentation(), model, tmp_path, "x")
    (tmp_path / "x_sdf_old.nrrd").write_bytes((tmp_path / "x_sdf.nrrd").read_bytes())
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        fail(patch, count, error)
        kind = InputError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(kind):
            result_files.write(segmentation(2), model, tmp_path, "x")
    assert contents(tmp_path) == before
    result_files.write(segmentation(2), model, tmp_path, "x")
    assert sorted(contents(tmp_path)) == NAMES, "the outdated file is gone"
    assert all(contents(tmp_path)[name] != before[name] for name in NAMES)


@pytest.mark.parametrize("count", range(5, 9))
def test_nothing_is_left_where_nothing_was(count, model, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        fail(patch, count, PermissionError(13, "Permission denied"))
        with pytest.raises(InputError, match="cannot be written to"):
            result_files.write(segmentation(), model, tmp_path, "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", ["an image", "a text"])
def test_what_someone_else_made_is_not_replaced(name, content, model, tmp_path):
    result_files.write(segmentation(), model, tmp_path, "x")
    place = tmp_path / name
    if content == "an image":
        volume.write(place, segmentation().labels)
    else:
        place.write_text("precious")
    before = contents(tmp_path)
    with pytest.raises(InputError, match=rf"{name} was not written by ugmcl; move it away"):
        result_files.check(tmp_path, "x", model, True)
    with pytest.raises(InputError, match=rf"{name} was not written by ugmcl; move it away"):
        result_files.write(segmentation(2), model, tmp_path, "x")
    assert contents(tmp_path) == before


def test_what_a_run_does_not_write_is_not_in_its_way(model, tmp_path):
    (tmp_path / "x_uncertainty.nrrd").write_text("precious")
    result_files.check(tmp_path, "x", model, False)
    result_files.write(segmentation(uncertainty=False), model, tmp_path, "x")
    assert (tmp_path / "x_uncertainty.nrrd").read_text() == "precious"
    labels_only = tiny_model(
        tmp_path / "model", network={**model.card.network, "distance_head": False}
    )
    (tmp_path / "y_sdf.nrrd").write_text("precious")
    result_files.check(tmp_path, "y", labels_only, True)


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_a_link_is_replaced_unless_it_leads_to_what_someone_else_made(model, tmp_path):
    result_files.write(segmentation(), model, tmp_path, "former")
    for name in NAMES[:2]:
        (tmp_path / name).symlink_to(name.replace("x", "former"))
    (tmp_path / "x_uncertainty.nrrd").symlink_to("nowhere")
    before = (tmp_path / "former_labels.nrrd").read_bytes()
    result_files.write(segmentation(2), model, tmp_path, "x")
    assert not any((tmp_path / name).is_symlink() for name in NAMES)
    assert (tmp_path / "former_labels.nrrd").read_bytes() == before
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "file").write_text("stays")
    for target in ("elsewhere", "file"):
        (tmp_path / "x_sdf.nrrd").unlink()
        (tmp_path / "x_sdf.nrrd").symlink_to(target)
        with pytest.raises(InputError, match="not written by ugmcl"):
            result_files.write(segmentation(), model, tmp_path, "x")
        assert (tmp_path / "x_sdf.nrrd").readlink() == Path(target)


def test_the_command_line_refuses_before_it_computes(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Segmenter, "segment", None)
    scan, expert = write_image(tmp_path / "x.nrrd"), tmp_path / "x_labels.nrrd"
    volume.write(expert, segmentation().labels)
    before = contents(tmp_path)
    words = ["segment", scan, "--model", model.folder, "--output", tmp_path, "--device", "cpu"]
    refuse(capsys, *words, why="x_labels.nrrd was not written by ugmcl", out=tmp_path / "none")
    assert contents(tmp_path) == before


def test_the_command_line_leaves_no_file_beside_the_folder(model, tmp_path, capsys):
    out = tmp_path / "out"
    (out / "x_sdf.nrrd").mkdir(parents=True)
    words = ["segment", write_image(tmp_path / "x.nrrd"), "--model", model.folder, "--output", out,
             "--device", "cpu", "--uncertainty-passes", "1"]  # fmt: skip
    refuse(capsys, *words, why="x_sdf.nrrd is a folder", out=out)
