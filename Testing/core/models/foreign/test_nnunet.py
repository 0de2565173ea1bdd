"""Results in the layout of nnU-Net, compared with what nnU-Net makes of them where it is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_samples import PATCH, PLAIN, SPACING, network_of, results

from ugmcl_core.__main__ import main
from ugmcl_core.data import volume
from ugmcl_core.data.nnunet import prepare, resample
from ugmcl_core.data.preprocessing import normalization_of
from ugmcl_core.data.volume import Grid, Volume
from ugmcl_core.errors import InputError
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.inference.sliding_window import predict
from ugmcl_core.models import store
from ugmcl_core.models.model import open_model
from ugmcl_core.models.network import check_model

pytest.importorskip(
    "dynamic_network_architectures.architectures.unet",
    reason="the networks of nnU-Net (pip install --no-deps dynamic_network_architectures)",
)
RESIDUAL = {k: v for k, v in PLAIN.items() if k != "n_conv_per_stage"} | {
    "n_blocks_per_stage": [1, 1, 1]
}


def write_scan(path: Path, transpose=(0, 1, 2)) -> Path:
    """A smooth image with a surrounding of zeros, near the plan's spacing, and not along R, A and
    S."""
    from scipy import ndimage

    shape, spacing = (14, 40, 50), (4.5, 1.2, 0.9)
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), (1.5, 4, 4))
    image = 60 + 50 * image / image.std()
    image[:, :, :4] = image[:, -3:] = 0
    axes = [transpose.index(a) for a in (2, 1, 0)]  # those of the file
    grid = Grid(tuple(shape[a] for a in axes), tuple(spacing[a] for a in axes), (5, 6, 7),
                np.diag([-1.0, -1.0, 1.0]))  # fmt: skip
    volume.write(path, Volume(image.transpose(axes).astype(np.float32), grid))
    return path


def test_one_window_is_the_network_itself(tmp_path):
    """Two folds: the mean of their logits. The axes are those that nnU-Net's reader gives, each
    voxel by hand: `SimpleITK` has z first, and then the plan transposes."""
    import SimpleITK

    order = (2, 0, 1)
    folder = results(tmp_path / "results", (0, 3), transpose=order,
                     checkpoint={"inference_allowed_mirroring_axes": None})  # fmt: skip
    shape, spacing = ([v[order.index(a)] for a in (2, 1, 0)] for v in (PATCH, SPACING))
    scan = tmp_path / "scan.nrrd"
    image = np.random.default_rng(1).normal(60, 80, shape).astype(np.float32)
    volume.write(scan, Volume(image, Grid(tuple(shape), tuple(spacing))))
    array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(scan))).transpose(order)
    assert list(array.shape) == PATCH
    normalized = torch.from_numpy((array.clip(-80, 250) - 60) / 50)[None, None]
    logits = []
    for fold in (0, 3):
        network = network_of(PLAIN)
        saved = torch.load(folder / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)
        network.load_state_dict(saved["network_weights"])
        with torch.no_grad():
            logits.append(network.eval()(normalized)[0])
    expected = torch.stack(logits).mean(0).softmax(1)[0].numpy()
    model = store.add(folder, tmp_path / "models")
    normalization = normalization_of(model.card.normalization)
    prepared = prepare([volume.read(scan)], model.card.spacing, normalization)
    found = predict(Segmenter(model, "cpu").network, prepared.image, model.card.patch)
    back = expected[1:].transpose(0, *(1 + order.index(a) for a in (2, 1, 0)))
    assert np.abs(found.foreground.numpy() - back).max() < 1e-5 and back.std() > 0.01
    alone = store.add(folder / "fold_3", tmp_path / "models", "alone")
    assert alone.card.training["folds"] == "3" and model.card.training["folds"] == "0, 3"
    assert alone.card.network["members"] == 1 and not model.card.mirror_axes


def test_results_become_a_model_that_segments(tmp_path, capsys):
    folder = results(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres", transpose=(1, 0, 2))
    words = ["models", "import", folder, "--to", tmp_path / "models"]
    assert main([str(w) for w in words]) == 0
    model = open_model(tmp_path / "models" / "Dataset003_Liver-3d_fullres")
    card = model.card
    # the plan's axes are y, z and x
    assert card.spacing == (1.0, 4.0, 1.5) and card.patch == (32, 8, 24)
    assert card.mirror_axes == (0, 1), "its first and last axes, y and x"
    assert card.preparation == "nnunet" and card.modality == "CT"
    assert [c.name for c in card.classes] == ["liver", "tumor"]
    assert "no distance head" in card.description
    assert card.license == "CC-BY-SA 4.0" and card.training["trainer"] == "nnUNetTrainer"
    assert card.normalization["kind"] == "global" and card.normalization["deviation"] == 50
    assert sorted(p.name for p in model.folder.iterdir()) == ["model.json", "weights.safetensors"]
    scan, out = write_scan(tmp_path / "scan.nrrd"), tmp_path / "out"
    words = ["segment", scan, "--model", model.folder, "--output", out, "--device", "cpu"]
    assert main([str(w) for w in words]) == 0
    names = sorted(p.name for p in out.glob("*.nrrd"))
    assert names == [f"scan_{n}.nrrd" for n in ("labels", "surface_error", "uncertainty")]
    unsure = volume.read(out / "scan_uncertainty.nrrd").array
    assert unsure.max() > 0 and not unsure[:4].any(), "nothing is segmented in the surrounding"
    with pytest.raises(InputError, match="network of nnU-Net, which can segment but cannot be tr"):
        check_model(model)
    capsys.readouterr()


def test_plans_of_former_versions_and_a_configuration_that_inherits(tmp_path):
    former = {
        "architecture": None, "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 4,
        "unet_max_num_features": 8, "n_conv_per_stage_encoder": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1], "conv_kernel_sizes": PLAIN["kernel_sizes"],
        "pool_op_kernel_sizes": PLAIN["strides"],
    }  # fmt: skip
    folder = results(tmp_path / "results", checkpoint={"init_args": {"configuration": "child"}},
                     **former)  # fmt: skip
    plans = json.loads((folder / "plans.json").read_text())
    del plans["configurations"]["3d_fullres"]["architecture"]
    (folder / "plans.json").write_text(json.dumps(plans))
    card = store.add(folder, tmp_path / "models").card
    now = store.add(results(tmp_path / "now"), tmp_path / "models", "now").card
    assert card.name.endswith("child") and card.sha256 == now.sha256
    known = {k: v for k, v in now.network["arguments"].items() if v is not None}
    assert card.network["arguments"] == known


ARCHITECTURE = {"network_class_name": "x.UNet", "arch_kwargs": PLAIN}
RUNS = {"network_class_name": "x.PlainConvUNet",
        "arch_kwargs": {**PLAIN, "nonlin": "os.system"}}  # fmt: skip
OTHER = {"network_class_name": "x.PlainConvUNet",
         "arch_kwargs": {**PLAIN, "features_per_stage": [4, 8, 16]}}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"previous_stage": "3d_lowres"}, "second stage of a cascade"),
        ({"patch_size": [64, 64]}, "3d_fullres is not of volumes"),
        ({"preprocessor_name": "Own"}, "its preparation is that of Own"),
        ({"resampling_fn_data": "resample_torch_fornnunet"}, "resampled by resample_torch_fornnu"),
        ({"normalization_schemes": ["RGBTo01Normalization"]}, "RGBTo01Normalization is not known"),
        ({"architecture": ARCHITECTURE}, "network UNet is none of PlainConvUNet"),
        ({"architecture": RUNS}, "its network uses os.system"),
        ({"architecture": OTHER}, "weights of nnUNetTrainer are not those of the network in plan"),
        ({"spacing": None}, "plans.json or dataset.json is incomplete: TypeError"),
        ({"plans": {"image_reader_writer": "NibabelIOWithReorient"}}, "read by NibabelIOWithReor"),
        ({"plans": {"configurations": {}}}, "has no configuration 3d_fullres"),
        ({"dataset": {"labels": {"background": 0, "whole": [1, 2], "core": 2}}}, "are regions"),
        ({"dataset": {"labels": {"background": 0, "core": 2}}}, "are not 0, 1, 2, ..."),
        ({"checkpoint": {"logging": Path("/")}}, r"tensors and numbers, .* \(pathlib.*Posix"),
        ({"checkpoint": {"network_weights": [1]}}, "holds no weights by name"),
        ({"folds": ()}, "no fold_K holds a checkpoint_final.pth"),
    ],
)
def test_what_cannot_be_carried_over_is_refused_with_the_reason(changes, words, tmp_path):
    folder = results(tmp_path / "results", **changes)
    with pytest.raises(InputError, match=words):
        store.add(folder, tmp_path / "models")
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())


def test_images_are_prepared_by_what_is_not_zero(tmp_path):
    """z-scores of the voxels within the filled surface of a head, by hand."""
    image = np.zeros((12, 10, 8), np.float32)
    image[2:9, 1:8, 2:7] = np.random.default_rng(2).uniform(5, 9, (7, 7, 5))
    image[5, 4, 4] = image[2, 1, 2] = 0  # a hole, and a corner of the surrounding
    scan = Volume(image, Grid((12, 10, 8), (1.0, 1.0, 1.0)))
    normalization = normalization_of({"kind": "z-score-nonzero", "low": 1, "high": 99})
    prepared = prepare([scan], (1.0, 1.0, 1.0), normalization)
    inner = image[2:9, 1:8, 2:7]
    known = np.ones(inner.shape, bool)
    known[0, 0, 0] = False
    values = inner[known]
    expected = np.where(known, (inner - values.mean()) / values.std(), 0)
    assert np.allclose(prepared.image[0], expected, atol=1e-5)
    assert prepared.box == (slice(2, 9), slice(1, 8), slice(2, 7))
    empty = Volume(np.zeros((4, 4, 4), np.float32), Grid((4, 4, 4)))
    with pytest.raises(InputError, match="is constant"):
        prepare([empty], (1.0, 1.0, 1.0), normalization)


def test_thick_slices_are_resampled_by_themselves():
    """A polynomial of degree 3 along a row is kept; of thick slices the nearest is taken."""

    def cubic(x):
        return 2 * x**3 - x  # within the range of its ends

    row = cubic(np.linspace(-1, 1, 40))[:, None, None] * np.ones((1, 4, 6))
    fine = resample(row.astype(np.float32), (80, 4, 6), (1, 1, 1), (0.5, 1, 1))[:, 0, 0]
    at = ((np.arange(80) + 0.5) / 2 - 0.5) / 39 * 2 - 1
    assert np.abs(fine - cubic(at))[16:-16].max() < 1e-5
    slices = np.arange(3.0, dtype=np.float32) * np.ones((8, 8, 1), np.float32)
    found = resample(slices, (16, 16, 6), (1, 1, 5), (0.5, 0.5, 2.5))
    assert np.array_equal(found[3, 3], [0, 0, 1, 1, 2, 2]) and found.shape == (16, 16, 6)


def trained(folder: Path, image: np.ndarray) -> None:
    """Teach the networks to find by intensity, on the image that nnU-Net prepared."""
    image = torch.from_numpy(image)[None, None]
    target = (image[0] > 0).long() + (image[0] > 1).long()
    for path in folder.glob("fold_*/checkpoint_final.pth"):
        content = torch.load(path, weights_only=False)
        plans = content["init_args"]["plans"]["configurations"]["3d_fullres"]["architecture"]
        network = network_of(plans["arch_kwargs"], name=plans["network_class_name"].split(".")[-1])
        network.load_state_dict(content["network_weights"])
        optimizer = torch.optim.Adam(network.parameters(), 1e-2)
        padded = [max(0, p - n) for n, p in zip(image.shape[2:], PATCH, strict=True)]
        for step in range(80):
            torch.manual_seed(step)
            start = [int(torch.randint(max(1, n - p + 1), ())) for n, p in
                     zip(image.shape[2:], PATCH, strict=True)]  # fmt: skip
            box = tuple(slice(a, a + p) for a, p in zip(start, PATCH, strict=True))
            margins = [m for p in reversed(padded) for m in (0, p)]
            x = torch.nn.functional.pad(image[(slice(None), slice(None), *box)], margins)
            y = torch.nn.functional.pad(target[(slice(None), *box)], margins)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(x)[0], y).backward()
            optimizer.step()
        torch.save({**content, "network_weights": network.state_dict()}, path)


def by_nnunet(folder: Path, scan: Path, folds=(0,)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By nnU-Net's own predictor, on the axes of the file: its prepared image, the labels and the
    probabilities."""
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(perform_everything_on_device=False, device=torch.device("cpu"),
                                allow_tqdm=False)  # fmt: skip
    predictor.initialize_from_trained_model_folder(str(folder), folds)
    image, properties = SimpleITKIO().read_images([str(scan)])
    processor = predictor.configuration_manager.preprocessor_class(verbose=False)
    prepared, _, _ = processor.run_case_npy(
        image, None, dict(properties), predictor.plans_manager, predictor.configuration_manager,
        predictor.dataset_json,
    )  # fmt: skip
    labels, probabilities = predictor.predict_single_npy_array(
        image, properties, None, None, True
    )
    backward = predictor.plans_manager.transpose_backward
    return prepared[0].transpose(backward).T, labels.T, probabilities.transpose(0, 3, 2, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "masked", "name", "arguments", "transpose", "folds"),
    [
        ("CTNormalization", False, "PlainConvUNet", PLAIN, (0, 1, 2), (0,)),
        ("ZScoreNormalization", True, "PlainConvUNet", PLAIN, (2, 0, 1), (0, 1, 3)),
        ("ZScoreNormalization", False, "ResidualEncoderUNet", RESIDUAL, (1, 0, 2), ("all",)),
        ("RescaleTo01Normalization", False, "PlainConvUNet", PLAIN, (0, 2, 1), (2,)),
    ],
)
def test_probabilities_are_those_of_nnunet(
    scheme, masked, name, arguments, transpose, folds, tmp_path
):
    """The prepared image to the error of single precision. The rest differs a little: nnU-Net
    averages logits over windows and views and brings them back, this program probabilities."""
    pytest.importorskip("nnunetv2", reason="nnU-Net itself (pip install nnunetv2)")
    folder = results(tmp_path / "results", folds, scheme, masked, name=name,
                     arguments=arguments, transpose=transpose)  # fmt: skip
    scan = write_scan(tmp_path / "scan.nii.gz", transpose)
    order = [2 - a for a in transpose]
    trained(folder, by_nnunet(folder, scan, folds)[0].transpose(order).copy())
    image, labels, probabilities = by_nnunet(folder, scan, folds)
    segmenter = Segmenter(store.add(folder, tmp_path / "models"), "cpu")
    card = segmenter.model.card
    prepared = prepare([volume.read(scan)], card.spacing, normalization_of(card.normalization))
    assert prepared.image[0].shape == image.shape
    assert np.abs(prepared.image[0].numpy() - image).max() < 1e-5
    settings = SegmentSettings(passes=0, all_components=True)
    prediction, way, _ = segmenter.predict(volume.read(scan), settings, progress=lambda *_: None)
    found = way.place(way.restore(prediction.foreground)[0].numpy(), 0.0)
    mine = segmenter.segment(volume.read(scan), settings).labels.array
    differ = np.abs(found - probabilities[1])
    dice = [
        2 * np.sum((mine == n) & (labels == n)) / (np.sum(mine == n) + np.sum(labels == n))
        for n in np.unique(labels)
    ]
    assert differ.mean() < 0.02 and min(dice) > 0.98
