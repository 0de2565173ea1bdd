"""Cases of other layouts as image files that the rest of the program reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import volume
from .cases import Case
from .errors import InputError
from .volume import Grid, Volume

LA_SPACING = (0.625, 0.625, 0.625)  # mm; the .h5 files do not say it
_LPS_AXES = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
_MARGIN = 4  # voxels around the brain


def from_h5(case: Case, folder: Path) -> Case:
    """The image (float32, as stored) and the label (0, 1) of a public LA .h5 file as images/ and
    labels/ in ``folder``; files that are there are used again. InputError for other contents."""
    try:
        import h5py
    except ImportError:
        raise InputError(
            "h5py is needed to read .h5 files; install it (pip install h5py)"
        ) from None
    done = _target(case, folder)
    if done.image.exists() and done.label.exists():
        return done
    try:
        with h5py.File(case.image, "r") as file:
            if missing := [k for k in ("image", "label") if k not in file]:
                raise InputError(f"{case.image}: has no data set {missing[0]!r}")
            image = np.asarray(file["image"], np.float32)
            label = np.asarray(file["label"])
    except OSError as error:
        raise InputError(f"{case.image}: is not a readable HDF5 file ({error})") from None
    if image.ndim != 3 or image.shape != label.shape:
        raise InputError(
            f"{case.image}: image {image.shape} and label {label.shape} are not one 3D grid"
        )
    if not np.isfinite(image).all():
        raise InputError(f"{case.image}: the image has NaN or infinite voxels")
    grid = Grid(image.shape, LA_SPACING, axes=_LPS_AXES)
    return _written(done, Volume(image, grid), Volume((label > 0).astype(np.uint8), grid))


def from_brats(case: Case, folder: Path) -> Case:
    """T2-FLAIR and whole tumor (any label above 0) as images/ and labels/ in ``folder``, cut to
    the box of the skull-stripped brain: all beyond it is 0. InputError for an empty image."""
    done = _target(case, folder)
    if done.image.exists() and done.label.exists():
        return done
    image, label = volume.read(case.image), volume.read_labels(case.label)
    if not label.grid.same_as(image.grid):
        raise InputError(f"{case.label}: lies on another grid than {case.image.name}")
    places = np.argwhere((image.array != 0) | (label.array > 0))
    if not len(places):
        raise InputError(f"{case.image}: the image is empty")
    low = np.maximum(places.min(axis=0) - _MARGIN, 0)
    high = np.minimum(places.max(axis=0) + 1 + _MARGIN, image.array.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    grid = image.grid.cropped(box)
    return _written(
        done,
        Volume(np.ascontiguousarray(image.array[box], np.float32), grid),
        Volume((label.array[box] > 0).astype(np.uint8), grid),
    )


def _target(case: Case, folder: Path) -> Case:
    return Case(
        case.name,
        folder / "images" / f"{case.name}.nrrd",
        folder / "labels" / f"{case.name}.nrrd",
    )


def _written(target: Case, image: Volume, label: Volume) -> Case:
    for path, content in ((target.image, image), (target.label, label)):
        path.parent.mkdir(parents=True, exist_ok=True)
        volume.write(path, content)
    return target
