"""Whatever fails, the run ends, the panel says so in one line and stays usable."""

from __future__ import annotations

import os
from pathlib import Path

import harness
import module_support as support
import pytest


def check(panel, *words: str) -> None:
    """A failed run: one line with these words, no node, no file, and everything can go on."""
    assert panel.message and "\n" not in panel.message
    for word in words:
        assert word in panel.message, panel.message
    assert support.result_nodes() == []
    harness.wait_until(lambda: support.private_folders() == [], 6)
    assert panel.ui.progressBar.isHidden() and not panel.ui.cancelButton.enabled


def full_disk(*_arguments, **_options):
    raise OSError(28, "No space left on device")


def start(panel) -> None:
    panel.select(support.add_volume())
    panel.click("segmentButton")


def test_no_room_for_the_temporary_folder(panel, monkeypatch):
    from UGMCLSegmentationLib.storage import temporaryFolders

    with monkeypatch.context() as patch:
        patch.setattr(temporaryFolders.tempfile, "mkdtemp", full_disk)
        start(panel)
        check(panel, "No temporary folder", "No space left")
    panel.segment()


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_no_permission_in_the_temporary_folder(panel, monkeypatch, tmp_path):
    from UGMCLSegmentationLib.storage import temporaryFolders

    place = tmp_path / "closed"
    place.mkdir(mode=0o555)
    with monkeypatch.context() as patch:
        patch.setattr(temporaryFolders, "place", lambda: place)
        isRoot = os.geteuid() == 0  # who may write anywhere, unless it gives up its rights
        panel.select(support.add_volume())
        try:
            if isRoot:
                os.seteuid(65534)
            panel.click("segmentButton")
        finally:
            if isRoot:
                os.seteuid(0)
        check(panel, "No temporary folder", "Permission denied")
    panel.segment()


def test_the_temporary_volume_cannot_be_written(panel, monkeypatch):
    from UGMCLSegmentationLib.scene import nrrd

    with monkeypatch.context() as patch:
        patch.setattr(nrrd, "open", full_disk, raising=False)
        start(panel)
        panel.finish(10)
        check(panel, "temporary volume", "No space left")
    panel.segment()


def test_the_request_of_a_one_shot_worker_cannot_be_written(panel, monkeypatch):
    """It is written from a timer, where nobody would see an exception."""
    from UGMCLSegmentationLib.worker import worker

    monkeypatch.setenv("FAKE_NO_STDIN", "1")
    with monkeypatch.context() as patch:
        patch.setattr(worker.Path, "write_text", full_disk)
        start(panel)
        panel.finish(20)
        check(panel, "request", "No space left")
    panel.click("segmentButton")
    panel.finish()
    assert panel.parameters.segmentation is not None


def test_a_worker_that_cannot_be_asked_to_stop_is_killed(panel, monkeypatch):
    from UGMCLSegmentationLib.worker import worker

    monkeypatch.setenv("FAKE_NO_STDIN", "1")
    monkeypatch.setenv("FAKE_SLOW", "30")
    start(panel)
    harness.wait_until(lambda: panel.ui.progressBar.value > 5, 20)
    monkeypatch.setattr(worker.Path, "touch", full_disk)
    panel.click("cancelButton")
    panel.finish(2)
    check(panel, "Canceled.")
    assert not panel.widget.logic.worker.busy


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "compressed"])
def test_results_that_cannot_be_read(panel, monkeypatch, damage):
    from UGMCLSegmentationLib.scene import resultNodes

    build = resultNodes.build

    def spoiled(result, *arguments):
        path = Path(result["classes"][0]["sdf"])
        content = path.read_bytes()
        if damage == "missing":
            path.unlink()
        else:
            changed = {
                "cut": content[: len(content) // 2],
                "text": b"nothing of use",
                "compressed": content.replace(b"encoding: raw", b"encoding: gzip"),
            }
            path.write_bytes(changed[damage])
        return build(result, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(resultNodes, "build", spoiled)
        start(panel)
        panel.finish(20)
        check(panel, "image_sdf_1.nrrd")
    panel.segment()


@pytest.mark.parametrize("error", [MemoryError(), KeyError("labels"), OSError(5, "I/O error")])
def test_an_error_while_the_result_is_loaded(panel, monkeypatch, error):
    from UGMCLSegmentationLib.scene import resultNodes

    def fail(*_arguments):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(resultNodes, "readLabels", fail)
        start(panel)
        panel.finish(20)
        expected = "memory" if isinstance(error, MemoryError) else error.args[-1]
        check(panel, expected)
    panel.segment()


def test_an_event_that_makes_no_sense_ends_the_run(panel, monkeypatch):
    monkeypatch.setenv("FAKE_CRASH", "gibberish")
    start(panel)
    panel.finish(20)
    check(panel, "half")
    monkeypatch.delenv("FAKE_CRASH")
    panel.widget.logic.worker.kill()
    panel.segment()


def test_an_error_while_the_result_is_shown_leaves_a_usable_panel(panel, monkeypatch):
    from UGMCLSegmentationLib.panel.display import appearance

    def fail(*_arguments, **_options):
        raise RuntimeError("no view")

    with monkeypatch.context() as patch:
        patch.setattr(appearance, "showAlone", fail)
        start(panel)
        panel.finish(20)
        harness.process_events(50)
    assert any("no view" in text for text in harness.errors.take())  # Slicer shows it in a window
    assert panel.ui.progressBar.isHidden() and panel.ui.segmentButton.enabled
    panel.segment()


def test_a_cancel_at_any_step_leaves_all_old_or_all_new(panel, monkeypatch, tmp_path):
    """And with it a mark by which the next run knows that nobody edited the result."""
    import slicer
    from UGMCLSegmentationLib import selftest
    from UGMCLSegmentationLib.scene import nrrd, resultNodes, results, volumes
    from UGMCLSegmentationLib.worker import incremental

    monkeypatch.setattr(nrrd, "CHUNK", 20_000)  # many steps
    volume = support.add_volume()
    box = volumes.fullBox(volume)
    answers = []
    for number, level in enumerate((100, 130)):
        folder = tmp_path / str(number)
        folder.mkdir()
        answers.append(selftest.answer(volume, folder, level))

    def state(node):
        arrays = [results.distanceOf(volume, 1), results.uncertaintyOf(volume)]
        return (
            node.GetAttribute(results.FINGERPRINT),
            node.GetAttribute(results.SUMMARY),
            support.segment_array(node, volume).tobytes(),
            *(slicer.util.arrayFromVolume(n).tobytes() for n in arrays),
        )

    node = incremental.finish(resultNodes.build(answers[1], volume, box))
    new = state(node)
    assert incremental.finish(resultNodes.build(answers[0], volume, box, node)) is node
    old = state(node)
    assert all(a != b for i, (a, b) in enumerate(zip(old, new, strict=True)) if i != 1)
    steps, isDone = 0, False
    while not isDone:
        work = resultNodes.build(answers[1], volume, box, node)
        try:
            for _step in range(steps):
                next(work)
            work.close()
        except StopIteration:
            isDone = True
        assert state(node) == (new if isDone else old), f"step {steps}"
        assert not incremental.finish(results.isEdited(node))
        steps += 1
    assert steps > 20
