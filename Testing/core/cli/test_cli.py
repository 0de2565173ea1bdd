"""The command line: what it writes, what it prints, and its exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_support import files, segment
from samples import tiny_model, write_image

from ugmcl_core.__main__ import build_parser, main
from ugmcl_core.cli import COMMANDS
from ugmcl_core.data import volume
from ugmcl_core.inference import segmenter
from ugmcl_core.inference.settings import SegmentSettings

ROOT = Path(__file__).resolve().parents[3]


def test_help_is_instant_and_imports_nothing_heavy():
    code = f"""
import sys
from ugmcl_core.__main__ import main
for words in [[], *([name] for name in {[c.NAME for c in COMMANDS]!r})]:
    try:
        main([*words, "--help"])
    except SystemExit as end:
        assert end.code == 0, words
print("heavy:", sorted({{"torch", "numpy", "scipy", "SimpleITK"}} & set(sys.modules)))
"""
    shown = subprocess.run(  # ITK leaves the C locale behind where tests have written DICOM
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert shown.stdout.endswith("heavy: []\n"), shown.stderr
    for command in COMMANDS:
        assert f"usage: ugmcl {command.NAME}" in shown.stdout


@pytest.mark.parametrize(
    "words",
    [
        [], ["frobnicate"], ["segment"], ["segment", "x.nrrd"], ["train", "--images", "x"],
        ["segment", "x.nrrd", "--output", "o", "--uncertainty-passes", "65"],
        ["segment", "x.nrrd", "--output", "o", "--uncertainty-passes", "-1"],
        ["segment", "x.nrrd", "--output", "o", "--overlap", "0.95"],
        ["segment", "x.nrrd", "--output", "o", "--overlap", "nan"],
        ["segment", "x.nrrd", "--output", "o", "--overlap", "half"],
        ["segment", "x.nrrd", "--output", "o", "--roi", "1,2,3"],
        ["segment", "x.nrrd", "--output", "o", "--roi", "5,2,0,1,0,1"],
        ["segment", "x.nrrd", "--output", "o", "--roi", "-5,nan,0,1,0,1"],
        ["segment", "x.nrrd", "--output", "o", "--roi", "-5,inf,0,1,0,1"],
        ["train", "--images", "x", "--labels", "y", "--output", "z", "--iterations", "0"],
        ["models", "--burn"], ["segment", "x.nrrd", "--output", "o", "y.nrrd", "--burn"],
        ["worker", "x"],
    ],
)  # fmt: skip
def test_bad_usage_is_one_line(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1 and "--help" in told.err


def test_segment_writes_the_four_files_on_the_images_grid(model, scan, tmp_path, capsys):
    assert segment(model, tmp_path / "new" / "out", scan) == 0
    out = tmp_path / "new" / "out"
    assert files(out) == ["scan_labels.nrrd", "scan_sdf.nrrd", "scan_surface_error.nrrd",
                          "scan_uncertainty.nrrd"]  # fmt: skip
    image = volume.read(scan)
    labels, sdf, error, unsure = (volume.read(out / name) for name in files(out))
    for result in (labels, sdf, error, unsure):
        assert result.grid.same_as(image.grid)
    assert labels.array.dtype == np.uint8 and set(np.unique(labels.array)) <= {0, 1}
    assert sdf.array.dtype == np.float32 and np.abs(sdf.array).max() <= 10.0
    assert unsure.array.dtype == np.float32
    assert error.array.dtype == np.float32 and error.array.min() >= 0
    assert unsure.array.min() >= 0 and unsure.array.max() <= 1
    told = capsys.readouterr().out
    assert "left atrium" in told and "predicted Dice" in told


def test_json_is_the_workers_result(model, scan, tmp_path, capsys):
    assert segment(model, tmp_path, scan, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["image"] == str(scan)
    assert told["labels"] == str(tmp_path / "scan_labels.nrrd")
    assert told["uncertainty"] == str(tmp_path / "scan_uncertainty.nrrd")
    assert told["surface_error"] == str(tmp_path / "scan_surface_error.nrrd")
    (info,) = told["classes"]
    assert info["sdf"] == str(tmp_path / "scan_sdf.nrrd")
    assert info["terminology"] == {"scheme": "SCT", "code": "82471001", "meaning": "LA"}
    labels = volume.read(tmp_path / "scan_labels.nrrd")
    assert info["volume_ml"] == pytest.approx(labels.array.sum() * labels.grid.voxel_ml)
    assert (told["sdf_scale_mm"], told["model"], told["device"], told["passes"]) == (
        10.0,
        "tiny",
        "cpu",
        2,
    )


def test_no_passes_no_uncertainty(model, scan, tmp_path, capsys):
    assert segment(model, tmp_path, scan, "--json", "--uncertainty-passes", "0") == 0
    assert files(tmp_path) == ["scan_labels.nrrd", "scan_sdf.nrrd"]
    told = json.loads(capsys.readouterr().out)
    assert told["uncertainty"] is None and told["surface_error"] is None


def test_a_small_scan_goes_in_one_window_unless_windows_are_to_overlap(model, tmp_path):
    scan, rng = tmp_path / "scan.nrrd", np.random.default_rng(0)
    image = rng.normal(100.0, 20.0, (64, 32, 32)).astype(np.float32)  # 1 1/3 patches
    volume.write(scan, volume.Volume(image, volume.Grid(image.shape, (2.5, 2.5, 2.5))))
    said = {"one": [], "two": ["--overlap", "0.5"]}
    for name, words in said.items():
        words = [*words, "--uncertainty-passes", "0"]
        assert segment(model, tmp_path / name, scan, *words) == 0
    one, two = (volume.read(tmp_path / name / "scan_sdf.nrrd").array for name in said)
    settings = SegmentSettings(passes=0, overlap=0.5)
    expected = segmenter.Segmenter(model, "cpu").segment(volume.read(scan), settings)
    assert np.array_equal(two, expected.sdf[0].array)
    assert not np.array_equal(one, two)


def test_several_classes_have_an_sdf_each(scan, tmp_path):
    model = tiny_model(tmp_path / "model", classes=3)
    assert segment(model, tmp_path / "out", scan) == 0
    assert files(tmp_path / "out") == [
        "scan_labels.nrrd", "scan_sdf_left-atrium.nrrd", "scan_sdf_right-atrium.nrrd",
        "scan_surface_error.nrrd", "scan_uncertainty.nrrd"]  # fmt: skip


def test_a_region_of_interest_with_a_leading_minus(model, scan, tmp_path):
    assert segment(model, tmp_path, scan, "--roi", "-20,10,-25,20,-15,20") == 0
    labels = volume.read(tmp_path / "scan_labels.nrrd")
    unsure = volume.read(tmp_path / "scan_uncertainty.nrrd")
    index = np.argwhere(unsure.array > 0)
    places = index @ labels.grid.affine[:3, :3].T + labels.grid.affine[:3, 3]
    reach = np.array(labels.grid.spacing)
    assert (places >= np.array([-20, -25, -15]) - reach).all()
    assert (places <= np.array([10, 20, 20]) + reach).all()


def test_unexpected_errors_are_one_line_by_default(model, scan, tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("inner\ntrouble")

    monkeypatch.setattr(segmenter.Segmenter, "segment", broken)
    assert segment(model, tmp_path, scan) == 2
    told = capsys.readouterr().err
    assert "RuntimeError: inner trouble" in told.splitlines()[-1] and "Traceback" not in told
    assert segment(model, tmp_path, scan, "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


class Closed(io.StringIO):
    """A stream whose reader has left, which writing or flushing tells."""

    def __init__(self, when: str) -> None:
        super().__init__()
        setattr(self, when, self._broken)

    def _broken(self, *_):
        raise BrokenPipeError


@pytest.mark.parametrize(("when", "code"), [("write", 1), ("flush", 0)])
def test_a_reader_that_leaves_is_an_error_only_before_the_end(when, code, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Closed(when))
    assert main(["methods"]) == code


def test_methods(capsys):
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    assert "ugmcl: L_sup" in shown and "Zhang" in shown
    assert main(["methods", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["methods"]
    (row,) = [r for r in rows if r["name"] == "ugmcl"]
    assert row["settings"]["beta"] == 0.75 and "unlabeled volumes" in row["needs"]


def test_models(model, monkeypatch, capsys):
    monkeypatch.setenv("UGMCL_MODELS", str(model.folder.parent))
    assert main(["models"]) == 0
    assert f"tiny: left atrium in LGE-MRI ({model.folder})" in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    assert {"name": "tiny", "folder": str(model.folder), "classes": ["left atrium"],
            "modality": "LGE-MRI", "description": "Untrained.", "license": "for tests",
            "bundled": False} in listed  # fmt: skip
    assert main(["models", "show", "tiny"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == model.card.sha256
    assert main(["models", "verify", "tiny"]) == 0
    assert "tiny: intact" in capsys.readouterr().out
    assert main(["models", "show"]) == 2
    assert main(["models", "burn"]) == 2
    assert "no action 'burn'" in capsys.readouterr().err
    assert main(["models", "verify", "tiny", "ghost"]) == 1
    assert main(["models", "verify", "ghost"]) == 2


@pytest.mark.parametrize("words", ["--json verify {0}", "verify --json {0}", "verify {0} --json"])
def test_options_of_models_may_stand_anywhere(words, model, capsys):
    assert main(["models", *words.format(model.folder).split()]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    assert main(["methods", "--json", "ugmcl"]) == 0
    assert [m["name"] for m in json.loads(capsys.readouterr().out)["methods"]] == ["ugmcl"]


def test_images_may_stand_behind_options(model, scan, tmp_path):
    other = write_image(tmp_path / "other.nrrd")
    words = [scan, "--output", tmp_path / "out", other, "--model", model.folder, "--device", "cpu"]
    assert main(["segment", *map(str, words)]) == 0
    assert len(files(tmp_path / "out")) == 8


def test_progress_is_lines_without_a_terminal(capsys, monkeypatch):
    from ugmcl_core.cli import progress

    monkeypatch.setattr(progress, "_EVERY", 0.0)
    with progress.Progress("case") as show:
        show(0.5, "halfway")
    assert capsys.readouterr().err == "case: 50% halfway\n"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_progress_is_a_bar_on_a_terminal():
    import fcntl
    import struct
    import termios

    pytest.importorskip("tqdm")
    parent, child = os.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    code = (
        "from ugmcl_core.cli.progress import Progress\n"
        "with Progress('case') as show:\n    show(0.5, 'halfway')\n    show.write('a line')\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=child, check=True)
    shown = os.read(parent, 10_000).decode()
    os.close(child)
    os.close(parent)
    assert "case:   0%|" in shown and "case: a line" in shown


@pytest.mark.parametrize("words", [("train", "--images", "i", "--labels", "l", "--output", "o"),
                                   ("experiment", "table1", "--data", "d", "--output", "o")],
                         ids=lambda words: words[0])  # fmt: skip
def test_the_former_spelling_of_an_option_works_and_is_not_shown(words, capsys):
    parser = build_parser()
    for option in ("--labeled-list", "--labelled-list"):
        assert parser.parse_args([*words, option, "16.txt"]).labeled_list == "16.txt"
    with pytest.raises(SystemExit):
        parser.parse_args([words[0], "--help"])
    shown = capsys.readouterr().out
    assert "--labeled-list" in shown and "labelled" not in shown
