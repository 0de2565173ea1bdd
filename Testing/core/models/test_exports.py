"""Models for other programs: what those compute is what this one computes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from samples import tiny_model

from ugmcl_core.__main__ import main
from ugmcl_core.models.card import ModelCard
from ugmcl_core.models.model import resolve
from ugmcl_core.models.network import build_network

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


def resampled(array: np.ndarray, shape) -> np.ndarray:
    """Linear interpolation between voxels with equal outer faces; by a triangle of the new voxels'
    width where they are larger."""
    for axis, new in enumerate(shape):
        step = array.shape[axis] / new
        centers = (np.arange(new) + 0.5) * step
        far = np.abs(np.arange(array.shape[axis]) + 0.5 - centers[:, None]) / max(1.0, step)
        weights = np.maximum(0.0, 1.0 - far)
        weights /= weights.sum(1, keepdims=True)
        array = np.moveaxis(np.tensordot(weights, array, (1, axis)), 0, axis)
    return array


def test_the_steps_in_an_onnx_file_give_the_labels_of_this_program(tmp_path, monkeypatch):
    """By the file alone, with other means: a scan that lies along L, P and S."""
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from scipy import ndimage

    from ugmcl_core.data import phantoms
    from ugmcl_core.data.volume import Grid, Volume
    from ugmcl_core.inference.segmenter import Segmenter
    from ugmcl_core.inference.settings import SegmentSettings
    from ugmcl_core.nn import devices

    # an untrained network decides by the last digits
    monkeypatch.setattr(devices, "precision", lambda _device: torch.float32)
    model = undecided(tiny_model(tmp_path / "tiny"))
    path = tmp_path / "tiny.onnx"
    assert main(["models", "export", str(model.folder), str(path)]) == 0
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = json.loads(session.get_modelmeta().custom_metadata_map["transforms.json"])
    steps = {step["step"]: step for step in found["steps"]}
    assert [*steps][:5] == ["orient", "resample", "normalize", "windows", "network"]
    spacing = tuple(1.5 * s for s in steps["resample"]["spacing_mm"])
    image = phantoms.phantom(1, (22, 20, 16), spacing)[0].array
    scan = Volume(image, Grid(image.shape, spacing, axes=np.diag([-1.0, -1.0, 1.0])))

    x = image[::-1, ::-1].astype(float)
    shape = [round(n * 1.5) for n in x.shape]
    x = resampled(x, shape)
    (own,) = steps["normalize"]["channels"]
    assert own["kind"] == "robust-z" and (x == x.min()).mean() < 0.05
    x = x.clip(*np.percentile(x, [own["low"], own["high"]]))
    x = ((x - x.mean()) / x.std()).astype(np.float32)
    more = [(0, -n % m) for n, m in zip(shape, steps["windows"]["multiple"], strict=True)]
    x = np.pad(x, more, mode="edge")[None, None]
    axes = [2 + a for a in steps["views"]["mirror_axes"]]
    views = [[a for n, a in enumerate(axes) if k >> n & 1] for k in range(2 ** len(axes))]
    mean = np.mean([np.flip(session.run(["probabilities"], {"image": np.flip(x, v).copy()})[0], v)
                    for v in views], axis=0)  # fmt: skip
    p = mean[0, :, : shape[0], : shape[1], : shape[2]]
    p = np.stack([resampled(c, image.shape) for c in p])[:, ::-1, ::-1]
    labels, lead = p.argmax(0), p.max(0) - p[0]
    for value in steps["largest component"]["values"]:
        parts, count = ndimage.label(labels == value)
        sums = ndimage.sum_labels(lead, parts, range(1, count + 1))
        means = ndimage.mean(lead, parts, range(1, count + 1))
        kept = 1 + np.where(sums >= sums.max() / 2, means, 0).argmax()
        labels = np.where((labels == value) & (parts != kept), 0, labels)
    wanted = Segmenter(model, "cpu").segment(scan, SegmentSettings(passes=0)).labels.array
    assert (labels == wanted).mean() > 0.99 and 0.05 < (wanted > 0).mean() < 0.95


def test_onnx_with_a_torch_that_has_one_exporter(tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    real = torch.onnx.export

    def older(model, args, f, opset_version, input_names, output_names, dynamic_axes):
        names = {"input_names": input_names, "output_names": output_names}
        real(model, args, f, opset_version=opset_version, dynamic_axes=dynamic_axes,
             dynamo=False, **names)  # fmt: skip

    monkeypatch.setattr(torch.onnx, "export", older)
    model = tiny_model(tmp_path / "tiny")
    assert main(["models", "export", str(model.folder), str(tmp_path / "tiny.onnx")]) == 0


def test_onnx_without_its_package_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["models", "export", "la-lge-mri", str(tmp_path / "x.onnx")]) == 2
    assert "onnx" in capsys.readouterr().err and not any(tmp_path.iterdir())


def model_with(folder, distance_head: bool):
    """A tiny model with or without the head."""
    from dataclasses import replace

    from ugmcl_core.models.model import save_model
    from ugmcl_core.nn.network import DualTaskVNet, NetworkSettings

    model = tiny_model(folder)
    if distance_head:
        return model
    settings = NetworkSettings(filters=2, distance_head=False)
    card = replace(model.card, network=settings.to_dict())
    torch.manual_seed(3)
    return save_model(folder, card, DualTaskVNet(settings).state_dict())


def test_the_bundled_model_can_be_exported_by_its_name(tmp_path):
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    from ugmcl_core.models import onnx

    path = onnx.export(resolve("la-lge-mri"), tmp_path / "a" / "la.onnx")
    assert path.stat().st_size > 1e6


def undecided(model):
    """The model with the bias by which its two classes take half of a phantom each."""
    from ugmcl_core.data import phantoms
    from ugmcl_core.models.model import save_model

    state = model.load_weights()
    image, _labels = phantoms.phantom(1, model.card.patch, model.card.spacing)
    prepared = (image.array - image.array.mean()) / image.array.std()
    with torch.no_grad():
        network = build_network(model, torch.device("cpu"))
        background, structure = network(torch.from_numpy(prepared)[None, None]).logits[0]
    state["segmentation_head.bias"][1] -= (structure - background).median()
    return save_model(model.folder, model.card, state)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A tiny model, its bundle, and the bundle's configuration as MONAI reads it."""
    monai = pytest.importorskip("monai.bundle", reason="MONAI is not installed")
    folder = tmp_path_factory.mktemp("bundle")
    model = undecided(tiny_model(folder / "tiny"))
    target = folder / "exported"
    assert main(["models", "export", str(model.folder), str(target), "--monai"]) == 0
    parser = monai.ConfigParser()
    parser.read_config(str(target / "configs" / "inference.json"))
    parser.read_meta(str(target / "configs" / "metadata.json"))
    parser["bundle_root"] = str(target)
    parser["device"] = "$torch.device('cpu')"
    return model, target, parser


def test_monai_runs_the_network_of_a_bundle(bundle):
    model, target, parser = bundle
    network = parser.get_parsed_content("network")
    for batch, *size in SIZES:
        image = np.random.default_rng(2).normal(size=(batch, 1, *size)).astype(np.float32)
        with torch.no_grad():
            found = network(torch.from_numpy(image)).numpy()
        wanted = np.concatenate(expected(model, image), axis=1)
        np.testing.assert_allclose(found, wanted, atol=2e-5)
    saved = torch.load(target / "models" / "model.pt", weights_only=True)
    assert set(saved) == set(network.state_dict())
    assert not list(target.parent.glob(".bundle-*"))


def test_monai_runs_a_bundle_from_a_file_to_a_file(bundle, tmp_path):
    """By its own runner; on a scan on the model's grid, so that nothing is resampled."""
    monai = pytest.importorskip("monai.bundle", reason="MONAI is not installed")
    pytest.importorskip("nibabel", reason="nibabel, by which MONAI reads files, is not installed")
    from ugmcl_core.data import phantoms, volume

    model, target, _parser = bundle
    image, _labels = phantoms.phantom(1, model.card.patch, model.card.spacing)
    volume.write(tmp_path / "scan.nii.gz", image)
    monai.run(
        config_file=str(target / "configs" / "inference.json"),
        meta_file=str(target / "configs" / "metadata.json"),
        bundle_root=str(target), inputs=[str(tmp_path / "scan.nii.gz")],
        output_dir=str(tmp_path / "out"), device="$torch.device('cpu')",
    )  # fmt: skip
    (path,) = (tmp_path / "out").rglob("*.nii.gz")
    found = volume.read(path)
    assert found.grid.same_as(image.grid)
    # by hand: canonical axes, percentiles, one window, the most probable class
    flipped = image.array[::-1, ::-1]  # the phantom's axes run to the left and to the back
    low, high = np.percentile(flipped, (1, 99))
    clipped = np.clip(flipped, low, high)
    prepared = ((clipped - clipped.mean()) / clipped.std()).astype(np.float32)
    probabilities = expected(model, np.ascontiguousarray(prepared)[None, None])[0][0]
    wanted = probabilities.argmax(0)[::-1, ::-1]
    assert 0.02 < wanted.mean() < 0.98
    assert (found.array == wanted).mean() > 0.998


def test_the_metadata_of_a_bundle_has_what_the_specification_demands(bundle):
    model, target, _parser = bundle
    content = json.loads((target / "configs" / "metadata.json").read_text())
    demanded = {"version", "monai_version", "pytorch_version", "numpy_version", "task",
                "optional_packages_version", "description", "authors", "copyright",
                "network_data_format"}  # fmt: skip
    assert demanded <= set(content) and all(content[k] for k in demanded)
    formats = content["network_data_format"]
    outputs = formats["outputs"]["pred"]
    assert outputs["num_channels"] == len(outputs["channel_def"]) == 3
    assert formats["inputs"]["image"]["spatial_shape"] == list(model.card.patch)
    assert "for tests" in (target / "docs" / "license.txt").read_text()


@pytest.mark.parametrize(
    "kind", ["robust-z", "z-score", "z-score-nonzero", "window", "global", "none"]
)
def test_monai_normalizes_as_this_program_does(tmp_path, kind):
    monai = pytest.importorskip("monai.bundle", reason="MONAI is not installed")
    from dataclasses import replace

    from ugmcl_core.data.preprocessing import Normalization
    from ugmcl_core.models import monai as monai_bundle

    given = {"window": (-20.0, 30.0), "global": (-20.0, 30.0, 4.0, 9.0)}
    normalization = Normalization(kind, *given.get(kind, (1.0, 99.0)))
    card = replace(tiny_model(tmp_path / "m").card, normalization=normalization.to_dict())
    transforms = monai_bundle._normalization(card)
    parser = monai.ConfigParser({"t": {"_target_": "Compose", "transforms": transforms}})
    image = np.random.default_rng(0).normal(3, 20, (12, 11, 10)).astype(np.float32)
    image[:2] = 0.0 if kind == "z-score-nonzero" else image[:2]
    found = parser.get_parsed_content("t")({"image": torch.from_numpy(image)[None]})["image"]
    np.testing.assert_allclose(np.asarray(found)[0], normalization(image), atol=5e-3)


@pytest.mark.parametrize("alike", [True, False])
def test_monai_normalizes_each_channel_by_itself(tmp_path, alike):
    monai = pytest.importorskip("monai.bundle", reason="MONAI is not installed")
    from dataclasses import replace

    from ugmcl_core.data.preprocessing import Normalization, stored_normalization
    from ugmcl_core.models import monai as monai_bundle

    robust, ct = Normalization(), Normalization("global", -20.0, 30.0, 4.0, 9.0)
    normalization = robust if alike else (ct, robust)
    card = tiny_model(tmp_path / "m").card
    stored = stored_normalization(normalization)
    card = replace(card, channels=("ct", "mr"), normalization=stored)
    assert ModelCard.from_json(replace(card, sha256="0" * 64).to_json()).normalization == stored
    config = monai_bundle._inference(card)
    parser = monai.ConfigParser({"imports": config["imports"], "t": {
        "_target_": "Compose", "transforms": monai_bundle._normalization(card)}})  # fmt: skip
    random = np.random.default_rng(0)
    image = np.stack([random.normal(3, 20, (12, 11, 10)), random.normal(300, 50, (12, 11, 10))])
    image = image.astype(np.float32)
    found = parser.get_parsed_content("t")({"image": torch.from_numpy(image)})["image"]
    each = (robust, robust) if alike else normalization
    wanted = np.stack([own(channel) for own, channel in zip(each, image, strict=True)])
    np.testing.assert_allclose(np.asarray(found), wanted, atol=5e-3)
    assert config["inputs"] == [["ct.nii.gz", "mr.nii.gz"]]


@pytest.mark.slow
@pytest.mark.parametrize("alike", [True, False])
def test_exports_of_a_model_of_two_channels(tmp_path, alike):
    """By MONAI's own runner, from two files to one; and the inputs of the ONNX file."""
    monai = pytest.importorskip("monai.bundle", reason="MONAI is not installed")
    pytest.importorskip("nibabel", reason="nibabel, by which MONAI reads files, is not installed")
    onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
    from ugmcl_core.data import phantoms, volume
    from ugmcl_core.data.preprocessing import normalization_of, prepare
    from ugmcl_core.models import monai as monai_bundle
    from ugmcl_core.models import onnx as onnx_file

    robust = {"kind": "robust-z", "low": 1.0, "high": 99.0}
    ct = {"kind": "global", "low": -20.0, "high": 300.0, "mean": 50.0, "deviation": 60.0}
    model = tiny_model(
        tmp_path / "two", inputs=2, channels=("a", "b"),
        normalization=robust if alike else (ct, robust),
    )  # fmt: skip
    card = model.card
    images = [phantoms.phantom(seed, card.patch, card.spacing)[0] for seed in (1, 2)]
    paths = [str(tmp_path / f"{name}.nii.gz") for name in card.channels]
    for path, image in zip(paths, images, strict=True):
        volume.write(path, image)
    bundle = monai_bundle.export(model, tmp_path / "bundle")
    monai.run(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        bundle_root=str(bundle), inputs=[paths], output_dir=str(tmp_path / "out"),
        device="$torch.device('cpu')",
    )  # fmt: skip
    (path,) = (tmp_path / "out").rglob("*.nii.gz")
    prepared = prepare(images, card.spacing, normalization_of(card.normalization))
    with torch.no_grad():
        output = build_network(model, torch.device("cpu"))(prepared.image[None])
    wanted = prepared.restore(output.probabilities[0]).argmax(0).numpy()
    assert (volume.read(path).array == wanted).mean() > 0.995
    found = onnx.load(str(onnx_file.export(model, tmp_path / "two.onnx")))
    (given,) = found.graph.input
    assert given.type.tensor_type.shape.dim[1].dim_value == 2
