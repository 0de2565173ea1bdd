"""Fine-tuning runs that are paused, canceled, killed, resumed, or whose scene goes away."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import harness
import improve_support as improve
import module_support as support
import psutil
import pytest


@pytest.fixture
def panel(scene, tmp_path, monkeypatch):
    panel = improve.finetune_panel(tmp_path, monkeypatch)
    yield panel
    panel.close()


def test_pause_and_continue(panel, monkeypatch):
    monkeypatch.setenv("FAKE_STEP", "0.02")
    improve.prepare(panel, iterations=400)
    panel.click("finetuneButton")
    improve.wait_for_steps(panel)
    panel.click("pauseButton")
    harness.wait_until(lambda: panel.ui.pauseButton.text == "Continue", 5)
    assert panel.ui.finetuneProgressLabel.text == "Paused"
    value = panel.ui.finetuneProgressBar.value
    harness.process_events(400)
    assert panel.ui.finetuneProgressBar.value == value
    panel.click("pauseButton")
    harness.wait_until(lambda: panel.ui.finetuneProgressBar.value > value, 5)
    assert panel.ui.pauseButton.text == "Pause"
    improve.finish(panel)
    assert not panel.ui.reportLabel.isHidden()


def test_cancel_is_prompt_and_the_run_can_be_resumed(panel, monkeypatch):
    monkeypatch.setenv("FAKE_HOLD_AT", "30")
    improve.prepare(panel, iterations=60)
    panel.click("finetuneButton")
    improve.wait_for_steps(panel)
    clicked = time.monotonic()
    panel.click("cancelFinetuneButton")
    improve.finish(panel, 2)
    assert time.monotonic() - clicked < 1
    assert "can be resumed" in panel.ui.improveMessageLabel.text
    assert panel.ui.finetuneButton.enabled and not panel.ui.runSelector.isHidden()
    harness.wait_until(lambda: not panel.widget.logic.trainer.busy, 5)
    panel.click("resumeButton")
    improve.finish(panel)
    assert "resumed at" in panel.ui.improveLogText.toPlainText()
    assert panel.ui.runSelector.isHidden() and not panel.ui.reportLabel.isHidden()
    steps = improve.columns("Fine-tuning losses")["Step"]
    assert [float(step) for step in steps] == list(range(5, 61, 5))


def test_a_canceled_run_is_resumed_without_a_working_stdin(panel, monkeypatch):
    monkeypatch.setenv("FAKE_NO_STDIN", "1")
    monkeypatch.setenv("FAKE_HOLD_AT", "30")
    panel.widget.logic.trainer.helloTimeout = 2.0
    improve.prepare(panel, iterations=60)
    panel.click("finetuneButton")
    harness.wait_until(lambda: panel.ui.finetuneProgressBar.value == 50, 20)
    panel.click("cancelFinetuneButton")
    improve.finish(panel, 10)
    harness.wait_until(lambda: not panel.widget.logic.trainer.busy, 10)
    assert not (improve.user_runs()[0] / "cancel").exists()
    panel.click("resumeButton")
    improve.finish(panel)
    assert "Dice rose" in panel.ui.reportLabel.text


def test_a_killed_process_leaves_a_run_to_resume(panel, monkeypatch):
    monkeypatch.setenv("FAKE_DIE_AT", "25")
    improve.prepare(panel)
    panel.click("finetuneButton")
    improve.finish(panel)
    message = panel.ui.improveMessageLabel.text
    assert message.startswith("The training process was killed, probably for lack of memory")
    assert "can be resumed" in message and "region" not in message  # a training has none
    assert panel.ui.finetuneButton.enabled and not panel.ui.resumeButton.isHidden()
    panel.click("resumeButton")
    improve.finish(panel)
    assert "resumed at 20" in panel.ui.improveLogText.toPlainText()
    assert "Dice rose" in panel.ui.reportLabel.text


def test_closing_slicer_ends_the_worker_after_a_checkpoint(scene, panel, monkeypatch):
    import slicer

    monkeypatch.setenv("FAKE_HOLD_AT", "50")
    improve.prepare(panel, iterations=100)
    panel.click("finetuneButton")
    improve.wait_for_steps(panel)
    pid = panel.widget.logic.trainer.pid
    panel.close()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    run = improve.user_runs()[0]
    step = json.loads((run / "checkpoint.json").read_text())["step"]
    assert step > 0 and not (run / "owner").exists()
    slicer.mrmlScene.Clear(False)
    again = support.Panel()  # Slicer is started again, with an empty scene
    again.ui.improveSection.collapsed = False
    assert again.ui.runSelector.currentText.startswith("my-model, ")
    again.click("resumeButton")
    improve.finish(again)
    assert f"resumed at {step}" in again.ui.improveLogText.toPlainText()
    assert "Dice rose" in again.ui.reportLabel.text
    assert again.parameters.model == "my-model"
    again.close()
    panel.loaded = support.Panel().loaded  # for the fixture to close


def test_slicer_quits_within_seconds_in_the_middle_of_a_long_step(scene, panel, monkeypatch):
    monkeypatch.setenv("FAKE_SLOW_AT", "25")
    improve.prepare(panel, iterations=100)
    panel.click("finetuneButton")
    run = improve.user_runs()[0]
    harness.wait_until(lambda: '"step": 20' in text_of(run / "checkpoint.json"), 20)
    time.sleep(0.3)  # into the long step
    pid = panel.widget.logic.trainer.pid
    began = time.monotonic()
    panel.close()
    assert time.monotonic() - began < 3
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    again = support.Panel()
    again.ui.improveSection.collapsed = False
    again.click("resumeButton")
    improve.finish(again)
    assert "resumed at 20" in again.ui.improveLogText.toPlainText()
    again.close()
    panel.loaded = support.Panel().loaded  # for the fixture to close


def text_of(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def test_runs_of_another_slicer_are_not_offered(panel, answers):
    from UGMCLSegmentationLib.storage import runFolder

    improve.prepare(panel)
    folder = runFolder.create("theirs")
    request = {"name": "theirs", "command": "finetune", "base": ""}
    runFolder.save(runFolder.ResumableRun(folder, request, {"date": "today"}))
    runFolder.write(folder / runFolder.OWNER, str(os.getppid()))
    panel.widget.improve.refresh()
    assert panel.ui.runSelector.isHidden()
    runFolder.release(folder)
    panel.widget.improve.refresh()
    assert panel.ui.runSelector.currentText == "theirs, today"
    runFolder.write(folder / runFolder.OWNER, str(os.getppid()))  # it was resumed there just now
    panel.click("resumeButton")
    assert "Another Slicer works on this run" in panel.ui.improveMessageLabel.text
    assert (folder / runFolder.OWNER).read_text() == str(os.getppid())
    panel.click("discardButton")
    assert (folder / runFolder.REQUEST).exists() and panel.ui.runSelector.isHidden()
    runFolder.release(folder)
    panel.widget.improve.refresh()
    panel.click("discardButton")
    assert not folder.exists() and panel.ui.runSelector.isHidden()
    assert panel.ui.improveMessageLabel.text == ""  # no run can be resumed any more
    assert answers.questions[-1].startswith("Delete the run theirs, today")


def test_what_a_crash_left_of_runs_is_swept(panel):
    from UGMCLSegmentationLib.storage import runFolder

    names = ("half", "fresh", "whole", "done", "theirs", "ours")
    made = {name: runFolder.create(name) for name in names}
    for name, folder in made.items():
        (folder / runFolder.CASES / "000.nrrd").write_bytes(b"patient")
        (folder / runFolder.CASE_LIST).write_text("{}")
        (folder / "cache").mkdir()
        if name in ("whole", "done"):
            run = runFolder.ResumableRun(folder, {"name": name, "base": ""}, {"date": "today"})
            runFolder.save(run)
        if name != "ours":
            runFolder.release(folder)
    runFolder.write(made["done"] / runFolder.RESULT, "{}")
    runFolder.write(made["theirs"] / runFolder.OWNER, str(os.getppid()))
    for name, folder in made.items():
        if name != "fresh":
            os.utime(folder, (1.0, 1.0))
    panel.loaded.reload()
    assert {name for name in names if not made[name].exists()} == {"half"}
    assert sorted(os.listdir(made["done"])) == [runFolder.REQUEST, runFolder.RESULT]
    for name in ("fresh", "whole", "theirs", "ours"):
        assert (made[name] / runFolder.CASES / "000.nrrd").exists()
        assert (made[name] / "cache").is_dir()
    runFolder.discard(made["whole"])
    assert not made["whole"].exists()


def test_a_name_that_was_taken_meanwhile(panel, monkeypatch):
    from UGMCLSegmentationLib.panel.models import models
    from UGMCLSegmentationLib.storage import userFolder

    monkeypatch.setenv("FAKE_STEP", "0.02")
    improve.prepare(panel, iterations=200)
    panel.click("finetuneButton")
    improve.wait_for_steps(panel)
    assert models.nameFor("MY-model") == "MY-model-2"  # the run's own is not given away
    improve.add_model(userFolder.models() / "my-model", ("left atrium", "82471001"))
    improve.finish(panel)
    made = userFolder.models() / "my-model-2"
    assert json.loads((made / "model.json").read_text())["name"] == "my-model-2"
    assert panel.parameters.model == "my-model-2" and "Dice rose" in panel.ui.reportLabel.text
    result = json.loads((improve.user_runs()[0] / "result.json").read_text())
    assert result["model"] == str(made) and result["request"]["name"] == "my-model-2"


def test_the_scene_may_be_closed_during_a_run(panel, monkeypatch):
    import slicer

    monkeypatch.setenv("FAKE_STEP", "0.02")
    improve.prepare(panel, iterations=200)
    panel.click("finetuneButton")
    improve.wait_for_steps(panel)
    slicer.mrmlScene.Clear(False)
    harness.process_events(200)
    assert panel.widget.improve.finetune.running
    improve.finish(panel)
    assert "Dice rose" in panel.ui.reportLabel.text
    assert panel.parameters.model == "my-model"


def test_the_scene_closed_while_cases_are_written(panel, monkeypatch):
    import slicer
    from UGMCLSegmentationLib.scene import nrrd

    monkeypatch.setattr(nrrd, "CHUNK", 2000)
    improve.prepare(panel)
    panel.click("finetuneButton")
    assert panel.widget.improve.finetune.running
    slicer.mrmlScene.Clear(False)
    improve.finish(panel, 2)
    assert improve.user_runs() == []
