"""Beside every result lies a manifest that shows what made it from what."""

from __future__ import annotations

import hashlib
import json

from cli_support import segment
from samples import tiny_model, write_case_list, write_image

from ugmcl_core.__main__ import main


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def checked(path, command: str, *inputs) -> dict:
    found = json.loads(path.read_text())
    assert found["command"] == command and found["seconds"] >= 0 and found["options"]
    assert {"ugmcl", "python", "torch", "SimpleITK"} <= set(found["versions"])
    hashes = {i["file"]: i["sha256"] for i in found["inputs"]}
    assert {str(p): digest(p) for p in inputs}.items() <= hashes.items()
    return found


def test_segment_and_evaluate(tmp_path):
    model, scan = tiny_model(tmp_path / "tiny"), write_image(tmp_path / "scan.nrrd")
    assert segment(model, tmp_path / "out", scan) == 0
    found = checked(tmp_path / "out" / "scan_manifest.json", "segment", scan)
    assert found["model"]["sha256"] == model.card.sha256 and found["device"] == "cpu"
    assert found["options"]["uncertainty_passes"] == 2
    labels = tmp_path / "out" / "scan_labels.nrrd"
    words = ["--predictions", labels, "--references", labels, "--csv", tmp_path / "t.csv"]
    assert main(["evaluate", *map(str, words)]) == 0
    checked(tmp_path / "t.csv.manifest.json", "evaluate", labels)


def test_train_and_finetune(tmp_path):
    model = tiny_model(tmp_path / "tiny")
    cases = write_case_list(tmp_path, ["labeled", "labeled"])
    inputs = sorted((tmp_path / "images").iterdir()) + sorted((tmp_path / "labels").iterdir())
    rest = ["--base", model.folder, "--iterations", 1, "--device", "cpu"]
    words = ["--images", tmp_path / "images", "--labels", tmp_path / "labels", *rest]
    assert main(["train", *map(str, words), "--output", str(tmp_path / "run")]) == 0
    found = checked(tmp_path / "run" / "manifest.json", "train", *inputs)
    made = tmp_path / "run" / "model"
    assert found["model"]["sha256"] == digest(made / "weights.safetensors")
    assert found["model"]["card_sha256"] == digest(made / "model.json")
    words = [cases, *rest, "--output", tmp_path / "fine"]
    assert main(["finetune", *map(str, words)]) == 0
    found = checked(tmp_path / "fine" / "manifest.json", "finetune", cases, *inputs)
    assert found["model"]["card_sha256"] == digest(tmp_path / "fine" / "model" / "model.json")
