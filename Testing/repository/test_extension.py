"""The checks for the Extensions Index: this checkout passes, and a spoiled one does not."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# by its file: Testing on sys.path would put its folder `slicer` before the package of that name
_spec = importlib.util.spec_from_file_location(
    "check_extension", ROOT / "Testing" / "check_extension.py"
)
check_extension = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check_extension)


def test_this_checkout_is_ready():
    assert check_extension.wrong(ROOT) == []


def test_the_script_ends_by_what_it_finds(tmp_path):
    script = [sys.executable, str(ROOT / "Testing" / "check_extension.py")]
    done = subprocess.run([*script, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0 and "ready for the Extensions Index" in done.stdout


@pytest.fixture
def copy(tmp_path) -> Path:
    """What the checks look at, without git."""
    target = tmp_path / "copy"
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("Resources", "UGMCLSegmentation", "docs"):
        shutil.copytree(ROOT / name, target / name, ignore=skip)
    for name in ("CMakeLists.txt", "README.md", "LICENSE.txt", "pyproject.toml", "CITATION.cff"):
        shutil.copy(ROOT / name, target)
    for name in ("CHANGELOG.md", "Testing/slicer/harness"):  # the README points to them
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).touch()
    return target


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_copy_is_ready_too(copy):
    assert check_extension.wrong(copy) == []


ENTRY = str(check_extension.ENTRY)
ICON = "UGMCLSegmentation/Resources/Icons/UGMCLSegmentation.png"
SPOILED = {
    "project name": ("CMakeLists.txt", "project(UGMCLSegmentation)", "project(UGMCL)",
                     "the project is not"),
    "unquoted": ("CMakeLists.txt", 'set(EXTENSION_DEPENDS "PyTorch")',
                 "set(EXTENSION_DEPENDS PyTorch)", "EXTENSION_DEPENDS is not one quoted"),
    "depends": ("CMakeLists.txt", 'DEPENDS "PyTorch"', 'DEPENDS "PyTorch NNUNet"',
                "build_dependencies are not"),
    "long description": ("CMakeLists.txt", "unlabeled volumes.", "volumes. It is. It was.",
                         "3 sentences"),
    "homepage": ("CMakeLists.txt", 'HOMEPAGE "https://github.com/UGMCL/', 'HOMEPAGE "https://x/',
                 "EXTENSION_HOMEPAGE is not"),
    "picture": ("CMakeLists.txt", "Screenshots/overview.png", "Screenshots/gone.png",
                "there is no Resources/Screenshots/gone.png"),
    "picture page": ("CMakeLists.txt", "Screenshots/overview.png", "Screenshots/page.html",
                     "is no picture"),
    "unknown key": (ENTRY, '"tier": 1', '"tier": 1, "homepage": "x"', "not in the schema"),
    "wrong type": (ENTRY, '"tier": 1', '"tier": "1"', "tier is not of type int"),
    "tier": (ENTRY, '"tier": 1', '"tier": 2', "tier is not 1, 3 or 5"),
    "repository name": (ENTRY, "SlicerUGMCLSegmentation", "ugmcl", "name is not Slicer"),
    "no https": (ENTRY, "https://github.com/UGMCL", "git@github.com:UGMCL", "scm_url is not"),
    "no JSON": (ENTRY, "{", "", "cannot be read"),
    "old schema": (ENTRY, "entry-schema-v1.0.1", "item-schema-v1.0.0", "$schema"),
    "license": ("LICENSE.txt", "Apache License", "My License", "Apache License"),
    "no warning": ("README.md", "not for clinical use", "good for all", "clinical use"),
    "dead link": ("README.md", "docs/methods.md", "docs/gone.md", "docs/gone.md, which does not"),
    "topic": ("pyproject.toml", '"3d-slicer-extension"', '"Slicer extension"',
              "cannot be a topic"),
    "import": ("UGMCLSegmentation/UGMCLSegmentation.py", "import sys\n",
               "import sys\nimport torch\n", "imports torch at file scope"),
    "from import": ("UGMCLSegmentation/UGMCLSegmentationLib/logic.py", "import slicer\n",
                    "from pandas.core import x\nimport slicer\n", "imports pandas.core"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILED)
def test_what_is_wrong_is_found(copy, case):
    name, old, new, expected = SPOILED[case]
    replace(copy / name, old, new)
    assert any(expected in line for line in check_extension.wrong(copy)), case


def test_an_import_inside_a_function_is_allowed(copy):
    path = copy / "UGMCLSegmentation" / "UGMCLSegmentation.py"
    path.write_text(path.read_text() + "\n\ndef late():\n    import torch\n\n    return torch\n")
    assert check_extension.wrong(copy) == []


@pytest.mark.parametrize(("content", "expected"), [(b"GIF89a" + bytes(30), "is no PNG"),
                                                   (None, "not 128x128")])  # fmt: skip
def test_icons_are_looked_at(copy, content, expected):
    head = (copy / ICON).read_bytes()
    (copy / ICON).write_bytes(content or head[:16] + bytes([0, 0, 1, 0]) + head[20:])
    assert [line for line in check_extension.wrong(copy) if expected in line]


def in_git(folder: Path):
    """A new repository in the folder: what runs git there."""

    def git(*words):
        subprocess.run(["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b",
                        *words], check=True, capture_output=True)  # fmt: skip

    git("init")
    git("config", "maintenance.auto", "false")  # which would pack at the same time
    return git


def test_history_counts(tmp_path, monkeypatch):
    git = in_git(tmp_path)
    (tmp_path / "big.bin").write_bytes(bytes(range(256)) * 1000)
    git("add", ".")
    git("commit", "-m", "big")
    (tmp_path / "big.bin").unlink()
    (tmp_path / "old.pkl").write_bytes(b"x")
    git("add", "-A")
    assert list(check_extension.check_size(tmp_path)) == ["old.pkl may be a pickle"]
    monkeypatch.setattr(check_extension, "LARGEST_CHECKOUT", 100.0)
    assert "with its history" in next(check_extension.check_size(tmp_path))


def test_what_git_stores_twice_counts_once(tmp_path, monkeypatch):
    git = in_git(tmp_path)
    size = 100_000
    (tmp_path / "noise.bin").write_bytes(random.Random(0).randbytes(size))
    git("add", ".")
    git("commit", "-m", "noise")
    objects = tmp_path / ".git" / "objects"
    shutil.copytree(objects, tmp_path / "loose")
    git("repack", "-a", "-d")
    shutil.copytree(tmp_path / "loose", objects, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "loose")
    assert sum(p.stat().st_size for p in objects.rglob("*") if p.is_file()) > 2 * size
    monkeypatch.setattr(check_extension, "LARGEST_CHECKOUT", 2.1 * size)  # the file, its object
    assert list(check_extension.check_size(tmp_path)) == []
    monkeypatch.setattr(check_extension, "LARGEST_CHECKOUT", 1.9 * size)
    assert "with its history" in next(check_extension.check_size(tmp_path))


def test_the_entry_is_what_json_readers_read():
    entry = json.loads((ROOT / check_extension.ENTRY).read_text(encoding="utf-8"))
    assert entry["category"] == "Segmentation" and entry["build_dependencies"] == ["PyTorch"]
