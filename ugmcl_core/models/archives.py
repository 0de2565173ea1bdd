"""Zip files of models: read without trusting them, written the same way every time."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..errors import InputError

MOST_FILES = 50
MOST_BYTES = 4 << 30
"""Of all files together, unpacked: far more than any model, far less than a disk."""
_CHUNK = 1 << 20
_DAMAGED = [zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, zlib.error, RuntimeError]
"""What reading a damaged zip raises; RuntimeError where a file merely appears to be encrypted or
compressed in an unknown way."""
try:
    from lzma import LZMAError
except ImportError:  # without it, zipfile refuses such a zip
    pass
else:
    _DAMAGED.append(LZMAError)
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold: the same files, the same bytes


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a model's zip into the empty `folder`; returns the folder that holds its files.

    The files are at the top of the zip or in one folder there. Raises InputError for anything
    that a model's zip does not hold: a path that leaves the folder, a link, a further folder, an
    encrypted file, too many files, or more bytes than announced or than `MOST_BYTES`.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            entries = list(_checked(file, archive))
            room = MOST_BYTES
            for entry, name in entries:
                room -= _extract(file, entry, folder / name, room, archive)
    except tuple(_DAMAGED) as error:
        raise InputError(f"{archive} is not a readable zip file ({error}): get it again") from None
    except OSError as error:
        raise InputError(
            f"{archive} cannot be unpacked ({error.strerror or error}): check the free space"
        ) from None
    return folder


def _checked(file: zipfile.ZipFile, archive: Path) -> Iterator[tuple[zipfile.ZipInfo, str]]:
    """The files to unpack and their plain names."""
    entries = [e for e in file.infolist() if not e.is_dir()]
    if len(entries) > MOST_FILES:
        raise InputError(f"{archive} holds {len(entries)} files: give the zip of one model")
    if sum(e.file_size for e in entries) > MOST_BYTES:
        raise InputError(f"{archive} unpacks to more than {MOST_BYTES >> 30} GiB: refused")
    parents, names = set(), set()
    for entry in entries:
        path = PurePosixPath(entry.filename)
        odd = any(c in entry.filename for c in "\\:\0") or ".." in path.parts
        if odd or path.is_absolute():
            raise InputError(f"{archive}: {entry.filename!r} would leave the folder: refused")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise InputError(f"{archive}: {entry.filename} is a link or a device: refused")
        if entry.flag_bits & 1:
            raise InputError(f"{archive}: {entry.filename} is encrypted: unpack it by hand")
        if path.parts[0] == "__MACOSX" or path.name == ".DS_Store":
            continue  # what macOS adds to every zip
        parents.add(path.parent)
        if path.name.lower() in names:
            raise InputError(f"{archive} holds {path.name} twice: get it again")
        names.add(path.name.lower())
        yield entry, path.name
    if len(parents) > 1 or any(len(p.parts) > 1 for p in parents):
        raise InputError(f"{archive} holds more than one folder: give the zip of one model")


def _extract(
    file: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, room: int, archive: Path
) -> int:
    """Write one file, counting the bytes that are unpacked; returns its size."""
    size = 0
    with file.open(entry) as source, target.open("xb") as out:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > min(room, entry.file_size):
                raise InputError(f"{archive}: {entry.filename} is larger than announced: refused")
            out.write(chunk)
    return size


def pack(files: dict[str, Path], archive: Path) -> None:
    """Write a zip of files by their names in it, uncompressed, as weights hardly shrink."""
    with zipfile.ZipFile(archive, "w") as file:
        for name, path in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, file.open(entry, "w") as out:
                while chunk := source.read(_CHUNK):
                    out.write(chunk)
