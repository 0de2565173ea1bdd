"""The manifest of a run: a JSON file beside its results that records what they were made with and
from.

Imports neither torch nor NumPy.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__
from ..data.pairing import MANIFEST
from ..files import sha256_of, write_json

NAME = MANIFEST
FORMAT = 1
_PACKAGES = ("torch", "numpy", "scipy", "SimpleITK", "pydicom", "safetensors")


def write(
    path: Path,
    command: str,
    *,
    options: Mapping[str, Any],
    inputs: Iterable[Path | None],
    device: str | None,
    seconds: float,
    model: Mapping[str, Any] | None = None,
) -> None:
    """Write versions, device, time, model and the SHA-256 of each input, of a folder that of its
    files' names and contents. Raises InputError."""
    files = dict.fromkeys(Path(p) for p in inputs if p is not None)
    content = {
        "format": FORMAT,
        "command": command,
        "options": {k: _plain(v) for k, v in options.items()},
        "versions": {"ugmcl": __version__, "python": platform.python_version(), **_versions()},
        "system": platform.platform(),
        "device": device,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seconds": round(seconds, 3),
        "model": None if model is None else dict(model),
        "inputs": [{"file": str(p), "sha256": _digest(p)} for p in files],
    }
    write_json(path, content)


def is_of(
    path: Path,
    command: str,
    *,
    options: Mapping[str, Any],
    inputs: Iterable[Path],
    model: Mapping[str, Any],
) -> bool:
    """Whether the manifest in ``path`` describes the same work: command, model, inputs, and these
    options."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        then = content["options"]
        return (
            content["command"] == command
            and content["model"] == dict(model)
            and [i["sha256"] for i in content["inputs"]] == [_digest(p) for p in inputs]
            and all(then[key] == _plain(value) for key, value in options.items())
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def options_of(arguments: Any) -> dict[str, Any]:
    """The options of a command line as they were parsed."""
    return {k: v for k, v in vars(arguments).items() if not callable(v) and k != "several"}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _digest(path: Path) -> str | None:
    """None for what cannot be read any more."""
    try:
        if path.is_file():
            return sha256_of(path)
        digest = hashlib.sha256()
        for inside in sorted(p for p in path.iterdir() if p.is_file()):
            if inside.name.endswith((".nrrd", NAME)):  # results, which may lie beside the slices
                continue
            digest.update(f"{inside.name} {sha256_of(inside)}\n".encode(errors="replace"))
        return digest.hexdigest()
    except OSError:
        return None
