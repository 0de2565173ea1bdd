"""The panel with the real worker, `python -m ugmcl_core worker`, and small models."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import module_support as support
import numpy as np
import pytest
import SimpleITK as sitk

sys.path.append(str(Path(__file__).resolve().parents[2] / "core"))
pytest.importorskip("torch")
samples = pytest.importorskip("samples")
import module_models  # noqa: E402

GEOMETRIES = {
    "as the scanner says": np.diag([-1.0, -1.0, 1.0]),
    "oblique and left-handed": np.diag([1, 1, -1]) @ np.array(support.OBLIQUE),
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The folder of a model that finds the bright body of `blob`, roughly."""
    return module_models.train_tiny(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def panel(scene, tmp_path, monkeypatch):
    monkeypatch.setenv("UGMCL_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    samples.tiny_model(tmp_path / "models" / "sample")
    panel = support.Panel(command=None)
    panel.parameters.model = panel.ui.modelSelector.itemData(0)
    yield panel
    panel.close()


def run_cli(volume, folder, model, passes):
    """The same volume through the command line; returns the arrays of its three files."""
    from UGMCLSegmentationLib.scene import volumes

    from ugmcl_core.__main__ import main

    folder.mkdir()
    for _step in volumes.write(volume, volumes.fullBox(volume), folder / "scan.nrrd"):
        pass
    code = main(["segment", str(folder / "scan.nrrd"), "--output", str(folder / "out"),
                 "--model", model, "--device", "cpu",
                 "--uncertainty-passes", str(passes)])  # fmt: skip
    assert code == 0
    return [
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "out" / f"scan_{name}.nrrd")))
        for name in ("labels", "sdf", "uncertainty")
    ]


def rotate(volume):
    """Put the volume under a transform that turns and moves it."""
    import slicer
    import vtk

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    rotation = vtk.vtkTransform()
    rotation.RotateWXYZ(33, 1, 2, 3)
    rotation.Translate(5, -8, 13)
    node.SetMatrixTransformToParent(rotation.GetMatrix())
    volume.SetAndObserveTransformNodeID(node.GetID())
    return node


def test_voxels_equal_the_command_lines(panel, tmp_path, trained):
    """For scans that lie obliquely, are left-handed and turned by a transform, all at once too."""
    import slicer
    import torch
    from UGMCLSegmentationLib.scene import results

    torch.set_num_threads(1)  # as the worker, so that sums are in the same order
    panel.widget.segment.useModelFolder(str(trained))
    panel.ui.passesSpinBox.value = 2
    array = support.blob(seed=9)
    for number, (name, axes) in enumerate(GEOMETRIES.items()):
        for isTurned in (False, True):
            case = f"{name}, {'turned' if isTurned else 'alone'}"
            volumes = support.matrix(axes)
            volume = support.add_volume(array, volumes, name=f"scan {number}{isTurned}")
            transform = rotate(volume) if isTurned else None
            node = panel.segment(volume, seconds=120)
            labels, sdf, doubt = run_cli(
                volume, tmp_path / f"{number}{isTurned}", str(trained), passes=2
            )
            assert set(np.unique(labels)) == {0, 1}, case
            truth = array > module_models.LEVEL
            dice = 2 * (truth & (labels == 1)).sum() / (truth.sum() + (labels == 1).sum())
            assert dice > 0.5, f"{case}: {dice}"
            assert np.array_equal(support.segment_array(node, volume) > 0, labels == 1), case
            shown = results.distanceOf(volume, 1), results.uncertaintyOf(volume)
            for result, expected in zip(shown, (sdf, doubt), strict=True):
                assert np.ptp(expected) > 0.01, case
                found = slicer.util.arrayFromVolume(result)
                assert np.array_equal(found, expected), case
            for result in (node, *shown):
                assert result.GetParentTransformNode() is transform, case
            for result in shown:
                found = slicer.util.arrayFromVTKMatrix(ijkToRas(result))
                assert np.allclose(found, volumes, atol=1e-6), case
    assert "torch" in panel.ui.logText.toPlainText()


def ijkToRas(volume):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


def spoiled(value):
    array = support.blob()
    array[3, 4, 5] = value
    return array


def changed_weights(folder: Path) -> None:
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def pickled_weights(folder: Path) -> None:
    """With a card that vouches for them."""
    content = pickle.dumps({"weight": [1.0]})
    (folder / "weights.safetensors").write_bytes(content)
    card = json.loads((folder / "model.json").read_text())
    card["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "model.json").write_text(json.dumps(card))


def missing_weights(folder: Path) -> None:
    os.remove(folder / "weights.safetensors")


def test_bad_input_is_one_line_and_the_panel_stays_usable(panel, tmp_path):
    good = str(tmp_path / "models" / "sample")

    def refuse(why: str, array=None, model: str | None = None, name: str = "") -> None:
        panel.parameters.model = model or good
        panel.select(support.add_volume(array))
        panel.click("segmentButton")
        panel.finish(60)
        assert why in panel.message and "\n" not in panel.message, panel.message
        assert "Traceback" not in panel.message
        assert name in panel.message and "image.nrrd" not in panel.message, panel.message
        assert support.result_nodes() == []
        assert support.private_folders() == []
        assert panel.ui.segmentButton.enabled and panel.ui.progressBar.isHidden()

    refuse("constant", np.full((20, 24, 28), 7, np.float32))
    refuse("NaN", spoiled(np.nan), name="scan")
    refuse("infinite", spoiled(np.inf), name="scan")
    for name, spoil, why in (
        ("altered", changed_weights, "SHA-256 differs"),
        ("pickled", pickled_weights, "cannot be read"),
        ("gone", missing_weights, "is missing"),
    ):
        folder = tmp_path / name
        shutil.copytree(good, folder)
        panel.widget.segment.useModelFolder(str(folder))
        assert panel.parameters.model == str(folder)
        spoil(folder)
        refuse(why, model=str(folder))
    panel.parameters.model = good
    panel.parameters.device = "cuda:7"
    refuse("cuda:7")
    panel.parameters.device = "cpu"
    assert panel.segment(support.add_volume(), seconds=60) is not None


def test_cancel(panel):
    import harness

    panel.parameters.device = "cpu"
    panel.select(support.add_volume())
    panel.ui.passesSpinBox.value = 64
    panel.click("segmentButton")
    harness.wait_until(lambda: panel.ui.progressBar.value > 3, 30)
    panel.click("cancelButton")
    panel.finish(2)
    assert support.private_folders() == [] or panel.widget.logic.worker.busy
    harness.wait_until(lambda: support.private_folders() == [], 6)
    assert support.result_nodes() == []
