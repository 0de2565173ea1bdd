"""What others publish, through the panel with the real processes: a repository of Hugging Face, a
bundle of MONAI's model zoo, the results of nnU-Net. Then Segment is clicked."""

from __future__ import annotations

import shutil
import sys

import harness
import module_support as support
import pytest

sys.path.append(str(support.HERE.parent / "core"))
pytest.importorskip("torch")
import bundle_samples
import hub_samples
import nnunet_samples
import samples

pytestmark = pytest.mark.slow


@pytest.fixture
def panel(scene, answers, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    panel = support.Panel(command=None, shown=None)
    panel.widget.logic.worker.helloTimeout = 120.0  # on a busy computer torch takes its time
    panel.ui.modelsSection.collapsed = False
    panel.parameters.device = "cpu"
    yield panel
    panel.close()


def bring(panel, source) -> str:
    """Import it; the one line that is said then."""
    panel.ui.importSourceEdit.text = str(source)
    panel.click("importModelButton")
    harness.wait_until(lambda: not panel.widget.modelsSection.running, 120)
    assert "\n" not in panel.ui.modelsMessageLabel.text
    return panel.ui.modelsMessageLabel.text


@hub_samples.needs_openssl
def test_a_repository_of_hugging_face_behind_a_proxy(panel, tmp_path, monkeypatch):
    revision = tmp_path / "hub" / "owner" / "heart" / "resolve" / "v1"
    samples.tiny_model(revision, name="heart")
    with hub_samples.serving(tmp_path / "hub", tmp_path, monkeypatch):
        assert bring(panel, "hf:owner/heart@v1") == "heart was imported."
        assert panel.parameters.model == "heart"
        assert "404" in bring(panel, "hf:owner/heart@v2")
        weights = revision / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
        shutil.copytree(revision, revision.with_name("v3"))
        assert "is not what was announced" in bring(panel, "hf:owner/heart@v3")
        assert "hf:OWNER/NAME@REVISION" in bring(panel, "hf:heart")
    assert panel.segment(support.add_volume(), seconds=120) is not None


def overlays() -> set[str]:
    """What the run made beside the segmentation."""
    from UGMCLSegmentationLib.scene import results

    return {overlay.role for overlay, _node in results.overlayVolumes()}


@hub_samples.needs_openssl
def test_a_bundle_of_the_model_zoo(panel, tmp_path, monkeypatch):
    pytest.importorskip("monai")
    hub_samples.publish(bundle_samples.bundle(tmp_path / "zoo"), tmp_path / "hub", "spleen")
    with hub_samples.serving(tmp_path / "hub", tmp_path, monkeypatch):
        said = bring(panel, "hf:owner/spleen@v1")
    assert said == "Spleen-CT-segmentation was imported."
    assert panel.parameters.model == "Spleen-CT-segmentation"
    assert panel.segment(support.add_volume(), seconds=120) is not None
    assert "uncertainty" in overlays() and "distance" not in overlays()
    strange = bundle_samples.bundle(tmp_path / "other", network_def={"_target_": "os.system"})
    assert "its network os.system is none of" in bring(panel, strange)


def test_results_of_nnunet(panel, tmp_path):
    pytest.importorskip("dynamic_network_architectures.architectures.unet")
    folder = nnunet_samples.results(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    assert bring(panel, folder) == "Dataset003_Liver-3d_fullres was imported."
    assert "no distance head" in panel.ui.storedModelLabel.text
    assert panel.segment(support.add_volume(), seconds=120) is not None
    assert "uncertainty" in overlays() and "distance" not in overlays()
    other = nnunet_samples.results(tmp_path / "other", previous_stage="3d_lowres")
    assert "second stage of a cascade" in bring(panel, other)
