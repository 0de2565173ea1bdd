"""Python behind a launcher, as PythonSlicer is: what is asked arrives, and what is killed ends."""

from __future__ import annotations

import contextlib
import os
import sys

import harness
import module_support as support
import psutil
import pytest

LAUNCHER = [sys.executable, str(support.HERE / "launcher.py")]


def workers() -> list[psutil.Process]:
    """The fake workers and launchers that this process started, directly or not."""
    found = []
    for worker in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            line = " ".join(worker.cmdline())
            if "fake_worker.py" in line or "launcher.py" in line:
                found.append(worker)
    return found


@pytest.fixture
def panel(scene):
    panel = support.Panel()
    panel.widget.logic.worker.helloTimeout = 2.0
    yield panel
    panel.close()


@pytest.mark.parametrize("kind", ["closed", "held"])
def test_a_launcher_that_forwards_no_stdin(panel, monkeypatch, kind):
    server = panel.widget.logic.worker
    server.command = [*LAUNCHER, kind]
    volume = support.add_volume()
    panel.select(volume)
    panel.click("segmentButton")
    panel.finish()
    node = panel.parameters.segmentation
    assert node is not None, panel.message + "|" + panel.ui.logText.plainText
    assert support.segment_array(node, volume).any()
    assert "does not receive requests" in panel.message
    harness.wait_until(lambda: workers() == [], 5)
    monkeypatch.setenv("FAKE_SLOW", "30")
    panel.click("segmentButton")
    harness.wait_until(lambda: panel.ui.progressBar.value > 5, 10)
    panel.click("cancelButton")
    harness.wait_until(lambda: panel.ui.segmentButton.enabled, 2)
    harness.wait_until(lambda: workers() == [] and support.private_folders() == [], 5)


def test_a_slow_start_is_waited_for(panel, monkeypatch):
    """As PyTorch's first import on a slow disk; later runs have the same process."""
    server = panel.widget.logic.worker
    server.helloTimeout = 1.0
    monkeypatch.setenv("FAKE_LOADING", "3")
    panel.segment(support.add_volume())
    pid = server.pid
    assert pid and "load" in panel.ui.logText.toPlainText()
    panel.segment()
    assert server.pid == pid


def test_a_start_that_never_ends_is_given_up(panel, monkeypatch):
    server = panel.widget.logic.worker
    server.helloTimeout = server.loadTimeout = 1.0
    monkeypatch.setenv("FAKE_LOADING", "0")
    monkeypatch.setenv("FAKE_NO_HELLO", "1")
    panel.select(support.add_volume())
    panel.click("segmentButton")
    panel.finish()
    assert "did not answer" in panel.message and panel.parameters.segmentation is not None


def test_the_worker_says_that_it_loads():
    from UGMCLSegmentationLib.worker import worker

    from ugmcl_core.worker import server

    assert worker._LOADING == server.LOADING


def test_a_launcher_that_forwards_stdin(panel):
    panel.widget.logic.worker.command = [*LAUNCHER, "forwarded"]
    panel.segment(support.add_volume())
    pid = panel.widget.logic.worker.pid
    panel.segment()
    assert panel.widget.logic.worker.pid == pid and len(workers()) == 2


@pytest.mark.parametrize("kind", ["held", "forwarded"])
def test_killing_the_launcher_ends_the_worker(panel, monkeypatch, kind):
    """Before its hello, when only the tree of processes shows who the worker is, and after."""
    server = panel.widget.logic.worker
    server.command = [*LAUNCHER, kind]
    server.start()
    harness.wait_until(lambda: server.hello is not None, 20)
    assert len(workers()) == 2
    server.kill()
    harness.wait_until(lambda: workers() == [], 5)
    monkeypatch.setenv("FAKE_NO_HELLO", "1")
    server.start()
    harness.wait_until(lambda: len(workers()) == 2, 20)
    server.kill()
    harness.wait_until(lambda: workers() == [], 5)


@pytest.mark.parametrize(
    ("there", "expected"),
    [(["python-real", "PythonSlicer"], "python-real"), (["PythonSlicer"], "PythonSlicer")],
)
def test_the_interpreter_comes_before_its_launcher(panel, slicer_app, monkeypatch, tmp_path,
                                                   there, expected):  # fmt: skip
    from UGMCLSegmentationLib.worker import child

    (tmp_path / "bin").mkdir()
    for name in there:
        (tmp_path / "bin" / name).touch()
    monkeypatch.setitem(slicer_app._facts, "slicerHome", str(tmp_path))
    assert child.pythonExecutable() == str(tmp_path / "bin" / expected)
    assert child.workerCommand()[1:] == ["-m", "ugmcl_core", "worker"]


def test_without_slicers_interpreter_the_path_is_searched(
    panel, slicer_app, monkeypatch, tmp_path
):
    from UGMCLSegmentationLib.worker import child

    monkeypatch.setitem(slicer_app._facts, "slicerHome", str(tmp_path))
    found = child.pythonExecutable()
    assert os.path.basename(found) == "PythonSlicer" and os.access(found, os.X_OK)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert child.pythonExecutable() == sys.executable
