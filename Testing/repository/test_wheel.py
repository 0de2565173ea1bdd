"""What a built wheel holds: the program, and every bundled model."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from samples import tiny_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_wheel_holds_the_program_and_the_bundled_models(tmp_path):
    pytest.importorskip("hatchling")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE.txt"):
        shutil.copy(ROOT / name, source)
    skip = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("ugmcl_core", "Resources"):
        shutil.copytree(ROOT / name, source / name, ignore=skip)
    models = source / "Resources" / "Models"
    tiny_model(models / "tiny")
    (models / "tiny" / "LICENSE.txt").write_text("for tests")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=source, capture_output=True, text=True)  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())

    def files(folder: Path, inside: str) -> set[str]:
        found = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
        return {f"{inside}/{p.as_posix()}" for p in found}

    wanted = files(models, "ugmcl_core/models/bundled")
    wanted |= files(source / "ugmcl_core", "ugmcl_core")
    assert {"ugmcl_core/models/bundled/tiny/model.json", "ugmcl_core/__main__.py"} <= wanted
    assert not wanted - held
    assert not [n for n in held if not n.startswith("ugmcl") or "Testing" in n]
