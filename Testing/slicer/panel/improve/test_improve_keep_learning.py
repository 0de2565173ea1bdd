"""Keep learning through the panel with the fake worker: cases that join, models that take over,
and all its ends."""

from __future__ import annotations

import json
import time

import harness
import improve_support as improve
import module_support as support
import psutil
import pytest


@pytest.fixture
def panel(scene, tmp_path, monkeypatch):
    panel = improve.finetune_panel(tmp_path, monkeypatch)
    from UGMCLSegmentationLib.panel.improve import ranking

    monkeypatch.setattr(ranking, "openSegmentEditor", lambda *nodes: None)
    panel.ui.nextSection.collapsed = False
    yield panel
    panel.close()


def log(panel) -> str:
    return panel.ui.improveLogText.toPlainText()


def start(panel, *counts: int) -> None:
    improve.prepare(panel, *counts)
    panel.ui.keepLearningCheckBox.checked = True
    harness.wait_until(lambda: "step" in panel.ui.learningProgressLabel.text, 20)


def finish(panel, seconds: float = 20.0) -> None:
    harness.wait_until(lambda: not panel.widget.improve.keepLearning.running, seconds)


def correct(panel, name: str) -> None:
    """Correct a case and accept it."""
    improve.select_rows(panel, name)
    panel.click("openNextButton")
    improve.wait(panel)
    panel.click("acceptButton")


def case_list() -> list[dict]:
    content = json.loads((improve.user_runs()[-1] / "cases.json").read_text())
    assert content["ignore"] == 255
    return content["cases"]


def test_an_accepted_case_joins_and_the_better_model_is_used_next(panel, monkeypatch):
    start(panel, 1, 2, 3)
    assert not panel.ui.finetuneButton.enabled
    assert "Keep learning is on" in panel.ui.finetuneButton.toolTip
    began = time.monotonic()
    correct(panel, "un0")
    harness.wait_until(lambda: "un0 joined at step" in log(panel), 10)
    assert time.monotonic() - began < 10
    (row,) = [case for case in case_list() if case["name"] == "un0"]
    assert row["role"] == "labeled" and row["label"].startswith("cases/")
    assert len(case_list()) == 6
    panel.click("compareLearningButton")
    harness.wait_until(lambda: not panel.ui.learningModelLabel.isHidden(), 10)
    line = panel.ui.learningModelLabel.text
    assert line.startswith("Correct next uses the model of step ") and "\n" not in line
    assert "Dice 0.850 on the hold-out cases, 0.800 before" in line and line in log(panel)
    asked = []
    worker = panel.widget.logic.worker
    request = worker.request
    monkeypatch.setattr(
        worker, "request", lambda content, *rest: asked.append(content) or request(content, *rest)
    )
    correct(panel, "un1")
    assert asked[0]["model"] == str(improve.user_runs()[-1] / "model")
    assert panel.parameters.model == "heart", "Segment stays with what the user chose"
    panel.ui.keepLearningCheckBox.checked = False
    finish(panel)
    assert panel.ui.reportLabel.text.startswith("Better: the new model is selected.")
    assert panel.parameters.model == "my-model" and panel.ui.learningModelLabel.isHidden()
    assert panel.ui.finetuneButton.enabled
    assert not (improve.user_runs()[-1] / "cases").exists()
    panel.click("reportButton")
    assert "of 2 corrected cases" in panel.shown[-1].read_text()
    assert panel.widget.logic.trainer.pid == 0, "the process with the low priority is gone"


def test_a_worse_model_does_not_take_over(panel, monkeypatch):
    monkeypatch.setenv("FAKE_GAIN", "-0.05")
    start(panel, 1, 1, 3)
    correct(panel, "un0")
    harness.wait_until(lambda: "un0 joined" in log(panel), 10)
    panel.click("compareLearningButton")
    text = "The model in use stays: Dice 0.800 on the hold-out cases, 0.750 at step"
    harness.wait_until(lambda: text in log(panel), 10)
    assert panel.ui.learningModelLabel.isHidden() and not panel.widget.improve.keepLearning.model
    panel.ui.keepLearningCheckBox.checked = False
    finish(panel)
    assert "none was better" in panel.ui.reportLabel.text and panel.parameters.model == "heart"


def test_it_starts_with_the_first_accepted_case(panel):
    improve.prepare(panel, 0, 2, 0)
    panel.ui.keepLearningCheckBox.checked = True
    assert "starts with the first case that you accept" in panel.ui.learningMessageLabel.text
    assert not panel.widget.improve.keepLearning.running
    correct(panel, "un0")
    harness.wait_until(lambda: "1 labeled cases" in panel.ui.learningProgressLabel.text, 20)
    panel.click("cancelLearningButton")
    finish(panel)


def test_it_pauses_while_a_segmentation_runs(panel, monkeypatch):
    import slicer

    monkeypatch.setenv("FAKE_SLOW", "1.5")
    start(panel, 1, 1, 0)
    label = panel.ui.learningProgressLabel
    panel.select(slicer.util.getNode("un0"))
    panel.click("segmentButton")
    harness.wait_until(lambda: label.text == "Paused while a segmentation runs", 10)
    assert panel.widget.logic.running
    improve.wait(panel)
    harness.wait_until(lambda: "step" in label.text, 10)
    panel.click("pauseLearningButton")
    harness.wait_until(lambda: label.text == "Paused", 10)
    assert panel.ui.pauseLearningButton.text == "Continue"
    panel.ui.keepLearningCheckBox.checked = False  # also from a pause
    finish(panel)
    assert not panel.ui.reportLabel.isHidden()


def test_why_it_waits_is_shown(panel, monkeypatch):
    monkeypatch.setenv("FAKE_WAITING", "battery")
    improve.prepare(panel, 1, 1, 0)
    panel.ui.keepLearningCheckBox.checked = True
    label = panel.ui.learningProgressLabel
    harness.wait_until(lambda: label.text == "Waiting: the computer runs on its battery", 10)
    panel.click("cancelLearningButton")
    finish(panel)


def test_a_crash_is_one_line_and_can_be_resumed(panel, monkeypatch):
    monkeypatch.setenv("FAKE_DIE_AT", "25")
    improve.prepare(panel, 1, 1, 3)
    panel.ui.keepLearningCheckBox.checked = True
    finish(panel)
    message = panel.ui.learningMessageLabel.text
    assert "killed" in message and "can be resumed" in message and "\n" not in message
    assert not panel.ui.keepLearningCheckBox.checked and panel.ui.keepLearningCheckBox.enabled
    assert not panel.ui.resumeButton.isHidden()
    panel.click("resumeButton")
    harness.wait_until(lambda: "resumed at step 25" in log(panel), 20)
    assert panel.ui.keepLearningCheckBox.checked and panel.ui.resumeButton.isHidden()
    correct(panel, "un0")
    harness.wait_until(lambda: "un0 joined" in log(panel), 10)
    panel.ui.keepLearningCheckBox.checked = False
    finish(panel)
    assert panel.ui.resumeButton.isHidden()


def test_a_closed_scene_ends_it_and_it_can_be_resumed(panel):
    import slicer

    start(panel, 1, 1, 0)
    slicer.mrmlScene.Clear(0)
    finish(panel, 5)
    assert not panel.ui.keepLearningCheckBox.checked
    harness.wait_until(lambda: not panel.ui.resumeButton.isHidden(), 5)
    panel.click("resumeButton")
    harness.wait_until(lambda: "resumed at step" in log(panel), 20)
    panel.click("cancelLearningButton")
    finish(panel)


def test_the_process_ends_with_slicer(panel):
    start(panel, 1, 1, 0)
    process = psutil.Process(panel.widget.logic.trainer.pid)
    began = time.monotonic()
    panel.widget.cleanup()
    assert time.monotonic() - began < 3
    assert not process.is_running()


def test_memory_is_shown_while_it_runs(panel, monkeypatch):
    monkeypatch.setenv("FAKE_MEMORY", "1230000000")
    start(panel, 1, 1, 0)
    text = "labeled cases, memory 1.2 of 16 GB"
    assert panel.ui.learningProgressLabel.text.endswith(text)
    assert panel.ui.learningProgressBar.format == "Next check: %p%"
    panel.click("cancelLearningButton")
    finish(panel)
    monkeypatch.setenv("FAKE_GPU", "3210000000")
    panel.click("finetuneButton")
    text = "memory 1.2 of 16 GB, GPU 3.2 of 24 GB"
    harness.wait_until(lambda: text in panel.ui.finetuneProgressLabel.text, 20)
    panel.click("cancelFinetuneButton")
    improve.finish(panel)


def test_memory_in_words():
    from UGMCLSegmentationLib.worker.run import memoryText

    gpu = {"resident": 2e9, "total": None, "gpu": 3.2e9, "gpu_total": 24e9}
    assert memoryText(gpu) == "memory 2.0 GB, GPU 3.2 of 24 GB"
    assert memoryText({"resident": None}) == ""


def test_other_structures_do_not_join(panel):
    start(panel, 1, 1, 0)
    volume = support.add_volume(support.blob(seed=5), name="other")
    node = improve.add_segmentation(volume, {"kidney": improve.bright(volume)})
    from UGMCLSegmentationLib.panel.improve.cases import cases

    cases.accept(volume, node)
    panel.widget.improve.caseList.update()
    panel.widget.improve.keepLearning.add(volume)
    message = panel.ui.learningMessageLabel
    harness.wait_until(lambda: "no segment is used" in message.text, 5)
    panel.click("cancelLearningButton")
    finish(panel)


def test_from_the_console(panel):
    from UGMCLSegmentation import UGMCLSegmentationLogic

    logic = UGMCLSegmentationLogic(support.FAKE)
    nodes = [support.add_volume(support.blob(seed=n), name=f"v{n}") for n in range(6)]
    drawn = {v: improve.add_segmentation(v, {"left atrium": improve.bright(v)}) for v in nodes}
    held = {v: drawn[v] for v in nodes[3:]}
    handle = logic.keepLearning({nodes[0]: drawn[nodes[0]]}, holdout=held, name="mine")
    handle.add(nodes[1], drawn[nodes[1]])  # before the training has started
    harness.wait_until(lambda: handle.compare() or handle.model, 20)
    handle.add(nodes[2], drawn[nodes[2]])
    harness.wait_until(lambda: "v2" in [e.get("name") for e in handle.events], 20)
    result = handle.stop()
    assert result["verdict"] == "better" and result["labeled"] == 3 and not handle.running
    assert result["model"].endswith("mine")
    handle = logic.keepLearning({nodes[0]: drawn[nodes[0]]})
    harness.wait_until(lambda: handle.running, 10)
    handle.cancel()
    harness.wait_until(lambda: not handle.running, 10)
    logic.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)  # on a busy computer
def test_with_the_real_worker(scene, tmp_path, monkeypatch):
    """A case is accepted during a run, joins, and the model that took over segments the next."""
    pytest.importorskip("torch")
    import module_models

    model = module_models.train_tiny(tmp_path / "weak", iterations=15)
    panel = improve.real_panel(model, monkeypatch)
    from UGMCLSegmentationLib.panel.improve import ranking

    monkeypatch.setattr(ranking, "openSegmentEditor", lambda *nodes: None)
    try:
        improve.prepare(panel, 1, 2, 3)
        panel.ui.keepLearningCheckBox.checked = True
        harness.wait_until(lambda: "step" in panel.ui.learningProgressLabel.text, 120)
        improve.select_rows(panel, "un0")
        panel.click("openNextButton")
        improve.wait(panel, 120)
        panel.click("acceptButton")
        harness.wait_until(lambda: "un0 joined at step" in log(panel), 60)
        panel.click("compareLearningButton")
        harness.wait_until(lambda: "Correct next uses the model" in log(panel)
                           or "The model in use stays" in log(panel), 120)  # fmt: skip
        improve.select_rows(panel, "un1")
        panel.click("openNextButton")
        improve.wait(panel, 120)
        panel.ui.keepLearningCheckBox.checked = False
        finish(panel, 180)
        assert not panel.ui.reportLabel.isHidden(), panel.ui.learningMessageLabel.text
    finally:
        panel.close()
