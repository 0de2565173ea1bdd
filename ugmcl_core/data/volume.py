"""A volume: an array and the grid it lies on; reading, writing and resampling of image files.

World coordinates are RAS millimeters here and everywhere else in this package; image files are
LPS, and this file alone converts. Arrays are indexed ``[i, j, k]``.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, last_line
from ..files import whole_file
from .checks import dicom, image_file
from .checks.multiframe_dicom import frame_grid
from .limits import GRID_TOLERANCE, LARGEST_VALUE, MOST_SKEW, SPACING_LIMITS_MM
from .pairing import SUFFIXES, is_result

_LPS_RAS = np.diag([-1.0, -1.0, 1.0])
_DEFAULTS = {"spacing": (np.ones(3),), "origin": (np.zeros(3),), "axes": (_LPS_RAS, np.eye(3))}
_ITK_LOGGER = threading.RLock()
_VOXEL_TAGS = ("0028|0100", "0028|0101", "0028|0103", "0028|1052", "0028|1053")
_OF_GEOMETRY = re.compile(r"spacing|origin|direction|orient|orthonormal|[qs]form|matrix", re.I)


@dataclass(frozen=True)
class Grid:
    """Where the voxels lie: ``shape`` voxels along i, j, k, ``spacing`` in mm, ``origin`` the RAS
    position of the center of voxel (0, 0, 0), and ``axes``, whose column a is the unit RAS
    direction of index axis a (any rotation, left-handed ones too)."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    axes: tuple[tuple[float, float, float], ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))

    @property
    def affine(self) -> np.ndarray:
        """The 4x4 matrix from index (i, j, k) to RAS."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(self.axes, float) * np.asarray(self.spacing, float)
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def extent(self) -> tuple[float, float, float]:
        """Size in mm along the index axes."""
        return tuple(n * s for n, s in zip(self.shape, self.spacing, strict=True))

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in milliliters."""
        return math.prod(self.spacing) / 1000.0

    def cropped(self, box: Sequence[slice]) -> Grid:
        """The grid of ``array[box]`` (slices without step)."""
        start = [s.start for s in box]
        origin = self.affine @ np.array([*start, 1.0])
        shape = tuple(s.stop - s.start for s in box)
        return Grid(shape, self.spacing, tuple(origin[:3].tolist()), self.axes)

    def lost_of(self, other: Grid) -> tuple[str, ...]:
        """What a file with this grid seems to have lost of the ``other`` one: spacing, origin or
        axes are what programs write for want of a better, and all else is the other's. Empty for
        a grid of its own."""
        lost = []
        for name, defaults in _DEFAULTS.items():
            mine, theirs = (np.asarray(getattr(grid, name), float) for grid in (self, other))
            if np.allclose(mine, theirs, atol=1e-2):
                continue
            if not any(np.allclose(mine, default, atol=1e-6) for default in defaults):
                return ()
            lost.append(name)
        return tuple(lost) if tuple(self.shape) == tuple(other.shape) else ()

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both grids have the same voxels, corners equal within ``tolerance`` voxels."""
        if tuple(self.shape) != tuple(other.shape):
            return False
        places = itertools.product(*((0, n) for n in self.shape))
        corners = np.array([[*place, 1] for place in places], float).T
        gap = np.abs((self.affine - other.affine) @ corners)[:3].max()
        return bool(gap <= tolerance * min(self.spacing))


@dataclass(frozen=True)
class Volume:
    """A scalar image: ``array`` of shape (I, J, K) on its ``grid``; ``remarks`` are what a user
    should know about its file."""

    array: np.ndarray
    grid: Grid
    remarks: tuple[str, ...] = ()


def dicom_series(folder: str | Path) -> tuple[str, ...]:
    """The identifiers of the DICOM series whose files lie directly in ``folder``; InputError for
    a DICOM file that is damaged."""
    import SimpleITK as sitk

    for path in sorted(Path(folder).iterdir()):
        if path.is_file():
            dicom.check_lengths(path)
    try:
        return tuple(_quiet(sitk, sitk.ImageSeriesReader.GetGDCMSeriesIDs, str(folder)))
    except RuntimeError as error:
        raise _unreadable_series(folder, error) from error


def read(path: str | Path) -> Volume:
    """Read a 3D scalar image: NRRD, NIfTI, MHA, or a folder holding one DICOM series.

    Raises InputError for what cannot be used: missing or truncated files, DICOM slices that form
    no regular grid, a slice without its series, other than three dimensions, several components,
    complex, NaN or infinite voxels, impossible spacing, sheared axes.
    """
    import SimpleITK as sitk

    path = Path(path)
    if not path.is_dir():
        return _as_volume(path, _read_file(path, sitk), sitk)
    image, beside = _read_dicom(path, sitk)
    volume = _as_volume(path, image, sitk)
    return replace(volume, remarks=(*volume.remarks, *_left_out(path, beside)))


def read_grid(path: str | Path) -> Grid:
    """The grid of an image file, or of the DICOM series in a folder, by its headers alone: quick,
    and without most checks of `read`. InputError if these cannot be read."""
    import SimpleITK as sitk

    path = Path(path)
    names = [str(path)]
    if path.is_dir():
        names = _quiet(sitk, sitk.ImageSeriesReader.GetGDCMSeriesFileNames, str(path))
    if not names:
        raise InputError(
            f"{path}: the folder holds no DICOM series; give image files, or the folder of a "
            "series"
        )
    kind = sitk.ImageFileReader.GetImageIOFromFileName(names[0])
    if len(names) == 1 and kind == "GDCMImageIO":  # of many frames, which need not be in order
        return read(path).grid
    first, last = (_header(name, sitk) for name in (names[0], names[-1]))
    dimension = first.GetDimension()
    direction = np.array(first.GetDirection()).reshape(dimension, dimension)[:3, :3]
    size, spacing = list(first.GetSize()[:3]), list(first.GetSpacing()[:3])
    if min(dimension, len(size)) < 3:
        raise InputError(
            f"{path}: the image has {dimension} dimensions; give a single 3D volume"
        )
    if len(names) > 1:  # one slice a file
        step = (np.array(last.GetOrigin()) - first.GetOrigin())[:3] / (len(names) - 1)
        size[2], spacing[2] = len(names), float(np.linalg.norm(step))
        direction[:, 2] = step / max(spacing[2], 1e-9)
    _check_spacing(path, spacing)
    axes = _LPS_RAS @ direction
    origin = _LPS_RAS @ np.array(first.GetOrigin()[:3])
    return Grid(
        tuple(size), tuple(spacing), tuple(origin.tolist()), tuple(map(tuple, axes.tolist()))
    )


def read_channels(path: str | Path) -> tuple[Volume, ...]:
    """The images in a file that holds several channels of one case, as a fourth dimension (as in
    the Medical Segmentation Decathlon) or as components of its voxels (a vector); one image if
    the file is that of one. Errors as of `read`, and InputError for colors."""
    import SimpleITK as sitk

    path = Path(path)
    if path.is_dir():  # a series is one image
        return (read(path),)
    image = _read_file(path, sitk)
    count = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() == 4 and count == 1:
        parts = [image[:, :, :, n] for n in range(image.GetSize()[3])]
    elif image.GetDimension() == 3 and count > 1:
        keys = [k for k in image.GetMetaDataKeys() if k.startswith("NRRD_kinds")]
        if any("color" in image.GetMetaData(k).lower() for k in keys):
            raise InputError(f"{path}: the voxels are colors; give images of one channel each")
        parts = [sitk.VectorIndexSelectionCast(image, n) for n in range(count)]
    else:
        parts = [image]
    return tuple(_as_volume(path, part, sitk) for part in parts)


def one_case(
    paths: Sequence[str | Path], read_from: Sequence[Sequence[Volume]], count: int
) -> tuple[Volume, ...]:
    """The ``count`` channels of a case, read from its files, on the grid of the first one.

    Raises InputError unless there are so many, and for grids that differ by over GRID_TOLERANCE.
    """
    found = [(path, v) for path, each in zip(paths, read_from, strict=True) for v in each]
    if len(found) != count:
        if len(paths) > 1:
            what = f"with {Path(paths[-1]).name} these are {len(found)} images"
        else:
            what = "holds one image" if len(found) == 1 else f"holds {len(found)} channels"
        raise InputError(f"{paths[0]}: {what}, and a case has {count}; name one for each")
    first = found[0][1]
    for path, other in found[1:]:
        if not other.grid.same_as(first.grid, GRID_TOLERANCE):
            raise InputError(
                f"{path}: is on a different grid than {Path(paths[0]).name}; the channels of a "
                "case need the same one: resample it onto that grid"
            )
    return tuple(replace(v, grid=first.grid) for _, v in found)


def read_images(paths: Sequence[str | Path], count: int) -> tuple[Volume, ...]:
    """The ``count`` channels of a case from one file each, or all from one file (`one_case`)."""
    if len(paths) == 1 < count:
        return one_case(paths, [read_channels(paths[0])], count)
    return one_case(paths, [[read(path)] for path in paths], count)


def _as_volume(path: Path, image, sitk) -> Volume:
    """`read` of an image that ITK has read."""
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise InputError(
            f"{path}: the image has {image.GetDimension()} dimensions; give a single 3D volume"
        )
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"{path}: the image has {image.GetNumberOfComponentsPerPixel()} "
            "components a voxel (color or vector); give a scalar volume"
        )
    spacing = image.GetSpacing()
    _check_spacing(path, spacing)
    array = sitk.GetArrayFromImage(image)
    _check_voxels(path, array)
    axes = _LPS_RAS @ np.array(image.GetDirection()).reshape(3, 3)
    origin = _LPS_RAS @ np.array(image.GetOrigin())
    if not (np.isfinite(axes).all() and np.isfinite(origin).all()):
        raise InputError(f"{path}: the origin or the axes are not finite; correct the header")
    if _skew(axes) > MOST_SKEW:
        raise InputError(f"{path}: {image_file.SHEARED}")
    directions = tuple(map(tuple, axes.tolist()))
    grid = Grid(tuple(image.GetSize()), tuple(spacing), tuple(origin.tolist()), directions)
    remarks = _form_used(path, grid) if _is_nifti(path) else ()
    return Volume(array.transpose(2, 1, 0), grid, remarks)


def _check_spacing(path: Path, spacing: Sequence[float]) -> None:
    if not all(SPACING_LIMITS_MM[0] <= s <= SPACING_LIMITS_MM[1] for s in spacing):
        raise InputError(
            f"{path}: spacing {tuple(spacing)} mm is not usable; correct the file's header"
        )


def _skew(axes: np.ndarray) -> float:
    """By how much the scalar products of the axes, the columns, differ from 0 and 1."""
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _sform_fits(path: Path) -> bool:
    """Whether a NIfTI file has a sform that is skewed by MOST_SKEW at most."""
    matrix = image_file.nifti_forms(path).get("sform", np.zeros((4, 4)))[:3, :3]
    lengths = np.linalg.norm(matrix, axis=0)
    return bool(lengths.all()) and _skew(matrix / lengths) <= MOST_SKEW


def _form_used(path: Path, grid: Grid) -> tuple[str, ...]:
    """A remark on which of a NIfTI file's geometries ``grid`` follows, if it holds two that
    differ; InputError if ``grid`` follows neither."""
    corners = np.array([[*place, 1] for place in itertools.product(*((0, n) for n in grid.shape))])

    def gap(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.abs((one - other) @ corners.T).max())

    forms = image_file.nifti_forms(path)
    used = min(forms, key=lambda name: gap(forms[name], grid.affine))
    least = GRID_TOLERANCE * min(grid.spacing)
    if gap(forms[used], grid.affine) > least + MOST_SKEW * max(grid.extent):
        raise InputError(
            f"{path}: its {used} cannot be used as it stands (sheared or contradicted); correct "
            "the header"
        )
    if len(forms) == 1 or (apart := gap(*forms.values())) <= least:
        return ()
    return (f"{path.name}: its qform and sform lie {apart:.3g} mm apart; the {used} is used",)


def _check_voxels(path: Path, array: np.ndarray) -> None:
    """Raise InputError if there are no voxels, or if they are not finite real numbers in the range
    of float32, in which everything is computed."""
    if array.size == 0:
        raise InputError(f"{path}: the image has no voxels; get the file again")
    if array.dtype.kind not in "iuf":
        raise InputError(f"{path}: the voxels are complex numbers; save their magnitude instead")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{path}: {image_file.NOT_FINITE}")
    largest = max(array.max(), -array.min()) if array.dtype == np.float64 else 0.0
    if largest > np.finfo(np.float32).max:
        raise InputError(f"{path}: voxels of {largest:.2g} are beyond float32; rescale the image")


def read_notes(path: str | Path) -> dict[str, str]:
    """The header fields of an image file, with the notes that `write` stored; InputError."""
    import SimpleITK as sitk

    reader = _header(path, sitk)
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def _header(path: str | Path, sitk):
    """A reader that has read all of a file but its voxels; InputError."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        _quiet(sitk, reader.ReadImageInformation)
    except RuntimeError as error:
        raise InputError(f"{path}: {image_file.explain(error)}") from None
    return reader


def read_labels(path: str | Path) -> Volume:
    """Read a label map; values must be whole numbers from 0 to LARGEST_VALUE (uint16 in the
    result)."""
    import SimpleITK as sitk

    path = Path(path)
    if path.name.lower().endswith(".seg.nrrd"):
        volume = _as_volume(path, _one_layer(path, _read_file(path, sitk), sitk), sitk)
    else:
        volume = read(path)
    array = volume.array
    if array.dtype.kind == "f" and not np.array_equal(array, np.round(array)):
        raise InputError(
            f"{path}: the labels are not whole numbers; give the label map, not an image"
        )
    if array.min() < 0 or array.max() > LARGEST_VALUE:
        raise InputError(
            f"{path}: labels must lie between 0 and {LARGEST_VALUE}, found {array.min()} to "
            f"{array.max()}; renumber them"
        )
    return Volume(array.astype(np.uint16), volume.grid, volume.remarks)


def _one_layer(path: Path, image, sitk):
    """The label map of a segmentation whose segments overlap, and which therefore has several
    layers. Where they overlap, the smaller one wins. InputError if a value has two meanings."""
    count = image.GetNumberOfComponentsPerPixel()
    if count == 1:
        return image
    layers = np.moveaxis(sitk.GetArrayFromImage(image), -1, 0)
    sizes: dict[int, tuple[int, int]] = {}
    for number, layer in enumerate(layers):
        for value, size in zip(*np.unique(layer[layer != 0], return_counts=True), strict=True):
            if value in sizes:
                raise InputError(
                    f"{path}: its segments overlap in {count} layers, and two of them have the "
                    f"label value {value}; give each segment a value of its own"
                )
            sizes[int(value)] = int(size), number
    merged = np.zeros(layers.shape[1:], layers.dtype)
    for value, (_, number) in sorted(sizes.items(), key=lambda item: -item[1][0]):
        merged[layers[number] == value] = value
    result = sitk.GetImageFromArray(merged)
    result.CopyInformation(image)
    return result


def write(
    path: str | Path,
    volume: Volume,
    *,
    notes: Mapping[str, str] | None = None,
    compress: bool = True,
) -> None:
    """Write a volume whole or not at all.

    ``notes`` become header fields where the format has them (NRRD, MHA).
    """
    import SimpleITK as sitk

    path = Path(path)
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None or suffix in (".mhd", ".nhdr"):
        raise InputError(f"{path}: cannot write this format; use .nrrd, .nii.gz or .mha")
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.transpose(2, 1, 0)))
    image.SetSpacing([float(s) for s in volume.grid.spacing])
    image.SetOrigin((_LPS_RAS @ np.array(volume.grid.origin, float)).tolist())
    image.SetDirection((_LPS_RAS @ np.array(volume.grid.axes, float)).ravel().tolist())
    for key, value in (notes or {}).items():
        image.SetMetaData(key, value)
    with whole_file(path, RuntimeError) as partial:
        # Level 1 is about four times faster than the default and hardly larger on label maps.
        sitk.WriteImage(image, str(partial), useCompression=compress, compressionLevel=1)


def resample(volume: Volume, grid: Grid, *, nearest: bool = False, outside: float = 0.0) -> Volume:
    """Resample onto ``grid`` (linear, or ``nearest`` for labels); ``outside`` fills the rest."""
    import SimpleITK as sitk

    def image_of(v: np.ndarray, g: Grid) -> sitk.Image:
        image = sitk.GetImageFromArray(np.ascontiguousarray(v.transpose(2, 1, 0)))
        image.SetSpacing(g.spacing)
        image.SetOrigin(g.origin)
        image.SetDirection(np.asarray(g.axes, float).ravel().tolist())
        return image

    source = image_of(volume.array, volume.grid)
    size = [int(n) for n in grid.shape]
    place = (grid.origin, grid.spacing, np.asarray(grid.axes, float).ravel().tolist())
    kind = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    identity = sitk.Transform(3, sitk.sitkIdentity)
    result = sitk.Resample(source, size, identity, kind, *place, outside)
    return Volume(sitk.GetArrayFromImage(result).transpose(2, 1, 0), grid)


def index_box(grid: Grid, ras_box: Sequence[float]) -> tuple[slice, slice, slice]:
    """The smallest index box that contains the RAS box (x0, x1, y0, y1, z0, z1) in mm.

    Raises InputError when the box is malformed or does not meet the volume.
    """
    values = np.asarray(ras_box, float)
    finite = values.shape == (6,) and np.isfinite(values).all()
    if not finite or (values[::2] >= values[1::2]).any():
        raise InputError(
            f"region of interest {list(ras_box)}: give x0,x1,y0,y1,z0,z1 in mm (RAS) "
            "with x0 < x1, y0 < y1, z0 < z1"
        )
    corners = np.array([[x, y, z, 1] for x in values[:2] for y in values[2:4] for z in values[4:]])
    index = (np.linalg.inv(grid.affine) @ corners.T)[:3]
    low = np.floor(index.min(axis=1) + 0.5 + 1e-6).astype(int)
    high = np.ceil(index.max(axis=1) - 0.5 - 1e-6).astype(int) + 1
    low, high = np.maximum(low, 0), np.minimum(high, grid.shape)
    if (low >= high).any():
        raise InputError(
            "the region of interest lies outside the volume; move it onto the "
            "structure or leave it out"
        )
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _read_file(path: Path, sitk):
    if not path.exists():
        raise InputError(f"{path}: no such file; check the name")
    try:
        str(path).encode()
    except UnicodeEncodeError:  # which ends ITK's process
        raise InputError(f"{path}: its name is not in UTF-8; rename it") from None
    if not path.is_file():  # reading a pipe would block
        raise InputError(
            f"{path}: is not a file; give an image file or the folder of a DICOM series"
        )
    image_file.check(path)
    dicom.check_lengths(path)
    is_dicom = sitk.ImageFileReader.GetImageIOFromFileName(str(path)) == "GDCMImageIO"
    if not is_dicom and not path.name.lower().endswith(SUFFIXES):
        raise InputError(
            f"{path}: is not an NRRD, NIfTI (.nii, .nii.gz), MetaImage or DICOM file; others may "
            "not say where their voxels lie; convert it to NRRD"
        )
    # ITK takes a skew within MOST_SKEW in all formats but NIfTI, unless this is set
    os.environ.pop("ITK_NIFTI_SFORM_PERMISSIVE", None)
    if _is_nifti(path) and _sform_fits(path):
        os.environ["ITK_NIFTI_SFORM_PERMISSIVE"] = "1"
    try:
        image, warnings = _listening(sitk, sitk.ReadImage, str(path))
    except RuntimeError as error:
        raise InputError(f"{path}: {image_file.explain(error)}") from error
    if about := next(filter(_is_of_geometry, warnings), None):
        raise InputError(f"{path}: its geometry is not certain ({about}); correct the header")
    if is_dicom:
        if image.GetSize()[2:] in ((), (1,)):
            raise InputError(f"{path}: a single DICOM slice; give the folder of its series")
        return _sorted_frames(path, image, sitk)
    if image.GetDimension() == 4:
        turned = np.array(image.GetDirection()).reshape(4, 4)
        if np.abs(turned[3, :3]).max() + np.abs(turned[:3, 3]).max() > MOST_SKEW:
            raise InputError(f"{path}: its fourth axis lies across the others; correct the header")
    return image


def _is_of_geometry(warning: str) -> bool:
    """Whether a warning of ITK is of the geometry, and not checked here."""
    return bool(_OF_GEOMETRY.search(warning)) and "non-orthogonal sform" not in warning


def _sorted_frames(path: Path, image, sitk):
    """The image of a multi-frame DICOM file with its frames in order, on the grid they form."""
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:  # as a series of one file
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        return image  # which `read` refuses
    grid = frame_grid(path, image.GetSize()[2])
    ordered = sitk.GetImageFromArray(sitk.GetArrayFromImage(image)[grid.order])
    ordered.SetSpacing(grid.spacing)
    ordered.SetOrigin(grid.origin.tolist())
    ordered.SetDirection(grid.direction.ravel().tolist())
    return ordered


def _unreadable_series(folder: str | Path, error: Exception) -> InputError:
    if "does not fully contain the requested region" in str(error):
        return InputError(
            f"{folder}: the slices have different sizes, as with a scout among them; put each "
            "stack of slices into a folder of its own"
        )
    return InputError(
        f"{folder}: the DICOM series is damaged and cannot be read ({last_line(error)}); get it "
        "again"
    )


def _left_out(folder: Path, beside: Sequence[str]) -> tuple[str, ...]:
    """A line on what lies in ``folder`` beside its DICOM series, if anything does."""
    if not beside:
        return ()
    shown = ", ".join(beside[:3]) + (f" and {len(beside) - 3} more" if beside[3:] else "")
    return (f"{folder}: only the DICOM series is read; left out: {shown}",)


def _read_dicom(folder: Path, sitk):
    """The image of the one series in ``folder``, and the names of what lies beside it."""
    if dead := next((p for p in sorted(folder.iterdir()) if not p.exists()), None):
        raise InputError(f"{dead}: the link leads nowhere; get its file, or remove it")
    reader = sitk.ImageSeriesReader()
    series = dicom_series(folder)
    if not series:
        raise InputError(
            f"{folder}: the folder holds no DICOM series; give image files, or the folder of a "
            "series"
        )
    if len(series) > 1:
        raise InputError(
            f"{folder}: the folder holds {len(series)} DICOM series; "
            "put the wanted one into a folder of its own"
        )
    names = reader.GetGDCMSeriesFileNames(str(folder), series[0])
    reader.SetFileNames(names)
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        image = _quiet(sitk, reader.Execute)
    except RuntimeError as error:
        raise _unreadable_series(folder, error) from error

    def tag(n: int, key: str) -> str:
        return reader.GetMetaData(n, key) if reader.HasMetaDataKey(n, key) else ""

    dicom.check_folder(folder, names, tag(0, "0008|0016").strip(" \0"))
    read_ones = {Path(name).name for name in names} | {"DICOMDIR"}  # which is an index of them
    entries = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    beside = [name for name in entries if name not in read_ones and not is_result(name)]
    if len(names) == 1 and image.GetSize()[2:] not in ((), (1,)):
        return _sorted_frames(Path(names[0]), image, sitk), beside
    kinds = {tuple(tag(n, key) for key in _VOXEL_TAGS) for n in range(len(names))}
    if len(kinds) > 1:  # ITK gives all slices the voxel type of the first, here whole numbers
        reader.SetOutputPixelType(sitk.sitkFloat32)
        image = _quiet(sitk, reader.Execute)
    slices = [
        dicom.Slice(
            Path(name).name,
            dicom.numbers(tag(n, "0020|0032"), 3),
            dicom.numbers(tag(n, "0020|0037"), 6),
            dicom.numbers(tag(n, "0028|0030"), 2),
        )
        for n, name in enumerate(names)
    ]
    if image.GetDimension() == 3:  # several multi-frame files have four, which `read` refuses
        dicom.check_slices(folder, slices)
        dicom.check_grid(folder, slices, image.GetSpacing())
    return image, beside


def _quiet(sitk, function, *arguments):
    """The function's result. ITK prints warnings in addition to the exceptions that it raises; the
    one line is enough."""
    return _listening(sitk, function, *arguments)[0]


def _listening(sitk, function, *arguments) -> tuple[Any, list[str]]:
    """The function's result, and ITK's warnings meanwhile, each in one line."""

    class Listener(sitk.LoggerBase):
        def __init__(self) -> None:
            super().__init__()
            self.warnings: list[str] = []

        def DisplayWarningText(self, text: str) -> None:
            line = " ".join(text.split())
            self.warnings.append(line[line.find("): ") + 3 :])  # less file, line and object

        def DisplayText(self, text: str) -> None:
            """Not shown, nor is any other output."""

        DisplayErrorText = DisplayGenericOutputText = DisplayDebugText = DisplayText

    with _ITK_LOGGER:  # there is one in a process
        listener = Listener()
        before = listener.SetAsGlobalITKLogger()
        try:
            return function(*arguments), listener.warnings
        finally:
            before.SetAsGlobalITKLogger()
