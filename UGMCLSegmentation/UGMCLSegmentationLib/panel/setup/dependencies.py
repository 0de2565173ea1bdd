"""The packages that the worker needs beyond Slicer, checked by their metadata.

Nothing is imported for the check: importing torch into Slicer's process takes seconds, locks its
files and may crash Slicer.
"""

from __future__ import annotations

import email
import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import slicer
from slicer.i18n import tr as _

REQUIREMENTS = Path(__file__).resolve().parents[3] / "Resources" / "requirements.txt"
_SPECIFIERS = dict(re.findall(r"^([\w-]+)(\S+)$", REQUIREMENTS.read_text("utf-8"), re.MULTILINE))
TORCH = _SPECIFIERS.pop("torch")
OTHERS = tuple(_SPECIFIERS.items())
_TORCH_FROM = re.search(r">=([\d.]+)", TORCH).group(1)
_SLOW_TORCH = (2, 9)  # 3D convolutions under autocast take about four times as long
KEEP_CPU = "UGMCLSegmentation/KeepCpuTorch"

READY = "ready"
NO_EXTENSION = "no extension"
RESTART = "restart"
NO_TORCH = "no torch"
OLD_TORCH = "old torch"
SLOW_TORCH = "slow torch"
NUMPY = "numpy"
NO_OTHERS = "no others"
CPU_TORCH = "cpu torch"
KINDS = (
    READY, NO_EXTENSION, RESTART, NO_TORCH, OLD_TORCH, SLOW_TORCH, NUMPY, NO_OTHERS, CPU_TORCH,
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What is installed: versions as texts, "" for a package that is absent."""

    torch: str = ""
    torchUsesGpu: bool = True  # also if that is unknown
    others: tuple[str, ...] = ()  # the names in OTHERS that are installed
    numpy: str = ""
    numpyWanted: str = ""  # by SciPy, as in ">=1.26,<2.7"
    replaced: tuple[str, ...] = ()  # packages in use that were updated since
    isExtensionInstalled: bool = True
    isExtensionLoaded: bool = True
    hasNvidia: bool = False
    keepsCpu: bool = False  # as the user chose


@dataclass(frozen=True)
class Situation:
    """What the panel shows; `isBlocking` if no run could succeed."""

    kind: str
    message: str = ""
    isBlocking: bool = False


def situation() -> Situation:
    """The situation now."""
    return judge(facts())


def judge(facts: Facts) -> Situation:
    """The first problem."""
    if not facts.torch:
        return _withoutTorch(facts)
    if _numbers(facts.torch) < _numbers(_TORCH_FROM):
        text = _("PyTorch {version} is too old: {least} or newer is needed.")
        return Situation(
            OLD_TORCH, text.format(version=facts.torch, least=_TORCH_FROM), isBlocking=True
        )
    if not _fits(facts.numpy, facts.numpyWanted):
        text = _(
            "NumPy {version} does not fit the other packages, which need {wanted}: "
            "something has replaced it."
        )
        return Situation(
            NUMPY, text.format(version=facts.numpy, wanted=facts.numpyWanted), isBlocking=True
        )
    if absent := missing(facts):
        text = _("Not installed yet: {names}. It reads the models' files (a small download).")
        return Situation(NO_OTHERS, text.format(names=", ".join(absent)), isBlocking=True)
    if facts.replaced:
        text = _("Updated while Slicer was using it: {names}. Restart Slicer when you can.")
        return Situation(RESTART, text.format(names=", ".join(facts.replaced)))
    if _numbers(facts.torch)[:2] == _SLOW_TORCH:
        text = _("PyTorch {version} is slow for 3D images: update it to a later version.")
        return Situation(SLOW_TORCH, text.format(version=facts.torch))
    if facts.hasNvidia and not facts.torchUsesGpu and not facts.keepsCpu:
        text = _(
            "This computer has an NVIDIA GPU, but the installed PyTorch uses the CPU only: "
            "runs take longer than they need to."
        )
        return Situation(CPU_TORCH, text)
    return Situation(READY)


def _withoutTorch(facts: Facts) -> Situation:
    if facts.isExtensionLoaded:
        text = _("PyTorch is not installed yet (a large download, once).")
        return Situation(NO_TORCH, text, isBlocking=True)
    if facts.isExtensionInstalled:
        text = _("The PyTorch extension is installed: restart Slicer to use it.")
        return Situation(RESTART, text, isBlocking=True)
    text = _("The PyTorch extension is needed: it installs the PyTorch that fits this computer.")
    return Situation(NO_EXTENSION, text, isBlocking=True)


def missing(facts: Facts) -> list[str]:
    """The names of absent packages, without torch."""
    return [name for name, _version in OTHERS if name not in facts.others]


def facts() -> Facts:
    """Look at the installed packages, the extensions and the computer."""
    importlib.invalidate_caches()
    return Facts(
        torch=_version("torch"),
        torchUsesGpu=_torchUsesGpu(),
        others=tuple(name for name, _version_ in OTHERS if _version(name)),
        numpy=_version("numpy"),
        numpyWanted=_requirement("scipy", "numpy"),
        replaced=tuple(name for name in ("numpy", "torch") if _isReplaced(name)),
        isExtensionInstalled=_isExtensionInstalled(),
        isExtensionLoaded=importlib.util.find_spec("PyTorchUtils") is not None,
        hasNvidia=_hasNvidia(),
        keepsCpu=slicer.app.settings().value(KEEP_CPU, "") == "yes",
    )


def explained(message: str) -> str:
    """The message of a failed run, with advice if a package caused it."""
    for pattern, advice in (
        (r"Numpy is not available|_ARRAY_API not found|numpy\.dtype size changed"
         r"|compiled using NumPy 1|multiarray failed to import",
         _("NumPy and PyTorch do not fit each other: uninstall PyTorch in the module PyTorch "
           "Utils, restart Slicer and install it again.")),
        (r"No module named '?(torch|safetensors)",
         _("A required package is not installed: leave this module and come back.")),
        (r"DLL load failed|WinError (126|127|1114)",
         _("PyTorch's libraries cannot be loaded: install the Microsoft Visual C++ "
           "Redistributable, then restart Slicer.")),
    ):  # fmt: skip
        if re.search(pattern, message):
            return f"{advice} ({message})"
    return message


def _version(name: str) -> str:
    """The version of a package, "" if it is absent, "0" if it states none."""
    try:
        return _metadata(name)["Version"] or "0"
    except importlib.metadata.PackageNotFoundError:
        return ""


def _metadata(name: str) -> Message:
    """The metadata of the package installed now; raises PackageNotFoundError."""
    found = importlib.metadata.distribution(name)
    return _parsed(found.read_text("METADATA") or found.read_text("PKG-INFO") or "")


@functools.lru_cache(maxsize=16)
def _parsed(text: str) -> Message:
    # parsing takes far longer than reading, and torch's metadata is long
    return email.message_from_string(text)


def _isReplaced(name: str) -> bool:
    """Whether this process uses another version than the installed one."""
    used, installed = getattr(sys.modules.get(name), "__version__", ""), _version(name)
    if not used or not installed:
        return False
    # not every package's metadata has the suffix of its build, such as +cpu
    return str(used) != installed if "+" in installed else _numbers(used) != _numbers(installed)


def _requirement(name: str, other: str) -> str:
    """The versions of the package `other` that the package `name` requires."""
    try:
        entries = _metadata(name).get_all("Requires-Dist", [])
    except importlib.metadata.PackageNotFoundError:
        return ""
    for entry in entries:
        text, _semicolon, marker = entry.partition(";")
        match = re.match(rf"\s*{other}\s*\(?([^)]*)", text, re.IGNORECASE)
        if match and not marker.strip() and not match.group(1)[:1].isalnum():
            return match.group(1).strip()
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    """The release part: "2.13.0+cpu" is (2, 13, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(n) for n in match.group().split(".")) if match else ()


def _fits(version: str, wanted: str) -> bool:
    """Whether a version meets a list of bounds (<, <=, >, >=); others are ignored."""
    have = _numbers(version)
    if not have:
        return True
    for bound in wanted.split(","):
        match = re.match(r"\s*(<=|>=|<|>)\s*([\d.]+)", bound)
        if not match:
            continue
        size = max(len(have), len(_numbers(match.group(2))))
        a, b = (v + (0,) * (size - len(v)) for v in (have, _numbers(match.group(2))))
        if not {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[match.group(1)]:
            return False
    return True


def _torchUsesGpu() -> bool:
    """Read from the file that every torch build includes; True if that is unknown."""
    try:
        file = importlib.metadata.distribution("torch").locate_file("torch/version.py")
        text = Path(str(file)).read_text(encoding="utf-8")
    except (importlib.metadata.PackageNotFoundError, OSError, UnicodeDecodeError):
        return True
    kinds = re.findall(r"^(?:cuda|hip)\b[^=\n]*=\s*(.+)$", text, re.MULTILINE)
    return not kinds or any(value.strip() != "None" for value in kinds)


def _hasNvidia() -> bool:
    """Whether NVIDIA's driver is installed, which torch needs too."""
    if sys.platform == "darwin":
        return False
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll").exists()
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _isExtensionInstalled() -> bool:
    model = slicer.app.extensionsManagerModel()
    return model is not None and bool(model.isExtensionInstalled("PyTorch"))
