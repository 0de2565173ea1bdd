"""Training and fine-tuning by the command line: ended, resumed, interrupted and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import write_case_list

from ugmcl_core.__main__ import main
from ugmcl_core.data import volume

ROOT = Path(__file__).resolve().parents[3]


def test_training_finishes_resumes_and_refuses_another_ones_folder(model, tmp_path, capsys):
    from ugmcl_core.data import phantoms

    names = phantoms.write_cohort(tmp_path, 4, shape=(36, 30, 22), spacing=(3.0, 3.0, 2.5))
    (tmp_path / "labeled.txt").write_text("\n".join(names[:2]))
    (tmp_path / "holdout.txt").write_text(names[3])

    def train(*more):
        return main([
            "train", "--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels"),
            "--labeled-list", str(tmp_path / "labeled.txt"), "--base", str(model.folder),
            "--holdout-list", str(tmp_path / "holdout.txt"), "--device", "cpu",
            "--output", str(tmp_path / "my run"), "--iterations", "2", "--json", *more,
        ])  # fmt: skip

    assert train() == 0
    told = capsys.readouterr()
    assert "2 labeled and 1 unlabeled" in told.err
    result = json.loads(told.out)
    assert len(result["holdout_dice"]) == 1
    card = json.loads((Path(result["model"]) / "model.json").read_text())
    assert card["name"] == "my-run"
    assert card["training"]["base"] == "tiny" and card["training"]["iterations"] == 2
    assert train() == 2
    assert "--resume" in capsys.readouterr().err
    assert train("--resume") == 0
    assert train("--resume", "--seed", "5") == 2
    assert "different settings (seed)" in capsys.readouterr().err


def test_a_base_is_planned_anew_if_wanted(model, tmp_path, capsys):
    from ugmcl_core.data import phantoms

    phantoms.write_cohort(tmp_path, 1, shape=(36, 30, 22), spacing=(3.0, 3.0, 2.5))
    words = ["train", "--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels"),
             "--base", str(model.folder), "--profile", "plan", "--set", "patch=32,32,16",
             "--device", "cpu", "--iterations", "1",
             "--output", str(tmp_path / "run")]  # fmt: skip
    assert main(words) == 0
    told = capsys.readouterr().err
    assert "layers begin with the weights of tiny" in told and "grid 3,3,2.5 (" in told
    card = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert card["spacing"] == [3.0, 3.0, 2.5] and card["training"]["profile"] == "plan"
    assert [c["name"] for c in card["classes"]] == ["left atrium"]


def test_training_ignores_what_nobody_annotated(model, tmp_path):
    from ugmcl_core.data import phantoms

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


@pytest.mark.parametrize(
    ("classes", "axes", "told"),
    [("left atrium,right atrium", [1], False), ("left atrium", [0, 1], True)],
)
def test_classes_named_left_and_right_are_not_mirrored(classes, axes, told, tmp_path, capsys):
    from ugmcl_core.data import phantoms

    phantoms.write_cohort(tmp_path, 1, shape=(36, 30, 22), spacing=(3.0, 3.0, 2.5))
    words = ["train", "--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels"),
             "--classes", classes, "--method", "supervised", "--iterations", "1", "--batch", "1+1",
             "--device", "cpu", "--output", str(tmp_path / "run")]  # fmt: skip
    assert main(words) == 0
    card = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert card["mirror_axes"] == axes
    assert ("the right atrium too" in capsys.readouterr().err) is told


@pytest.mark.slow
def test_an_interrupted_training_leaves_a_usable_model(model, tmp_path):
    from ugmcl_core.data import phantoms
    from ugmcl_core.models import model as models

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
    assert "--resume continues" in told and told.endswith("ugmcl: canceled\n")
    left = models.open_model(tmp_path / "run" / "model")
    models.verify(left)
    assert 0 < left.card.training["iterations"] < 100_000


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--method", "magic"], "unknown method"),
        (["--profile", "magic"], "unknown profile"),
        (["--base", "magic"], "no model"),
        (["--labeled-list", "nowhere.txt"], "cannot be read"),
        (["--classes", "a,a"], "distinct names"),
        (["--device", "abacus"], "abacus"),
        (["--classes", "a,b", "--ignore-label", "1"], "the label of a class"),
        (["--set", "size=3"], "not NAME=VALUE for a line of the plan"),
        (["--set", "patch=a"], "planned as"),
        (["--set", "patch=8,8,8", "--profile", "compact"], "without --base and --profile"),
        (["--minutes", "0.0001", "--set", "filters=1"], "not enough"),
    ],
)
def test_training_refuses_what_it_cannot_use(words, why, tmp_path, capsys):
    from ugmcl_core.data import phantoms

    phantoms.write_cohort(tmp_path, 1, shape=(16, 16, 16), spacing=(5.0, 5.0, 4.0))
    given = ["train", "--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels"),
             "--output", str(tmp_path / "run"), *words]  # fmt: skip
    assert main(given) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("ugmcl: ")]
    assert why in line
    assert not (tmp_path / "run").exists()


def test_fine_tuning_by_a_case_list(model, tmp_path, capsys):
    case_list = write_case_list(tmp_path, ("labeled", "unlabeled", "holdout", "holdout"))
    names = [case["name"] for case in json.loads(case_list.read_text())["cases"]]

    def finetune(*more):
        words = [str(case_list), "--base", str(model.folder), "--device", "cpu"]
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


def test_a_length_in_minutes_is_measured_and_kept_on_resume(tmp_path, monkeypatch, capsys):
    """Measured once more while it runs: the card and its plan have the length that it had."""
    from ugmcl_core.data import phantoms
    from ugmcl_core.training.planning import pace
    from ugmcl_core.training.trainer import Trainer

    phantoms.write_cohort(tmp_path, 1, shape=(16, 16, 16), spacing=(5.0, 5.0, 4.0))
    asked = []

    def pace_of(profile, minutes, courses, *_, **__):
        asked.append(minutes)
        each = 0.97 * 60 * minutes / 600.5
        costs = {courses[0].method.name: pace.Cost(0.0, 0.0, each, 0.0, 0, first=each)}
        return pace.Pace(minutes, 0.0, courses, costs)

    monkeypatch.setattr(pace, "pace_of", pace_of)
    monkeypatch.setattr(pace.Pace, "again", lambda *_: 1000)
    monkeypatch.setattr(Trainer, "step", lambda *_: time.sleep(0.001) or {"loss": torch.zeros(())})
    words = ["train", "--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels"),
             "--set", "filters=1", "--minutes", "3", "--device", "cpu",
             "--output", str(tmp_path / "run")]  # fmt: skip
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "iterations 600 (steps of training): as many as 3 minutes allow here" in said
    assert "1000 iterations instead of 600: the computer is faster now" in said
    card = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert card["training"]["iterations"] == 1000 and card["training"]["profile"] == "plan"
    plan = {d["what"]: d["value"] for d in card["training"]["plan"]}
    assert (plan["iterations"], plan["filters"]) == ("1000", "1")
    assert main([*words, "--resume"]) == 0 and asked == [3.0]


def test_the_plan_is_shown_and_its_overrides_follow(tmp_path, capsys):
    from ugmcl_core.data import phantoms

    phantoms.write_cohort(tmp_path, 2, shape=(16, 16, 16), spacing=(5.0, 5.0, 4.0))
    words = ["plan", str(tmp_path / "images"), str(tmp_path / "labels"), "--set", "filters=5"]
    assert main(words) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "filters 5 (width of the network): given" in shown
    assert shown[1] == "grid 5,5,4 (voxel size in mm): the median of the cases"
    assert main([*words, "--json", "--classes", "atrium"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["classes"] == ["atrium"] and content["modality"] == ""
    lines = [f"{d['what']} {d['value']} ({d['means']}): {d['why']}" for d in content["plan"]]
    assert lines == shown
    assert not list(tmp_path.glob("run*"))


def test_the_plan_that_is_shown_is_the_trainings(tmp_path, capsys):
    """It looks at the same cases, and refuses what a training refuses."""
    from ugmcl_core.data import phantoms

    names = phantoms.write_cohort(tmp_path, 3, shape=(36, 30, 22), spacing=(3.0, 3.0, 2.5))
    images, labels = tmp_path / "images", tmp_path / "labels"
    (tmp_path / "held.txt").write_text(names[0])
    grid = volume.Grid((72, 60, 22), (1.5, 1.5, 2.5))
    for folder, read in ((images, volume.read), (labels, volume.read_labels)):
        former = read(folder / f"{names[0]}.nrrd").array
        fine = volume.Volume(former.repeat(2, axis=0).repeat(2, axis=1), grid)
        volume.write(folder / f"{names[0]}.nrrd", fine)
    empty = volume.read_labels(labels / f"{names[2]}.nrrd")
    volume.write(labels / f"{names[2]}.nrrd", replace(empty, array=0 * empty.array))
    held = ["--holdout-list", str(tmp_path / "held.txt")]
    train = ["train", "--images", str(images), "--labels", str(labels), "--device", "cpu",
             "--iterations", "1", "--set", "coarse=0", "--set", "filters=4"]  # fmt: skip
    plan = ["plan", str(images), str(labels), "--set", "coarse=0", "--set", "filters=4"]
    for words in (plan, [*train, "--output", str(tmp_path / "none")]):
        assert main(words) == 2
        assert "give --empty-labels" in capsys.readouterr().err
    assert main([*plan, *held, "--empty-labels", "--json"]) == 0
    shown = {d["what"]: d["value"] for d in json.loads(capsys.readouterr().out)["plan"]}
    assert shown["grid"] == "3,3,2.5"
    assert main([*train, *held, "--empty-labels", "--output", str(tmp_path / "run")]) == 0
    card = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    made = {d["what"]: d["value"] for d in card["training"]["plan"]}
    assert {**made, "iterations": shown["iterations"]} == shown


@pytest.mark.parametrize("classes", [[], ["--classes", "one,two"]])
def test_a_plan_refuses_a_label_that_is_no_class(classes, tmp_path, capsys):
    from ugmcl_core.data import phantoms

    names = phantoms.write_cohort(tmp_path, 3, shape=(36, 30, 22), spacing=(3.0, 3.0, 2.5))
    path = tmp_path / "labels" / f"{names[1]}.nrrd"
    labels = volume.read_labels(path)
    labels.array[np.argwhere(labels.array)[0][0]] *= 7
    volume.write(path, labels)
    assert main(["plan", str(tmp_path / "images"), str(tmp_path / "labels"), *classes]) == 2
    told = capsys.readouterr().err
    assert f"{names[1]}.nrrd: label 7 is unknown" in told and "name every class" in told


def test_a_data_set_names_its_classes_and_its_kind_of_image(tmp_path, capsys):
    from ugmcl_core.data import phantoms

    phantoms.write_cohort(tmp_path, 2, shape=(16, 16, 16), spacing=(5.0, 5.0, 4.0))
    for kind in ("images", "labels"):
        (tmp_path / kind).rename(tmp_path / f"{kind}Tr")
    for path in (tmp_path / "labelsTr").iterdir():
        labels = volume.read_labels(path)
        labels.array[labels.array > 0] = 3
        labels.array[:2] = 9
        volume.write(path, labels)
    labels = {"background": 0, "atrium": 3, "ignore": 9}
    (tmp_path / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT"}, "labels": labels})
    )
    assert main(["plan", str(tmp_path), str(tmp_path), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["classes"], content["modality"]) == (["atrium"], "CT")
    assert any(d["what"] == "normalization" and "CT" in d["why"] for d in content["plan"])
    for profile, more in (("plan", ["--set", "filters=1"]), ("coarse", [])):
        out = tmp_path / profile
        assert main([
            "train", "--images", str(tmp_path), "--labels", str(tmp_path), "--device", "cpu",
            "--profile", profile, "--iterations", "1", "--output", str(out), *more,
        ]) == 0  # fmt: skip
        card = json.loads((out / "model" / "model.json").read_text())
        assert [c["name"] for c in card["classes"]] == ["atrium"] and card["modality"] == "CT"


@pytest.mark.parametrize("coarse", ["0", "0.5"])
def test_results_have_the_values_of_the_labels_that_were_learned(
    coarse, tmp_path, monkeypatch, capsys
):
    """As of BraTS, whose labels are 1, 2 and 4, and of masks of 255: results are compared with
    such labels, and a training from the model reads them."""
    from ugmcl_core.data import phantoms
    from ugmcl_core.inference import segmenter
    from ugmcl_core.inference.sliding_window import Prediction

    names = phantoms.write_cohort(tmp_path, 2, shape=(36, 30, 22), spacing=(3.0, 3.0, 2.5))
    for name in names:
        path = tmp_path / "labels" / f"{name}.nrrd"
        labels = volume.read_labels(path)
        parts = np.where(np.arange(36)[:, None, None] < 18, 4, 300) * (labels.array > 0)
        volume.write(path, volume.Volume(parts.astype(np.uint16), labels.grid))
    words = ["train", "--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels"),
             "--device", "cpu", "--iterations", "2"]  # fmt: skip
    own = ["--set", "filters=4", "--set", f"coarse={coarse}", "--output", str(tmp_path / "run")]
    assert main([*words, *own]) == 0
    again = ["--base", str(tmp_path / "run" / "model"), "--output", str(tmp_path / "again")]
    assert main([*words, *again]) == 0

    def halves(network, image, patch, axes, **options):
        of_one = torch.zeros((2, *image.shape[1:]))
        of_one[1, : image.shape[1] // 2], of_one[0, image.shape[1] // 2 :] = 1.0, 1.0
        return Prediction(of_one, of_one - 0.5, of_one)

    monkeypatch.setattr(segmenter, "predict_mirrored", halves)
    image = tmp_path / "images" / f"{names[0]}.nrrd"
    for run in ("run", "again"):
        out = tmp_path / f"of {run}"
        model = str(tmp_path / run / "model")
        assert main(["segment", str(image), "--model", model, "--output", str(out)]) == 0
        found = volume.read_labels(out / f"{names[0]}_labels.nrrd").array
        assert set(np.unique(found)) == {4, 300}
        capsys.readouterr()
        assert main(["evaluate", "--predictions", str(out), "--references",
                     str(tmp_path / "labels"), "--json"]) in (0, 1)  # fmt: skip
        rows = {row["label"]: row for row in json.loads(capsys.readouterr().out)["cases"]}
        assert rows.keys() == {4, 300}
        assert all(row["dice"] > 0 and row["sdf_mae_mm"] is not None for row in rows.values())


def test_images_of_another_kind_are_left_out_with_a_base_and_a_fixed_grid(
    model, tmp_path, capsys
):
    from ugmcl_core.data import phantoms

    names = phantoms.write_cohort(tmp_path, 3, shape=(36, 30, 22), spacing=(3.0, 3.0, 2.5))
    (tmp_path / f"labels/{names[2]}.nrrd").unlink()
    image = volume.read(tmp_path / f"images/{names[0]}.nrrd")
    scan = volume.Volume(np.round(image.array - 700).astype(np.int16), image.grid)
    volume.write(tmp_path / "images/scan.nrrd", scan)
    words = ["train", "--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels"),
             "--device", "cpu", "--iterations", "1", "--method", "ugmcl"]  # fmt: skip
    line = "train: scan is left out: it is CT, the labeled ones are no CT"
    for number, (more, count) in enumerate((
        (["--base", str(model.folder)], 1),
        (["--base", str(model.folder), "--set", "unlabeled=all"], 2),
        (["--profile", "coarse"], 1),
    )):  # fmt: skip
        out = tmp_path / f"run {number}"
        assert main([*words, *more, "--output", str(out)]) == 0
        told = capsys.readouterr().err
        assert f"2 labeled and {count} unlabeled cases" in told
        assert (line in told) is (count == 1)
        training = json.loads((out / "model/model.json").read_text())["training"]
        assert training["unlabeled"] == count


def test_the_console_tells_the_dice_of_each_structure(capsys):
    from ugmcl_core.cli.finetune import _text
    from ugmcl_core.cli.progress import Progress, sending

    with Progress("finetune") as progress:
        send = sending(progress)
        send("metrics", step=20, part="", dice=0.8, classes={"wall": 0.7, "blood": None})
        send("metrics", step=30, part="supervised", dice=0.9, classes=None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "finetune: hold-out Dice 80.0 % (wall 70.0 %, blood -) at 20"
    assert lines[1] == "finetune: supervised: hold-out Dice 90.0 % at 30"
    after = {"dice": 0.8, "hd95_mm": 2.0, "classes": {"wall": 0.7, "blood": 0.9}}
    case = {"name": "a", "before": {**after, "classes": {"wall": 0.7}}, "after": after,
            "supervised": None}  # fmt: skip
    result = {"cases": [case], "verdict": "unknown", "text": "One case.", "model": "m"}
    first = _text(result).splitlines()[0]
    assert first == (
        "a: before Dice 0.800, 95HD 2.0 mm; "
        "after Dice 0.800 (wall 0.700, blood 0.900), 95HD 2.0 mm"
    )
