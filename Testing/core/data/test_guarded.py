"""A file that ends or stops the process that reads it costs one line, and the next one is read."""

from __future__ import annotations

import json
import os
import shutil
import time

import numpy as np
import psutil
import pytest
from cli_support import files, segment
from samples import on_grid, small_case, tiny_model, write_image

from ugmcl_core.__main__ import main
from ugmcl_core.data import guarded, volume
from ugmcl_core.errors import Canceled, InputError

CODE = """
import os, signal
from ugmcl_core.data import guarded, volume
real = volume.read
def read(path):
    name = os.path.basename(path)
    if name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("hang"):
        signal.pause()
    return real(path)
volume.read = read
header = volume.read_grid
def read_grid(path):
    return read(path) if os.path.basename(path).startswith("crash") else header(path)
volume.read_grid = read_grid
guarded.serve()
"""


@pytest.fixture
def child(monkeypatch):
    """A child of its own, which some names end or stop."""
    monkeypatch.setattr(guarded, "_CODE", CODE)
    monkeypatch.setattr(guarded, "PATIENCE", 2.0)
    made = guarded._Child()
    monkeypatch.setattr(guarded, "_child", made)
    yield made
    made._end()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


NAMES = ("a", "crash", "hang", "z")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_batch_survives_a_crash_and_a_hang(child, model, tmp_path, capsys):
    (tmp_path / "scans").mkdir()
    for name in NAMES:
        write_image(tmp_path / "scans" / f"{name}.nrrd")
    began = time.monotonic()
    assert segment(model, tmp_path / "out", tmp_path / "scans") == 1
    assert time.monotonic() - began < 20
    told = capsys.readouterr()
    failed = [line for line in told.err.splitlines() if "failed" in line]
    assert len(failed) == 3, told.err
    assert "crash.nrrd: the file is damaged, and reading it crashed the reader" in failed[0]
    assert "hang.nrrd: reading took longer than 2 s" in failed[1]
    assert [n for n in files(tmp_path / "out") if "labels" in n] == ["a_labels.nrrd",
                                                                     "z_labels.nrrd"]  # fmt: skip
    assert main(["rank", str(tmp_path / "scans"), "--model", str(model.folder), "--json"]) == 1
    cases = json.loads(capsys.readouterr().out)["cases"]
    assert sorted(os.path.basename(c["image"]) for c in cases) == ["a.nrrd", "z.nrrd"]


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_evaluation_survives_a_crash_and_a_hang(child, tmp_path, capsys):
    for folder in ("found", "true"):
        for name in NAMES:
            (tmp_path / folder).mkdir(exist_ok=True)
            labels = small_case()[1]
            volume.write(tmp_path / folder / f"{name}.nrrd", labels)
    words = ["--predictions", str(tmp_path / "found"), "--references", str(tmp_path / "true")]
    assert main(["evaluate", *words, "--json"]) == 1
    told = capsys.readouterr()
    assert len(told.err.splitlines()) == 2
    assert [c["case"] for c in json.loads(told.out)["cases"]] == ["a", "z"]


def test_what_is_read_is_what_the_reader_gives(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for kind in (np.uint8, np.int16, np.float32, np.float64):
        array = (rng.random((7, 5, 3)) * 100).astype(kind)
        volume.write(tmp_path / "a.nrrd", on_grid(array, (0.5, 0.75, 2.0)), notes={"x": "y"})
        here, there = volume.read(tmp_path / "a.nrrd"), guarded.read(tmp_path / "a.nrrd")
        assert there.grid == here.grid and there.array.dtype == here.array.dtype
        assert (there.array == here.array).all() and there.array.strides == here.array.strides
        there.array[0] = 0  # it can be changed, as the reader's can
    assert guarded.read_notes(tmp_path / "a.nrrd") == volume.read_notes(tmp_path / "a.nrrd")
    assert guarded.dicom_series(tmp_path) == ()
    (tmp_path / "sub").mkdir()
    shutil.copy(tmp_path / "a.nrrd", tmp_path / "sub")
    monkeypatch.chdir(tmp_path / "sub")
    guarded.read("a.nrrd")
    process = guarded._child._process
    for place in ("none.nrrd", "sub"):
        with pytest.raises(InputError) as here:
            volume.read(place)
        with pytest.raises(InputError) as there:
            guarded.read(place)
        assert str(there.value) == str(here.value), "the path is as it was given"
    assert guarded._child._process is process, "a file that is refused ends nothing"


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupted_reading_is_not_taken_for_the_next_one(child, tmp_path, monkeypatch):
    write_image(tmp_path / "a.nrrd", 1)
    write_image(tmp_path / "b.nrrd", 2)
    real = json.loads

    def interrupted(line):
        raise Canceled

    monkeypatch.setattr(guarded.json, "loads", interrupted)
    with pytest.raises(Canceled):
        guarded.read(tmp_path / "a.nrrd")
    monkeypatch.setattr(guarded.json, "loads", real)
    found = guarded.read(tmp_path / "b.nrrd")
    assert (found.array == small_case(2)[0].array).all()


def test_the_child_ends_with_its_parent(child, tmp_path):
    write_image(tmp_path / "a.nrrd")
    guarded.read(tmp_path / "a.nrrd")
    process = psutil.Process(child._process.pid)
    child._process.stdin.close()
    process.wait(timeout=10)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such pipes")
def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "a.nrrd")
    with pytest.raises(InputError, match="is not a file"):
        volume.read(tmp_path / "a.nrrd")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_header_that_crashes_its_reader_costs_one_line(child, tmp_path):
    for name in ("a", "crash"):
        write_image(tmp_path / f"{name}.nrrd")
    with pytest.raises(InputError, match=r"crash\.nrrd: the file is damaged, and reading it"):
        guarded.read_grid(tmp_path / "crash.nrrd")
    assert guarded.read_grid(tmp_path / "a.nrrd") == volume.read(tmp_path / "a.nrrd").grid
