"""The folder of models, runs and logs: where it is, that it is private, and who looks there."""

from __future__ import annotations

import os
from pathlib import Path

import harness
import module_support as support
import pytest


def test_it_is_in_slicers_data_folder_and_private(panel, slicer_app):
    from UGMCLSegmentationLib.storage import userFolder

    for folder in (userFolder.models(), userFolder.runs(), userFolder.logs()):
        assert folder.is_dir() and folder.parent == userFolder.path()
        assert folder.stat().st_mode & 0o777 == 0o700
    assert userFolder.path().stat().st_mode & 0o777 == 0o700
    assert userFolder.path().is_relative_to(slicer_app._data)
    assert userFolder.path().name == "UGMCLSegmentation"


def test_the_folders_that_updates_replace_are_refused(panel):
    """The module's, with or without the repository, is among them."""
    from UGMCLSegmentationLib.errors import PanelError
    from UGMCLSegmentationLib.storage import userFolder

    place = support.ENTRY.parent
    assert place.resolve() in list(userFolder._replaced())
    for folder in (place, place / "Resources" / "mine"):
        with pytest.raises(PanelError, match="replaced by updates"):
            userFolder.setPath(folder)
        assert not (place / "Resources" / "mine").exists()


def test_the_choice_stays_and_can_be_taken_back(panel, tmp_path):
    from UGMCLSegmentationLib.storage import userFolder

    userFolder.setPath(tmp_path / "mine")
    assert userFolder.runs() == tmp_path / "mine" / "runs"
    panel.loaded.reload()
    from UGMCLSegmentationLib.storage import userFolder as again

    assert again.path() == tmp_path / "mine"
    again.setPath("")
    assert again.path() == again.defaultPlace()


@pytest.mark.parametrize("name", ["module", "extensions", "slicer", "file"])
def test_a_place_that_would_not_last_is_refused(panel, slicer_app, tmp_path, name):
    from UGMCLSegmentationLib.errors import PanelError
    from UGMCLSegmentationLib.storage import userFolder

    (tmp_path / "file").touch()
    places = {
        "module": support.ENTRY.parent / "data",
        "extensions": Path(slicer_app.extensionsInstallPath) / "UGMCL",
        "slicer": Path(slicer_app.slicerHome) / "lib" / "UGMCL",
        "file": tmp_path / "file",
    }
    before = userFolder.place()
    with pytest.raises(PanelError, match=r"outside of|cannot be made"):
        userFolder.setPath(places[name])
    assert userFolder.place() == before
    assert name == "file" or not places[name].exists()


def test_the_worker_looks_there_after_the_environment(panel, tmp_path, monkeypatch):
    from UGMCLSegmentationLib.storage import userFolder
    from UGMCLSegmentationLib.worker import child

    monkeypatch.setenv("UGMCL_MODELS", "/other/models")
    userFolder.setPath(tmp_path)
    lines: list[str] = []
    script = "import os; print(os.environ['UGMCL_MODELS'])"
    child.Child([support.FAKE[0], "-c", script], lines.append, lambda ending: None)
    harness.wait_until(lambda: bool(lines), 20)
    assert lines == [os.pathsep.join(("/other/models", str(tmp_path / "models")))]
