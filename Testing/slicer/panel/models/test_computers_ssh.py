"""The panel with a real OpenSSH server on the loopback: segment, rank, fine-tune, quit, resume."""

from __future__ import annotations

import sys
from pathlib import Path

import harness
import improve_support as improve
import module_support as support
import pytest

sys.path.append(str(support.HERE.parent / "core"))
pytest.importorskip("torch")
ssh_support = pytest.importorskip("ssh_support")
import module_models  # noqa: E402

pytestmark = [ssh_support.needs_sshd, pytest.mark.slow]
PLACE = f"auto@{ssh_support.NAME}"


@pytest.fixture(scope="module")
def weak(tmp_path_factory) -> Path:
    """A model that has seen a few steps only."""
    return module_models.train_tiny(tmp_path_factory.mktemp("weak"), iterations=10)


@pytest.fixture
def sshd(tmp_path, monkeypatch):
    place = tmp_path / "server"
    place.mkdir()
    with ssh_support.serving(place) as server:
        monkeypatch.setenv("UGMCL_SSH", server.client)
        yield server


@pytest.fixture
def panel(scene, weak, sshd, monkeypatch):
    panel = improve.real_panel(weak, monkeypatch)
    panel.parameters.device = PLACE
    yield panel
    panel.close()


def test_test_segment_and_rank_there_as_here(panel, sshd):
    panel.ui.modelsSection.collapsed = False
    with harness.answering(ssh_support.NAME):
        panel.click("addComputerButton")
    harness.wait_until(lambda: not panel.widget.computersSection.running, 120)
    assert "gpu-box is ready" in panel.ui.computersLabel.text
    volume = support.add_volume(name="scan")
    there = support.segment_array(panel.segment(volume, seconds=120), volume)
    assert there.any() and sshd.left()  # the connection stays for the next run
    panel.parameters.device = "cpu"
    here = support.segment_array(panel.segment(volume, seconds=120), volume)
    assert (here == there).all()
    harness.wait_until(lambda: not sshd.left(), 30)  # it is another process now
    panel.parameters.device = PLACE
    panel.ui.passesSpinBox.value = 2
    panel.ui.improveSection.collapsed = False
    improve.prepare(panel, 1, 2, 0)
    panel.ui.nextSection.collapsed = False
    panel.click("rankButton")
    harness.wait_until(lambda: not panel.widget.logic.running, 120)
    assert {"un0", "un1"} <= set(improve.rows(panel)), panel.ui.nextLabel.text


def test_a_failing_connection_is_one_line_and_the_panel_goes_on(panel, sshd):
    volume = support.add_volume(name="scan")
    sshd.know("other_host_key")
    panel.select(volume)
    panel.click("segmentButton")
    panel.finish(60)
    assert "the host key of gpu-box has changed" in panel.message
    sshd.know("host_key")
    assert panel.segment(volume, seconds=120) is not None


def test_a_fine_tuning_outlives_the_panel(panel, sshd, weak, monkeypatch):
    improve.prepare(panel, iterations=40)
    panel.click("finetuneButton")
    harness.wait_until(lambda: panel.ui.pauseButton.enabled, 200)
    panel.click("pauseButton")
    harness.wait_until(lambda: panel.ui.pauseButton.text == "Continue", 30)
    panel.click("pauseButton")
    harness.wait_until(lambda: panel.ui.pauseButton.text == "Pause", 30)
    sshd.cut()
    panel.widget.improve.close()  # Slicer quits meanwhile
    harness.wait_until(lambda: not sshd.left(), 60)
    (run,) = (sshd.home / "runs").iterdir()
    panel.widget.improve.refresh()
    assert "at gpu-box" in panel.ui.runSelector.itemText(0)
    panel.click("resumeButton")
    improve.finish(panel, 280)
    assert not panel.ui.reportLabel.isHidden(), panel.ui.improveMessageLabel.text
    assert not run.exists()
    panel.parameters.model = "my-model"
    assert panel.segment(support.add_volume(name="new"), seconds=120) is not None


def test_keep_learning_there_through_a_quit(panel, sshd, monkeypatch):
    from UGMCLSegmentationLib.panel.improve import ranking

    monkeypatch.setattr(ranking, "openSegmentEditor", lambda *nodes: None)
    ui = panel.ui
    ui.nextSection.collapsed = False
    improve.prepare(panel, 1, 2, 1)
    ui.keepLearningCheckBox.checked = True
    harness.wait_until(lambda: "step" in ui.learningProgressLabel.text, 200)
    improve.select_rows(panel, "un0")
    panel.click("openNextButton")
    improve.wait(panel, 120)
    panel.click("acceptButton")
    harness.wait_until(lambda: "un0 joined at step" in ui.improveLogText.toPlainText(), 120)
    panel.click("compareLearningButton")
    harness.wait_until(lambda: "Dice" in ui.improveLogText.toPlainText().split("joined")[1], 60)
    (run,) = (sshd.home / "runs").iterdir()
    panel.widget.improve.close()  # Slicer quits
    harness.wait_until(lambda: len(sshd.left()) == 1, 60)  # that of Correct next stays
    assert sshd.processes("ugmcl_core.remote.job"), "it goes on there"
    panel.widget.improve.finetune.occupation = ""  # as in a new panel
    panel.widget.improve.refresh()
    assert "at gpu-box" in ui.runSelector.itemText(0)
    panel.click("resumeButton")
    harness.wait_until(lambda: "2 labeled cases" in ui.learningProgressLabel.text, 120)
    ui.keepLearningCheckBox.checked = False
    harness.wait_until(lambda: not panel.widget.improve.keepLearning.running, 200)
    assert not ui.reportLabel.isHidden(), ui.learningMessageLabel.text
    assert not run.exists()


def test_a_discarded_run_ends_there(panel, sshd, answers):
    improve.prepare(panel, 1, 1, 0, iterations=4000)
    panel.click("finetuneButton")
    harness.wait_until(lambda: panel.ui.pauseButton.enabled, 200)
    panel.click("cancelFinetuneButton")
    improve.finish(panel, 2)
    assert "can be resumed" in panel.ui.improveMessageLabel.text
    harness.wait_until(lambda: not panel.widget.logic.trainer.busy, 60)
    panel.click("discardButton")
    harness.wait_until(lambda: not list((sshd.home / "runs").iterdir()), 60)
    assert not sshd.processes("ugmcl_core.remote.job")
