"""Reads and writes NRRD files in small pieces.

Slicer's own reader and writer do the same in one call, which freezes the application for as long
as a large volume takes; these are generators that yield after every few megabytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError, explaining

CHUNK = 4 << 20  # bytes between two yields
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # MRML is RAS, files are LPS; the matrix is its own inverse
_NAMES = {
    "int8": "int8", "uint8": "uint8", "int16": "int16", "uint16": "uint16", "int32": "int32",
    "uint32": "uint32", "int64": "int64", "uint64": "uint64", "float32": "float",
    "float64": "double",
}  # fmt: skip
_TYPES = {
    **{written: numpy for numpy, written in _NAMES.items()},
    "signed char": "int8", "int8_t": "int8", "uchar": "uint8", "unsigned char": "uint8",
    "uint8_t": "uint8", "short": "int16", "signed short": "int16", "int16_t": "int16",
    "ushort": "uint16", "unsigned short": "uint16", "uint16_t": "uint16", "int": "int32",
    "signed int": "int32", "int32_t": "int32", "uint": "uint32", "unsigned int": "uint32",
    "uint32_t": "uint32",
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """The header of a file; `shape` is that of the array, k first."""

    shape: tuple[int, int, int]
    dtype: np.dtype
    ijkToRas: np.ndarray
    encoding: str
    offset: int


def write(path: Path, array: np.ndarray, ijkToRas: np.ndarray) -> Iterator[None]:
    """Write the k, j, i `array` uncompressed."""
    array = np.asarray(array)
    if array.dtype.name not in _NAMES:
        raise PanelError(_("Voxels of type {type} cannot be used.").format(type=array.dtype.name))
    lps = _LPS @ ijkToRas
    vectors = " ".join("(" + ",".join(repr(float(x)) for x in lps[:3, c]) + ")" for c in range(3))
    lines = [
        "NRRD0004",
        f"type: {_NAMES[array.dtype.name]}",
        "dimension: 3",
        "space: left-posterior-superior",
        "sizes: " + " ".join(str(n) for n in reversed(array.shape)),
        f"space directions: {vectors}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: raw",
        "space origin: (" + ",".join(repr(float(x)) for x in lps[:3, 3]) + ")",
    ]
    target = array.dtype.newbyteorder("<")
    with open(path, "wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode("ascii"))
        for part in slabs(array.shape, array.dtype.itemsize):
            file.write(np.ascontiguousarray(array[part], dtype=target).data)
            yield


def slabs(shape: tuple[int, ...], itemsize: int) -> Iterator[slice]:
    """Slices along the first axis of at most about CHUNK bytes each."""
    perSlice = max(1, int(np.prod(shape[1:])) * itemsize)
    count = max(1, CHUNK // perSlice)
    for start in range(0, shape[0], count):
        yield slice(start, min(shape[0], start + count))


def readHeader(path: Path) -> Header:
    """The header of a NRRD with its data attached; raises PanelError for anything else."""
    fields: dict[str, str] = {}
    try:
        with _reading(path), open(path, "rb") as file:
            if not file.readline(64).startswith(b"NRRD"):
                raise PanelError(_("{file} is not a NRRD file.").format(file=path.name))
            while line := file.readline(65536).decode("utf-8", "replace").rstrip("\r\n"):
                if ":" in line and not line.startswith("#") and ":=" not in line:
                    key, value = line.split(":", 1)
                    fields[key.strip().lower()] = value.strip()
            offset = file.tell()
        return _header(fields, offset)
    except (KeyError, ValueError, IndexError) as error:
        raise PanelError(
            _("{file} is damaged or of an unknown kind ({why}).").format(file=path.name, why=error)
        ) from None


def _header(fields: dict[str, str], offset: int) -> Header:
    if fields["dimension"] != "3" or "data file" in fields or "datafile" in fields:
        raise ValueError("not one 3D volume")
    sizes = tuple(int(n) for n in fields["sizes"].split())
    dtype = np.dtype(_TYPES[fields["type"].lower()])
    dtype = dtype.newbyteorder(">" if fields.get("endian", "little") == "big" else "<")
    if fields["encoding"].lower() not in ("raw", "gzip", "gz"):
        raise ValueError(f"encoding {fields['encoding']}")
    matrix = np.eye(4)
    for column, vector in enumerate(_vectors(fields["space directions"])):
        matrix[:3, column] = vector
    matrix[:3, 3] = _vectors(fields["space origin"])[0]
    space = fields["space"].lower()
    if space in ("left-posterior-superior", "lps"):
        matrix = _LPS @ matrix
    elif space not in ("right-anterior-superior", "ras"):
        raise ValueError(f"space {space}")
    return Header(sizes[::-1], dtype, matrix, fields["encoding"].lower(), offset)


def _vectors(text: str) -> list[list[float]]:
    return [[float(x) for x in part.split(",")] for part in text.strip("() ").split(") (")]


def read(path: Path, header: Header, target: np.ndarray) -> Iterator[None]:
    """Read the voxels into `target`, an array or view of the header's shape."""
    if tuple(target.shape) != header.shape:
        raise PanelError(_("{file} has another size than the volume.").format(file=path.name))
    try:
        with _reading(path):
            yield from _read(path, header, target)
    except zlib.error as error:
        raise PanelError(
            _("{file} is damaged ({why}).").format(file=path.name, why=error)
        ) from None


def _reading(path: Path) -> AbstractContextManager[None]:
    return explaining(_("{file} cannot be read: {why}."), file=path.name)


def _read(path: Path, header: Header, target: np.ndarray) -> Iterator[None]:
    with open(path, "rb") as file:
        file.seek(header.offset)
        source = file if header.encoding == "raw" else _Gunzip(file)
        for part in slabs(header.shape, header.dtype.itemsize):
            slab = (part.stop - part.start, *header.shape[1:])
            size = int(np.prod(slab)) * header.dtype.itemsize
            content = source.read(size)
            if len(content) != size:
                raise PanelError(_("{file} is truncated.").format(file=path.name))
            target[part] = np.frombuffer(content, header.dtype).reshape(slab)
            yield


class _Gunzip:
    """A minimal gzip reader, without the small buffers of `gzip`."""

    def __init__(self, file) -> None:
        self._file = file
        self._zlib = zlib.decompressobj(wbits=31)

    def read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing:
            data = self._zlib.unconsumed_tail or self._file.read(1 << 20)
            if not data:
                break
            piece = self._zlib.decompress(data, missing)
            parts.append(piece)
            missing -= len(piece)
            if self._zlib.eof:
                break
        return b"".join(parts)
