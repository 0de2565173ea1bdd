"""The installed layout: what CMake installs lies flat in one folder, away from the repository.

`make test-installed` runs all tests of this folder so; here are the configuration itself and a
few of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import module_support as support
import pytest

ROOT = support.HERE.parents[1]
MODULES = Path("lib") / "Slicer-5.12" / "qt-scripted-modules"
CACHE = ROOT / "Testing" / "cmake" / "initial-cache.cmake"

SCRIPT = """
import json, sys
sys.path.insert(0, {tests!r})
import harness, module_support as support
harness.start()
panel = support.Panel(command=None)
from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.worker import child
import ugmcl_core
from ugmcl_core.models.model import find_models
lines = []
other = child.Child([sys.executable, "-c", "import ugmcl_core; print(ugmcl_core.__file__)"],
                    lines.append, lambda ending: None)
panel.widget.logic.worker.start()
harness.wait_until(lambda: panel.widget.logic.worker.hello is not None, 120)
harness.wait_until(lambda: bool(lines), 60)
folders = [str(model.folder) for model in find_models()]
told = dict(package=ugmcl_core.__file__, lib=child.__file__, worker=lines[0],
            hello=panel.widget.logic.worker.hello["version"], folders=folders,
            listed=[info.key for info in models.installed()])
panel.close()
print("\\n" + json.dumps(told))
"""


def tool(name: str) -> str:
    """cmake or ctest of the environment, or of the system."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def run(*words, **options) -> subprocess.CompletedProcess:
    """A program's end, with its output; never raises."""
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False,
                          timeout=250, **options)  # fmt: skip


def configure(source: Path, build: Path) -> subprocess.CompletedProcess:
    return run(tool("cmake"), "-C", CACHE, "-S", source, "-B", build,
               f"-DSlicer_STAND_IN_PYTHON={sys.executable}")  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A build tree, installed into its folder `installed`."""
    build = tmp_path_factory.mktemp("build")
    done = configure(ROOT, build)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(tool("cmake"), "--install", build, "--prefix", build / "installed")
    assert done.returncode == 0, done.stdout + done.stderr
    return build


def away(folder: Path) -> dict[str, str]:
    """An environment for the installed tree alone."""
    names = ("PYTHONPATH", "UGMCL_MODELS")
    kept = {k: v for k, v in os.environ.items() if k not in names}
    return {**kept, "UGMCL_INSTALLED": str(folder)}


def files(folder: Path) -> set[str]:
    paths = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return {p.as_posix() for p in paths if "__pycache__" not in p.parts and p.name[0] != "."}


@pytest.mark.slow
def test_nothing_is_dropped(built):
    """What is installed is what is in the source tree, byte for byte."""
    module = ROOT / "UGMCLSegmentation"
    expected = {n: module / n for n in files(module) if n != "CMakeLists.txt"}
    for name in ("ugmcl_core", "Resources/Models"):
        expected |= {f"{name}/{n}": ROOT / name / n for n in files(ROOT / name)}
    for folder in (built / "installed" / MODULES, built / MODULES):
        assert files(folder) == set(expected)
        for name, source in expected.items():
            assert (folder / name).read_bytes() == source.read_bytes(), name


@pytest.mark.parametrize(
    ("path", "isThere"),
    [("good.py", True), ("good", True), ("../outside.py", False), ("a/../good.py", False),
     ("{tmp}/outside.py", False), ("absent.py", None)],
)  # fmt: skip
def test_the_stand_in_drops_what_slicer_drops(tmp_path, path, isThere):
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    for name in ("README.md", "LICENSE.txt", "good.py", "../outside.py"):
        (source / name).touch()
    keys = ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS")
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(X)\n"
        + "".join(f'set(EXTENSION_{key} "x")\n' for key in keys)
        + "find_package(Slicer REQUIRED)\ninclude(${Slicer_USE_FILE})\n"
        f"slicerMacroBuildScriptedModule(NAME X SCRIPTS {path.format(tmp=tmp_path)})\n"
        "include(${Slicer_EXTENSION_CPACK})\n"
    )
    done = configure(source, tmp_path / "build")
    assert (done.returncode == 0) == (isThere is not None), done.stderr
    if isThere is not None:
        assert "outside" not in done.stdout + done.stderr  # without a word
        assert files(tmp_path / "build" / MODULES) == ({"good.py"} if isThere else set())


@pytest.mark.slow
def test_ctest_runs_the_tests_of_the_module(built):
    listed = run(tool("ctest"), "-N", cwd=built).stdout
    assert "py_UGMCLSegmentation" in listed
    assert "py_nomainwindow_qSlicerUGMCLSegmentationModuleGenericTest" in listed
    done = run(tool("ctest"), "--output-on-failure", cwd=built, env=away(built))
    assert done.returncode == 0 and "100% tests passed" in done.stdout, done.stdout


@pytest.mark.slow
def test_worker_and_models_are_found_where_slicer_installs_them(built, tmp_path):
    pytest.importorskip("torch")
    folder = built / "installed" / MODULES
    script = SCRIPT.format(tests=str(support.HERE))
    done = run(sys.executable, "-c", script, cwd=tmp_path, env=away(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for key in ("package", "lib", "worker"):
        assert Path(told[key]).is_relative_to(folder), told
    assert told["hello"]
    bundled = {p.parent.name for p in (ROOT / "Resources" / "Models").glob("*/model.json")}
    assert bundled and bundled <= set(told["listed"])
    assert {Path(f).parent for f in told["folders"]} == {folder / "Resources" / "Models"}


@pytest.mark.slow
@pytest.mark.skipif("UGMCL_INSTALLED" in os.environ, reason="these are the installed tests")
def test_a_few_tests_pass_from_the_installed_tree(built, tmp_path):
    folder = built / "installed" / MODULES
    chosen = support.HERE / "panel" / "export" / "test_export.py"
    words = ["-m", "pytest", "-p", "no:cacheprovider", chosen]
    done = run(sys.executable, *words, cwd=tmp_path, env=away(folder))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif("UGMCL_INSTALLED" not in os.environ, reason="for make test-installed")
def test_these_are_the_installed_files(scene):
    import ugmcl_core

    panel = support.Panel()
    from UGMCLSegmentationLib import logic

    for module in (panel.loaded.module, logic, ugmcl_core):
        assert Path(module.__file__).is_relative_to(os.environ["UGMCL_INSTALLED"])
    assert not any(Path(p or ".").resolve() == ROOT for p in sys.path)
    panel.close()
