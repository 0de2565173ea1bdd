"""The command line: what it writes, what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from samples import small_case, tiny_model, write_image

from ugmcl_core import inference, volume
from ugmcl_core.__main__ import main
from ugmcl_core.commands import COMMANDS
from ugmcl_core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return write_image(tmp_path_factory.mktemp("scans") / "scan.nrrd")


def segment(model, out, *words):
    return main(
        [
            "segment",
            "--model",
            str(model.folder),
            "--output",
            str(out),
            "--device",
            "cpu",
            "--uncertainty-passes",
            "2",
            *map(str, words),
        ]
    )


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*"))


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
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout.endswith("heavy: []\n"), shown.stderr
    for command in COMMANDS:
        assert f"usage: ugmcl {command.NAME}" in shown.stdout


@pytest.mark.parametrize(
    "words",
    [
        [], ["frobnicate"], ["segment"], ["segment", "x.nrrd"], ["train", "--images", "x"],
        ["segment", "x.nrrd", "--output", "o", "--uncertainty-passes", "65"],
        ["segment", "x.nrrd", "--output", "o", "--uncertainty-passes", "-1"],
        ["segment", "x.nrrd", "--output", "o", "--roi", "1,2,3"],
        ["segment", "x.nrrd", "--output", "o", "--roi", "5,2,0,1,0,1"],
        ["segment", "x.nrrd", "--output", "o", "--roi", "-5,nan,0,1,0,1"],
        ["segment", "x.nrrd", "--output", "o", "--roi", "-5,inf,0,1,0,1"],
        ["train", "--images", "x", "--labels", "y", "--output", "z", "--iterations", "0"],
        ["models", "burn"],
    ],
)  # fmt: skip
def test_bad_usage_is_one_line(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1 and "--help" in told.err


def test_segment_writes_the_three_files_on_the_images_grid(model, scan, tmp_path, capsys):
    assert segment(model, tmp_path / "new" / "out", scan) == 0
    out = tmp_path / "new" / "out"
    assert files(out) == ["scan_labels.nrrd", "scan_sdf.nrrd", "scan_uncertainty.nrrd"]
    image = volume.read(scan)
    labels, sdf, unsure = (volume.read(out / name) for name in files(out))
    for result in (labels, sdf, unsure):
        assert result.grid.same_as(image.grid)
    assert labels.array.dtype == np.uint8 and set(np.unique(labels.array)) <= {0, 1}
    assert sdf.array.dtype == np.float32 and np.abs(sdf.array).max() <= 10.0
    assert unsure.array.dtype == np.float32
    assert unsure.array.min() >= 0 and unsure.array.max() <= 1
    assert "left atrium" in capsys.readouterr().out


def test_json_is_the_workers_result(model, scan, tmp_path, capsys):
    assert segment(model, tmp_path, scan, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["image"] == str(scan)
    assert told["labels"] == str(tmp_path / "scan_labels.nrrd")
    assert told["uncertainty"] == str(tmp_path / "scan_uncertainty.nrrd")
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
    assert json.loads(capsys.readouterr().out)["uncertainty"] is None


def test_several_classes_have_an_sdf_each(scan, tmp_path):
    model = tiny_model(tmp_path / "model", classes=3)
    assert segment(model, tmp_path / "out", scan) == 0
    assert files(tmp_path / "out") == [
        "scan_labels.nrrd", "scan_sdf_left-atrium.nrrd", "scan_sdf_right-atrium.nrrd",
        "scan_uncertainty.nrrd"]  # fmt: skip


def test_a_region_of_interest_with_a_leading_minus(model, scan, tmp_path):
    assert segment(model, tmp_path, scan, "--roi", "-20,10,-25,20,-15,20") == 0
    labels = volume.read(tmp_path / "scan_labels.nrrd")
    unsure = volume.read(tmp_path / "scan_uncertainty.nrrd")
    index = np.argwhere(unsure.array > 0)
    places = index @ labels.grid.affine[:3, :3].T + labels.grid.affine[:3, 3]
    reach = np.array(labels.grid.spacing)
    assert (places >= np.array([-20, -25, -15]) - reach).all()
    assert (places <= np.array([10, 20, 20]) + reach).all()


def test_folders_are_inputs_and_results_in_them_are_not(model, tmp_path, capsys):
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(2):
        write_image(scans / f"s{n}.nrrd", seed=n)
    for _ in range(2):  # the second time the results lie beside the images
        assert segment(model, scans, scans, "--json") == 0
        lines = capsys.readouterr().out.splitlines()
        assert [Path(json.loads(line)["image"]).name for line in lines] == ["s0.nrrd", "s1.nrrd"]
    assert len(files(scans)) == 8


def test_a_dicom_series_is_an_input(model, scan, tmp_path, capsys):
    series = tmp_path / "patients" / "series7"
    series.mkdir(parents=True)
    write_dicom(series, volume.read(scan))
    for n, given in enumerate((series, tmp_path / "patients")):
        out = tmp_path / f"out{n}"
        assert segment(model, out, given) == 0
        labels = volume.read(out / "series7_labels.nrrd")
        assert labels.grid.same_as(volume.read(series).grid)


def write_dicom(folder, content):
    """A minimal MR series, one slice a file."""
    import SimpleITK as sitk

    array = np.round(content.array).astype(np.int16).transpose(2, 1, 0)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k, plane in enumerate(array):
        image = sitk.GetImageFromArray(plane)
        image.SetSpacing(content.grid.spacing[:2])
        place = content.grid.affine @ [0, 0, k, 1]
        tags = {
            "0008|0060": "MR", "0020|000d": "1.2.3", "0020|000e": "1.2.3.4",
            "0008|0018": f"1.2.3.4.{k + 1}", "0020|0013": str(k + 1),
            "0020|0032": f"{-place[0]}\\{-place[1]}\\{place[2]}",
            "0020|0037": "1\\0\\0\\0\\1\\0", "0018|0050": str(content.grid.spacing[2]),
        }  # fmt: skip
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{k:03d}.dcm"))
        writer.Execute(image)


def test_one_bad_image_fails_alone(model, scan, tmp_path, capsys):
    bad = tmp_path / "bad.nrrd"
    bad.write_text("NRRD0004\nnonsense\n")
    assert segment(model, tmp_path / "out", bad, scan) == 1
    told = capsys.readouterr()
    assert "bad.nrrd" in told.err and "1 of 2 images failed" in told.err
    assert len(files(tmp_path / "out")) == 3
    assert segment(model, tmp_path / "none", bad, "--json") == 2
    assert "bad.nrrd" in json.loads(capsys.readouterr().out)["error"]
    assert files(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeError("inner\ntrouble"), "unexpected RuntimeError: inner trouble"),
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 9 GiB"), "out of GPU memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (InputError("no good"), "no good"),
    ],
)
@pytest.mark.parametrize("several", [True, False])
def test_whatever_fails_for_one_image_leaves_the_others(
    error, why, several, model, scan, tmp_path, monkeypatch, capsys
):
    real = inference.Segmenter.segment

    def broken(self, image, *arguments, **options):
        if image.grid.same_as(volume.read(scan).grid):
            raise error
        return real(self, image, *arguments, **options)

    monkeypatch.setattr(inference.Segmenter, "segment", broken)
    other = tmp_path / "other.nrrd"
    image = volume.read(scan)
    volume.write(other, volume.Volume(image.array[1:], volume.Grid((35, 30, 22), (3.0, 3.0, 2.5))))
    images = (scan, other) if several else (scan,)
    out = tmp_path / "out"
    assert segment(model, out, *images) == (1 if several else 2)
    told = capsys.readouterr().err
    assert f"scan: failed: {why}" in told
    assert "Traceback" not in told
    assert len(files(out)) == (3 if several else 0)
    segment(model, out, *images, "--debug")
    assert "Traceback" in capsys.readouterr().err


def test_images_that_are_not_there_count_and_the_others_are_segmented(
    model, scan, tmp_path, capsys
):
    (tmp_path / "empty").mkdir()
    missing = [tmp_path / "none.nrrd", tmp_path / "empty"]
    out = tmp_path / "out"
    assert segment(model, out, missing[0], scan, missing[1]) == 1
    told = capsys.readouterr()
    assert "none.nrrd: no such file" in told.err and "empty: the folder is empty" in told.err
    assert "2 of 3 images failed" in told.err and len(files(out)) == 3
    nothing = tmp_path / "nothing"
    assert segment(model, nothing, *missing, "--json") == 2
    told = capsys.readouterr()
    records = [json.loads(line) for line in told.out.splitlines()]
    assert [r["image"] for r in records] == [str(p) for p in missing]
    assert all(r["error"] for r in records) and not nothing.exists()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_counts_under_its_own_name(model, scan, tmp_path):
    for name in ("first", "second"):
        (tmp_path / f"{name}.nrrd").symlink_to(scan)
    out = tmp_path / "out"
    assert segment(model, out, tmp_path / "first.nrrd", tmp_path / "second.nrrd") == 0
    assert {n.split("_")[0] for n in files(out)} == {"first", "second"}


def test_a_series_in_the_current_folder_is_named_after_it(model, scan, tmp_path, monkeypatch):
    series = tmp_path / "series9"
    series.mkdir()
    write_dicom(series, volume.read(scan))
    monkeypatch.chdir(series)
    assert segment(model, tmp_path / "out", ".") == 0
    assert "series9_labels.nrrd" in files(tmp_path / "out")


def test_what_an_earlier_run_left_is_gone_with_the_next(model, scan, tmp_path):
    two = tiny_model(tmp_path / "two", classes=3)
    out = tmp_path / "out"
    assert segment(two, out, scan) == 0
    precious = ["scan_sdf_mine.nrrd", "scan_uncertainty_2.nrrd", "scan_note.txt", "scan.nrrd",
                "other_sdf.nrrd", "scan_sdf_left-atrium.nii.gz"]  # fmt: skip
    for name in precious:  # made by someone else
        volume.write(out / name, volume.read(scan)) if "note" not in name else (
            (out / name).write_text("precious")
        )
    assert segment(two, out, scan, "--uncertainty-passes", "0") == 0
    left = ["scan_labels.nrrd", "scan_sdf_left-atrium.nrrd", "scan_sdf_right-atrium.nrrd"]
    assert files(out) == sorted(left + precious)
    assert segment(model, out, scan) == 0
    left = ["scan_labels.nrrd", "scan_sdf.nrrd", "scan_uncertainty.nrrd"]
    assert files(out) == sorted(left + precious)


def test_results_of_another_image_with_a_longer_name_stay(model, scan, tmp_path):
    longer = write_image(tmp_path / "scan_sdf_b.nrrd")
    out = tmp_path / "out"
    assert segment(model, out, longer) == 0
    assert segment(model, out, scan) == 0
    assert len(files(out)) == 6


def test_two_images_of_one_name_are_refused(model, scan, tmp_path, capsys):
    other = tmp_path / "elsewhere"
    other.mkdir()
    write_image(other / "scan.nrrd", seed=3)
    assert segment(model, tmp_path / "out", scan, other / "scan.nrrd") == 2
    assert "same name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_interrupted_between_files_nothing_is_left(model, scan, tmp_path, monkeypatch, capsys):
    from ugmcl_core import outputs

    real = outputs.volume.write

    def interrupted(path, *arguments, **options):
        if "uncertainty" in str(path):
            raise KeyboardInterrupt
        real(path, *arguments, **options)

    monkeypatch.setattr(outputs.volume, "write", interrupted)
    assert segment(model, tmp_path, scan) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "ugmcl: cancelled"
    assert files(tmp_path) == []


def test_a_terminated_process_cleans_up(model, tmp_path):
    """SIGTERM in the middle of a long run: exit code 130 and no file."""
    rng = np.random.default_rng(0)
    big = volume.Volume(rng.random((200, 200, 120), np.float32), small_case()[0].grid)
    big = volume.Volume(big.array, volume.Grid((200, 200, 120), (1.5, 1.5, 1.5)))
    volume.write(tmp_path / "big.nrrd", big, compress=False)
    out = tmp_path / "out"
    words = ["segment", str(tmp_path / "big.nrrd"), "--model", str(model.folder), "--output",
             str(out), "--uncertainty-passes", "64", "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "ugmcl_core", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert files(out) == []


def test_unexpected_errors_are_one_line_by_default(model, scan, tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("inner\ntrouble")

    monkeypatch.setattr(inference.Segmenter, "segment", broken)
    assert segment(model, tmp_path, scan) == 2
    told = capsys.readouterr().err
    assert "RuntimeError: inner trouble" in told.splitlines()[-1] and "Traceback" not in told
    assert segment(model, tmp_path, scan, "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_methods(capsys):
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    assert "ugmcl: L_sup" in shown and "Zhang" in shown
    assert main(["methods", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["methods"]
    (row,) = [r for r in rows if r["name"] == "ugmcl"]
    assert row["settings"]["beta"] == 0.75 and "unlabelled volumes" in row["needs"]


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
    assert main(["models", "verify", "tiny", "ghost"]) == 1
    assert main(["models", "verify", "ghost"]) == 2


def test_training_finishes_resumes_and_refuses_another_ones_folder(model, tmp_path, capsys):
    from ugmcl_core import phantoms

    names = phantoms.write_cohort(tmp_path, 4, shape=(36, 30, 22), spacing=(3.0, 3.0, 2.5))
    (tmp_path / "labelled.txt").write_text("\n".join(names[:2]))
    (tmp_path / "holdout.txt").write_text(names[3])

    def train(*more):
        return main([
            "train", "--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels"),
            "--labelled-list", str(tmp_path / "labelled.txt"), "--base", str(model.folder),
            "--holdout-list", str(tmp_path / "holdout.txt"), "--device", "cpu",
            "--output", str(tmp_path / "my run"), "--iterations", "2", "--json", *more,
        ])  # fmt: skip

    assert train() == 0
    told = capsys.readouterr()
    assert "2 labelled and 1 unlabelled" in told.err
    result = json.loads(told.out)
    assert len(result["holdout_dice"]) == 1
    card = json.loads((Path(result["model"]) / "model.json").read_text())
    assert card["name"] == "my-run"
    assert card["training"]["base"] == "tiny" and card["training"]["iterations"] == 2
    assert train() == 2
    assert "--resume" in capsys.readouterr().err
    assert train("--resume") == 0
    assert train("--resume", "--seed", "5") == 2
    assert "other settings (seed)" in capsys.readouterr().err


def test_training_ignores_what_nobody_annotated(model, tmp_path):
    from ugmcl_core import phantoms

    (name,) = phantoms.write_cohort(tmp_path, 1, shape=(36, 30, 22), spacing=(3.0, 3.0, 2.5))
    path = tmp_path / "labels" / f"{name}.nrrd"
    labels = volume.read_labels(path)
    labels.array[:, :12] = 255
    volume.write(path, labels)
    words = ["train", "--images", str(tmp_path / "images"), "--labels", str(path.parent),
             "--base", str(model.folder), "--device", "cpu", "--iterations", "2",
             "--output", str(tmp_path / "run")]  # fmt: skip
    assert main(words) == 2, "255 is no class"
    assert main([*words, "--ignore-label", "255"]) == 0


def test_an_interrupted_training_leaves_a_usable_model(model, tmp_path):
    from ugmcl_core import model as models
    from ugmcl_core import phantoms

    phantoms.write_cohort(tmp_path, 1, shape=(36, 30, 22), spacing=(3.0, 3.0, 2.5))
    words = ["train", "--images", "images", "--labels", "labels", "--base", str(model.folder),
             "--output", "run", "--iterations", "100000", "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "ugmcl_core", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and '"progress"' in log.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "--resume continues" in told and told.endswith("ugmcl: cancelled\n")
    left = models.open_model(tmp_path / "run" / "model")
    models.verify(left)
    assert 0 < left.card.training["iterations"] < 100_000


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--method", "magic"], "unknown method"),
        (["--profile", "magic"], "unknown profile"),
        (["--base", "magic"], "no model"),
        (["--labelled-list", "nowhere.txt"], "cannot be read"),
        (["--classes", "a,a"], "different names"),
        (["--device", "abacus"], "abacus"),
        (["--ignore-label", "1"], "the label of a class"),
    ],
)
def test_training_refuses_what_it_cannot_use(words, why, tmp_path, capsys):
    from ugmcl_core import phantoms

    phantoms.write_cohort(tmp_path, 1, shape=(16, 16, 16), spacing=(5.0, 5.0, 4.0))
    given = ["train", "--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels"),
             "--output", str(tmp_path / "run"), *words]  # fmt: skip
    assert main(given) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("ugmcl: ")]
    assert why in line
    assert not (tmp_path / "run").exists()


def test_fine_tuning_by_a_case_list(model, tmp_path, capsys):
    from ugmcl_core import phantoms

    names = phantoms.write_cohort(tmp_path, 4, shape=(36, 30, 22), spacing=(3.0, 3.0, 2.5))
    roles = ("labelled", "unlabelled", "holdout", "holdout")
    cases = [
        {
            "name": name,
            "role": role,
            "image": f"images/{name}.nrrd",
            "label": f"labels/{name}.nrrd",
        }
        for name, role in zip(names, roles, strict=True)
    ]
    (tmp_path / "cases.json").write_text(json.dumps({"cases": cases}))

    def finetune(*more):
        words = [str(tmp_path / "cases.json"), "--base", str(model.folder), "--device", "cpu"]
        return main(["finetune", *words, "--output", str(tmp_path / "run"), *more])

    assert finetune("--estimate") == 0
    assert "s an iteration" in capsys.readouterr().out and not (tmp_path / "run").exists()
    assert finetune("--iterations", "2", "--name", "mine") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [*names[2:], "not enough evidence"]
    assert last == f"model written to {tmp_path / 'run' / 'model'}"
    assert finetune("--iterations", "2") == 2
    assert "--resume" in capsys.readouterr().err
    assert finetune("--iterations", "2", "--resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["report"] == "holdout"
    (tmp_path / "labels" / f"{names[0]}.nrrd").unlink()
    assert finetune("--output", str(tmp_path / "other")) == 2
    assert f"case {names[0]}: there is no label" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_progress_is_lines_without_a_terminal(capsys, monkeypatch):
    from ugmcl_core.commands import progress

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
        "from ugmcl_core.commands.progress import Progress\n"
        "with Progress('case') as show:\n    show(0.5, 'halfway')\n    show.say('a line')\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=child, check=True)
    shown = os.read(parent, 10_000).decode()
    os.close(child)
    os.close(parent)
    assert "case:   0%|" in shown and "case: a line" in shown
