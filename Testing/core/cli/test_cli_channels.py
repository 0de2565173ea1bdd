"""Several images a case on the command line and in the worker's requests."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from samples import on_grid, tiny_model

from ugmcl_core.__main__ import main
from ugmcl_core.data import volume
from ugmcl_core.models.model import open_model
from ugmcl_core.worker import protocol
from ugmcl_core.worker.handlers import RequestHandler

SHAPE = (40, 36, 20)


def written(folder, name, endings, seed=0):
    """A case whose structure is bright in the first channel, and noise."""
    random = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, np.uint8)
    mask[12:26, 10:24, 5:14] = 1
    for n, ending in enumerate(endings):
        array = random.normal(100, 10, SHAPE) + (80.0 * mask if n == 0 else 0.0)
        place = folder / f"{name}{ending}.nrrd"
        place.parent.mkdir(parents=True, exist_ok=True)
        volume.write(place, on_grid(array.astype(np.float32), (1.5,) * 3))
    return on_grid(mask, (1.5,) * 3)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Three labeled cases of two channels, named and in the order that a user may have."""
    folder = tmp_path_factory.mktemp("channels")
    (folder / "labels").mkdir()
    for n, name in enumerate("abc"):
        mask = written(folder / "images", name, ("_t1", "_flair"), n)
        volume.write(folder / "labels" / f"{name}.nrrd", mask)
    return folder


@pytest.fixture(scope="module")
def model(cases):
    """Trained for four steps, by the plan."""
    code = main([
        "train", "--images", f"{cases / 'images'}", "--labels", f"{cases / 'labels'}",
        "--channels", "t1,flair", "--method", "dual-task", "--iterations", "4", "--set",
        "filters=2", "--set", "patch=32,32,16", "--device", "cpu", "--output", f"{cases / 'run'}",
    ])  # fmt: skip
    assert code == 0
    return open_model(cases / "run" / "model")


def segmented(model, out, *arguments, images=()):
    return main([
        "segment", *map(str, images), "--model", str(model.folder), "--output", str(out),
        "--uncertainty-passes", "0", "--device", "cpu", "--json", *arguments,
    ])  # fmt: skip


def test_a_model_has_the_channels_of_its_cases(model, cases):
    assert model.card.channels == ("t1", "flair") and model.card.network["channels"] == 2
    manifest = json.loads((cases / "run" / "manifest.json").read_text())
    used = {item["file"].rsplit("/", 1)[-1] for item in manifest["inputs"]}
    assert {"a_t1.nrrd", "a_flair.nrrd", "c_flair.nrrd", "b.nrrd"} <= used


def test_all_ways_to_name_a_case_give_the_same(model, cases, tmp_path, capsys):
    def distances(out, stem="a"):
        return volume.read(out / f"{stem}_sdf.nrrd").array.tobytes()

    pair = [cases / "images" / f"a_{name}.nrrd" for name in ("t1", "flair")]
    assert segmented(model, tmp_path / "all", images=[cases / "images"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0]["image"] == [str(path) for path in pair]
    assert len(rows) == 3
    wanted = distances(tmp_path / "all")
    manifest = json.loads((tmp_path / "all" / "a_manifest.json").read_text())
    assert [item["file"] for item in manifest["inputs"]] == [str(path) for path in pair]
    assert segmented(model, tmp_path / "two", images=pair[::-1]) == 0
    assert distances(tmp_path / "two") == wanted
    assert segmented(model, tmp_path / "comma", images=[",".join(map(str, pair))]) == 0
    assert distances(tmp_path / "comma", "a_t1") == wanted
    (tmp_path / "nn").mkdir()
    for n, path in enumerate(pair):
        volume.write(tmp_path / f"nn/a_{n:04d}.nrrd", volume.read(path))
        volume.write(tmp_path / f"nn/a-{n}x.nrrd", volume.read(path))
    numbered = [tmp_path / f"nn/a_{n:04d}.nrrd" for n in (0, 1)]
    assert segmented(model, tmp_path / "numbers", images=numbered) == 0
    assert distances(tmp_path / "numbers") == wanted
    others = [tmp_path / f"nn/a-{n}x.nrrd" for n in (0, 1)]
    ends = ("--channels", "flair=-1x,t1=-0x")
    assert segmented(model, tmp_path / "ends", *ends, images=others) == 0
    assert distances(tmp_path / "ends") == wanted
    joined = sitk.JoinSeries([sitk.ReadImage(str(path)) for path in pair])
    sitk.WriteImage(joined, str(tmp_path / "a.nii.gz"))
    assert segmented(model, tmp_path / "one", images=[tmp_path / "a.nii.gz"]) == 0
    assert distances(tmp_path / "one") == wanted


def test_what_lacks_a_channel_or_has_others_is_named(model, cases, tmp_path, capsys):
    images, one = cases / "images", tiny_model(tmp_path / "one")
    alone = [images / "a_t1.nrrd", images / "b_t1.nrrd", images / "b_flair.nrrd"]
    assert segmented(model, tmp_path / "out", images=alone) == 1
    assert "a has no flair (a_flair); the case is left out" in capsys.readouterr().err
    assert segmented(model, tmp_path / "out", "--channels", "t1,t2", images=[images]) == 2
    text = capsys.readouterr().err
    assert "--channels names t1, t2, and model run takes 2 images a case (t1, flair)" in text
    three = ",".join(str(p) for p in alone)
    assert segmented(model, tmp_path / "out", images=[three]) == 2
    assert "these are 3 images of a case, and model run takes 2" in capsys.readouterr().err
    pair = f"{alone[1]},{alone[2]}"
    assert segmented(one, tmp_path / "out", images=[pair]) == 2
    assert "these are 2 images of a case, and model tiny takes one" in capsys.readouterr().err
    assert segmented(one, tmp_path / "two", "--channels", "t1=_t1", images=[images]) == 0
    assert sorted(p.name for p in (tmp_path / "two").glob("*_labels.nrrd")) == [
        "a_labels.nrrd", "b_labels.nrrd", "c_labels.nrrd"
    ]  # fmt: skip


def test_rank_plan_and_fine_tuning_know_the_channels(model, cases, tmp_path, capsys):
    chosen = ["--model", str(model.folder), "--passes", "1", "--device", "cpu", "--json"]
    assert main(["rank", str(cases / "images"), *chosen]) == 0
    (row, *_) = json.loads(capsys.readouterr().out)["cases"]
    assert [path.rsplit("_", 1)[-1] for path in row["image"]] == ["t1.nrrd", "flair.nrrd"]
    folders = [str(cases / "images"), str(cases / "labels")]
    assert main(["plan", *folders, "--channels", "t1,flair", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["channels"] == ["t1", "flair"]
    place = cases / "images"
    rows = [
        {"name": n, "role": role, "image": [f"{place}/{n}_t1.nrrd", f"{place}/{n}_flair.nrrd"],
         "label": f"{cases}/labels/{n}.nrrd"}
        for n, role in (("a", "labeled"), ("b", "holdout"), ("c", "unlabeled"))
    ]  # fmt: skip
    (tmp_path / "cases.json").write_text(json.dumps({"cases": rows}))
    base = ("--base", str(model.folder), "--device", "cpu", "--iterations", "2")
    arguments = ["finetune", str(tmp_path / "cases.json"), *base, "--method", "dual-task"]
    assert main([*arguments, "--output", str(tmp_path / "tuned")]) == 0
    assert open_model(tmp_path / "tuned" / "model").card.channels == ("t1", "flair")
    capsys.readouterr()
    (tmp_path / "cases.json").write_text(json.dumps({"channels": ["flair", "t1"], "cases": rows}))
    assert main([*arguments, "--output", str(tmp_path / "wrong")]) == 2
    assert "takes t1, flair in this order, and the cases have flair, t1" in capsys.readouterr().err
    del rows[0]["image"][1]
    (tmp_path / "cases.json").write_text(json.dumps({"cases": rows}))
    assert main([*arguments, "--output", str(tmp_path / "wrong")]) == 2
    assert "case a has 1 images, and the cases have 2 channels" in capsys.readouterr().err
    train = ["train", "--images", folders[0], "--labels", folders[1], "--output"]
    assert main([*train, str(tmp_path / "wrong"), "--base", str(tiny_model(tmp_path / "m").folder),
                 "--channels", "t1,flair"]) == 2  # fmt: skip
    text = "model tiny takes one image a case, and the cases have 2 images a case (t1, flair)"
    assert text in capsys.readouterr().err


def test_a_request_has_a_path_for_each_channel(model, cases, tmp_path):
    pair = [str(cases / "images" / f"a_{name}.nrrd") for name in ("t1", "flair")]
    shared = {"model": str(model.folder), "device": "cpu"}
    content = {"command": "segment", "image": pair, "output": str(tmp_path), "passes": 0, **shared}
    request = protocol.parse(content)
    assert request.image == tuple(pair) and request.output_stem == "a_t1"
    assert protocol.parse({**content, "image": pair[0]}).image == (pair[0],)
    control = SimpleNamespace(canceled=lambda: False, told=list)
    result = RequestHandler().do(request, lambda *_, **__: None, control)
    assert result["labels"].endswith("a_t1_labels.nrrd")
    events = []
    request = protocol.parse({"command": "rank", "images": [pair], "passes": 1, **shared})
    found = RequestHandler().do(
        request, lambda event, **more: events.append((event, more)), control
    )
    assert [row["image"] for row in found["cases"]] == [pair]
    assert [more["image"] for event, more in events if event == "ranked"] == [pair]
