"""What ITK does not check in an image file: that it is complete, that its header says where the
voxels lie, and that it does not contradict itself.

ITK pads a truncated NIfTI file with garbage, reads a spacing of 0 or NaN as 1 mm, NaN and infinite
voxels as 0 and corrupt compressed ones as noise, takes any space of NRRD for LPS and any unit for
mm, and reports a truncated MetaImage only on stderr.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...errors import InputError, last_line

SHEARED = "the axes are not at right angles (sheared); resample it onto a regular grid"
NOT_FINITE = "the image has NaN or infinite voxels; replace them first"
_DAMAGED = "the file is damaged or truncated; get it again"
_CHUNK = 1 << 24
_LONGEST_LINE = 4096
_MOST_VOXELS = 1 << 36
_MOST_CHANNELS = 64
_NIFTI_HEADER = 348  # its length in bytes, which is also the number that starts it; NIfTI-2: 540
_QUATERNION_ERROR = 1e-2
_LAST_CODE = 5  # of qform and sform
_SPACING_ERROR = 1e-3  # by which the spacings of one header may differ, relatively
_NIFTI_FLOATS = {16: "f4", 64: "f8"}
_NIFTI_BITS = {
    2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64,
    1280: 64, 1536: 128, 1792: 128, 2048: 256, 2304: 32,
}  # fmt: skip
_NIFTI_UNITS = {1: "meters", 3: "micrometers"}
_LEAST_SLOPE = 2.3e-16  # below which ITK takes a slope for none
_NRRD_SPACES = ("las", "leftanteriorsuperior", "lps", "leftposteriorsuperior", "ras",
                "rightanteriorsuperior")  # fmt: skip
_NRRD_BYTES = {"char": 1, "int8": 1, "short": 2, "int16": 2, "int": 4, "int32": 4, "longlong": 8,
               "int64": 8, "float": 4, "double": 8}  # fmt: skip
_MM = ("", "mm", "millimeter", "millimeters")
_METAIO_ALIASES = (
    ("Offset", "Position", "Origin"), ("TransformMatrix", "Orientation", "Rotation"),
    ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"),
)  # fmt: skip
_METAIO_BYTES = {
    "CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4,
    "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8,
}  # fmt: skip
_MEANINGS = (
    ("Refusing to change spacing", "a spacing is zero; correct the file's header"),
    ("orthonormal", SHEARED),
    ("fread got only", _DAMAGED),
    ("bytes but received", _DAMAGED),
)


class _Broken(Exception):
    """The fault of a file; `check` adds its name."""


def check(path: Path) -> None:
    """Raise InputError unless the file is whole and, if it is NIfTI, all its numbers usable.

    A file of another format than its suffix is left to ITK, which refuses it.
    """
    name = path.name.lower()
    unpacked = path.with_suffix("")
    if name.endswith(".nii.gz") and unpacked.is_file():  # whose voxels ITK would read
        raise InputError(
            f"{path}: {unpacked.name} is in the same folder; which one is meant? Move one away"
        )
    try:
        with path.open("rb") as file:
            _check_compression(file, path)
            if name.endswith((".nii", ".nii.gz")):
                _check_nifti(file, name.endswith(".gz"))
            elif name.endswith((".mha", ".mhd")):
                _check_metaio(file, path)
            elif name.endswith((".nrrd", ".nhdr")):
                _check_nrrd(file, path)
    except _Broken as error:
        raise InputError(f"{path}: {error}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: the compressed file is damaged or truncated ({reason}); get it again"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check it") from None


def explain(error: Exception) -> str:
    """An error of ITK in the user's words, with the remedy where it is known."""
    text = " ".join(str(error).split())
    for sign, meaning in _MEANINGS:
        if sign in text:
            return meaning
    reason = re.sub(r"^ITK ERROR: \w+\(\w+\): ", "", last_line(error))
    return f"cannot be read as an image ({reason}); correct it, or convert it to NRRD"


def _check_compression(file: BinaryIO, path: Path) -> None:
    """Raise _Broken unless name and content agree on whether the file is compressed with gzip."""
    start = file.read(2)
    file.seek(0)
    if not start:
        raise _Broken("the file is empty; get it again")
    compressed = start == b"\x1f\x8b"
    if path.name.lower().endswith(".gz"):
        if not compressed:
            raise _Broken(f"it is not compressed; rename it to {path.name[:-3]}")
    elif compressed:
        raise _Broken(f"it is compressed with gzip; rename it to {path.name}.gz, or unpack it")


def _check_nifti(file: BinaryIO, compressed: bool) -> None:
    content = gzip.GzipFile(fileobj=file) if compressed else file
    head = content.read(_NIFTI_HEADER)
    start = {struct.unpack_from(f"{order}i", head.ljust(4, b"\0"))[0]: order for order in "<>"}
    if 540 in start:
        raise _Broken("NIfTI-2 is not supported; save the image as NIfTI-1 or NRRD")
    if _NIFTI_HEADER not in start or len(head) < _NIFTI_HEADER:
        raise _Broken("it is not a NIfTI file, or its header is damaged; get it again")
    if head[344:348] not in (b"n+1\0", b"ni1\0"):  # Analyze 7.5 has no orientation
        raise _Broken("its header says nothing of NIfTI (Analyze, or damaged); get it as NIfTI")
    order = start[_NIFTI_HEADER]
    rank, *dim = struct.unpack_from(f"{order}8h", head, 40)
    kind, bits = struct.unpack_from(f"{order}2h", head, 70)
    pixdim = struct.unpack_from(f"{order}8f", head, 76)
    (offset,) = struct.unpack_from(f"{order}f", head, 108)
    if not 1 <= rank <= 7 or min(dim[:rank]) < 1 or bits < 1 or not abs(offset) < math.inf:
        raise _Broken("the header is damaged; get the file again")
    spacing = pixdim[1 : min(rank, 3) + 1]
    _check_spacing(spacing)
    if unit := _NIFTI_UNITS.get(head[123] & 7):
        raise _Broken(f"its lengths are in {unit}; save it in mm")
    _check_scaling(*struct.unpack_from(f"{order}2f", head, 112))
    _check_orientation(head, order, spacing)
    begin = max(int(offset), _NIFTI_HEADER)
    needed = begin + -(-math.prod(dim[:rank]) * _NIFTI_BITS.get(kind, bits) // 8)
    position = _skip(content, len(head), begin)
    floats = np.dtype(order + _NIFTI_FLOATS[kind]) if kind in _NIFTI_FLOATS else None
    size, finite = _count_finite(content, position, needed, floats)
    _compare(size, needed)
    if not finite:
        raise _Broken(NOT_FINITE)


def _check_spacing(spacing: Sequence[float]) -> None:
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        shown = " x ".join(f"{s:g}" for s in spacing)
        raise _Broken(f"spacing {shown} mm is not usable; correct the file's header")


def _check_scaling(slope: float, intercept: float) -> None:
    """No slope is 0, or NaN as nibabel writes it; ITK takes others that are unusable for none."""
    if slope == 0 or math.isnan(slope):
        usable = intercept == 0 or math.isnan(intercept)
    else:
        usable = _LEAST_SLOPE < abs(slope) < math.inf and math.isfinite(intercept)
    if not usable:
        raise _Broken(
            f"the header scales its voxels by {slope:g} and adds {intercept:g} (scl_slope, "
            "scl_inter), which is not usable; correct it"
        )


def _check_orientation(head: bytes, order: str, spacing: Sequence[float]) -> None:
    """NIfTI stores its orientation as a quaternion (qform), a matrix (sform), both or neither, and
    the spacing in pixdim, which the matrix may contradict."""
    qform, sform = struct.unpack_from(f"{order}2h", head, 252)
    if max(qform, sform) > _LAST_CODE:
        raise _Broken("the header is damaged (qform or sform code); get the file again")
    if qform <= 0 and sform <= 0:
        raise _Broken(
            "the header holds no orientation (qform and sform codes are 0); save it with its "
            "orientation"
        )
    if qform > 0 and _qform(head, order) is None:
        raise _Broken("the header is damaged (qform); get the file again")
    if sform > 0:
        matrix = _sform(head, order)[:3, :3]
        lengths = np.linalg.norm(matrix, axis=0)[: len(spacing)]
        if not np.allclose(lengths, spacing, rtol=_SPACING_ERROR, atol=0):
            shown = (" x ".join(f"{s:.4g}" for s in values) for values in (spacing, lengths))
            pixdim, other = shown
            raise _Broken(
                f"the header contradicts itself: the spacing is {pixdim} mm by pixdim and "
                f"{other} mm by sform; correct it"
            )


def _sform(head: bytes, order: str) -> np.ndarray:
    """The 4x4 matrix from index to RAS of the sform."""
    rows = np.array(struct.unpack_from(f"{order}12f", head, 280)).reshape(3, 4)
    return np.vstack([rows, [0, 0, 0, 1]])


def _qform(head: bytes, order: str) -> np.ndarray | None:
    """The same for the qform, a rotation by the quaternion (a, b, c, d); None if it is not one."""
    b, c, d, *offset = struct.unpack_from(f"{order}6f", head, 256)
    rest = 1.0 - (b * b + c * c + d * d)
    if not rest > -_QUATERNION_ERROR or not all(map(math.isfinite, offset)):
        return None
    a = math.sqrt(max(rest, 0.0))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    side, *spacing = struct.unpack_from(f"{order}4f", head, 76)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * (*spacing[:2], spacing[2] * (-1.0 if side < 0 else 1.0))
    matrix[:3, 3] = offset
    return matrix


def nifti_forms(path: Path) -> dict[str, np.ndarray]:
    """The matrices from index to RAS, ``qform`` and ``sform``, that a NIfTI file which `check`
    passed holds: both, or one."""
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        head = file.read(_NIFTI_HEADER)
    order = "<" if struct.unpack_from("<i", head)[0] == _NIFTI_HEADER else ">"
    codes = struct.unpack_from(f"{order}2h", head, 252)
    makers = {"qform": _qform, "sform": _sform}
    found = zip(makers.items(), codes, strict=True)
    return {name: make(head, order) for (name, make), code in found if code > 0}


def _skip(file: BinaryIO, position: int, begin: int) -> int:
    """Read `file` on from byte `position` to byte `begin`, or to its end; where that is."""
    while position < begin and (part := file.read(min(_CHUNK, begin - position))):
        position += len(part)
    return position


def _count_finite(
    file: BinaryIO, position: int, end: int, kind: np.dtype | None
) -> tuple[int, bool]:
    """The size in bytes of `file`, which is at byte `position`, and whether its numbers of `kind`
    up to byte `end` are finite (True without a kind); in bounded memory."""
    finite = True
    while part := file.read(_CHUNK):
        if kind is not None and position < end:
            count = min(len(part), end - position) // kind.itemsize
            finite = finite and bool(np.isfinite(np.frombuffer(part, kind, count)).all())
        position += len(part)
    return position, finite


def _check_metaio(file: BinaryIO, path: Path) -> None:
    """The voxels are behind the header, or in one file beside it or several."""
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = file.readline(_LONGEST_LINE)
        key, sign, value = (part.strip() for part in line.decode("latin-1").partition("="))
        if not sign:
            raise _Broken("it is not a MetaImage, or its header is damaged; get it again")
        if fields.setdefault(key, value) != value:
            raise _Broken(f"the header has two values of {key}, {fields[key]} and {value}; "
                          "correct it")  # fmt: skip
    needed, slices = _check_metaio_header(fields)
    place = fields["ElementDataFile"]
    if place == "LIST" or place.startswith("LIST ") or "%" in place:
        _check_metaio_list(file, place, slices)
        return
    try:
        skipped = int(fields.get("HeaderSize", "0"))
    except ValueError:
        raise _Broken(f"HeaderSize = {fields['HeaderSize']} is not a number; correct it") from None
    if is_local := place.upper() == "LOCAL":
        if skipped > 0:
            raise _Broken(f"HeaderSize = {skipped} is of voxels in a file beside it; correct it")
    else:
        file = _beside(path, place)
    with file:
        if needed is None or not _is_true(fields.get("BinaryData", "True")):
            return
        if not _is_true(fields.get("CompressedData", "")):
            size = _count(file)
            _compare(size, needed + max(skipped, 0), exactly=skipped >= 0)
            return
        size, packed = _count_inflated(file)
        given = fields.get("CompressedDataSize", "" if is_local else str(packed))
        if given != str(packed):  # which ITK reads, whatever there is
            raise _Broken(f"CompressedDataSize = {given or 'none'} in the header, and {packed} "
                          "bytes are there; save it again")  # fmt: skip
        _compare(size, needed, exactly=True)


def _is_true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")


def _beside(path: Path, place: str) -> BinaryIO:
    """The file at ``place``, as the header ``path`` names it, opened."""
    beside = path.parent / place
    if not beside.is_file():
        raise _Broken(f"its voxels, {place}, are missing beside it; get them too")
    return beside.open("rb")


def _check_metaio_list(file: BinaryIO, place: str, slices: int) -> None:
    """A file for each slice; ITK counts the bytes of each, and leaves slices without one as they
    are in its memory. ``file`` is at the list, if it is not a pattern such as `s%03d.raw 1 9 1`.
    """
    name, *numbers = place.split()
    if name != "LIST":
        try:
            first, last, step = map(int, numbers or (1, slices, 1))
            count = len(range(first, last + 1, step))
        except ValueError:
            raise _Broken(f"ElementDataFile = {place} is not usable; correct it") from None
    elif not numbers:
        count = sum(1 for line in file.read(_CHUNK).splitlines() if line.strip())
    else:
        return
    if count != slices:
        raise _Broken(f"it names {count} files for {slices} slices; correct its list")


def _check_metaio_header(fields: Mapping[str, str]) -> tuple[int | None, int]:
    """Check the fields for sizes and geometry before ITK trusts them: a negative number of
    dimensions crashes ITK's process. Returns the size of the voxels in bytes, None if unknown, and
    the number of slices."""

    def numbers(names: Sequence[str], kind: Callable[[str], float], count: int, what: str) -> list:
        name = next((n for n in names if n in fields), None)
        if name is None:
            raise _Broken(f"the header holds no {what} ({names[0]}); save it with its geometry")
        try:
            found = [kind(word) for word in fields[name].split()]
        except ValueError:
            found = []
        if len(found) != count or not all(map(math.isfinite, found)):
            raise _Broken(
                f"{name} = {fields[name]} in the header is not {count} usable "
                f"number{'s' if count > 1 else ''}; correct it"
            )
        return found

    (rank,) = numbers(("NDims",), int, 1, "number of dimensions")
    if not 1 <= rank <= 4:
        raise _Broken(f"NDims = {rank} in the header; an image has up to 4 dimensions")
    sizes = numbers(("DimSize",), int, rank, "size")
    if min(sizes) < 1 or math.prod(sizes) > _MOST_VOXELS:
        raise _Broken(f"DimSize = {fields['DimSize']} in the header is not usable; correct it")
    channels = fields.get("ElementNumberOfChannels", "1")
    if not (channels.isdecimal() and 1 <= int(channels) <= _MOST_CHANNELS):
        raise _Broken(f"ElementNumberOfChannels = {channels} in the header; correct it")
    kind = fields.get("ElementType", "").removeprefix("MET_").removesuffix("_ARRAY")
    if kind not in (*_METAIO_BYTES, "OTHER", "NONE"):
        raise _Broken(f"ElementType = {fields.get('ElementType')} is unknown; correct the header")
    spacing = numbers(("ElementSpacing", "ElementSize"), float, rank, "spacing")
    _check_spacing(spacing)
    numbers(("Offset", "Position", "Origin"), float, rank, "position")
    numbers(("TransformMatrix", "Orientation", "Rotation"), float, rank * rank, "orientation")
    _check_metaio_contradictions(fields)
    each = _METAIO_BYTES.get(kind)
    return None if each is None else math.prod(sizes) * int(channels) * each, sizes[-1]


def _check_metaio_contradictions(fields: Mapping[str, str]) -> None:
    """What ITK passes over: names of one thing with different values, units, slopes."""
    for names in _METAIO_ALIASES:
        given = {fields[name]: name for name in names if name in fields}
        if len(given) > 1:
            one, other = (f"{name} = {value}" for value, name in list(given.items())[:2])
            raise _Broken(f"the header contradicts itself: {one}, but {other}; correct it")
    if (unit := fields.get("DistanceUnits", "?").strip("\"'").lower()) not in (*_MM, "?"):
        raise _Broken(f"DistanceUnits = {unit} in the header; save it in mm")
    for name, none in (("Slope", 1.0), ("Offset", 0.0)):
        name = f"ElementToIntensityFunction{name}"
        try:
            is_none = float(fields.get(name, none)) == none
        except ValueError:
            is_none = False
        if not is_none:
            raise _Broken(
                f"{name} = {fields[name]} in the header is not applied; save the voxels as they "
                "are meant, without it"
            )


def _check_nrrd(file: BinaryIO, path: Path) -> None:
    """The voxels behind the header, or in one file beside it; several ITK counts itself."""
    lines = []
    while (line := file.readline(_LONGEST_LINE)).strip():
        lines.append(line.strip().decode("latin-1"))
    if not lines or not lines[0].lower().startswith("nrrd000"):
        raise _Broken("it is not an NRRD file, or its header is damaged; get it again")
    is_ended = bool(line)  # by an empty line
    fields: dict[str, str] = {}
    for text in lines[1:]:
        key, sign, value = text.partition(":")
        if sign and not key.startswith("#") and not value.startswith("="):
            fields[key.replace(" ", "").lower()] = value.strip()
    place = fields.get("datafile")
    if not is_ended and place is None:
        raise _Broken(_DAMAGED)
    voxels = _check_nrrd_header(fields)
    if place is not None:
        if place.startswith("LIST") or "%" in place:
            return
        file = _beside(path, place)
    kind = re.sub(r"unsigned|signed|_t\b| ", "", fields.get("type", "").lower()).removeprefix("u")
    each = _NRRD_BYTES.get(kind if kind == "int" else kind.removesuffix("int"))
    encoding = fields.get("encoding", "").lower()
    with file:
        if each is None or "lineskip" in fields or "byteskip" in fields:
            return
        if encoding == "raw":
            _compare(_count(file), voxels * each, exactly=True)
        elif encoding in ("gzip", "gz"):
            _compare(_count(gzip.GzipFile(fileobj=file)), voxels * each, exactly=True)


def _check_nrrd_header(fields: Mapping[str, str]) -> int:
    """The size, and that spacing, orientation and position are there and are numbers, in a known
    space and in mm; the number of voxels."""
    try:
        rank = int(fields["dimension"])
        sizes = [int(n) for n in fields["sizes"].split()]
    except (KeyError, ValueError):
        raise _Broken("the header holds no usable size (dimension, sizes); correct it") from None
    fits = 1 <= rank <= 16 and len(sizes) == rank and min(sizes) >= 1
    if not fits or math.prod(sizes) > _MOST_VOXELS:
        raise _Broken(f"sizes: {fields['sizes']} in the header is not usable; correct it")
    if "spacedirections" not in fields:
        what = "orientation (space directions)" if "spacings" in fields else "spacing"
        raise _Broken(f"the header holds no {what}; save it with its geometry")
    if "spaceorigin" not in fields:
        raise _Broken("the header holds no position (space origin); save it with its geometry")
    space = fields.get("space", "")
    # which ITK leaves out for other than three dimensions
    is_of_itk = "space" not in fields and fields.get("spacedimension") == str(rank) != "3"
    if re.sub(r"[ _-]", "", space.lower()) not in _NRRD_SPACES and not is_of_itk:
        raise _Broken(f"space: {space or 'none'} in the header does not say which way the patient "
                      "lies; save it as left-posterior-superior")  # fmt: skip
    units = re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))
    if unit := next((u for u in units if u.lower() not in _MM), None):
        raise _Broken(f"space units: {unit} in the header; save it in mm")
    texts = fields["spacedirections"] + fields["spaceorigin"]
    try:
        vectors = re.findall(r"\(([^()]*)\)|none|(\S)", texts, re.IGNORECASE)
        found = [float(n) for v, other in vectors if v or other for n in (other or v).split(",")]
    except ValueError:
        found = [math.nan]
    if not np.isfinite(found).all():
        raise _Broken("space directions or space origin in the header are not numbers; correct it")
    return math.prod(sizes)


def _count(file: BinaryIO) -> int:
    """How many bytes are left in `file`."""
    return _count_finite(file, 0, 0, None)[0]


def _count_inflated(file: BinaryIO) -> tuple[int, int]:
    """How many bytes the zlib stream in `file` holds, and how many it takes; zlib.error or
    EOFError if it is damaged."""
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    begin, total = file.tell(), 0
    while not inflate.eof:
        part = inflate.unconsumed_tail or file.read(_CHUNK)
        if not part:
            total += len(inflate.flush())
            break
        total += len(inflate.decompress(part, _CHUNK))
    if not inflate.eof:
        raise EOFError("it ends too early")
    return total, file.tell() - begin - len(inflate.unused_data)


def _compare(size: int, needed: int, *, exactly: bool = False) -> None:
    if size < needed:
        raise _Broken(f"{_DAMAGED} (it has {size} of {needed} bytes)")
    if exactly and size > needed:
        raise _Broken(
            f"it has {size} bytes of voxels, and {needed} by its header; correct its size or its "
            "voxel type"
        )
