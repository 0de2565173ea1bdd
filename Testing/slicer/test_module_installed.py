"""The installed layout: what CMake lists lies flat in one folder, away from the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import module_support as support
import pytest

CORE_TESTS = support.HERE.parent / "core"
sys.path.append(str(CORE_TESTS))
test_packaging = pytest.importorskip("test_packaging")

SCRIPT = """
import json, sys
sys.path.insert(0, {tests!r})
import harness, module_support as support
harness.start()
from pathlib import Path
support.ENTRY = Path({folder!r}) / "UGMCLSegmentation.py"
panel = support.Panel(command=None)
from UGMCLSegmentationLib import child, models
import ugmcl_core
lines = []
other = child.Child([sys.executable, "-c", "import ugmcl_core; print(ugmcl_core.__file__)"],
                    lines.append, lambda ending: None)
panel.widget.logic.worker.start()
harness.wait_until(lambda: panel.widget.logic.worker.hello is not None, 120)
harness.wait_until(lambda: bool(lines), 60)
folders = [str(model.folder) for model in __import__("ugmcl_core.model").model.find_models()]
told = dict(package=ugmcl_core.__file__, lib=child.__file__, worker=lines[0],
            hello=panel.widget.logic.worker.hello["version"], folders=folders,
            listed=[info.key for info in models.installed()])
panel.close()
print("\\n" + json.dumps(told))
"""


def install(folder: Path) -> None:
    """Copy what the lists name, as slicerMacroBuildScriptedModule does."""
    for cmake, names in (
        (test_packaging.ROOT / "CMakeLists.txt", ("UGMCL_CORE_SCRIPTS", "UGMCL_CORE_RESOURCES")),
        (
            test_packaging.MODULE / "CMakeLists.txt",
            ("MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES"),
        ),
    ):
        for name in names:
            for entry in test_packaging.listed(cmake, name):
                target = folder / entry
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(cmake.parent / entry, target)


def test_worker_and_models_are_found_where_slicer_installs_them(tmp_path):
    pytest.importorskip("torch")
    samples = pytest.importorskip("samples")
    folder = tmp_path / "qt-scripted-modules"
    install(folder)
    samples.tiny_model(folder / "Resources" / "Models" / "sample", name="sample")
    script = SCRIPT.format(tests=str(support.HERE), folder=str(folder))
    away = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "UGMCL_MODELS")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, env=away, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for key in ("package", "lib", "worker"):
        assert Path(told[key]).is_relative_to(folder), told
    assert told["hello"]
    assert "sample" in told["listed"]
    assert all(Path(f).parent == folder / "Resources" / "Models" for f in told["folders"])
