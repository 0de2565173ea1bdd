"""Each message of the program: listed with an example in docs/messages.md, of one line, and with
something to do. Those that no other test comes upon are provoked here."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import message_sites
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from samples import on_grid, tiny_model, write_case_list

from ugmcl_core.__main__ import main
from ugmcl_core.cli import experiment
from ugmcl_core.cli.images import cases_of
from ugmcl_core.data import pairing, phantoms, volume
from ugmcl_core.data.checks import dicom, image_file, multiframe_dicom
from ugmcl_core.data.dataset_json import read_of
from ugmcl_core.data.preprocessing import Normalization, prepare
from ugmcl_core.errors import InputError
from ugmcl_core.evaluation import compare
from ugmcl_core.experiments import datasets, paper, planning, records, running
from ugmcl_core.files import Busy
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.models import archives, downloads, store
from ugmcl_core.models.foreign import monai_bundle, nnunet
from ugmcl_core.nn import devices, parallel
from ugmcl_core.remote import agent, cluster
from ugmcl_core.remote.session import new_run
from ugmcl_core.training.finetuning import finetune
from ugmcl_core.training.finetuning.case_list import join_classes, read_case_list
from ugmcl_core.training.profiles import COMPACT
from ugmcl_core.training.settings import FinetuneSettings, KeepLearningSettings, finished
from ugmcl_core.training.trainer import _optimizer
from ugmcl_core.worker import protocol, server
from ugmcl_core.worker.handlers import RequestHandler
from ugmcl_core.worker.server import PendingRequest

LIST = message_sites.ROOT / "docs" / "messages.md"
TO_DO = re.compile(
    r"\b(adopt|add|annotate|check|choose|close|convert|correct|delete|export|finish|get|give|"
    r"download|import|install|keep|known are|leave|lower|make|mark|merge|move|name|need|needs|put|"
    r"rename|renumber|replace|resample|rescale|resume|save|say|see|set|split|start|take|train|unpack|"
    r"update|use|wait|write|"
    r"compare|may have|must|needed|not one of|or null|from \d|it has none|"
    r"its message says why|never read|stays as it is|takes)\b|: refused|available: ",
    re.IGNORECASE,
)


def examples() -> list[str]:
    """The messages in the list."""
    rows = LIST.read_text(encoding="utf-8").splitlines()
    return [row[2:] for row in rows if row.startswith("- ")]


def test_every_message_is_listed_with_an_example():
    shown, known = examples(), message_sites.sites()
    missing = [
        f"{s.module}: {s.pattern}" for s in known if not any(s.matches(e) for e in shown)
    ]
    assert not missing, "run Testing/core/message_sites.py:\n" + "\n".join(missing)
    stale = [e for e in shown if not any(s.matches(e) for s in known)]
    assert not stale, "no message any more:\n" + "\n".join(stale)


@pytest.mark.parametrize("example", examples())
def test_a_message_says_what_is_wrong_and_what_to_do(example):
    """One line, with a word for what to do, or that it was refused as unsafe."""
    assert len(example) < 420 and not example.endswith(".") and "Traceback" not in example
    assert TO_DO.search(example), example


def told(work: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        work()
    return str(error.value)


def said(capsys, *words: object) -> str:
    assert main([str(w) for w in words]) == 2
    return capsys.readouterr().err


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_of_the_command_line(tmp_path, capsys, monkeypatch):
    train = ["train", "--images", tmp_path, "--labels", tmp_path, "--output", tmp_path / "run"]
    tiny_model(tmp_path / "tiny")
    base = ["--base", tmp_path / "tiny"]
    assert "--classes is for" in said(capsys, *train, *base, "--classes", "a")
    assert "--set overrides a plan" in said(capsys, *train, *base, "--set", "filters=8")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "for a single process" in said(capsys, *train, "--minutes", "3")
    monkeypatch.delenv("WORLD_SIZE")
    both = ["segment", "x", "--output", "y", "--on", "there", "--cluster", "local:2"]
    assert "give one of the two" in said(capsys, *both)
    assert "needs --job" in said(capsys, "worker", "--cancel-file", tmp_path / "c")
    monkeypatch.setenv("UGMCL_MODELS", str(tmp_path / "none"))
    assert "give `show` or `verify`" in said(capsys, "models", "list", "tiny")
    monkeypatch.setattr("ugmcl_core.models.model.find_models", list)
    assert "import one first" in said(capsys, "models", "verify")
    phantoms.write_cohort(tmp_path / "data", 1, shape=(12, 12, 12))
    (tmp_path / "lab.txt").write_text("x\ny\n")
    images, labels = tmp_path / "data" / "images", tmp_path / "data" / "labels"
    text = said(
        capsys, "train", "--images", images, "--labels", labels, "--output", tmp_path / "run",
        "--labeled-list", tmp_path / "lab.txt",
    )  # fmt: skip
    assert "no image for the labeled case x and 1 others; correct the list" in text


def test_of_cases_with_several_images(tmp_path):
    images = {name: tmp_path / f"{name}.nrrd" for name in ("a", "a_0000")}
    assert "as in --channels t1=_0000" in told(
        lambda: pairing._without_channel(images, {"a": tmp_path / "a.nrrd"})
    )
    model = SimpleNamespace(name="x", card=SimpleNamespace(channels=("t1", "t2")))
    _, wrong = cases_of({}, [(tmp_path, tmp_path)], model, None)
    assert "give a file or the folder of a series" in str(next(iter(wrong.values())))


def test_of_files_that_cannot_be_read(tmp_path):
    folder = tmp_path / "a.nii"
    folder.mkdir()
    assert "cannot be read" in told(lambda: image_file.check(folder))
    assert "header cannot be read" in told(
        lambda: multiframe_dicom.frame_grid(write(tmp_path / "a.dcm", "no header"), 3)
    )
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "dataset.json").write_bytes(b"{}")
    with pytest.MonkeyPatch.context() as patch:
        def refuse(*_words: object, **_more: object) -> str:
            raise PermissionError(13, "Permission denied")

        patch.setattr(Path, "read_text", refuse)
        assert "check its permissions" in told(lambda: read_of(tmp_path / "imagesTr"))
    series = tmp_path / "series"
    series.mkdir()
    write(series / "001.dcm", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(OSError(5, "Input error")))
        assert "cannot be read (Input error)" in told(
            lambda: dicom.check_folder(series, ["000.dcm"], "")
        )


def test_of_volumes(tmp_path, monkeypatch):
    one, other = on_grid(np.zeros((4, 4, 4))), on_grid(np.zeros((4, 4, 4)), (1.0, 1.0, 2.0))
    assert "different grids" in told(
        lambda: prepare([one, other], (1.0, 1.0, 1.0), Normalization("none"))
    )
    path = tmp_path / "a.nrrd"
    assert "cannot write this format" in told(lambda: volume.write(tmp_path / "a.mhd", one))
    assert "no voxels" in told(lambda: volume._check_voxels(path, np.zeros((0, 1, 1))))
    image = sitk.Image(2, 2, 2, sitk.sitkFloat32)
    image.SetOrigin((float("nan"), 0.0, 0.0))
    assert "not finite; correct the header" in told(lambda: volume._as_volume(path, image, sitk))
    volume.write(path, one)
    monkeypatch.setattr(volume, "_listening", lambda *_: (image, ["bad spacing"]))
    assert "its geometry is not certain (bad spacing)" in told(lambda: volume.read(path))
    monkeypatch.undo()
    assert "than the reference" in told(lambda: compare._on_grid(path, other.grid))
    monkeypatch.setattr(
        image_file, "nifti_forms", lambda _: {"sform": np.eye(4), "qform": 2 * np.eye(4)}
    )
    turned = replace(one.grid, origin=(50.0, 0.0, 0.0))
    assert "cannot be used as it stands" in told(lambda: volume._form_used(path, turned))
    monkeypatch.setattr(volume, "dicom_series", lambda _: ("1", "2"))
    assert "holds 2 DICOM series" in told(lambda: volume.read(tmp_path))
    monkeypatch.undo()
    monkeypatch.setattr(
        sitk.ImageSeriesReader, "GetGDCMSeriesIDs",
        lambda *_: (_ for _ in ()).throw(RuntimeError("broken")),
    )  # fmt: skip
    assert "series is damaged" in told(lambda: volume.dicom_series(tmp_path))


def test_of_experiments(tmp_path, monkeypatch, capsys):
    dataset = datasets.Dataset("folder", {}, (), 0, (), (), (), "")
    (tmp_path / "la").mkdir()
    assert "needs files CASE/" in told(lambda: datasets.find(tmp_path / "la", "la-h5"))
    assert "no labeled case is left" in told(lambda: datasets._check(dataset, tmp_path))
    case = datasets.Case("a", tmp_path / "a.nrrd", None)
    held = replace(dataset, cases={"a": case}, dev=("a",))
    assert "has no label; add it" in told(lambda: datasets._check(held, tmp_path))
    several = replace(held, channels=("t1", "t2"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "_pairs", lambda *_: several)
        patch.setattr(datasets, "_intensity", lambda *_: {})
        write(tmp_path / "labeled-1.txt", "a")
        lists = datasets.Lists(labeled=("a",))
        assert "is for one image a case" in told(lambda: datasets._la(tmp_path, lists, 0))
    write(tmp_path / datasets.INTENSITY, "{")
    assert "correct it or move it away" in told(lambda: datasets._intensity(tmp_path, held))
    volume.write(tmp_path / "a.nrrd", on_grid(np.ones((4, 4, 4))))
    volume.write(tmp_path / "b.nrrd", on_grid(np.ones((4, 4, 4), np.uint8), (1.0, 1.0, 2.0)))
    two = replace(case, label=tmp_path / "b.nrrd")
    assert "resample it" in told(lambda: datasets.from_brats(two, tmp_path / "out"))
    def busy(*_words: object) -> None:
        raise Busy("process 7")

    monkeypatch.setattr(running, "adopt", busy)
    assert "another process is working on this training" in told(
        lambda: experiment._adopt(tmp_path, [], running.Workplace(tmp_path, dataset, None))
    )
    monkeypatch.setattr(datasets, "find", lambda *_: dataset)
    monkeypatch.setattr(paper, "check_layout", lambda *_: None)
    words = ["experiment", "table3", "--data", tmp_path, "--output", tmp_path / "runs"]
    assert "there are no dev cases to score; give --dev-list" in said(capsys, *words)
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"], file["label"] = np.full((4, 4, 4), np.nan), np.ones((4, 4, 4))
    bad = replace(case, image=tmp_path / "a.h5", label=tmp_path / "a.h5")
    assert "NaN or infinite" in told(lambda: datasets.from_h5(bad, tmp_path / "out"))
    assert "unknown experiment" in told(lambda: paper.experiment_named("table9"))
    row = paper.Row("X", "magic")
    assert "there is no method" in told(lambda: planning.method_of(row))
    assert "row 'X'" in told(
        lambda: planning.method_of(replace(row, method="ugmcl", options=(("x", 1),)))
    )
    write(tmp_path / records.NAME, "{")
    assert "delete it to make it again" in told(lambda: records.read(tmp_path))
    write(tmp_path / records.NAME, "{}")
    assert "not a record of this version" in told(lambda: records.read(tmp_path))
    write(tmp_path / running.checkpoint.NAME, "no tensors")
    assert "not a usable checkpoint" in told(lambda: running._fingerprint(tmp_path))


def test_of_models(tmp_path, monkeypatch):
    twice = tmp_path / "twice.zip"
    with zipfile.ZipFile(twice, "w") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("m/model.json", "{}")
        file.writestr("m/model.json", "{}")
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(downloads, "MOST_BYTES", 10)
    answer = SimpleNamespace(status=200, headers={}, read=lambda _: b"x" * 20, close=lambda: None)
    url, nothing = "https://models.test/a.zip", tmp_path / "a.zip"
    assert "sends more than" in told(
        lambda: downloads.fetch(
            url, "0" * 64, nothing, lambda *_: None, opener=lambda *_, **__: answer
        )
    )
    bundle = tmp_path / "bundle"
    write(bundle / monai_bundle.METADATA, "{")
    assert "is not valid JSON" in told(lambda: monai_bundle.convert(bundle, tmp_path / "x"))
    (bundle / "models").mkdir()
    torch.save([1], bundle / monai_bundle.WEIGHTS)
    assert "holds no weights by name" in told(lambda: monai_bundle._weights(bundle))
    assert "holds no weights by name" in told(
        lambda: nnunet._checkpoint(bundle / monai_bundle.WEIGHTS)
    )
    (tmp_path / "r" / "fold_0").mkdir(parents=True)
    for name in (nnunet.PLANS, nnunet.DATASET):
        write(tmp_path / "r" / name, "{}")
    assert "no fold_K holds a" in told(lambda: nnunet.convert(tmp_path / "r", tmp_path / "x"))
    fold = tmp_path / "r" / "fold_0"
    assert "since it holds the weights" in told(lambda: nnunet.convert(fold, tmp_path / "x"))
    write(fold / nnunet.CHECKPOINT, "no tensors")
    assert "more than tensors and numbers" in told(lambda: nnunet.convert(fold, tmp_path / "x"))
    with monkeypatch.context() as patch:
        patch.delattr(torch.serialization, "safe_globals")
        assert "torch 2.5 or newer is needed" in told(
            lambda: nnunet.convert(fold, tmp_path / "x")
        )
    assert "twice" in told(lambda: archives.unpack(twice, tmp_path / "out"))
    long = tmp_path / "long.zip"
    with zipfile.ZipFile(long, "w") as file:
        file.writestr("m/model.json", "{}")
    with zipfile.ZipFile(long) as file:
        entry = file.getinfo("m/model.json")
        assert "larger than announced" in told(
            lambda: archives._extract(file, entry, tmp_path / "x", 1, long)
        )
    index = write(tmp_path / "index.json", json.dumps({"format": 1, "models": [
        {"name": 1, "description": "", "license": "", "url": "", "sha256": "", "bytes": "2"}
    ]}))  # fmt: skip
    assert "each entry needs strings" in told(lambda: store._read_index(index))
    model = tiny_model(tmp_path / "models" / "tiny")
    monkeypatch.setattr(Path, "rename", refused)
    assert "cannot be renamed (Not allowed)" in told(lambda: store.rename(model, "other"))
    assert "cannot be removed (Not allowed)" in told(lambda: store.remove(model.folder))


def refused(*_words: object) -> None:
    raise OSError(1, "Not allowed")


def test_of_trainings(tmp_path, monkeypatch):
    path = write_case_list(tmp_path, ["labeled", "holdout"])
    content = json.loads(path.read_text())
    several = json.loads(json.dumps(content))
    several["cases"][0]["image"] = [several["cases"][0]["image"]] * 2
    write(path, json.dumps(several))
    assert "same image for two channels" in told(lambda: read_case_list(path))
    write(path, json.dumps({**content, "channels": ["a", "a"]}))
    assert "list of distinct names" in told(lambda: read_case_list(path))
    for key, value, text in (
        ("label_geometry", "x", 'choose "file" or "image"'), ("empty", 1, "choose true or false")
    ):  # fmt: skip
        changed = json.loads(json.dumps(content))
        changed["cases"][0][key] = value
        write(path, json.dumps(changed))
        assert text in told(lambda: read_case_list(path))
    write(tmp_path / finetune.REPORT, "{")
    assert "cannot be read" in told(
        lambda: finished(tmp_path, FinetuneSettings("c", "b", str(tmp_path)))
    )
    base = tiny_model(tmp_path / "tiny", classes=2).card.classes
    new = replace(base[0], value=7, terminology=None)
    monkeypatch.setattr(
        "ugmcl_core.training.finetuning.case_list.match_classes", lambda listed, _: [base[0], None]
    )
    assert "has the name of another" in told(lambda: join_classes(base, (base[0], new)))
    settings = FinetuneSettings("cases.json", "out", "base")
    assert "choose 0 or more" in told(lambda: replace(settings, minutes=-1.0))
    assert "stays on its grid" in told(lambda: replace(settings, overrides=("patch=8,8,8",)))
    assert "always planned" in told(lambda: replace(settings, base="", replan=True))
    learning = KeepLearningSettings("cases.json", "out", "base")
    for change, text in (
        ({"base": ""}, "give a base"), ({"check_minutes": 0.0}, "choose more than 0"),
        ({"patience": 0}, "choose 1 check"), ({"wait_minutes": -1.0}, "choose 0 or more"),
    ):  # fmt: skip
        assert text in told(lambda change=change: replace(learning, **change))
    odd = replace(COMPACT, optimization=replace(COMPACT.optimization, optimizer="lion"))
    assert "unknown optimizer" in told(lambda: _optimizer([torch.zeros(1)], odd))
    assert "a window overlap of 2" in told(lambda: SegmentSettings(overlap=2.0))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert "device 'mps' is not usable here" in told(lambda: devices.resolve("mps"))


def test_of_clusters(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    assert "as in local:4" in told(lambda: cluster.connected("local:x").__enter__())
    assert "is no scheduler" in told(lambda: cluster.connected("tcp://127.0.0.1:1").__enter__())
    worker = SimpleNamespace(address="tcp://127.0.0.1:9")
    error = distributed.KilledWorker("a task", worker, 1)
    assert "two workers died on it" in str(cluster._named(error))
    board, future = cluster._Board(None, None, None), SimpleNamespace(status="lost")
    assert "scheduler was lost" in told(lambda: board.end(future))
    jobqueue = pytest.importorskip("dask_jobqueue")
    monkeypatch.setattr(jobqueue, "SLURMCluster", undescribed)
    assert "the queue is not configured" in told(lambda: cluster.connected("slurm:1").__enter__())


def undescribed() -> None:
    raise ValueError("You must specify how much cores to use per job")


def test_of_several_processes(monkeypatch):
    monkeypatch.setattr(parallel, "size", lambda: 2)
    assert "cannot be divided by 2" in told(lambda: parallel.part(3))
    monkeypatch.setattr(parallel.distributed, "all_reduce", lambda values, *_: values.add_(1.0))
    assert "different seeds" in told(lambda: parallel.agree(1, torch.device("cpu"), "seeds"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(parallel.distributed, "is_available", lambda: False)
    assert "cannot train over several" in told(lambda: parallel.taking_part("cpu").__enter__())
    monkeypatch.setattr(parallel.distributed, "is_available", lambda: True)
    monkeypatch.setattr(parallel.distributed, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(parallel.distributed, "destroy_process_group", lambda: None)
    with pytest.raises(InputError, match="its message says why"), parallel.taking_part("cpu"):
        raise RuntimeError("Connection closed by peer")


def test_of_requests(tmp_path):
    there = agent.Session(tmp_path, tmp_path, None)
    word = {"run": new_run(), "word": "stop"}
    assert "is not there any more" in told(lambda: there._say(word, lambda *_: None))
    model = tiny_model(tmp_path / "tiny")
    request = protocol.RankRequest((str(tmp_path / "none.nrrd"),), str(model.folder), "cpu", 1)
    assert "none of the images can be used" in told(
        lambda: RequestHandler().do(request, lambda *_, **__: None, PendingRequest("1", {}))
    )

    def asked(**content: object) -> str:
        whole = {"command": "segment", "image": "a", "model": "b", "output": str(tmp_path)}
        return told(lambda: protocol.parse({**whole, **content}))

    assert "there is no such folder" in asked(output=str(tmp_path / "none"))
    finetuning = {"command": "finetune", "case_list": "c", "base": "b", "output": "o"}
    assert "minutes must be a number" in told(
        lambda: protocol.parse({**finetuning, "minutes": "x"})
    )
    compared = {"command": "evaluate", "prediction": "a", "reference": "b", "values": 1}
    assert "list of whole numbers" in told(lambda: protocol.parse(compared))
    assert "holds no JSON object" in told(
        lambda: server.run_job(str(write(tmp_path / "j.json", "[]")), None)
    )
    assert "cannot be read as a request" in told(
        lambda: server.run_job(str(tmp_path / "none.json"), None)
    )
