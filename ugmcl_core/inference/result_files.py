"""The files of a segmentation, written all together or not at all."""

from __future__ import annotations

import glob
import itertools
import re
import tempfile
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import guarded, pairing, volume
from ..data.pairing import LABELS, SDF, SURFACE_ERROR, UNCERTAINTY
from ..data.volume import Volume
from ..errors import InputError
from ..files import exchange, scratch, sweep
from ..models.card import ClassInfo
from ..models.model import Model
from .settings import BAND_MM

if TYPE_CHECKING:
    from .segmenter import Segmentation

NOTE = "ugmcl_model"
"""The header field that every result has, and no file of another program."""


@dataclass(frozen=True)
class Written:
    """Where the files of one segmentation are; `sdf` has one path per class, or none if the
    model has no distance head."""

    labels: Path
    sdf: tuple[Path, ...]
    uncertainty: Path | None
    surface_error: Path | None


def make_folder(folder: Path | str) -> Path:
    """Create the folder for outputs if necessary; InputError if it cannot be written to."""
    folder = Path(folder).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        sweep(folder)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written to ({error.strerror}); choose another output folder"
        ) from None
    return folder


def is_output(path: Path) -> bool:
    """Whether `write` made the file, by its header."""
    try:
        return NOTE in guarded.read_notes(path)
    except InputError:
        return False


def check(folder: Path, stem: str, model: Model, uncertainty: bool) -> None:
    """Raise InputError where `write` would replace a file that this program did not write; a link
    counts as its target."""
    suffixes = [LABELS]
    if model.card.network.get("distance_head", True):
        suffixes += sdf_suffixes(model.card.classes)
    if uncertainty:
        suffixes += [UNCERTAINTY, SURFACE_ERROR]
    _check([folder / f"{stem}{suffix}.nrrd" for suffix in suffixes])


def _check(places: Sequence[Path]) -> None:
    for place in places:
        if _is_folder(place):
            raise InputError(f"{place} is a folder; move it away or choose another output folder")
        if place.exists() and not is_output(place):
            raise InputError(
                f"{place} was not written by ugmcl; move it away or choose another output folder"
            )


def sdf_suffixes(classes: Sequence[ClassInfo]) -> tuple[str, ...]:
    """`_sdf` for the only class, `_sdf_NAME` for each of several."""
    if len(classes) == 1:
        return (SDF,)
    names = [re.sub(r"[^A-Za-z0-9.]+", "-", c.name).strip("-") or "class" for c in classes]
    return tuple(
        f"{SDF}_{name}" if names.count(name) == 1 else f"{SDF}_{name}-{c.value}"
        for name, c in zip(names, classes, strict=True)
    )


def write(
    segmentation: Segmentation, model: Model, folder: Path, stem: str, compress: bool = True
) -> Written:
    """Write STEM_labels.nrrd (with `ClassInfo.in_files`), STEM_sdf*.nrrd, STEM_uncertainty.nrrd
    and STEM_surface_error.nrrd into `folder`.

    All files are first completed in a temporary folder beside them, so that a full disk leaves
    none of them, and then moved together (`files.exchange`). Files that an earlier run wrote for
    the same STEM and this one did not (another model's classes, an uncertainty) are removed.
    Raises InputError if that fails or would replace other programs' files; the folder is then
    unchanged.
    """
    suffixes = sdf_suffixes(model.card.classes)[: len(segmentation.sdf)]
    infos = zip(suffixes, model.card.classes, strict=False)
    notes = {LABELS: {NOTE: model.name}, **{s: _sdf_notes(model, info) for s, info in infos}}
    if segmentation.uncertainty is not None:
        unit = "entropy divided by ln C, 0 to 1"
        notes[UNCERTAINTY] = {NOTE: model.name, "ugmcl_unit": unit}
    if segmentation.surface_error is not None:
        notes[SURFACE_ERROR] = _error_notes(model)
    places = [folder / f"{stem}{suffix}.nrrd" for suffix in notes]
    _check(places)
    one = (_as_in_files(segmentation.labels, model.card.classes),)
    doubts = (segmentation.uncertainty, segmentation.surface_error)
    # lazily: each distance is computed when it is read
    contents = itertools.chain(one, segmentation.sdf, (v for v in doubts if v is not None))
    with scratch(folder) as partial:
        try:
            for path, content, note in zip(places, contents, notes.values(), strict=True):
                volume.write(partial / path.name, content, notes=note, compress=compress)
        except InputError as error:
            raise InputError(str(error).replace(str(partial), str(folder))) from error
        except OSError as error:
            raise _unwritable(folder, error) from error
        place(partial, folder, stem, [path.name for path in places])
    last = (None, None) if segmentation.uncertainty is None else places[-2:]
    return Written(places[0], tuple(places[1 : 1 + len(suffixes)]), *last)


def _as_in_files(labels: Volume, classes: Sequence[ClassInfo]) -> Volume:
    """The classes' own values in a label map of 1, 2, ..."""
    values = np.array([0, *(c.in_files for c in classes)])
    if (values == np.arange(len(values))).all():
        return labels
    return replace(labels, array=values.astype(np.min_scalar_type(values.max()))[labels.array])


def place(partial: Path, folder: Path, stem: str, names: Sequence[str]) -> None:
    """Move the files of a segmentation from a `scratch` folder of ``folder`` into it, all
    together, and remove what an earlier run wrote for the ``stem`` and these do not replace.
    Raises InputError as `write` does."""
    _check([folder / name for name in names])
    try:
        suffixes = {pairing.stem(name)[len(stem) :] for name in names}
        outdated = _outdated(folder, stem, suffixes)
        exchange(partial, folder, names, [p.name for p in outdated])
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"{folder}: cannot be written to ({error.strerror or error}); check the free space"
    )


def _is_folder(path: Path) -> bool:
    """Whether it is a folder itself, and not a link, which can be replaced like a file."""
    return path.is_dir() and not path.is_symlink()


def _outdated(folder: Path, stem: str, current: Set[str]) -> list[Path]:
    """The files in `folder` that `write` made for `stem`, by name and by header, and whose suffix
    is not among the `current` ones."""
    found = []
    for path in folder.glob(f"{glob.escape(stem)}_*.nrrd"):
        suffix = pairing.stem(path)[len(stem) :]
        if suffix not in current and pairing.source_of(stem + suffix) == stem and is_output(path):
            found.append(path)
    return found


def _sdf_notes(model: Model, info: ClassInfo) -> dict[str, str]:
    card = model.card
    if card.sdf == "published":
        source = "signed distance to the zero level of the network's published-normalization map"
    else:
        source = "the network's signed distance"
    return {
        NOTE: model.name,
        "ugmcl_class": info.name,
        "ugmcl_class_value": str(info.in_files),
        "ugmcl_scale_mm": f"{card.scale_mm:g}",
        "ugmcl_unit": f"mm, negative inside, clamped at {card.scale_mm:g}; {source}",
    }


def _error_notes(model: Model) -> dict[str, str]:
    source = "calibrated for this model" if model.card.calibration else "not calibrated: a default"
    return {
        NOTE: model.name,
        "ugmcl_unit": "mm below which the error of nine of ten surface points lies, where the "
        f"true surface may be, at most {BAND_MM:g} mm from the predicted one; {source}",
    }


def describe(
    segmentation: Segmentation, model: Model, written: Written, device: str, passes: int
) -> dict[str, Any]:
    """The result as the worker and `--json` report it (docs/architecture.md)."""
    classes = []
    paths = written.sdf or (None,) * len(model.card.classes)
    for info, found, sdf in zip(model.card.classes, segmentation.classes, paths, strict=True):
        classes.append(
            {
                "value": info.in_files,
                "name": info.name,
                "color": list(info.color),
                "terminology": asdict(info.terminology) if info.terminology else None,
                "sdf": None if sdf is None else str(sdf),
                "volume_ml": found.volume_ml,
                "volume_interval_ml": found.volume_interval_ml and list(found.volume_interval_ml),
                "mean_uncertainty": found.mean_uncertainty,
                "unsure_surface": found.unsure_surface,
            }
        )
    return {
        "labels": str(written.labels),
        "uncertainty": None if written.uncertainty is None else str(written.uncertainty),
        "surface_error": None if written.surface_error is None else str(written.surface_error),
        "classes": classes,
        "predicted_dice": segmentation.predicted_dice and list(segmentation.predicted_dice),
        "sdf_scale_mm": model.card.scale_mm,
        "advice": list(segmentation.advice),
        "model": model.name,
        "device": device,
        "passes": passes,
        "seconds": round(segmentation.seconds, 3),
    }
