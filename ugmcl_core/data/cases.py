"""Labeled and unlabeled cases: found in folders, prepared once, kept in memory or on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..files import whole_folder
from ..nn.level_sets import distance_to_store, reach_of, signed_distance
from .components import bounding_box, has_several_components
from .guarded import read_images, read_labels, read_notes
from .limits import GRID_TOLERANCE, LARGEST_VALUE
from .pairing import (
    Channels,
    Pair,
    described_channels,
    left_over,
    pair_folders,
)
from .preprocessing import ChannelError, Normalizations, prepare, resize, to_canonical
from .volume import Volume, resample

_ARRAYS = ("image", "fractions", "distance", "valid", "distance_known")
_LEAST_KEPT = 0.5  # of a label's volume that its resampling onto the image must keep ...
_UNSAID = 0.01  # ... and what may be lost of it without a notice
_LAYOUT = 3  # of stored cases
_FAR = 1.5  # scales from which on every distance is the same, in a patch zoomed out by that much


@dataclass(frozen=True)
class Case:
    """One image, its label map or None, and its name (the file's stem).

    A case of several channels has the files of those after the first as ``further``, or one file
    which holds ``stacked`` of them.

    ``resample``: labels on another grid than the image are resampled onto it, not refused. For
    cases that someone paired by hand, as in a case list; in folders paired by name they are more
    likely a mistake. ``label_on_image``: the label's header was lost, and its voxels are those of
    the image. ``may_be_empty``: a label without any structure is intentional.
    """

    name: str
    image: Path
    label: Path | None = None
    resample: bool = False
    label_on_image: bool = False
    may_be_empty: bool = False
    further: tuple[Path, ...] = ()
    stacked: int = 1

    @property
    def images(self) -> tuple[Path, ...]:
        """The image files, in the order of the channels."""
        return (self.image, *self.further)

    @property
    def channels(self) -> int:
        """How many images of the case there are."""
        return max(self.stacked, len(self.images))


@dataclass(frozen=True)
class Cohort:
    """The cases of a training: ``holdout`` cases are labeled and never trained on. Each has an
    image for each of the ``channels``."""

    labeled: tuple[Case, ...]
    unlabeled: tuple[Case, ...] = ()
    holdout: tuple[Case, ...] = ()
    channels: tuple[str, ...] = ("image",)

    def with_changes(self, **changes: bool) -> Cohort:
        """The same cases with changes to each, such as ``label_on_image``."""
        groups = (self.labeled, self.unlabeled, self.holdout)
        changed = (tuple(replace(c, **changes) for c in cases) for cases in groups)
        return Cohort(*changed, self.channels)

    def without(self, names: Collection[str]) -> Cohort:
        """The same without the unlabeled cases of these names."""
        kept = tuple(c for c in self.unlabeled if c.name not in names)
        return replace(self, unlabeled=kept)


@dataclass(frozen=True)
class Representation:
    """How cases are represented for a model: its grid, its normalization (of all channels, or of
    each), its level sets.

    ``sdf`` is ``truncated`` (clamp at ``scale`` mm) or ``published``; ``values`` are the label
    values of the classes 1, 2, ... where they are not these numbers themselves; ``ignore`` is the
    label of voxels that nobody annotated, or None.
    """

    spacing: tuple[float, float, float]
    normalization: Normalizations
    classes: int = 2
    sdf: str = "truncated"
    scale: float = 10.0
    ignore: int | None = None
    values: tuple[int, ...] = ()

    def numbered(self, labels: np.ndarray, where: Path) -> tuple[np.ndarray, np.ndarray]:
        """The class of each voxel (0 where it is ignored), and where it is not ignored.

        Raises InputError, naming the file ``where``, for a label that is not a class.
        """
        values = self.values or tuple(range(1, self.classes))
        number_of = np.zeros(LARGEST_VALUE + 1, np.uint8)
        number_of[list(values)] = range(1, len(values) + 1)
        box = bounding_box(labels != 0)
        check_known(set(values_in(labels[box])) - {0, self.ignore}, values, where)
        classes = np.zeros(labels.shape, np.uint8)
        classes[box] = number_of[labels[box]]
        valid = np.ones(labels.shape, bool) if self.ignore is None else labels != self.ignore
        return classes, valid


def check_known(held: Iterable[int], values: Sequence[int], where: Path) -> None:
    """Raise InputError if the label map ``where`` holds a label that is none of a class's
    ``values``."""
    if unknown := set(held) - set(values):
        known = ", ".join(map(str, values))
        raise InputError(
            f"{where}: label {max(unknown)} is unknown; the labels of the classes are {known}; "
            "correct it, or name every class (--classes, or classes of a case list)"
        )


def values_in(labels: np.ndarray) -> list[int]:
    """The values of a label map (uint16) in ascending order."""
    found = np.zeros(LARGEST_VALUE + 1, bool)
    found[labels] = True
    return np.flatnonzero(found).tolist()


@dataclass(frozen=True)
class PreparedCase:
    """A case on the model's grid, arrays (N, I, J, K) in float16, on a GPU tensors, or the files
    that hold them.

    ``fractions`` (C-1 foreground classes' share of each voxel), ``distance`` (C-1, see
    `level_sets.distance_to_store`) and ``valid`` (1, 0 where not annotated) are None without a
    label. ``distance_known`` (C-1, 0 where an ignored region may change the distance) is None as
    well where it would be 1 everywhere. For each class, ``foreground_voxels`` lists some of its
    voxels, (n, 3), and ``several_components`` is as in `components.has_several_components`.
    """

    name: str
    image: np.ndarray | torch.Tensor | Path
    spacing: tuple[float, float, float]
    fractions: np.ndarray | torch.Tensor | Path | None = None
    distance: np.ndarray | torch.Tensor | Path | None = None
    valid: np.ndarray | torch.Tensor | Path | None = None
    distance_known: np.ndarray | torch.Tensor | Path | None = None
    foreground_voxels: tuple[np.ndarray, ...] = ()
    several_components: tuple[bool, ...] = ()

    @property
    def nbytes(self) -> int:
        """Size of the arrays in main memory; those in files or on a GPU count as 0."""
        arrays = (getattr(self, key) for key in _ARRAYS)
        return sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))

    def opened(self) -> PreparedCase:
        """The case with arrays alone: files are mapped, and closed when the result is dropped, so
        that thousands of cases do not hold thousands of files open."""
        mapped = {
            key: np.load(getattr(self, key), mmap_mode="r")
            for key in _ARRAYS
            if isinstance(getattr(self, key), Path)
        }
        return replace(self, **mapped) if mapped else self


def on_device(
    cases: Sequence[PreparedCase], device: torch.device, budget: int
) -> list[PreparedCase]:
    """``cases`` with their arrays on ``device``, up to ``budget`` bytes in all; the rest, and what
    is in files, as it was."""
    placed = []
    for case in cases:
        budget -= case.nbytes
        if budget >= 0:
            arrays = ((key, getattr(case, key)) for key in _ARRAYS)
            inside = {k: a for k, a in arrays if isinstance(a, np.ndarray)}
            moved = {k: torch.from_numpy(a).to(device) for k, a in inside.items()}
            case = replace(case, **moved)
        placed.append(case)
    return placed


def in_memory(case: PreparedCase) -> PreparedCase:
    """``case`` with the arrays that lie on a GPU in main memory; what is in files stays there."""
    arrays = ((key, getattr(case, key)) for key in _ARRAYS)
    return replace(
        case, **{k: a.cpu().numpy() for k, a in arrays if isinstance(a, torch.Tensor)}
    )


def find_cohort(
    images: str | Path,
    labels: str | Path | None = None,
    labeled: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    holdout: Sequence[str] = (),
    notice: Callable[[str], None] | None = None,
    channels: Channels | None = None,
) -> Cohort:
    """Pair the images of a folder with the labels in another (`pairing.pair_folders`).

    An image without a label, or outside the ``labeled`` names when they are given, is unlabeled;
    ``exclude`` names are left out. ``notice`` gets a line for each file that is not used.
    ``channels`` are the images of a case; None to infer them from the file names or the data set's
    description. Raises InputError for names that are not there.
    """
    channels = channels or _stacked_channels(images)
    pairs = pair_folders(images, labels, channels)
    for line in left_over(images, labels, channels) if notice is not None else ():
        notice(line)
    by_name = {pair.name: (pair.image, *pair.further) for pair in pairs}
    names_of = channels.names if channels else channel_names(images, pairs)
    label_of = {pair.name: pair.label for pair in pairs if pair.label is not None}
    if not by_name:
        raise InputError(
            f"{images}: no images here (.nrrd, .nii.gz, .nii or .mha); check the folder"
        )
    for what, names in (("labeled", labeled or ()), ("excluded", exclude), ("hold-out", holdout)):
        missing = [n for n in names if n not in by_name]
        if missing:
            raise InputError(
                f"{images}: no image for the {what} case {missing[0]}"
                + (f" and {len(missing) - 1} others" if missing[1:] else "")
                + "; correct the list"
            )
    for name in [*(labeled or ()), *holdout]:
        if name not in label_of:
            raise InputError(
                f"{labels}: no label for the case {name}; add it, or take it off the list"
            )
    if both := set(labeled or ()) & set(holdout):
        raise InputError(
            f"{sorted(both)[0]} is both labeled for training and held out: choose one"
        )
    teaching = set(label_of) if labeled is None else set(labeled)
    why_none = _why_none(teaching, exclude, holdout)
    teaching -= set(exclude) | set(holdout)
    if not teaching:
        raise InputError(f"{labels}: no labeled case is left to train on{why_none}")
    rest = sorted(set(by_name) - teaching - set(exclude) - set(holdout))

    def case(name: str, label: Path | None) -> Case:
        first, *further = by_name[name]
        stacked = 1 if further else len(names_of)
        return Case(name, first, label, further=tuple(further), stacked=stacked)

    order = sorted(teaching) if labeled is None else [n for n in labeled if n in teaching]
    return Cohort(
        tuple(case(n, label_of[n]) for n in order),
        tuple(case(n, None) for n in rest),
        tuple(case(n, label_of[n]) for n in holdout),
        names_of,
    )


def channel_names(images: str | Path, pairs: Sequence[Pair]) -> tuple[str, ...]:
    """The names of the channels that the files' names show: those of the data set's description,
    else their numbers."""
    count = max((1 + len(pair.further) for pair in pairs), default=1)
    if count == 1:
        return Cohort.channels
    described = described_channels(images)
    return described if len(described) == count else tuple(f"{n:04d}" for n in range(count))


def _stacked_channels(images: str | Path) -> Channels | None:
    """The channels that a data set's description names, if its images hold them as a fourth
    dimension, as in the Medical Segmentation Decathlon; else None."""
    names = described_channels(images)
    first = next((pair.image for pair in pair_folders(images)), None) if len(names) > 1 else None
    try:
        is_stack = first is not None and read_notes(first).get("dim[0]") == "4"
    except InputError:
        return None
    return Channels(names) if is_stack else None


def _why_none(teaching: Set[str], exclude: Sequence[str], holdout: Sequence[str]) -> str:
    """Where the labeled cases went, if none is left."""
    if not teaching:
        return ": no label has the name of an image; see which files were left out"
    parts = [
        f"{len(teaching & set(names))} {what}"
        for what, names in (("excluded", exclude), ("held out", holdout))
        if teaching & set(names)
    ]
    return f": of {len(teaching)}, {' and '.join(parts)}; take some off the lists"


def read_pair(
    case: Case, notice: Callable[[str], None] | None = None
) -> tuple[tuple[Volume, ...], Volume | None]:
    """The images of a case, one for each channel, and its labels on their grid, or None.

    Labels on another grid are resampled (nearest voxel; background where they do not reach) where
    the case allows it, and ``notice`` gets a line about it. Raises InputError otherwise, and for
    files that cannot be read.
    """
    images = read_images(case.images, case.channels)
    image = images[0]
    labels = None if case.label is None else read_labels(case.label)
    remarks = [r for v in filter(None, (*images, labels)) for r in v.remarks]
    for remark in dict.fromkeys(remarks) if notice is not None else ():
        notice(remark)
    if labels is None:
        return images, None
    if case.label_on_image and labels.grid.shape != image.grid.shape:
        raise InputError(
            f"{case.label}: has {_shown(labels)} voxels and {case.image.name} {_shown(image)}, so "
            "it cannot take the image's geometry; give the label that was drawn on this image"
        )
    if case.label_on_image or labels.grid.same_as(image.grid, GRID_TOLERANCE):
        labels = Volume(labels.array, image.grid)
    elif lost := labels.grid.lost_of(image.grid):
        raise InputError(
            f"{case.label}: its header holds no geometry ({', '.join(lost)}), while "
            f"{case.image.name} has one; if its voxels are those of the image, give "
            '--label-geometry image, or "label_geometry": "image" in a case list'
        )
    elif "spacing" in (lost := image.grid.lost_of(labels.grid)):
        raise InputError(
            f"{case.image}: its header holds no geometry ({', '.join(lost)}), while "
            f"{case.label.name} has one; give the image with its geometry"
        )
    else:
        if not case.resample:
            raise InputError(
                f"{case.label}: is on a different grid than {case.image.name}; resample it onto "
                "that grid, or pair the two in a case list for `ugmcl finetune`, which does"
            )
        drawn = np.count_nonzero(labels.array) * labels.grid.voxel_ml
        labels = resample(labels, image.grid, nearest=True)
        kept = np.count_nonzero(labels.array) * image.grid.voxel_ml
        if kept < _LEAST_KEPT * drawn:
            raise InputError(
                f"{case.label}: of {drawn:.3g} mL that are labeled, {drawn - kept:.3g} mL do not "
                f"lie on {case.image.name}; give the label of this image"
            )
        if notice is not None:
            lost = f", {drawn - kept:.3g} mL of it lie outside"
            lost = lost if drawn - kept > _UNSAID * drawn else ""
            notice(f"{case.label}: resampled onto the grid of {case.image.name}{lost}")
    return images, labels


def empty_label(case: Case, others: Sequence[int] = ()) -> str:
    """The error of a label without any structure; ``others`` are the values that it holds."""
    held = f", only of {', '.join(map(str, others[:5]))}" if others else ""
    return (
        f"{case.label}: the label is empty: it has no voxel of a class on the grid of "
        f"{case.image.name}{held}; annotate it, use the image without it, or, if nothing is "
        'there, give --empty-labels, or "empty": true in a case list'
    )


def _shown(volume: Volume) -> str:
    return "x".join(map(str, volume.grid.shape))


def prepare_case(
    case: Case, representation: Representation, notice: Callable[[str], None] | None = None
) -> PreparedCase:
    """Read and prepare one case; InputError names the file that cannot be used."""
    r = representation
    volumes, labels = read_pair(case, notice)
    try:
        prepared = prepare(volumes, r.spacing, r.normalization)
    except ChannelError as error:
        if not case.further:
            raise InputError(f"{case.image}: {error}") from error
        raise InputError(f"{case.images[error.number]}: {error.why}") from error
    except InputError as error:
        raise InputError(f"{case.image}: {error}") from error
    image = prepared.image.numpy().astype(np.float16)
    if labels is None:
        return PreparedCase(case.name, image, prepared.spacing)
    array, valid = r.numbered(
        to_canonical(labels.array, prepared.order, prepared.flips), case.label
    )
    if not array.any() and not case.may_be_empty:
        raise InputError(empty_label(case))
    if notice is not None and (array.astype(bool) | ~valid).all():
        notice(f"{case.label}: covers the whole image, so it teaches nothing of what is outside; "
               "check it")  # fmt: skip
    spacing = tuple(prepared.grid.spacing[a] for a in prepared.order)
    size = image.shape[1:]

    def sampled(full: np.ndarray) -> np.ndarray:
        field = torch.from_numpy(np.ascontiguousarray(full, np.float32))[None]
        return resize(field, size)[0].numpy()

    reach = reach_of(r.sdf, r.scale)
    distance_to_ignored = None if valid.all() else signed_distance(~valid, spacing, reach)
    known_voxels = None if distance_to_ignored is None else valid
    fractions, distances, distance_known = [], [], []
    foreground_voxels, several_components = [], []
    for value in range(1, r.classes):
        mask = array == value
        fractions.append(sampled(mask))
        phi = signed_distance(mask, spacing, reach)
        if distance_to_ignored is not None:
            distance_known.append(sampled(_is_known(phi, distance_to_ignored, r)) > 0.99)
        distances.append(sampled(distance_to_store(phi, r.sdf, r.scale)))
        foreground_voxels.append(some_voxels(fractions[-1] > 0.5))
        several_components.append(has_several_components(mask, known_voxels))
    return replace(
        PreparedCase(case.name, image, prepared.spacing),
        fractions=np.stack(fractions).astype(np.float16),
        distance=np.stack(distances).astype(np.float16),
        valid=(sampled(valid) > 0.99)[None].astype(np.float16),
        distance_known=np.stack(distance_known).astype(np.float16) if distance_known else None,
        foreground_voxels=tuple(foreground_voxels),
        several_components=tuple(several_components),
    )


def _is_known(phi: np.ndarray, distance_to_ignored: np.ndarray, r: Representation) -> np.ndarray:
    """Where a signed distance ``phi`` (mm) is right regardless of what the ignored region
    contains.

    The class may continue in the ignored region, ``distance_to_ignored`` mm away, so the true
    boundary may be as near as that. ``phi`` is known where the known boundary is even nearer, and
    where both are so far away that the truncated distance is at its limit.
    """
    far = _FAR * r.scale if r.sdf == "truncated" else np.inf
    return distance_to_ignored > np.minimum(np.abs(phi), far) + 1e-4 * r.scale


def some_voxels(mask: np.ndarray, most: int = 4096) -> np.ndarray:
    """Up to ``most`` voxels of ``mask``, evenly spread over its list; (n, 3)."""
    voxels = np.argwhere(mask)
    return voxels[:: max(1, -(-len(voxels) // most))]


def prepare_cases(
    cases: Sequence[Case],
    representation: Representation,
    *,
    cache: Path,
    budget: int = 4 << 30,
    used: int = 0,
    progress: Callable[[float, str], None] | None = None,
    notice: Callable[[str], None] | None = None,
) -> list[PreparedCase]:
    """Prepare ``cases``, in memory up to ``budget`` bytes in all, of which ``used`` are already
    taken.

    The rest is kept as files under ``cache``, mapped when it is needed; those of an earlier,
    interrupted training are used again if case and representation are the same. ``notice`` gets
    what a user should know of a case.
    """
    prepared = []
    for number, case in enumerate(cases):
        if progress is not None:
            progress(number / len(cases), f"preparing {case.name}")
        folder = cache / _key(case, representation)
        item = load_case(folder)
        if item is None:
            item = prepare_case(case, representation, notice)
            used += item.nbytes
            if used > budget:
                item = store_case(item, folder)
        prepared.append(item)
    return prepared


def within_budget(
    cases: Iterable[PreparedCase], folder: Path, budget: int
) -> list[PreparedCase]:
    """``cases``; those beyond ``budget`` bytes (images not counted) are stored as files in
    ``folder``, replacing those of the same numbers."""
    kept, used = [], 0
    for number, case in enumerate(cases):
        used += replace(case, image=Path()).nbytes
        kept.append(case if used <= budget else store_case(case.opened(), folder / str(number)))
    return kept


def _key(case: Case, representation: Representation) -> str:
    """Changes whenever a file of the case or the representation does."""
    files = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in (*case.images, case.label)
             if p is not None and p.is_file()]  # fmt: skip
    own = (case.label is None, case.label_on_image, case.may_be_empty)
    own += (case.channels,) if case.channels > 1 else ()
    text = repr((_LAYOUT, case.name, files, own, representation))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def store_case(case: PreparedCase, folder: Path) -> PreparedCase:
    """Write the arrays into ``folder``; the returned case holds their paths instead. InputError
    for a full disk."""
    names = [k for k in _ARRAYS if getattr(case, k) is not None]
    header = {
        "name": case.name, "spacing": case.spacing, "arrays": names,
        "classes": len(case.foreground_voxels), "several_components": case.several_components,
    }  # fmt: skip
    with whole_folder(folder, replace=True) as partial:
        for key in names:
            np.save(partial / f"{key}.npy", getattr(case, key))
        for number, voxels in enumerate(case.foreground_voxels):
            np.save(partial / f"foreground_voxels-{number}.npy", voxels)
        (partial / "case.json").write_text(json.dumps(header), encoding="utf-8")
    stored = load_case(folder)
    assert stored is not None
    return stored


def load_case(folder: Path) -> PreparedCase | None:
    """The case that `store_case` wrote, its arrays as paths; None if there is none."""
    try:
        header = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    voxels = (np.load(folder / f"foreground_voxels-{n}.npy") for n in range(header["classes"]))
    arrays = {key: folder / f"{key}.npy" for key in header["arrays"]}
    return PreparedCase(
        name=header["name"],
        spacing=tuple(header["spacing"]),
        foreground_voxels=tuple(voxels),
        several_components=tuple(header["several_components"]),
        **arrays,
    )
