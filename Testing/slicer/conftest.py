"""Fixtures for tests in the headless Slicer."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# This folder and never its parent: a folder named slicer on the path would be merged with the
# package of that name.
sys.path.insert(0, str(Path(__file__).parent))
if "UGMCL_INSTALLED" in os.environ:  # test what is installed there, with the repository away
    root = Path(__file__).resolve().parents[2]
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != root]
    sys.path.insert(0, os.environ["UGMCL_INSTALLED"])

import harness


@pytest.fixture(scope="session")
def slicer_app() -> Any:
    """slicer.app of the headless Slicer."""
    app = harness.start()
    gc.freeze()  # what the modules hold is not looked through at the end of every test
    return app


@pytest.fixture
def scene(slicer_app: Any) -> Iterator[Any]:
    """An empty scene, no settings and no data of the user; a test fails if a slot raised, or if
    a timer of QTimer.singleShot is left, which Slicer would keep to its end."""
    import qt
    import slicer

    modules = slicer_app.moduleManager()
    timers = len(modules.findChildren(qt.QTimer))
    harness.errors.take()
    slicer_app.settings().clear()
    shutil.rmtree(slicer_app._data, ignore_errors=True)
    extensions = slicer_app.extensionsManagerModel()
    extensions.installedExtensions.clear()
    extensions._on_server.clear()
    extensions.interactive = True
    slicer.mrmlScene.Clear(False)
    yield slicer.mrmlScene
    harness.process_events()
    slicer.mrmlScene.Clear(False)
    harness.process_events()
    raised = harness.errors.take()
    if raised:
        pytest.fail("exceptions in slots or observers:\n" + "\n".join(raised))
    assert len(modules.findChildren(qt.QTimer)) == timers


@pytest.fixture
def panel(scene: Any) -> Iterator[Any]:
    """The module's panel with the worker of the tests, closed in the end."""
    import module_support

    panel = module_support.Panel()
    yield panel
    panel.close()


@pytest.fixture
def answers(monkeypatch):
    """What the user says to questions, and the questions."""
    import slicer

    told = types.SimpleNamespace(yes=True, questions=[])

    def ask(text, *_more, **_options):
        told.questions.append(text)
        return told.yes

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", ask)
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", ask)
    return told
