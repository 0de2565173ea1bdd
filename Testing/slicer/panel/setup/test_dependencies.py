"""What is found on the computer, and what is made of it; torch is never imported for that."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
import subprocess
import sys
import types

import module_support as support
import pytest
from setup_support import Computer


@pytest.fixture
def computer(panel, monkeypatch):
    return Computer(monkeypatch)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "ready"),
        ({"torch": "2.3.0"}, "ready"),
        ({"torch": "2.10.1+cpu"}, "ready"),
        ({"torch": "2.2.9"}, "old torch"),
        ({"torch": "0"}, "old torch"),
        ({"torch": "2.9.0"}, "slow torch"),
        ({"torch": "2.9.1+cu128", "hasNvidia": True, "torchUsesGpu": False}, "slow torch"),
        ({"torch": "2.90.0"}, "ready"),
        ({"torch": "2.9.0", "others": ()}, "no others"),
        ({"torch": ""}, "no torch"),
        ({"torch": "", "isExtensionLoaded": False}, "restart"),
        ({"torch": "", "isExtensionLoaded": False, "isExtensionInstalled": False}, "no extension"),
        ({"numpy": "2.7.0", "numpyWanted": "<2.7,>=1.26.4"}, "numpy"),
        ({"numpy": "2.6.9", "numpyWanted": "<2.7,>=1.26.4"}, "ready"),
        ({"numpy": "1.26.4", "numpyWanted": ">=1.26.4"}, "ready"),
        ({"numpy": "1.26", "numpyWanted": ">=1.26.0"}, "ready"),
        ({"numpy": "2.0.0", "numpyWanted": "~=1.26"}, "ready"),  # a bound that is not judged
        ({"others": ()}, "no others"),
        ({"replaced": ("torch",)}, "restart"),
        ({"hasNvidia": True}, "ready"),
        ({"hasNvidia": True, "torchUsesGpu": False}, "cpu torch"),
        ({"hasNvidia": True, "torchUsesGpu": False, "keepsCpu": True}, "ready"),
    ],
)
def test_judgments(computer, changes, kind):
    from UGMCLSegmentationLib.panel.setup import dependencies

    computer.has(**changes)
    found = dependencies.situation()
    assert found.kind == kind
    assert bool(found.message) == (kind != "ready")


def test_what_is_installed_here_is_found_without_importing_it(panel, monkeypatch):
    from UGMCLSegmentationLib.panel.setup import dependencies

    script = (
        f"import sys; sys.path[:0] = [{str(support.HERE)!r}]\n"
        "import harness, module_support as support\n"
        "panel = support.Panel()\n"
        "from UGMCLSegmentationLib.panel.setup import dependencies\n"
        "found = dependencies.facts()\n"
        "print('torch' in sys.modules, 'safetensors' in sys.modules, found.torch)\n"
        "panel.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=False)  # fmt: skip
    version = importlib.metadata.version("torch")
    assert done.stdout.split() == ["False", "False", version], done.stderr
    found = dependencies.facts()
    assert found.others == ("safetensors",)
    assert re.match(r"[<>]=?\d", found.numpyWanted)
    assert found.replaced == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", False),
        ("cuda: Optional[str] = '12.6'\nhip: Optional[str] = None\n", True),
        ("cuda = '11.8'\n", True),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.2'\n", True),
        ("nothing of the kind\n", True),
        (None, True),
    ],
)
def test_the_kind_of_a_torch_build_is_read_from_its_file(
    panel, monkeypatch, tmp_path, text, expected
):
    from UGMCLSegmentationLib.panel.setup import dependencies

    (tmp_path / "torch").mkdir()
    if text is not None:
        (tmp_path / "torch" / "version.py").write_text(f"__version__ = '2.6.0'\n{text}")
    distribution = types.SimpleNamespace(locate_file=lambda name: tmp_path / name)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: distribution)
    assert dependencies._torchUsesGpu() is expected


def test_an_update_of_a_package_in_use_is_noticed(panel, monkeypatch):
    from UGMCLSegmentationLib.panel.setup import dependencies

    versions = {"torch": "2.6.0", "numpy": "2.4.6"}
    monkeypatch.setattr(dependencies, "_version", versions.get)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__="2.6.0+cu124"))
    assert not dependencies._isReplaced("torch")
    versions["torch"] = "2.7.0"
    assert dependencies._isReplaced("torch")
    versions["torch"] = "2.6.0+cpu"
    assert dependencies._isReplaced("torch")


def test_pytorch_2_9_may_be_used_and_is_never_installed(computer):
    from packaging.specifiers import SpecifierSet
    from UGMCLSegmentationLib.panel.setup import dependencies

    computer.has(torch="2.9.1")
    found = dependencies.situation()
    assert not found.isBlocking
    assert found.message == (
        "PyTorch 2.9.1 is slow for 3D images: update it to a later version."
    )
    allowed = SpecifierSet(dependencies.TORCH)
    versions = ("2.2.2", "2.3.0", "2.8.0", "2.9.0", "2.9.1", "2.10.0")
    assert [v for v in versions if v in allowed] == ["2.3.0", "2.8.0", "2.10.0"]


def test_the_requirements_are_the_same_everywhere(panel):
    import tomllib
    from UGMCLSegmentationLib.panel.setup import dependencies

    root = support.HERE.parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lines = dependencies.REQUIREMENTS.read_text().splitlines()
    wanted = [line for line in lines if not line.startswith("#")]
    assert support.ENTRY.parent / "Resources/requirements.txt" == dependencies.REQUIREMENTS
    assert wanted == [f"torch{dependencies.TORCH}", *("".join(p) for p in dependencies.OTHERS)]
    assert set(wanted) <= set(project["dependencies"])
    listed = (root / "UGMCLSegmentation" / "CMakeLists.txt").read_text()
    assert "  Resources/requirements.txt\n" in listed


def test_every_state_has_a_picture(panel, monkeypatch):
    """The states that the screenshots inject are those that there are."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # it puts the repository there
    import screenshots_setup
    from UGMCLSegmentationLib.panel.setup import dependencies

    usual = dependencies.Facts(torch="2.6.0", others=("safetensors",), numpy="2.4.6")
    pictured, ends = set(), set()
    for found in screenshots_setup.states().values():
        ends.add(found.pop("END", ""))
        pictured.add(dependencies.judge(dataclasses.replace(usual, **found)).kind)
    assert pictured == set(dependencies.KINDS)
    assert ends == {"", "declined", "offline", "failed"}
