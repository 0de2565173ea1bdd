"""Fine-tuning through the panel with the real worker and a small model that learned little."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import harness
import improve_support as improve
import module_support as support
import numpy as np
import pytest

pytest.importorskip("torch")
import module_models


@pytest.fixture(scope="module")
def weak(tmp_path_factory) -> Path:
    """A model that has seen a few steps only."""
    return module_models.train_tiny(tmp_path_factory.mktemp("weak"), iterations=10)


@pytest.fixture
def panel(scene, weak, monkeypatch):
    panel = improve.real_panel(weak, monkeypatch)
    yield panel
    panel.close()


def report_of(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


def losses() -> dict[str, list[float]]:
    import slicer

    table = slicer.util.getNode("Fine-tuning losses").GetTable()
    return {
        table.GetColumnName(c): [
            table.GetValue(r, c).ToDouble() for r in range(table.GetNumberOfRows())
        ]
        for c in range(table.GetNumberOfColumns())
    }


@pytest.mark.slow
def test_estimate_run_and_report(panel):
    import slicer

    improve.prepare(panel, iterations=12)
    panel.ui.compareCheckBox.checked = True
    panel.click("estimateButton")
    improve.finish(panel, 120)
    assert "on this computer" in panel.ui.estimateLabel.text, panel.ui.improveMessageLabel.text
    panel.click("finetuneButton")
    improve.finish(panel, 300)
    assert not panel.ui.reportLabel.isHidden(), panel.ui.improveMessageLabel.text
    result = report_of(improve.user_runs()[-1])
    assert [case["name"] for case in result["cases"]] == ["hold0", "hold1", "hold2"]
    for case in result["cases"]:
        assert {"dice", "hd95_mm"} <= set(case["before"]) & set(case["after"])
        assert case["supervised"]["dice"] is not None
    assert slicer.util.getNode("Report on*") is not None
    panel.parameters.model = "my-model"
    volume = slicer.util.getNode("un1")
    node = panel.segment(volume, seconds=120)
    truth = improve.bright(volume)
    found = support.segment_array(node, volume) > 0
    assert (found & truth).any()


@pytest.mark.slow
def test_what_has_no_label_changes_what_is_learned(panel):
    improve.prepare(panel, 1, 1, 0, iterations=10)
    panel.parameters.method = "ugmcl"  # the default does not believe the labels of so weak a model
    learned = []
    for role in ("Unlabeled", "Ignore"):
        improve.set_role(panel, "un0", role)
        panel.click("finetuneButton")
        improve.finish(panel, 120)
        assert "Not enough evidence" in panel.ui.reportLabel.text
        learned.append({name: values[-1] for name, values in losses().items()})
    first, second = learned
    assert first["Step"] == second["Step"] == 10
    assert any(first[name] != second.get(name) for name in first)


@pytest.mark.slow
def test_cancel_kill_and_resume(panel):
    improve.prepare(panel, 1, 1, 0, iterations=4000)
    panel.click("finetuneButton")
    harness.wait_until(lambda: panel.ui.pauseButton.enabled, 120)
    panel.click("pauseButton")
    harness.wait_until(lambda: panel.ui.pauseButton.text == "Continue", 30)
    panel.click("pauseButton")
    harness.wait_until(lambda: panel.ui.pauseButton.text == "Pause", 30)
    panel.click("cancelFinetuneButton")
    improve.finish(panel, 2)
    assert "can be resumed" in panel.ui.improveMessageLabel.text
    harness.wait_until(lambda: not panel.widget.logic.trainer.busy, 20)
    panel.click("resumeButton")
    harness.wait_until(lambda: panel.ui.pauseButton.enabled, 120)
    os.kill(panel.widget.logic.trainer.pid, signal.SIGKILL)
    improve.finish(panel, 10)
    assert "killed" in panel.ui.improveMessageLabel.text
    assert panel.ui.finetuneButton.enabled
    assert not panel.ui.resumeButton.isHidden()
    panel.click("resumeButton")
    harness.wait_until(lambda: panel.ui.pauseButton.enabled, 120)
    panel.click("cancelFinetuneButton")
    improve.finish(panel, 2)


@pytest.mark.slow
def test_a_new_class_is_learned_beside_the_old_one(panel):
    improve.prepare(panel, 0, 1, 0, iterations=10)
    for seed in range(2):
        volume = support.add_volume(support.blob(seed=seed), name=f"two{seed}")
        whole, core = improve.bright(volume, 100), improve.bright(volume, 160)
        improve.add_segmentation(volume, {"outer": whole & ~core, "core": core})
    contents = panel.widget.improve.caseList.update()
    old = contents.classes[0]
    table = panel.ui.structuresTable
    for row, target in ((0, old.name), (1, "A new structure")):
        selector = table.cellWidget(row, 1)
        selector.currentIndex = selector.findText(target)
        panel.widget.improve.caseList.update()
    panel.ui.modelNameEdit.text = "two"
    panel.click("finetuneButton")
    improve.finish(panel, 200)
    assert "Not enough evidence" in panel.ui.reportLabel.text, panel.ui.improveMessageLabel.text
    from UGMCLSegmentationLib.panel.improve.cases import structures

    names = [info.name for info in structures.modelClasses("two")]
    assert names == [old.name, "core"]


def test_ranking_and_evaluation(panel):
    improve.prepare(panel, 1, 2, 0)
    panel.ui.passesSpinBox.value = 2
    import slicer

    volume = slicer.util.getNode("un1")
    array = slicer.util.arrayFromVolume(volume)
    noise = np.random.default_rng(0).normal(0, 90, array.shape)
    slicer.util.updateVolumeFromArray(volume, (array + noise).astype(np.float32))
    panel.ui.nextSection.collapsed = False
    panel.click("rankButton")
    harness.wait_until(lambda: not panel.widget.logic.running, 120)
    shown = improve.rows(panel)
    first = next(iter(shown))  # which of the two that is, a model of ten steps hardly knows
    assert panel.ui.nextLabel.text == f"{first} has the lowest predicted Dice."
    dice = [float(shown[name][2]) for name in ("un0", "un1")]
    assert 0 <= min(dice) == float(shown[first][2]) < max(dice) <= 1
    labeled = slicer.util.getNode("lab0")
    panel.segment(labeled, seconds=60)
    panel.ui.referenceSelector.setCurrentNode(slicer.util.getNode("lab0 drawn"))
    panel.click("evaluateButton")
    harness.wait_until(lambda: not panel.widget.logic.running, 60)
    assert panel.ui.evaluateTable.model().rowCount() == 1, panel.ui.evaluateLabel.text
