"""What takes longer: fine-tuning until it helps, and real scans where there are some.

The real scans are those of UGMCL_TEST_SCANS, or of shared/data/la beside the repository: a folder
with `images` and `labels`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import improve_support as improve
import module_support as support
import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("torch")
import module_models

pytestmark = pytest.mark.slow

SCANS = Path(
    os.environ.get("UGMCL_TEST_SCANS", support.HERE.parents[2] / "shared" / "data" / "la")
)


@pytest.fixture(scope="module")
def weak(tmp_path_factory) -> Path:
    """A model that has seen a few steps only."""
    return module_models.train_tiny(tmp_path_factory.mktemp("weak"), iterations=15)


@pytest.fixture
def panel(scene, weak, monkeypatch):
    panel = improve.real_panel(weak, monkeypatch)
    yield panel
    panel.close()


def finetune(panel) -> dict:
    panel.click("finetuneButton")
    improve.finish(panel, 900)
    assert not panel.ui.reportLabel.isHidden(), panel.ui.improveMessageLabel.text
    return json.loads((improve.user_runs()[-1] / "result.json").read_text())


def mean(result: dict, stage: str) -> float:
    return float(np.mean([case[stage]["dice"] for case in result["cases"]]))


@pytest.mark.timeout(1200)  # on a busy computer
def test_hold_out_dice_improves(panel):
    improve.prepare(panel, iterations=40)
    panel.ui.compareCheckBox.checked = True
    result = finetune(panel)
    assert mean(result, "after") > mean(result, "before"), result["text"]
    assert 0 <= mean(result, "supervised") <= 1  # shown, whatever it is
    assert [case["name"] for case in result["cases"]] == ["hold0", "hold1", "hold2"]


def load_cropped(name: str, folder: Path):
    """The middle of a scan's atrium, so that a test does not take minutes; volume and mask."""
    import slicer

    image, label = (sitk.ReadImage(str(SCANS / kind / name)) for kind in ("images", "labels"))
    mask = sitk.GetArrayViewFromImage(label) > 0
    center = [int(np.mean(axis)) for axis in np.nonzero(mask)][::-1]
    start = [max(0, min(c - n // 2, size - n)) for c, n, size in
             zip(center, (96, 80, 40), image.GetSize(), strict=True)]  # fmt: skip
    paths = []
    for kind, whole in (("image", image), ("label", label)):
        part = sitk.RegionOfInterest(whole, (96, 80, 40), start)
        paths.append(folder / f"{kind}-{name}")
        sitk.WriteImage(part, str(paths[-1]))
    node = slicer.util.loadVolume(str(paths[0]))
    return node, sitk.GetArrayFromImage(sitk.ReadImage(str(paths[1]))) > 0


@pytest.mark.skipif(
    not (SCANS / "images").is_dir(), reason=f"no scans in {SCANS}: set UGMCL_TEST_SCANS"
)
@pytest.mark.timeout(1200)
def test_four_real_scans(panel, tmp_path):
    improve.open_improve(panel)
    segment = panel.widget.improve.caseList.contents.classes[0].name
    labels = {path.name for path in (SCANS / "labels").iterdir()}
    names = sorted(p.name for p in (SCANS / "images").iterdir() if p.name in labels)[:4]
    assert len(names) == 4, f"{SCANS} holds fewer than four labeled scans"
    shown = []
    for number, name in enumerate(names):
        node, mask = load_cropped(name, tmp_path)
        shown.append(node.GetName())
        if number != 2:
            improve.add_segmentation(node, {segment: mask})
    panel.widget.improve.caseList.update()
    improve.set_role(panel, shown[3], "Hold-out")
    assert panel.ui.casesLabel.text == "2 labeled, 1 unlabeled, 1 hold-out"
    panel.ui.iterationsSpinBox.value = 30
    result = finetune(panel)
    assert [case["name"] for case in result["cases"]] == [shown[3]]
    assert "Not enough evidence" in panel.ui.reportLabel.text
    assert mean(result, "after") > mean(result, "before"), result["text"]
