"""Bundles in the style of MONAI's model zoo, compared with what MONAI makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_samples import CT, ROI, SPACING, Z, bundle, network_of, preprocessing

from ugmcl_core.__main__ import main
from ugmcl_core.data import phantoms, volume
from ugmcl_core.data.preprocessing import normalization_of, prepare
from ugmcl_core.errors import InputError
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.sliding_window import predict
from ugmcl_core.models import store
from ugmcl_core.models.model import open_model
from ugmcl_core.models.network import check_model

pytest.importorskip("monai")


def probabilities(folder: Path, image: Path) -> np.ndarray:
    """The foreground's by MONAI itself: its transforms and its sliding window, on RAS axes."""
    from monai import transforms
    from monai.inferers import SlidingWindowInferer

    config = json.loads((folder / "configs" / "inference.json").read_text())
    normalize = {k: v for k, v in config["preprocessing"]["transforms"][4].items() if k[0] != "_"}
    kind = config["preprocessing"]["transforms"][4]["_target_"]
    prepared = transforms.Compose([
        transforms.LoadImaged("image", ensure_channel_first=True),
        transforms.Orientationd("image", "RAS"),
        transforms.Spacingd("image", SPACING, mode="bilinear"),
        getattr(transforms, kind)(**normalize),
    ])({"image": str(image)})["image"]  # fmt: skip
    network = network_of(config["network_def"])
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    with torch.no_grad():
        inferer = SlidingWindowInferer(ROI, 1, overlap=0.5)
        return inferer(torch.as_tensor(prepared)[None], network.eval()).softmax(1)[0, 1:].numpy()


@pytest.fixture
def scan(tmp_path) -> Path:
    """Of one window of the bundle, on its grid."""
    image, _ = phantoms.phantom(3, tuple(ROI), tuple(SPACING), 2)
    volume.write(tmp_path / "scan.nii.gz", image)
    return tmp_path / "scan.nii.gz"


@pytest.mark.parametrize("normalize", [CT, Z])
def test_the_probabilities_are_those_of_monai(normalize, scan, tmp_path):
    model = store.add(bundle(tmp_path / "spleen", normalize), tmp_path / "models")
    segmenter = Segmenter(model, "cpu")
    prepared = prepare(
        [volume.read(scan)], model.card.spacing, normalization_of(model.card.normalization)
    )
    found = predict(segmenter.network, prepared.image, model.card.patch).foreground.numpy()
    expected = probabilities(tmp_path / "spleen", scan)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-3 and found.std() > 0.01


def test_a_bundle_becomes_a_model_that_segments(scan, tmp_path, capsys):
    words = ["models", "import", bundle(tmp_path / "zoo"), "--to", tmp_path / "models"]
    assert main([str(w) for w in words]) == 0
    model = open_model(tmp_path / "models" / "Spleen-CT-segmentation")
    card = model.card
    assert (card.modality, card.spacing, card.patch) == ("CT", (3.0, 3.0, 2.5), (32, 32, 16))
    assert [c.name for c in card.classes] == ["spleen"] and card.license == "MONAI Consortium"
    assert card.mirror_axes == (0, 1), "as its training mirrored patches"
    assert (model.folder / "LICENSE.txt").read_text() == "Apache License 2.0"
    assert not [p for p in model.folder.iterdir() if p.suffix == ".pt"]
    out = tmp_path / "out"
    words = ["segment", scan, "--model", model.folder, "--output", out, "--device", "cpu"]
    assert main([str(w) for w in [*words, "--uncertainty", "flips"]]) == 0
    names = sorted(p.name for p in out.glob("*.nrrd"))
    assert names == [f"scan_{n}.nrrd" for n in ("labels", "surface_error", "uncertainty")]
    assert volume.read(out / "scan_uncertainty.nrrd").array.max() > 0
    with pytest.raises(InputError, match="cannot be trained further"):
        check_model(model)
    capsys.readouterr()
    export = ["models", "export", model.folder, tmp_path / "x.onnx"]
    assert main([str(w) for w in export]) == 2
    assert "cannot be exported" in capsys.readouterr().err


def test_a_sigmoid_of_one_class_and_several_classes(scan, tmp_path):
    model = store.add(bundle(tmp_path / "one", outputs=1, softmax=False), tmp_path / "m", "one")
    assert [c.name for c in model.card.classes] == ["background"]  # so the bundle calls it
    prepared = prepare(
        [volume.read(scan)], model.card.spacing, normalization_of(model.card.normalization)
    )
    network = Segmenter(model, "cpu").network
    logits = network.members[0](prepared.image[None])
    found = predict(network, prepared.image, model.card.patch).foreground
    assert torch.allclose(found, logits.sigmoid()[0], atol=1e-5)
    model = store.add(bundle(tmp_path / "three", outputs=3), tmp_path / "m", "three")
    assert [c.name for c in model.card.classes] == ["spleen", "tumor"]


def changed(number: int, **values) -> dict:
    """The preprocessing with changes to one of the transforms."""
    transforms = json.loads(json.dumps(preprocessing(CT)))
    transforms[number] = {**transforms[number], **values}
    return {"preprocessing": {"_target_": "Compose", "transforms": transforms}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network_def": {"_target_": "os.system", "command": "x"}}, "network os.system is none"),
        ({"network_def": {"_target_": "monai.networks.nets.UNETR"}}, "network UNETR is none of"),
        ({"network_def": "$torch.jit.load('x')"}, "no network_def by a class"),
        ({"spacing": "$[1.0] * 3"}, r"Spacing holds the expression \$\[1\.0\]"),
        ({"spacing": "@nothing"}, "refers to @nothing, which is not there"),
        ({"spacing": "@spacing"}, "refers to itself"),
        (changed(2, axcodes="LPS"), "orientation is LPS, not RAS"),
        (changed(3, pixdim=[1.0, 1.0, -1.0]), "not three lengths"),
        (changed(3, _target_="Resized", spatial_size=[9, 9, 9]), "transform Resize is not known"),
        (changed(3, _target_="EnsureTyped"), "resamples to no spacing"),
        (changed(2, _target_="EnsureTyped"), "does not turn images to RAS"),
        (changed(4, clip=False), "does not clip to a range"),
        ({"preprocessing": {}}, "no list of preprocessing transforms"),
        ({"inferer": {"_target_": "SimpleInferer"}}, "no roi_size of three numbers"),
    ],
)
def test_what_cannot_be_carried_over_is_refused_with_the_reason(changes, words, tmp_path):
    folder = bundle(tmp_path / "zoo", **changes)
    with pytest.raises(InputError, match=words):
        store.add(folder, tmp_path / "models")
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())


def test_overlapping_classes_and_other_files_than_tensors_are_refused(tmp_path):
    folder = bundle(tmp_path / "brats", outputs=3, softmax=False)
    with pytest.raises(InputError, match="its classes overlap"):
        store.add(folder, tmp_path / "models")
    folder = bundle(tmp_path / "zoo")
    torch.save({"x": Path("/")}, folder / "models" / "model.pt")
    with pytest.raises(InputError, match=r"holds more than tensors .*\(pathlib.*Posix"):
        store.add(folder, tmp_path / "models")
    (folder / "models" / "model.pt").unlink()
    with pytest.raises(InputError, match="is missing: get it too"):
        store.add(folder, tmp_path / "models")
    (folder / "configs" / "inference.json").unlink()
    with pytest.raises(InputError, match="a bundle with it is needed"):
        store.add(folder, tmp_path / "models")
