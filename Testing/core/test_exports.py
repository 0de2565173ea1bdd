"""Models for other programs: what those compute is what this one computes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from samples import tiny_model

from ugmcl_core.__main__ import main
from ugmcl_core.inference import build_network
from ugmcl_core.model import resolve

SIZES = ((1, 48, 32, 32), (2, 32, 16, 48))  # of a batch, the second unlike the card's patch


def expected(model, image: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        output = build_network(model, torch.device("cpu"))(torch.from_numpy(image))
    found = [output.probabilities, output.distance]
    return [t.numpy() for t in found if t is not None]


@pytest.mark.parametrize("distance_head", [True, False])
def test_onnx(tmp_path, distance_head, capsys):
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = model_with(tmp_path / "tiny", distance_head)
    target = tmp_path / "tiny.onnx"
    assert main(["models", "export", str(model.folder), str(target)]) == 0
    session = runtime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    names = ["probabilities", "level_set"][: 1 + distance_head]
    assert [o.name for o in session.get_outputs()] == names
    for batch, *size in SIZES:
        image = np.random.default_rng(1).normal(size=(batch, 1, *size)).astype(np.float32)
        for a, b in zip(session.run(None, {"image": image}), expected(model, image), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)
    stored = session.get_modelmeta().custom_metadata_map
    assert json.loads(stored["model.json"])["sha256"] == model.card.sha256
    assert stored["license"] == "for tests"
    assert main(["models", "export", str(model.folder), str(target)]) == 2  # it is there already
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny", "tiny.onnx"]


def test_onnx_without_its_package_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["models", "export", "la-lge-mri", str(tmp_path / "x.onnx")]) == 2
    assert "onnx" in capsys.readouterr().err and not any(tmp_path.iterdir())


def model_with(folder, distance_head: bool):
    """A tiny model with or without the head."""
    from dataclasses import replace

    from ugmcl_core.model import save_model
    from ugmcl_core.network import DualTaskVNet, NetworkSettings

    model = tiny_model(folder)
    if distance_head:
        return model
    settings = NetworkSettings(filters=2, distance_head=False)
    card = replace(model.card, network=settings.to_dict())
    torch.manual_seed(3)
    return save_model(folder, card, DualTaskVNet(settings).state_dict())


def test_the_bundled_model_can_be_exported_by_its_name(tmp_path):
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    from ugmcl_core import onnx_export

    path = onnx_export.export(resolve("la-lge-mri"), tmp_path / "a" / "la.onnx")
    assert path.stat().st_size > 1e6
