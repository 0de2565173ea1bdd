"""The panel with a real OpenSSH server on the loopback: install, segment, rank, fine-tune, quit,
resume, and each way in which the computer or the connection fails."""

from __future__ import annotations

import shutil
import sys
import sysconfig
import time
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
    panel = opened(weak, monkeypatch)
    yield panel
    panel.close()


def opened(weak, monkeypatch) -> support.Panel:
    panel = improve.real_panel(weak, monkeypatch)
    panel.parameters.device = PLACE
    return panel


def reopened(panel, weak, monkeypatch) -> support.Panel:
    """The panel of a Slicer that was quit and started again, with an empty scene."""
    import slicer

    panel.close()
    slicer.mrmlScene.Clear(False)
    return opened(weak, monkeypatch)


def state_of_test(panel) -> str:
    """What the test of the computer, or the installation after it, says."""
    harness.wait_until(lambda: not panel.widget.computersSection.running, 240)
    return panel.ui.computersLabel.text


OLD = """#!/bin/sh
[ "$2" = ugmcl_core ] || exit 1
echo '{"event": "session", "version": "0.0.9", "protocol": 2}'
cat > /dev/null
"""


@pytest.mark.timeout(900)
def test_from_nothing_to_a_segmentation(panel, sshd, answers, monkeypatch):
    """As docs/remote.md says. Nothing is downloaded: the Python there knows the packages by
    PYTHONPATH, and pip has no index."""
    import slicer

    monkeypatch.setattr(slicer.app, "_testing", False)  # so that the panel asks
    packages = f"PYTHONPATH={sysconfig.get_path('purelib')} PIP_NO_INDEX=1"
    sshd.set_there(f"PYTHONPATH={ssh_support.ROOT}", packages)
    shutil.rmtree(sshd.home / "environment")
    panel.parameters.device = "cpu"
    panel.ui.modelsSection.collapsed = False
    with harness.answering(ssh_support.NAME):
        panel.click("addComputerButton")
    assert "gpu-box is ready" in state_of_test(panel)
    assert "ugmcl is missing on gpu-box" in answers.questions[-1]
    assert (sshd.home / "environment" / "bin" / "ugmcl").is_file()
    panel.parameters.device = panel.ui.deviceSelector.itemData(
        panel.ui.deviceSelector.findText(ssh_support.NAME)
    )
    volume = support.add_volume()
    assert panel.segment(volume, seconds=200) is not None
    assert "over ssh. These are sent there" in answers.questions[-1]
    # another version there
    panel.widget.logic.worker.kill()
    python = sshd.home / "environment" / "bin" / "python"
    python.unlink()
    python.write_text(OLD)
    python.chmod(0o755)
    panel.click("segmentButton")
    panel.finish(60)
    assert "gpu-box has ugmcl 0.0.9 and this computer 0." in panel.message
    assert "\n" not in panel.message
    panel.click("testComputerButton")
    assert "gpu-box is ready" in state_of_test(panel)
    assert "or has another version" in answers.questions[-1]
    # a command of one's own
    other = sshd.home.with_name("other")
    panel.ui.computerCommandEdit.text = (
        f"env UGMCL_HOME={other} {sshd.home}/environment/bin/ugmcl"
    )
    panel.widget.computersSection._onCommand()
    panel.widget.logic.worker.kill()
    assert panel.segment(volume, seconds=200) is not None
    assert len(list((other / "models").iterdir())) == 1


def test_test_segment_and_rank_there_as_here(panel, sshd):
    panel.ui.modelsSection.collapsed = False
    with harness.answering(ssh_support.NAME):
        panel.click("addComputerButton")
    assert "gpu-box is ready" in state_of_test(panel)
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
    panel.click("batchButton")
    harness.wait_until(lambda: not panel.widget.logic.running, 120)
    assert panel.ui.batchLabel.text.startswith("4 of 4 volumes were segmented.")
    panel.click("estimateButton")
    improve.finish(panel, 120)
    assert "of memory on gpu-box." in panel.ui.estimateLabel.text
    assert sshd.processes("--session"), "all of it was done there"


def begin(panel, sshd) -> None:
    """Start a long segmentation there, and wait until it is under way."""
    panel.ui.passesSpinBox.value = 64
    panel.select(support.add_volume(support.blob((96, 88, 80))))
    panel.click("segmentButton")
    harness.wait_until(lambda: "segmenting" in panel.message, 120)


def test_each_fault_is_one_line_and_the_panel_goes_on(panel, sshd):
    def fails(text: str, act=lambda: None) -> None:
        act()
        panel.finish(60)
        assert text in panel.message and "\n" not in panel.message, panel.message

    def click() -> None:
        panel.click("segmentButton")

    def works() -> None:
        panel.ui.passesSpinBox.value = 1
        assert panel.segment(volume, seconds=120) is not None
        panel.widget.logic.worker.kill()

    volume = support.add_volume(name="scan")
    panel.select(volume)
    sshd.know("other_host_key")
    fails("The host key of gpu-box has changed", click)
    sshd.know("host_key")
    sshd.write_config(key="other_key")
    fails("gpu-box refused the key", click)
    sshd.write_config(port=1)
    fails("gpu-box cannot be reached (Connection refused)", click)
    sshd.write_config()
    begin(panel, sshd)
    fails("The connection to gpu-box was lost", sshd.cut)
    begin(panel, sshd)
    for process in sshd.processes("worker"):
        if "--session" not in process.cmdline():
            process.kill()
    fails("the segmentation process was killed there")
    works()
    sshd.fill_disk()
    panel.select(support.add_volume(support.blob((160, 150, 140))))
    fails("free space", click)


def test_cancel_ends_it_here_within_a_second_and_there_too(panel, sshd):
    begin(panel, sshd)
    began = time.monotonic()
    panel.click("cancelButton")
    panel.finish(5)
    assert time.monotonic() - began < 1.0
    harness.wait_until(
        lambda: not [f for folder in sshd.left() for f in folder.rglob("*.nrrd")], 30
    )


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
    assert "on gpu-box" in panel.ui.runSelector.itemText(0)
    panel.click("resumeButton")
    improve.finish(panel, 280)
    assert not panel.ui.reportLabel.isHidden(), panel.ui.improveMessageLabel.text
    assert not run.exists()
    panel.parameters.model = "my-model"
    assert panel.segment(support.add_volume(name="new"), seconds=120) is not None


def test_a_finished_model_is_fetched_by_the_next_slicer(panel, sshd, weak, monkeypatch):
    from ugmcl_core.remote import runs

    improve.prepare(panel, iterations=12)
    panel.click("finetuneButton")
    harness.wait_until(lambda: panel.ui.pauseButton.enabled, 200)
    (run,) = (sshd.home / "runs").iterdir()
    panel = reopened(panel, weak, monkeypatch)
    try:
        harness.wait_until(lambda: runs.state(run) == runs.DONE, 280)
        improve.open_improve(panel)
        assert "on gpu-box" in panel.ui.runSelector.itemText(0)
        panel.click("resumeButton")
        improve.finish(panel, 120)
        assert not panel.ui.reportLabel.isHidden(), panel.ui.improveMessageLabel.text
        assert not run.exists()
        panel.parameters.model = "my-model"
        panel.parameters.device = "cpu"
        assert panel.segment(support.add_volume(name="new"), seconds=120) is not None
    finally:
        panel.close()


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
    assert "on gpu-box" in ui.runSelector.itemText(0)
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
