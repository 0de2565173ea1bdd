"""The checks for the Extensions Index: this checkout passes, and a spoiled one does not."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# by its file: Testing on sys.path would put its folder `slicer` before the package of that name
_spec = importlib.util.spec_from_file_location(
    "check_extension", ROOT / "Testing" / "check_extension.py"
)
check_extension = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check_extension)


def test_this_checkout_is_ready():
    script = [sys.executable, str(ROOT / "Testing" / "check_extension.py"), str(ROOT)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0 and "ready for the Extensions Index" in done.stdout, done.stdout


def test_what_is_wrong_is_found(tmp_path):
    """Each check has one thing to find in a copy that is spoiled everywhere."""
    for name in ("Resources", "UGMCLSegmentation", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("CMakeLists.txt", "README.md", "LICENSE.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    entry = str(check_extension.ENTRY)
    for name, pattern, new, expected in (
        ("CMakeLists.txt", r"VERSION 3\.28", "VERSION 3.16", "is not 3.28"),
        ("CMakeLists.txt", r"project\(\w+\)", "project(UGMCL)", "the project is not"),
        ("CMakeLists.txt", r'KEYWORDS "[^"]*"', 'KEYWORDS ""', "EXTENSION_KEYWORDS is not one"),
        ("CMakeLists.txt", r"overview\.png", "gone.png", "there is no Resources/Screenshots/gone"),
        (entry, '"tier": 1', '"tier": 2', "tier is not 1, 3 or 5"),
        (entry, "PyTorch", "NNUNet", "build_dependencies are not"),
        ("LICENSE.txt", "Apache License", "My License", "Apache License"),
        ("README.md", r"(?i)not for clinical use", "good for all", "clinical use"),
        ("docs/extension-index.md", "uploaded", "sent", "'uploaded'"),
        ("docs/extension-index.md", r"(?m)^11\. .*", "", "answers 10 questions"),
        ("UGMCLSegmentation/UGMCLSegmentation.py", "\nimport ", "\nimport torch\nimport ",
         "imports torch at file scope"),
        ("pyproject.toml", '"3d-slicer-extension"', '"Slicer"', "cannot be a topic"),
    ):  # fmt: skip
        path = tmp_path / name
        text, count = re.subn(pattern, new, path.read_text(encoding="utf-8"))
        assert count, (name, pattern)
        path.write_text(text, encoding="utf-8")
        assert any(expected in line for line in check_extension.wrong(tmp_path)), expected
    icon = tmp_path / "UGMCLSegmentation/Resources/Icons/UGMCLSegmentation.png"
    icon.write_bytes(icon.read_bytes()[:16] + bytes(8))
    assert any("not 128x128" in line for line in check_extension.wrong(tmp_path))


def test_history_counts(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b",
                        *words], check=True, capture_output=True)  # fmt: skip

    git("init")
    (tmp_path / "big.bin").write_bytes(bytes(range(256)) * 1000)
    git("add", ".")
    git("commit", "-m", "big")
    (tmp_path / "big.bin").unlink()
    (tmp_path / "old.pkl").write_bytes(b"x")
    git("add", "-A")
    assert list(check_extension.check_size(tmp_path)) == ["old.pkl may be a pickle"]
    monkeypatch.setattr(check_extension, "LARGEST_CHECKOUT", 100.0)
    assert "with its history" in next(check_extension.check_size(tmp_path))
