"""Data sets on disk: which files are cases, which are trained on, and which are scored.

``la``      images/, labels/ and lists of names (labeled-*.txt, unlabeled-*.txt, dev-*.txt,
            report-*.txt or test-*.txt) beside them; where images are crops, intensity.json gives
            ``mean`` and ``std`` of each case's whole scan
``la-h5``   the public LA files: CASE/mri_norm2.h5 with the data sets ``image`` (normalized) and
            ``label``; train.list and test.list beside or above them
``brats``   BraTS 2019: HGG/CASE and LGG/CASE with CASE_flair.nii.gz and CASE_seg.nii.gz
``brats-4`` the same with CASE_t1, CASE_t1ce and CASE_t2 too: four images a case
``folder``  images/ and labels/ alone; an image without a label of its name is unlabeled

The last four have no list of development cases: these are given, drawn, or absent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..data import pairing, volume
from ..data.cases import Case, Cohort, channel_names
from ..data.pairing import pair_folders, read_list
from ..data.preprocessing import Normalization
from ..data.volume import Grid, Volume
from ..errors import InputError, require
from ..files import write_text
from ..models.card import ClassInfo, Terminology

LAYOUTS = ("la", "la-h5", "brats", "brats-4", "folder")
LABELED_SHARE = 0.2  # of the training cases of la-h5: 16 of 80
BRATS_SHARES = (25 / 335, 60 / 335)  # development and report cases of BraTS 2019
BRATS_LABELED = 0.1  # of its training cases: 25 of 250
BRATS_CHANNELS = {"brats": ("flair",), "brats-4": ("flair", "t1", "t1ce", "t2")}
H5_NAME = "mri_norm2.h5"
INTENSITY = "intensity.json"
_H5_FOLDER, _BRATS_FOLDER = "2018LA_Seg_Training Set", "MICCAI_BraTS_2019_Data_Training"

ATRIUM = ClassInfo(1, "left atrium", terminology=Terminology("SCT", "82471001", "Left atrium"))
TUMOR = ClassInfo(1, "whole tumor", color=(0.95, 0.84, 0.57), largest_component=False)


@dataclass(frozen=True)
class Lists:
    """Names that replace the layout's own; None leaves them."""

    labeled: tuple[str, ...] | None = None
    dev: tuple[str, ...] | None = None
    report: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Dataset:
    """The cases of a data set and their parts.

    ``training`` names the training cases in the order in which they become labeled, of which
    ``standard`` are labeled unless an experiment says otherwise; ``dev`` (to choose settings) and
    ``report`` cases are never trained on. Where the data need it, ``spacing`` (mm) replaces
    that of the full-resolution profile, and ``normalization`` a profile's plain z-score.
    ``intensity`` is the mean and standard deviation of each case's whole scan, by which `usable`
    normalizes the images. ``channels`` names the images of a case. ``listed`` of the training
    cases, the first ones, were named as labeled by the user.
    """

    layout: str
    cases: Mapping[str, Case]
    training: tuple[str, ...]
    standard: int
    dev: tuple[str, ...]
    report: tuple[str, ...]
    classes: tuple[ClassInfo, ...]
    modality: str
    spacing: float | None = None
    normalization: Normalization | None = None
    intensity: Mapping[str, tuple[float, float]] | None = None
    channels: tuple[str, ...] = Cohort.channels
    listed: int = 0

    def amount(self, share: float | None) -> int:
        """Number of labeled cases: ``share`` times the standard one, or all (None).

        Raises InputError when there are not that many labels.
        """
        if share is None:
            return self._known
        wanted = max(1, round(share * self.standard))
        if wanted > self._known:
            raise InputError(
                f"{wanted} labeled training cases are needed ({share:g} times "
                f"{self.standard}) but only {self._known} have labels; add some"
            )
        return wanted

    def has_labels_for(self, share: float | None) -> bool:
        """Whether there are as many labels as `amount` needs."""
        return share is None or round(share * self.standard) <= self._known

    @property
    def _known(self) -> int:
        return sum(self.cases[n].label is not None for n in self.training)

    def split(
        self, share: float | None, draw: int = 0
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of the labeled cases, in order, and of the others, sorted.

        Draw 0 takes the first cases of ``training``; every other draw takes a random choice of
        those with a label, of the ``listed`` ones first, so that its smaller choices are parts of
        its larger ones.
        """
        count = self.amount(share)
        known = [n for n in self.training if self.cases[n].label is not None]
        if draw:
            random = np.random.default_rng(draw)
            parts = known[: self.listed], known[self.listed :]
            known = [part[n] for part in parts for n in random.permutation(len(part))]
        return tuple(known[:count]), tuple(sorted(set(self.training) - set(known[:count])))

    def cohort(
        self,
        labeled: Sequence[str],
        unlabeled: Sequence[str],
        folder: Path,
        progress: Callable[[float, str], None] | None = None,
    ) -> Cohort:
        """The cases with files that `cases.prepare_case` reads, converted into ``folder`` where
        the layout's own files are others."""
        usable = self.usable([*labeled, *unlabeled], folder, progress)
        return Cohort(
            tuple(usable[n] for n in labeled),
            tuple(replace(usable[n], label=None) for n in unlabeled),
            channels=self.channels,
        )

    def usable(
        self,
        names: Sequence[str],
        folder: Path,
        progress: Callable[[float, str], None] | None = None,
    ) -> dict[str, Case]:
        """The named cases as image files, see `cohort`."""
        convert = _CONVERTED.get(self.layout)
        if convert is None and self.intensity is not None:
            convert = self._from_scan
        if convert is None:
            return {n: self.cases[n] for n in names}
        found = {}
        for number, name in enumerate(names):
            if progress is not None:
                progress(number / len(names), f"converting {name}")
            found[name] = convert(self.cases[name], folder)
        return found

    def _from_scan(self, case: Case, folder: Path) -> Case:
        """The image z-scored by its whole scan's ``intensity`` (float32) as images/ in
        ``folder``; the label stays where it is."""
        done = replace(case, image=_target(case, folder).image)
        if not done.image.exists():
            mean, deviation = self.intensity[case.name]
            image = volume.read(case.image)
            array = (image.array.astype(np.float32) - mean) / deviation
            _write(done.image, replace(image, array=array.astype(np.float32)))
        return done


def find(
    folder: str | Path, layout: str = "auto", lists: Lists = Lists(), split_seed: int = 2022
) -> Dataset:
    """The data set in ``folder``; ``auto`` detects its layout.

    Raises InputError with one line for a folder of another layout, missing files and lists that
    do not fit. ``split_seed`` draws the parts of BraTS.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the name")
    if layout == "auto":
        layout = detect(folder)
    finders = {"la": _la, "la-h5": _h5, "folder": _folder}
    finders |= {name: partial(_brats, name) for name in BRATS_CHANNELS}
    if layout not in finders:
        raise InputError(f"unknown layout {layout!r}; known are {', '.join(LAYOUTS)}")
    dataset = finders[layout](folder, lists, split_seed)
    _check(dataset, folder)
    return replace(dataset, listed=len(lists.labeled or ()))


def detect(folder: Path) -> str:
    """The layout of ``folder``; InputError if it is none of them."""
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        return "la" if _list_files(folder, "labeled") else "folder"
    if next(_h5_root(folder).glob(f"*/{H5_NAME}"), None) is not None:
        return "la-h5"
    if any((_brats_root(folder) / grade).is_dir() for grade in ("HGG", "LGG")):
        return "brats"
    raise InputError(
        f"{folder}: no known layout; there is neither images/ with labels/, nor CASE/{H5_NAME}, "
        "nor HGG/ or LGG/ of BraTS 2019; check the folder"
    )


def write_lists(dataset: Dataset, folder: Path) -> None:
    """The parts as lists of names: train-N.txt (in the order in which cases become labeled),
    dev-N.txt, report-N.txt; lists that are there are left."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"train": dataset.training, "dev": dataset.dev, "report": dataset.report}
    for part, names in parts.items():
        path = folder / f"{part}-{len(names)}.txt"
        if names and not path.exists():
            write_text(path, "\n".join(names) + "\n")


def _la(folder: Path, lists: Lists, split_seed: int) -> Dataset:
    labeled = lists.labeled or _names(folder, "labeled")
    if labeled is None:
        raise InputError(
            f"{folder}: the layout la needs a list labeled-*.txt; give --labeled-list or "
            "--layout folder"
        )
    dev = _first(lists.dev, _names(folder, "dev"))
    report = _first(lists.report, _names(folder, "report"), _names(folder, "test"))
    further = _names(folder, "unlabeled") or ()
    dataset = _pairs(folder, "la", labeled, further, dev, report)
    dataset = replace(dataset, classes=(ATRIUM,), modality="LGE-MRI")
    intensity = _intensity(folder, dataset)
    if intensity is None:
        return dataset
    if len(dataset.channels) > 1:
        raise InputError(
            f"{folder / INTENSITY}: is for one image a case, but there are "
            f"{', '.join(dataset.channels)}; move it away"
        )
    return replace(dataset, intensity=intensity, normalization=Normalization("none"))


def _intensity(folder: Path, dataset: Dataset) -> dict[str, tuple[float, float]] | None:
    """What intensity.json gives for each case, None without the file; InputError if a case is
    missing or a value cannot be used."""
    path = folder / INTENSITY
    if not path.is_file():
        return None
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); correct it or move it away") from None
    found = {}
    for name in (*dataset.training, *dataset.dev, *dataset.report):
        try:
            mean, deviation = (float(entries[name][key]) for key in ("mean", "std"))
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path}: has no mean and std of {name}; add them") from None
        if not (math.isfinite(mean) and math.isfinite(deviation) and deviation > 0):
            raise InputError(
                f"{path}: mean {mean} and std {deviation} of {name} cannot be used; correct them"
            )
        found[name] = mean, deviation
    return found


def _folder(folder: Path, lists: Lists, split_seed: int) -> Dataset:
    return _pairs(folder, "folder", lists.labeled, (), lists.dev or (), lists.report or ())


def _pairs(
    folder: Path,
    layout: str,
    labeled: tuple[str, ...] | None,
    further: tuple[str, ...],
    dev: tuple[str, ...],
    report: tuple[str, ...],
) -> Dataset:
    """images/ and labels/: the ``labeled`` (None: all with a label), then the ``further`` ones,
    then the others by name."""
    for part in ("images", "labels"):
        if not (folder / part).is_dir():
            raise InputError(f"{folder}: the layout {layout} needs the folder {part}/ in it")
    pairs = pair_folders(folder / "images", folder / "labels")
    cases = {p.name: Case(p.name, p.image, p.label, further=p.further) for p in pairs}
    if not cases:
        raise InputError(
            f"{folder / 'images'}: no images here (.nrrd, .nii.gz, .nii or .mha); check the folder"
        )
    held = {*dev, *report}
    if labeled is None:
        labeled = tuple(n for n in sorted(cases) if cases[n].label and n not in held)
    order = [n for n in further if n not in {*held, *labeled}]
    rest = sorted(set(cases) - held - set(labeled) - set(order))
    classes = (ClassInfo(1, "structure", largest_component=None),)
    training = (*labeled, *order, *rest)
    channels = channel_names(folder / "images", pairs)
    return Dataset(
        layout, cases, training, len(labeled), dev, report, classes, "", channels=channels
    )


def _h5(folder: Path, lists: Lists, split_seed: int) -> Dataset:
    root = _h5_root(folder)
    cases = {p.parent.name: Case(p.parent.name, p, p) for p in sorted(root.glob(f"*/{H5_NAME}"))}
    if not cases:
        raise InputError(f"{folder}: the layout la-h5 needs files CASE/{H5_NAME} in it")
    listed = {part: _list_beside(root, f"{part}.list") for part in ("train", "test")}
    if listed["train"] is None:
        raise InputError(f"{root}: the layout la-h5 needs train.list beside the cases or above")
    report = _first(lists.report, listed["test"])
    dev = lists.dev or ()
    order = [n for n in listed["train"] if n not in {*dev, *report}]
    standard = max(1, round(LABELED_SHARE * len(listed["train"])))
    labeled = lists.labeled or tuple(order[:standard])
    training = (*labeled, *(n for n in order if n not in labeled))
    # the files hold (image - mean) / sd of the whole scan already
    stored = Normalization("none")
    return Dataset(
        "la-h5", cases, training, len(labeled), dev, report, (ATRIUM,), "LGE-MRI", None, stored
    )


def _brats(layout: str, folder: Path, lists: Lists, split_seed: int) -> Dataset:
    root, channels = _brats_root(folder), BRATS_CHANNELS[layout]
    cases = {}
    for place in sorted(p for grade in ("HGG", "LGG") for p in root.glob(f"{grade}/*/")):
        name = place.name
        label, image, *further = (_brats_file(place, kind) for kind in ("seg", *channels))
        cases[name] = Case(name, image, label, further=tuple(further))
    if not cases:
        raise InputError(f"{folder}: the layout {layout} needs HGG/CASE or LGG/CASE folders in it")
    order = [sorted(cases)[n] for n in np.random.default_rng(split_seed).permutation(len(cases))]
    dev, report = lists.dev, lists.report
    if dev is None or report is None:
        counts = [max(1, round(share * len(order))) for share in BRATS_SHARES]
        dev = tuple(order[: counts[0]]) if dev is None else dev
        free = [n for n in order if n not in dev]
        report = tuple(free[: counts[1]]) if report is None else report
    order = [n for n in order if n not in {*dev, *report}]
    labeled = lists.labeled or tuple(order[: max(1, round(BRATS_LABELED * len(order)))])
    training = (*labeled, *(n for n in order if n not in labeled))
    parts = (training, len(labeled), dev, report)
    normalization = Normalization("z-score-nonzero")
    modality = "T2-FLAIR MRI" if len(channels) == 1 else "FLAIR, T1, contrast T1 and T2 MRI"
    named = channels if len(channels) > 1 else Cohort.channels
    return Dataset(
        layout, cases, *parts, (TUMOR,), modality, 1.0, normalization, channels=named
    )


def _brats_file(place: Path, kind: str) -> Path:
    for suffix in (".nii.gz", ".nii"):
        path = place / f"{place.name}_{kind}{suffix}"
        if path.is_file():
            return path
    raise InputError(f"{place}: {place.name}_{kind}.nii.gz is missing; get the case again")


def _h5_root(folder: Path) -> Path:
    return folder / _H5_FOLDER if (folder / _H5_FOLDER).is_dir() else folder


def _brats_root(folder: Path) -> Path:
    return folder / _BRATS_FOLDER if (folder / _BRATS_FOLDER).is_dir() else folder


def _list_beside(folder: Path, name: str) -> tuple[str, ...] | None:
    for place in (folder, folder.parent):
        if (place / name).is_file():
            return tuple(read_list(place / name))
    return None


def _list_files(folder: Path, part: str) -> list[Path]:
    names = {part, part.replace("labeled", "labelled")}  # in American and in British spelling
    return sorted({p for n in names for g in (f"{n}.txt", f"{n}-*.txt") for p in folder.glob(g)})


def _names(folder: Path, part: str) -> tuple[str, ...] | None:
    """The names in the folder's one list of ``part``, None without; InputError for several."""
    files = _list_files(folder, part)
    if len(files) > 1:
        raise InputError(
            f"{folder}: {files[0].name} and {files[1].name} are both there; choose one"
            " with --labeled-list, --dev-list or --report-list, or move one away"
        )
    return tuple(read_list(files[0])) if files else None


def _first(*choices: tuple[str, ...] | None) -> tuple[str, ...]:
    return next((c for c in choices if c is not None), ())


def _check(dataset: Dataset, folder: Path) -> None:
    """Raise InputError unless every name has a case, labeled and scored cases have labels, and no
    two parts share a case."""
    parts = {
        "labeled": dataset.training[: dataset.standard],
        "development": dataset.dev,
        "report": dataset.report,
        "training": dataset.training,
    }
    for part, names in parts.items():
        for name in names:
            if name not in dataset.cases:
                raise InputError(f"{folder}: there is no {part} case {name}; correct its list")
            if part != "training" and dataset.cases[name].label is None:
                raise InputError(f"{folder}: the {part} case {name} has no label; add it")
    for a, b in (("training", "development"), ("training", "report"), ("development", "report")):
        if both := sorted(set(parts[a]) & set(parts[b])):
            raise InputError(
                f"{folder}: {both[0]} is both a {a} and a {b} case; a case may have one role"
            )
    if not dataset.standard:
        raise InputError(f"{folder}: no labeled case is left to train on")


LA_SPACING = (0.625, 0.625, 0.625)  # mm; the .h5 files do not hold it
_LPS_AXES = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
_MARGIN = 4  # voxels around the brain


def from_h5(case: Case, folder: Path) -> Case:
    """The image (float32, as stored) and the label (0, 1) of a public LA .h5 file as images/ and
    labels/ in ``folder``; files that are there are used again. InputError for other contents."""
    require("h5py", "to read .h5 files")
    import h5py

    done = _target(case, folder)
    if done.image.exists() and done.label.exists():
        return done
    try:
        with h5py.File(case.image, "r") as file:
            if missing := [k for k in ("image", "label") if k not in file]:
                raise InputError(f"{case.image}: has no data set {missing[0]!r}; convert it again")
            image = np.asarray(file["image"], np.float32)
            label = np.asarray(file["label"])
    except OSError as error:
        raise InputError(
            f"{case.image}: is not a readable HDF5 file ({error}); get it again"
        ) from None
    if image.ndim != 3 or image.shape != label.shape:
        raise InputError(
            f"{case.image}: image {image.shape} and label {label.shape} are not one 3D grid; "
            "convert it again"
        )
    if not np.isfinite(image).all():
        raise InputError(f"{case.image}: the image has NaN or infinite voxels; correct them")
    grid = Grid(image.shape, LA_SPACING, axes=_LPS_AXES)
    return _written(done, [Volume(image, grid)], Volume((label > 0).astype(np.uint8), grid))


def from_brats(case: Case, folder: Path) -> Case:
    """The images and the whole tumor (any label above 0) as images/ and labels/ in ``folder``
    (in brats-4/ there, if they are several), cut to the box of the skull-stripped brain: all
    beyond it is 0. InputError for an empty image."""
    done = _target(case, folder)
    if case.further:
        done = _target(case, folder / "brats-4")
        names = (pairing.stem(path) for path in case.images)
        image, *further = (done.image.with_name(f"{name}.nrrd") for name in names)
        done = replace(done, image=image, further=tuple(further))
    if done.label.exists() and all(path.exists() for path in done.images):
        return done
    images = volume.read_images(case.images, case.channels)
    grid, label = images[0].grid, volume.read_labels(case.label)
    if not label.grid.same_as(grid):
        raise InputError(
            f"{case.label}: is on a different grid than {case.image.name}; resample it"
        )
    for path, image in zip(case.images, images, strict=True):
        if not (image.array != 0).any() and not label.array.any():
            raise InputError(f"{path}: the image is empty; get it again")
    shown = np.logical_or.reduce([image.array != 0 for image in images])
    places = np.argwhere(shown | (label.array > 0))
    low = np.maximum(places.min(axis=0) - _MARGIN, 0)
    high = np.minimum(places.max(axis=0) + 1 + _MARGIN, grid.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    cut = [
        Volume(np.ascontiguousarray(image.array[box], np.float32), grid.cropped(box))
        for image in images
    ]
    return _written(done, cut, Volume((label.array[box] > 0).astype(np.uint8), cut[0].grid))


_CONVERTED = {"la-h5": from_h5, "brats": from_brats, "brats-4": from_brats}


def _target(case: Case, folder: Path) -> Case:
    return Case(
        case.name, folder / "images" / f"{case.name}.nrrd", folder / "labels" / f"{case.name}.nrrd"
    )


def _written(target: Case, images: Sequence[Volume], label: Volume) -> Case:
    for path, content in zip((*target.images, target.label), (*images, label), strict=True):
        _write(path, content)
    return target


def _write(path: Path, content: Volume) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    volume.write(path, content)
