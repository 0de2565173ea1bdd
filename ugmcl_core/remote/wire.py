"""How messages and files travel over one ssh connection: JSON lines of bounded length, in which
files are chunks, compressed where that makes them smaller, with a SHA-256 at their end."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ..errors import InputError
from ..files import not_following, plain, sha256_of
from ..models.model import CARD, WEIGHTS

PROTOCOL = 2
"""Of the lines between the two computers; another number cannot be understood."""
LONGEST_LINE = 4 << 20
"""Bytes of a line; a longer one ends the session."""
CHUNK = 1 << 19
"""Bytes of a file in one line, before they are compressed."""
_QUICK = 1  # zlib's fastest level: a network slower than it is the usual one
_RUN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}\Z")


def line_of(message: Mapping[str, Any]) -> bytes:
    """A message as a line."""
    return json.dumps(plain(dict(message)), allow_nan=False).encode() + b"\n"


def message_of(line: bytes) -> dict[str, Any] | None:
    """The message in a line; None for other lines, such as the greeting of a shell."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def chunks(path: Path) -> Iterator[dict[str, Any]]:
    """A file in parts: `data` (base64) and `packed` (whether zlib compressed it), and at the end
    `sha256` of the whole. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while content := file.read(CHUNK):
            digest.update(content)
            small = zlib.compress(content, _QUICK)
            packed = len(small) < len(content)
            data = base64.b64encode(small if packed else content).decode()
            yield {"data": data, "packed": packed, "bytes": len(content)}
    yield {"sha256": digest.hexdigest()}


class IncomingFile:
    """A file that arrives in parts."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if it cannot be created; it is never written through a link."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._digest = hashlib.sha256()
        self._file: IO[bytes] = open(  # noqa: SIM115
            path, "wb", opener=not_following
        )

    def add(self, part: Mapping[str, Any]) -> bool:
        """Whether this was the last part. Raises OSError for a full disk, and InputError where
        the content is not what was sent."""
        if "sha256" in part:
            self.close()
            if self._digest.hexdigest() != part["sha256"]:
                raise InputError(f"{self.path.name} arrived damaged; start again")
            return True
        try:
            content = base64.b64decode(part["data"], validate=True)
            if part["packed"]:
                content = zlib.decompressobj().decompress(content, CHUNK)
        except (binascii.Error, zlib.error, KeyError, TypeError) as error:
            raise InputError(f"{self.path.name} arrived damaged ({error}); start again") from None
        self._digest.update(content)
        self._file.write(content)
        return False

    def close(self) -> None:
        """Close the file. Raises OSError for a full disk."""
        self._file.close()


def contents(path: Path) -> dict[str, Path]:
    """The files of an image by their names on the way: one that is neutral, with the suffix that
    readers need, for a file; their own for those of a folder, and for a header's with its voxels
    beside it. Raises InputError if there is nothing."""
    if path.is_dir():
        found = {
            p.relative_to(path).as_posix(): p
            for p in sorted(path.rglob("*"))
            if p.is_file() and not p.name.startswith(".")
        }
        if not found:
            raise InputError(f"{path}: the folder is empty; choose another")
        return {f"image/{name}": file for name, file in found.items()}
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; check its name")
    lower = path.name.lower()
    if lower.endswith((".mhd", ".nhdr")):
        stem = path.name.rpartition(".")[0]
        beside = [p for p in path.parent.iterdir() if p.is_file() and _is_of(p.name, stem)]
        return {p.name: p for p in [path, *(p for p in beside if p != path)]}
    suffix = next((s for s in (".nii.gz", ".seg.nrrd") if lower.endswith(s)), path.suffix)
    return {f"image{suffix}": path}


def _is_of(name: str, stem: str) -> bool:
    """Whether a file holds the voxels for a header with that stem."""
    return name.startswith(f"{stem}.") and name.lower().endswith((".raw", ".gz", ".zraw", ".bz2"))


def model_key(folder: Path) -> str:
    """The SHA-256 of a model: of the digests of its card and its weights. Raises OSError."""
    digest = hashlib.sha256()
    for name in (CARD, WEIGHTS):
        digest.update(f"{name} {sha256_of(folder / name)}\n".encode())
    return digest.hexdigest()


def inside(place: Path, name: Any) -> Path:
    """The path of a name that came over the connection; InputError unless it is plainly below
    ``place``."""
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    wrong = not parts or any(p in ("..", "/") or "\\" in p or "\0" in p for p in parts)
    if wrong or PurePosixPath(name).is_absolute() or (os.name == "nt" and ":" in name):
        raise InputError(f"{name!r} is not the name of a file in the session; update ugmcl")
    return place.joinpath(*parts)


def run_name(value: Any) -> str:
    """``value`` if it is the name of a training; InputError otherwise."""
    if not isinstance(value, str) or not _RUN.match(value):
        raise InputError(f"{value!r} is not a training; see `ugmcl computers test`")
    return value
