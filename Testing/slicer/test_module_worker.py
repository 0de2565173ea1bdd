"""The panel with the real worker: `python -m ugmcl_core worker` and a small untrained model."""

from __future__ import annotations

import sys
from pathlib import Path

import module_support as support
import numpy as np
import pytest
import SimpleITK as sitk

sys.path.append(str(Path(__file__).resolve().parents[1] / "core"))
pytest.importorskip("torch")
samples = pytest.importorskip("samples")


@pytest.fixture
def panel(scene, tmp_path, monkeypatch):
    monkeypatch.setenv("UGMCL_MODELS", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    samples.tiny_model(tmp_path / "sample")
    panel = support.Panel(command=None)
    panel.parameters.model = panel.ui.modelSelector.itemData(0)
    yield panel
    panel.close()


def run_cli(volume, folder, model):
    """The same volume through the command line; returns its label array and its folder."""
    import slicer
    from UGMCLSegmentationLib import geometry, inputs

    from ugmcl_core.__main__ import main

    for _step in inputs.write(volume, geometry.fullBox(volume), folder / "scan.nrrd"):
        pass
    assert slicer.mrmlScene
    code = main(["segment", str(folder / "scan.nrrd"), "--output", str(folder / "out"),
                 "--model", model, "--device", "cpu"])  # fmt: skip
    assert code == 0
    return folder / "out"


def test_voxels_equal_the_command_lines(panel, tmp_path):
    import slicer
    from UGMCLSegmentationLib import results

    volume = support.add_volume(geometry=support.matrix(np.diag([1, 1, -1]) @ support.OBLIQUE))
    node = panel.segment(volume, seconds=120)
    out = run_cli(volume, tmp_path, panel.parameters.model)
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "scan_labels.nrrd")))
    assert np.array_equal(support.segment_array(node, volume) > 0, labels == 1)
    distance = slicer.util.arrayFromVolume(results.distanceOf(volume, 1))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "scan_sdf.nrrd")))
    assert np.allclose(distance, expected, atol=1e-3)
    assert "torch" in panel.ui.logText.toPlainText()


def test_cancel_and_errors(panel, tmp_path):
    import harness

    volume = support.add_volume(np.full((20, 24, 28), 7, np.float32), name="constant")
    panel.select(volume)
    panel.click("segmentButton")
    panel.finish(60)
    assert "constant" in panel.message
    panel.parameters.device = "cuda:7"
    panel.select(support.add_volume())
    panel.click("segmentButton")
    panel.finish(60)
    assert "cuda:7" in panel.message
    panel.parameters.device = "cpu"
    panel.ui.passesSpinBox.value = 64
    panel.click("segmentButton")
    harness.wait_until(lambda: panel.ui.progressBar.value > 3, 30)
    panel.click("cancelButton")
    panel.finish(2)
    assert support.private_folders() == [] or panel.widget.logic.worker.busy
    harness.wait_until(lambda: support.private_folders() == [], 6)
