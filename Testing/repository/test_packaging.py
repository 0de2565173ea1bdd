"""What CMake installs is what is on disk: a script that is not listed is silently left out."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "UGMCLSegmentation"


def listed(cmake: Path, name: str) -> list[str]:
    """The entries of `set(name ...)` in a CMake file."""
    match = re.search(rf"set\({name}\n(.*?)\)", cmake.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert match, f"{cmake} has no list {name}"
    return [e.replace("${MODULE_NAME}", "UGMCLSegmentation") for e in match.group(1).split()]


def on_disk(base: Path, folder: str, pattern: str) -> set[str]:
    """Files below base/folder, hidden ones and caches left out, relative to base."""
    paths = (p.relative_to(base) for p in (base / folder).rglob(pattern) if p.is_file())
    return {
        p.as_posix()
        for p in paths
        if not any(x[0] in "._" and x != "__init__.py" and not x.endswith(".py") for x in p.parts)
    }


CASES = {
    "core scripts": (ROOT, "UGMCL_CORE_SCRIPTS", lambda: on_disk(ROOT, "ugmcl_core", "*.py")),
    "models": (ROOT, "UGMCL_CORE_RESOURCES", lambda: on_disk(ROOT, "Resources/Models", "*")),
    "module scripts": (
        MODULE,
        "MODULE_PYTHON_SCRIPTS",
        lambda: on_disk(MODULE, "UGMCLSegmentationLib", "*.py") | {"UGMCLSegmentation.py"},
    ),
    "module resources": (
        MODULE, "MODULE_PYTHON_RESOURCES", lambda: on_disk(MODULE, "Resources", "*")
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_lists_and_disk_agree(case: str) -> None:
    folder, name, find = CASES[case]
    cmake = folder / "CMakeLists.txt"
    entries, files = listed(cmake, name), find()
    missing, stale = sorted(files - set(entries)), sorted(set(entries) - files)
    assert not missing, f"add to {name} in {cmake}: {' '.join(missing)}"
    assert not stale, f"remove from {name} in {cmake}: {' '.join(stale)}"
    assert len(entries) == len(set(entries)), f"{name} names a file twice"


def test_cmake_has_the_order_of_slicers_template() -> None:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    order = ["cmake_minimum_required", "project(", "set(EXTENSION_", "find_package(Slicer",
             "include(${Slicer_USE_FILE})", "add_subdirectory", "EXTENSION_GENERATE_CONFIG",
             "EXTENSION_CPACK"]  # fmt: skip
    places = [text.index(word) for word in order]
    assert places == sorted(places)


def test_entry_file_is_thin_and_lib_files_are_small() -> None:
    assert len((MODULE / "UGMCLSegmentation.py").read_text(encoding="utf-8").splitlines()) < 150
    for path in (MODULE / "UGMCLSegmentationLib").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 400, path.name


def test_nothing_in_the_module_imports_torch() -> None:
    for path in MODULE.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not re.match(r"\s*(import|from) (torch|monai)\b", line), f"{path.name}: {line}"


def test_what_is_pinned_pins_what_it_needs() -> None:
    """A package that comes along unpinned would be another one on another day."""
    text = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    pins = [Requirement(line) for line in text.splitlines() if line and line[0] != "#"]
    assert all(str(pin.specifier).startswith("==") for pin in pins)
    names = {_plain(pin.name) for pin in pins}
    assert len(names) == len(pins)
    for pin in pins:
        for entry in importlib.metadata.requires(pin.name) or []:
            needed = Requirement(entry)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                known = _plain(needed.name) in names | {"setuptools", "pip"}
                assert known, f"pin {needed.name}, which {pin.name} needs"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
