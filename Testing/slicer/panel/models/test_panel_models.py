"""Models and storage: what the section shows, and what it does to models, folders and settings."""

from __future__ import annotations

import hashlib
import json
import os
import sys

import harness
import module_support as support
import pytest

sys.path.append(str(support.HERE.parent / "core"))
samples = pytest.importorskip("samples")


@pytest.fixture
def panel(scene, monkeypatch):
    import slicer

    # in testing mode Slicer's own answer is no
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_texts, **_options: True)
    panel = support.Panel()
    yield panel
    panel.close()


@pytest.fixture
def section(panel):
    panel.ui.modelsSection.collapsed = False
    return panel.widget.modelsSection


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given") / "tiny"
    return samples.tiny_model(folder, license="by tests")


def said(panel) -> str:
    return panel.ui.modelsMessageLabel.text


def listed(panel) -> list[str]:
    box = panel.ui.storedModelSelector
    return [box.itemText(n) for n in range(box.count)]


def bring(panel, section, source, sha256="") -> None:
    panel.ui.importSourceEdit.text = str(source)
    panel.ui.importSumEdit.text = sha256
    panel.click("importModelButton")
    assert section.running and not panel.ui.importProgressBar.isHidden()
    harness.wait_until(lambda: not section.running, 60)


def choose(panel, name) -> None:
    box = panel.ui.storedModelSelector
    box.currentIndex = box.findData(name)


def test_closed_it_costs_nothing_and_open_it_tells_of_the_bundled_model(panel):
    assert panel.ui.modelsSection.collapsed and listed(panel) == []
    panel.ui.modelsSection.collapsed = False
    assert "la-lge-mri" in listed(panel)
    choose(panel, "la-lge-mri")
    text = panel.ui.storedModelLabel.text
    assert "research use only" in text and text.lower().count("not for clinical use") == 1
    lines = text.splitlines()
    assert lines[1:3] == ["Structures: left atrium", "Images: LGE-MRI"]
    assert [line.partition(":")[0] for line in lines[3:]] == ["Use", "License", "Place"]
    for button in (panel.ui.deleteModelButton, panel.ui.renameModelButton):
        assert not button.enabled and "came with the extension" in button.toolTip
    assert panel.ui.exportModelButton.enabled and not panel.ui.importModelButton.enabled
    assert "Choose a folder" in panel.ui.importModelButton.toolTip
    assert panel.ui.importSumEdit.isHidden() and panel.ui.knownModelSelector.isHidden()


def test_a_model_goes_in_out_gets_a_name_and_goes(panel, section, model, tmp_path):
    from UGMCLSegmentationLib.storage import userFolder

    bring(panel, section, model.folder)
    assert said(panel) == "tiny was imported." and "tiny" in listed(panel)
    assert (userFolder.models() / "tiny" / "model.json").is_file()
    assert panel.parameters.model == "tiny"  # chosen to segment with
    assert panel.ui.importSourceEdit.text == ""
    with harness.answering(str(tmp_path / "tiny.zip")):
        panel.click("exportModelButton")
    harness.wait_until(lambda: not section.running, 60)
    assert (tmp_path / "tiny.zip").is_file() and "tiny.zip" in said(panel)
    with harness.answering("better"):
        panel.click("renameModelButton")
    assert "better" in listed(panel) and "tiny" not in listed(panel)
    assert panel.parameters.model == "better"
    panel.parameters.model = "la-lge-mri"
    with harness.answering("best"):
        panel.click("renameModelButton")
    assert panel.parameters.model == "la-lge-mri"  # another one is segmented with
    with harness.answering("better"):
        panel.click("renameModelButton")
    panel.parameters.model = "better"
    with harness.answering("no name"):
        panel.click("renameModelButton")
    assert "name" in said(panel) and "better" in listed(panel)
    bring(panel, section, tmp_path / "tiny.zip")
    assert {"better", "tiny"} <= set(listed(panel))
    choose(panel, "tiny")
    panel.click("deleteModelButton")
    assert "tiny" not in listed(panel) and not (userFolder.models() / "tiny").exists()
    assert said(panel) == "tiny was deleted."
    assert panel.parameters.model == "better"  # the first that is left
    assert panel.message == "The model tiny was deleted; another one is selected now."


def test_models_elsewhere_are_neither_renamed_nor_deleted(
    panel, section, model, tmp_path, monkeypatch
):
    from UGMCLSegmentationLib.storage import userFolder

    (userFolder.models() / "linked").symlink_to(model.folder)
    section.refresh()
    choose(panel, model.name)
    assert panel.ui.exportModelButton.enabled
    assert not panel.ui.renameModelButton.enabled and not panel.ui.deleteModelButton.enabled
    assert "shown under Storage" in panel.ui.deleteModelButton.toolTip
    (userFolder.models() / "linked").unlink()
    samples.tiny_model(tmp_path / "shared" / "theirs")
    monkeypatch.setenv("UGMCL_MODELS", str(tmp_path / "shared"))
    section.refresh()
    choose(panel, model.name)
    assert panel.ui.exportModelButton.enabled
    assert not panel.ui.renameModelButton.enabled and not panel.ui.deleteModelButton.enabled


def test_a_model_is_not_deleted_with_what_else_is_in_its_folder(panel, section, model):
    from UGMCLSegmentationLib.storage import userFolder

    bring(panel, section, model.folder)
    scan = userFolder.models() / "tiny" / "scan.nrrd"
    scan.write_bytes(b"x")
    panel.click("deleteModelButton")
    assert "holds scan.nrrd" in said(panel) and "tiny" in listed(panel) and scan.exists()
    with harness.answering("better"):
        panel.click("renameModelButton")
    assert "better" in listed(panel) and (userFolder.models() / "better" / "scan.nrrd").exists()


def test_what_cannot_be_imported_is_one_line(panel, section, tmp_path):
    bring(panel, section, tmp_path)
    assert said(panel).startswith(f"{tmp_path} is not a model: it has no model.json")
    bring(panel, section, "https://127.0.0.1:9/a.zip", "0" * 64)
    assert "cannot be downloaded" in said(panel) and "\n" not in said(panel)
    assert panel.ui.importProgressBar.isHidden()


def test_an_address_asks_for_its_sum(panel, section):
    panel.ui.importSourceEdit.text = "https://example.org/a.zip"
    assert not panel.ui.importSumEdit.isHidden()
    bring(panel, section, "https://example.org/a.zip")
    assert "SHA-256" in said(panel)


def test_known_models_are_offered(panel, section, model):
    from UGMCLSegmentationLib.storage import userFolder

    entry = {"name": "far", "description": "x", "license": "y", "url": "https://127.0.0.1:9/a.zip",
             "sha256": "0" * 64, "bytes": 2_500_000}  # fmt: skip
    index = userFolder.models() / "index.json"
    index.write_text(json.dumps({"format": 1, "models": [entry]}))
    section.refresh()
    assert not panel.ui.knownModelSelector.isHidden()
    assert panel.ui.knownModelSelector.itemText(1) == "far (2.5 MB)"
    panel.ui.knownModelSelector.currentIndex = 1
    assert panel.ui.importSourceEdit.text == "far"
    panel.click("importModelButton")
    harness.wait_until(lambda: not section.running, 60)
    assert "127.0.0.1:9" in said(panel)
    index.write_text("[]")
    section.refresh()
    assert "index.json" in said(panel)


def test_a_stop_ends_the_process(panel, section, model):
    panel.ui.importSourceEdit.text = str(model.folder)
    panel.click("importModelButton")
    panel.click("importStopButton")
    assert said(panel) == "Stopped." and not section.running
    assert panel.ui.importModelButton.enabled


def test_storage_is_shown_and_freed(panel, section, monkeypatch):
    import slicer
    from UGMCLSegmentationLib.storage import userFolder

    (userFolder.runs() / "first").mkdir()
    (userFolder.runs() / "first" / "checkpoint").write_bytes(bytes(2_500_000))
    (userFolder.logs() / "log.txt").write_bytes(bytes(600_000))
    kept = userFolder.models() / "notes.txt"
    kept.write_bytes(bytes(100_000))
    section.refresh()
    assert panel.ui.storageLabel.text == (
        f"{userFolder.path()}\nmodels 0.1 MB, runs 2.5 MB, logs 0.6 MB"
    )
    questions = []

    def ask(text, _title):
        questions.append(text)
        return len(questions) > 1

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", ask)
    panel.click("freeStorageButton")
    assert "3.1 MB" in questions[0] and any(userFolder.runs().iterdir())
    panel.click("freeStorageButton")
    assert "runs 0.0 MB, logs 0.0 MB" in panel.ui.storageLabel.text and kept.exists()


def test_runs_of_another_slicer_are_not_freed(panel, section):
    from UGMCLSegmentationLib.storage import runFolder

    mine, theirs = runFolder.create("mine"), runFolder.create("theirs")
    runFolder.write(theirs / runFolder.OWNER, str(os.getppid()))
    panel.click("freeStorageButton")
    assert not mine.exists() and (theirs / runFolder.CASES).is_dir()


def test_nothing_is_deleted_during_a_run(panel, section, monkeypatch):
    from UGMCLSegmentationLib.storage import userFolder

    (userFolder.runs() / "first").mkdir()
    monkeypatch.setattr(panel.widget.logic.trainer, "_request", object())
    panel.click("freeStorageButton")
    assert "in progress" in said(panel) and (userFolder.runs() / "first").exists()
    monkeypatch.undo()


def test_another_place_gets_a_folder_of_its_own(panel, section, tmp_path, model):
    from UGMCLSegmentationLib.storage import userFolder

    (tmp_path / "runs").mkdir()  # of somebody else
    logic = panel.widget.logic
    logic.trainer.start()
    harness.wait_until(lambda: logic.trainer.pid, 20)
    with harness.answering(str(tmp_path)):
        panel.click("changeStorageButton")
    assert logic.trainer.pid == 0  # it would look for models in the former place
    assert userFolder.path() == tmp_path / "UGMCLSegmentation"
    panel.click("freeStorageButton")
    assert (tmp_path / "runs").is_dir()
    bring(panel, section, model.folder)
    assert (tmp_path / "UGMCLSegmentation" / "models" / "tiny").is_dir()
    with harness.answering(str(support.ENTRY.parent)):
        panel.click("changeStorageButton")
    assert "replaced by updates" in said(panel)


def test_the_folder_is_opened(panel, section, monkeypatch):
    import qt
    from UGMCLSegmentationLib.storage import userFolder

    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: opened.append(url))
    panel.click("openStorageButton")
    assert [u.toLocalFile() for u in opened] == [str(userFolder.path())]


def test_the_license_is_agreed_to_once(panel, model, slicer_app, monkeypatch):
    import slicer
    from UGMCLSegmentationLib.panel.setup import license

    from ugmcl_core.models.model import resolve

    told = []
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay",
        lambda text, title, detailedText: told.append((text, detailedText)) or len(told) > 1,
    )  # fmt: skip
    monkeypatch.setattr(slicer_app, "_testing", False)
    panel.parameters.model = "la-lge-mri"
    panel.select(support.add_volume())
    panel.click("segmentButton")
    assert "not agreed to" in panel.message and not panel.widget.logic.running
    text, details = told[0]
    bundled = resolve("la-lge-mri")
    assert bundled.card.license in text and "not for clinical use" in text
    assert details == (bundled.folder / "NOTICE.txt").read_text()
    panel.segment()  # and now it is agreed to
    panel.segment()
    assert len(told) == 2
    mark = hashlib.sha256(bundled.card.license.encode()).hexdigest()[:16]
    assert slicer.app.settings().value(license.KEY) == mark


def test_closing_the_panel_ends_an_import(scene, model):
    panel = support.Panel()
    panel.ui.modelsSection.collapsed = False
    panel.ui.importSourceEdit.text = str(model.folder)
    panel.click("importModelButton")
    pid = panel.widget.modelsSection._child._process.processId()
    panel.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
