"""Other computers in the panel: the list, tests, consent, and the process that works for them."""

from __future__ import annotations

import json
import sys

import harness
import module_support as support
import pytest

NAME = "gpu-box"


@pytest.fixture
def panel(scene, answers, monkeypatch):
    monkeypatch.setenv("UGMCL_SSH", f"{sys.executable} {support.HERE / 'fake_ssh.py'}")
    panel = support.Panel()
    panel.ui.modelsSection.collapsed = False
    yield panel
    panel.close()


def add(panel, name=NAME) -> None:
    with harness.answering(name):
        panel.click("addComputerButton")
    harness.wait_until(lambda: not panel.widget.computersSection.running, 60)


def states(panel) -> dict[str, str]:
    table = panel.ui.computersTable
    return {table.item(r, 0).text(): table.item(r, 1).text() for r in range(table.rowCount)}


def devices(panel) -> dict[str, str]:
    box = panel.ui.deviceSelector
    return {box.itemText(n): box.itemData(n) for n in range(box.count)}


def test_add_test_use_and_remove(panel):
    assert states(panel) == {} and not panel.ui.testComputerButton.enabled
    add(panel)
    assert states(panel) == {NAME: "NVIDIA A (40 GiB), NVIDIA B (80 GiB)"}
    text = panel.ui.computersLabel.text
    assert "gpu-box is ready: ugmcl 0.1.0, Python 3.12.1, PyTorch 2.8.0." in text
    assert "8 CPU cores, 64 GiB of memory, 500 GB of disk free." in text and "33.0 MB" in text
    found = devices(panel)
    assert found[NAME] == "auto@gpu-box" and found["gpu-box: NVIDIA B"] == "cuda:1@gpu-box"
    panel.click("cleanComputerButton")
    harness.wait_until(lambda: not panel.widget.computersSection.running, 60)
    assert panel.ui.computersLabel.text == "33.0 MB were deleted on gpu-box."
    panel.click("removeComputerButton")
    assert states(panel) == {} and NAME not in devices(panel)


def test_the_whole_state_can_be_read(panel):
    """In a panel of Slicer's usual width."""
    add(panel)
    ui = panel.ui
    ui.modelsSection.resize(400, 800)
    harness.process_events()
    table = ui.computersTable
    table.resize(350, table.height)
    harness.process_events()
    item, width = table.item(0, 1), table.columnWidth(1)
    font = table.fontMetrics()
    text = font.boundingRect(0, 0, width - 8, 1000, 0x1000, item.text())  # wrapped at words
    assert text.height() > font.height()  # more than one line
    assert table.rowHeight(0) >= text.height()
    assert table.height >= table.rowHeight(0) + 26


def test_the_list_outlives_the_panel(panel):
    add(panel)
    panel.ui.computerCommandEdit.text = "module load python; ugmcl"
    panel.widget.computersSection._onCommand()
    assert states(panel) == {NAME: "not tested"}  # that was another way to start it
    from UGMCLSegmentationLib.storage import computers

    (known,) = computers.listing()
    assert known.command == "module load python; ugmcl"
    assert computers.words(NAME) == ["--on", NAME, f"--on-command={known.command}"]
    assert computers.words("") == []


@pytest.mark.parametrize(
    ("name", "fault", "text"),
    [
        ("nowhere", "", "nowhere is unknown: check its name and the network"),
        (NAME, "refused", "gpu-box refused the key"),
        ("-oProxyCommand=x", "", "is not a computer"),
    ],
)
def test_one_line_for_each_fault(panel, monkeypatch, name, fault, text):
    monkeypatch.setenv("FAKE_SSH", fault)
    add(panel, name)
    assert text in panel.ui.computersLabel.text
    assert "\n" not in panel.ui.computersLabel.text


def test_a_computer_without_ugmcl_offers_to_install_it(panel, answers, monkeypatch):
    monkeypatch.setenv("FAKE_SSH", "missing")
    answers.yes = False
    add(panel)
    assert states(panel) == {NAME: "ugmcl is not installed"}
    assert "Python 3.12.1" in answers.questions[-1] and "512 GB" in answers.questions[-1]
    assert "ugmcl is not installed on gpu-box" in panel.ui.computersLabel.text


def test_the_panel_says_what_it_sends_before_the_first_use(panel, answers, monkeypatch):
    import slicer

    monkeypatch.setattr(slicer.app, "_testing", False)
    add(panel)
    panel.select(support.add_volume())
    panel.parameters.device = "auto@gpu-box"
    answers.questions.clear()
    answers.yes = False
    panel.click("segmentButton")
    assert panel.message == "Nothing was sent to gpu-box."
    assert "The work is done on gpu-box" in answers.questions[-1]
    for words in ("to segment and to rank", "to fine-tune", "Keep learning also sends each case"):
        assert words in answers.questions[-1]
    answers.yes = True
    panel.segment()
    asked = len(answers.questions)
    panel.segment()
    assert len(answers.questions) == asked  # once for each computer
    panel.click("testComputerButton")
    harness.wait_until(lambda: not panel.widget.computersSection.running, 60)
    panel.segment()
    assert len(answers.questions) == asked  # and a test does not change that


def test_a_process_for_each_computer(panel):
    add(panel)
    worker = panel.widget.logic.worker
    panel.segment(support.add_volume())
    here = worker.pid
    panel.parameters.device = "cuda:1@gpu-box"
    panel.segment()
    there = worker.pid
    assert there != here and worker.hello["on"] == NAME
    panel.segment()
    assert worker.pid == there
    assert NAME in devices(panel)  # the list does not change with the computer
    panel.parameters.device = "auto"
    panel.segment()
    assert worker.pid not in (here, there) and worker.hello["on"] is None


def test_a_discarded_run_is_removed_there_too(panel, tmp_path):
    from UGMCLSegmentationLib.worker import elsewhere

    record = {"computer": NAME, "run": "20260101-120000-0123abcd", "out": 0, "errors": 0}
    (tmp_path / "there.json").write_text(json.dumps(record))
    assert elsewhere.computerOf(tmp_path) == NAME
    elsewhere.forget(tmp_path)
    assert len(elsewhere._children) == 1
    harness.wait_until(lambda: not elsewhere._children, 60)
    assert elsewhere.computerOf(tmp_path / "none") == ""


def test_pytorch_is_not_needed_here(panel, monkeypatch):
    from UGMCLSegmentationLib.panel.setup import dependencies

    facts = dependencies.Facts(torch="", others=(), isExtensionLoaded=False)
    monkeypatch.setattr(dependencies, "facts", lambda: facts)
    panel.widget.setupSection.refresh()
    panel.parameters.device = "auto@gpu-box"
    assert panel.segment(support.add_volume()) is not None
