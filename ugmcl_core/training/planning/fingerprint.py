"""The fingerprint of a training's cases: all that a plan is made from.

    Case → CaseFacts: grid, kind of image, intensities, structures → Fingerprint: all of them

Axes are the canonical ones (`preprocessing.canonical_axes`): 0 to 2 run along R, A, S. The idea is
nnU-Net's data fingerprint (Isensee et al., Nature Methods 2021), with the sizes of the structures
and pairs of mirrored ones in addition.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...data import guarded
from ...data.cases import (
    Case,
    Cohort,
    check_known,
    empty_label,
    read_pair,
    values_in,
)
from ...data.components import bounding_box
from ...data.preprocessing import canonical_axes, to_canonical
from ...errors import InputError
from ...nn.level_sets import signed_distance

_PERCENTILES = tuple(range(5, 100, 5))
_SAMPLE = 100_000  # voxels of an image that its statistics come from
_INSIDE = 20_000  # voxels of a case's structures that enter the pooled statistics
_MOST_BYTES = 1 << 30  # of unlabeled files that are read; of more, the headers of most
_WHOLE = 0.01  # of a structure's voxels: smaller pieces do not count
_POINTS = 512  # of a structure, to compare it with the mirror image of another
_OTHER = 3.0  # times as long, compared with the others, is a voxel of another orientation ...
_LARGER = 2.5  # ... and an image with more or less of the body
_DIFFERENT = 0.2  # of the range of intensities, by which `_PERCENTILES` may be off on average
_ALIKE = 0.5  # of them in the other one, below which the two do not look alike


@dataclass(frozen=True)
class Structure:
    """One class in one case: its label ``value``; ``share`` of the image's voxels; ``pieces``;
    ``extent`` of its largest piece by axis, ``center``, and ``radius`` of the largest ball inside,
    in mm."""

    value: int
    share: float
    pieces: int
    extent: tuple[float, float, float]
    center: tuple[float, float, float]
    radius: float


@dataclass(frozen=True)
class Twins:
    """Two structures side by side along ``axis``, on which ``first`` has the lower position, that
    look like mirror images of each other: at least the part ``likeness`` of each lies in the
    other's mirror image."""

    first: int
    second: int
    axis: int
    likeness: float


@dataclass(frozen=True)
class ImageFacts:
    """``modality`` is that of the DICOM header, else CT where the values are those of CT, else
    empty. ``histogram`` holds the percentiles `_PERCENTILES` of the voxels, 0 and 1 being the
    percentiles 0.5 and 99.5; empty where these were not read."""

    modality: str
    histogram: tuple[float, ...]


@dataclass(frozen=True)
class CaseFacts:
    """What one case looks like. ``modality`` and ``histogram`` are those of its first image (see
    `ImageFacts`), ``further`` those of its other channels. ``extent`` (mm) is that of all
    structures together; without labels it is empty, like structures and twins."""

    name: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    modality: str
    histogram: tuple[float, ...]
    structures: tuple[Structure, ...] = ()
    extent: tuple[float, float, float] = (0.0, 0.0, 0.0)
    twins: tuple[Twins, ...] = ()
    further: tuple[ImageFacts, ...] = ()

    @property
    def images(self) -> tuple[ImageFacts, ...]:
        """The facts of each channel."""
        return (ImageFacts(self.modality, self.histogram), *self.further)

    @property
    def size(self) -> tuple[float, float, float]:
        """The extent of the image in mm."""
        return tuple(n * s for n, s in zip(self.shape, self.spacing, strict=True))


@dataclass(frozen=True)
class Inside:
    """Intensities of the structures' voxels over all cases, ``low`` and ``high`` their percentiles
    0.5 and 99.5."""

    low: float
    high: float
    mean: float
    deviation: float


@dataclass(frozen=True)
class Fingerprint:
    """The cases of a training; ``inside`` is that of the first channel, ``further`` are those of
    the others, ``samples`` the intensities of each labeled case that they come from, (channels,
    n)."""

    labeled: tuple[CaseFacts, ...]
    unlabeled: tuple[CaseFacts, ...]
    inside: Inside
    channels: tuple[str, ...] = Cohort.channels
    further: tuple[Inside, ...] = ()
    samples: tuple[np.ndarray, ...] = field(default=(), compare=False, repr=False)

    @property
    def insides(self) -> tuple[Inside, ...]:
        """The intensities of the structures in each channel."""
        return (self.inside, *self.further)

    @property
    def glanced(self) -> int:
        """How many of the unlabeled ones are known by their headers alone."""
        return sum(not c.histogram for c in self.unlabeled)

    @property
    def cases(self) -> tuple[CaseFacts, ...]:
        """All of them, labeled ones first."""
        return (*self.labeled, *self.unlabeled)

    @property
    def values(self) -> tuple[int, ...]:
        """The label values of the structures in any case."""
        return tuple(sorted({s.value for c in self.labeled for s in c.structures}))

    def said_to_be(self, modalities: Sequence[str]) -> Fingerprint:
        """The same with the given ``modalities`` for the channels of the labeled cases and of
        those that look like them; "" changes nothing."""
        if not any(modalities):
            return self
        guessed = zip(*(c.images for c in self.labeled), strict=True)
        known = [
            {image.modality for image in images} if said else set()
            for images, said in zip(guessed, modalities, strict=True)
        ]

        def of(cases: tuple[CaseFacts, ...]) -> tuple[CaseFacts, ...]:
            return tuple(map(told, cases))

        def told(case: CaseFacts) -> CaseFacts:
            first, *further = (
                replace(image, modality=said) if image.modality in guesses else image
                for image, said, guesses in zip(case.images, modalities, known, strict=True)
            )
            return replace(case, modality=first.modality, further=tuple(further))

        return replace(self, labeled=of(self.labeled), unlabeled=of(self.unlabeled))

    def without(self, name: str) -> Fingerprint:
        """The same as if the labeled case of this name had not been there. InputError if no
        structure is left."""
        kept = [n for n, c in enumerate(self.labeled) if c.name != name]
        labeled = tuple(self.labeled[n] for n in kept)
        if not any(c.structures for c in labeled):
            raise InputError(
                f"without {name} no label shows a structure, so it cannot be left out in turn; "
                "annotate another case, or do not leave one out"
            )
        samples = tuple(self.samples[n] for n in kept)
        first, *further = (_inside(channel) for channel in np.concatenate(samples, axis=1))
        return replace(
            self, labeled=labeled, inside=first, further=tuple(further), samples=samples
        )

    def of(self, value: int) -> list[Structure]:
        """A structure in each of the cases that show it."""
        return [s for c in self.labeled for s in c.structures if s.value == value]


def take(
    cohort: Cohort,
    values: Sequence[int] = (),
    ignore: int | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Fingerprint:
    """The fingerprint of the labeled and unlabeled cases of ``cohort``.

    ``values`` are the labels that count (empty: all but ``ignore``, the label of voxels that
    nobody annotated). Raises InputError for a file that cannot be read, an empty label, and where
    all are meant to be empty.
    """
    facts, samples = _look_at_all(cohort, values, ignore, progress)
    count = len(cohort.labeled)
    if not any(found.structures for found in facts):
        raise InputError(
            f"{cohort.labeled[0].label}: neither this label nor any other shows a structure, so "
            "there is nothing to learn; annotate at least one case"
        )
    first, *further = (_inside(channel) for channel in np.concatenate(samples, axis=1))
    return Fingerprint(
        tuple(facts[:count]),
        tuple(facts[count:]),
        first,
        cohort.channels,
        tuple(further),
        tuple(samples[:count]),
    )


def _inside(values: np.ndarray) -> Inside:
    low, high = map(float, np.percentile(values, [0.5, 99.5]))
    return Inside(low, high, float(values.mean()), float(values.std()))


def strangers(
    cohort: Cohort, progress: Callable[[float, str], None] | None = None
) -> dict[str, str]:
    """The unlabeled cases of another kind than the labeled ones, and why, by their images alone.
    Raises InputError for one that cannot be read."""
    labeled = tuple(replace(case, label=None) for case in cohort.labeled)
    facts, _ = _look_at_all(replace(cohort, labeled=labeled), (), None, progress)
    count = len(labeled)
    return all_unlike(facts[count:], facts[:count])


def all_unlike(cases: Sequence[CaseFacts], labeled: Sequence[CaseFacts]) -> dict[str, str]:
    """Those of the ``cases`` that are `unlike` the labeled ones, and why."""
    return {c.name: why for c in cases if (why := unlike(c, labeled))}


def unlike(case: CaseFacts, labeled: Sequence[CaseFacts]) -> str:
    """Why an unlabeled case is of a different kind than the labeled ones, "" if it is not.

    Another modality, slices along another axis, a field of view that cannot be that of the same
    body part, or intensities distributed like those of none of them, as far as they were read.
    The limits are wide: a case left out by mistake teaches nothing, while one let in by mistake
    usually does little harm.
    """
    for own, *others in zip(case.images, *(c.images for c in labeled), strict=True):
        if not own.histogram and not own.modality:
            continue  # not known, rather than not CT
        kinds = {other.modality for other in others}
        both_known = own.modality and "" not in kinds
        if all((own.modality == "CT") != (k == "CT") for k in kinds) or (
            both_known and own.modality not in kinds
        ):
            return f"it is {own.modality or 'no CT'}, the labeled ones are {_listed(kinds)}"
    ratios = np.array([np.divide(c.spacing, min(c.spacing)) for c in labeled])
    own = np.divide(case.spacing, min(case.spacing))
    for a in range(3):
        if own[a] > _OTHER * ratios[:, a].max() or own[a] < ratios[:, a].min() / _OTHER:
            return f"its voxels of {_mm(case.spacing)} have another shape along {'RAS'[a]}"
    sizes = np.array([c.size for c in labeled])
    for a, size in enumerate(case.size):
        if size > _LARGER * sizes[:, a].max() or size < sizes[:, a].min() / _LARGER:
            return f"its field of view of {_mm(case.size)} is another one along {'RAS'[a]}"
    for own, *others in zip(case.images, *(c.images for c in labeled), strict=True):
        if not own.histogram:
            continue
        # the mean is the earth mover's distance; single percentiles jump with the share of air
        gaps = [np.abs(np.subtract(own.histogram, other.histogram)).mean() for other in others]
        if min(gaps) > _DIFFERENT:
            return "its intensities are distributed like those of no labeled case"
    return ""


def modalities(cases: Sequence[CaseFacts]) -> tuple[str, ...]:
    """The kind of image that each channel is in most of the cases."""
    by_channel = zip(*([image.modality for image in c.images] for c in cases), strict=True)
    return tuple(max(sorted(set(kinds)), key=kinds.count) for kinds in by_channel)


def _listed(kinds: set[str]) -> str:
    return ", ".join(sorted(k or "no CT" for k in kinds))


def _mm(values: Sequence[float]) -> str:
    return "x".join(f"{v:.3g}" for v in values) + " mm"


def _look_at_all(
    cohort: Cohort,
    values: Sequence[int],
    ignore: int | None,
    progress: Callable[[float, str], None] | None,
) -> tuple[list[CaseFacts], list[np.ndarray]]:
    """`look` of all cases, labeled ones first; of more than `_MOST_BYTES` of unlabeled files, of
    an evenly spaced choice, and `glance` of the others."""
    size = sum(_bytes(path) for case in cohort.unlabeled for path in case.images)
    every = max(1, -(-size // _MOST_BYTES))
    chosen = {*cohort.labeled, *cohort.unlabeled[::every]}
    cases = (*cohort.labeled, *cohort.unlabeled)
    facts, samples = [], []
    for number, case in enumerate(cases):
        if progress is not None:
            progress(number / len(cases), f"looking at {case.name}")
        known = None if case in chosen else glance(case, len(cohort.channels))
        found, inside = look(case, values, ignore) if known is None else (known, samples[0][:, :0])
        facts.append(found)
        samples.append(inside)
    return facts, samples


def _bytes(path: Path) -> int:
    """The size of a file, or of all files in a folder; 0 for what cannot be read, which is said
    when it is looked at."""
    try:
        files = path.iterdir() if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files if file.is_file())
    except OSError:
        return 0


def glance(case: Case, channels: int) -> CaseFacts | None:
    """The facts of one case that the header of its first image tells; None if it tells too
    little, and `look` will say why."""
    try:
        grid = guarded.read_grid(case.image)
    except InputError:
        return None
    order, _ = canonical_axes(grid)
    shape, spacing = (tuple(values[a] for a in order) for values in (grid.shape, grid.spacing))
    spacing = tuple(map(float, spacing))
    unknown = tuple(ImageFacts("", ()) for _ in range(channels - 1))
    return CaseFacts(case.name, shape, spacing, _dicom_modality(case.image), (), further=unknown)


def look(
    case: Case, values: Sequence[int] = (), ignore: int | None = None
) -> tuple[CaseFacts, np.ndarray]:
    """The facts of one case, and intensities of some voxels of its structures, (channels, n)."""
    images, labels = read_pair(case)
    grid = images[0].grid
    order, flips = canonical_axes(grid)
    arrays = [to_canonical(image.array, order, flips) for image in images]
    spacing = tuple(float(grid.spacing[a]) for a in order)
    paths = case.images if case.further else case.images * len(arrays)
    first, *further = map(_look_at, arrays, paths)
    facts = CaseFacts(
        case.name, arrays[0].shape, spacing, first.modality, first.histogram,
        further=tuple(further),
    )  # fmt: skip
    if labels is None:
        return facts, np.empty((len(arrays), 0))
    marked = to_canonical(labels.array, order, flips)
    box = bounding_box(marked != 0)
    marked, first = marked[box], np.array([side.start or 0 for side in box])
    held = [v for v in values_in(marked) if v and v != ignore]
    found = [v for v in held if v in values] if values else held
    if not found and case.may_be_empty:
        return facts, np.empty((len(arrays), 0))
    if not found:
        raise InputError(empty_label(case, held))
    if values:
        check_known(held, values, case.label)
    known = np.isin(marked, found)
    inside = np.stack([array[box][known] for array in arrays])
    masks = _masks(marked, found, first)
    structures = tuple(_structure(masks[v], v, spacing, facts.shape) for v in found)
    extent = (b.stop - b.start for b in bounding_box(known))
    facts = replace(
        facts,
        structures=structures,
        extent=tuple(n * s for n, s in zip(extent, spacing, strict=True)),
        twins=tuple(_twins(marked, first, masks, structures, spacing)),
    )
    return facts, inside[:, :: max(1, inside.shape[1] // _INSIDE)].astype(np.float64)


def _look_at(array: np.ndarray, path: Path) -> ImageFacts:
    sample = array.ravel(order="K")[:: max(1, array.size // _SAMPLE)]
    low, *middle, high = map(float, np.percentile(sample, [0.5, *_PERCENTILES, 99.5]))
    histogram = tuple((v - low) / ((high - low) or 1.0) for v in middle)
    return ImageFacts(_modality(path, sample, low), histogram)


def _modality(path: Path, sample: np.ndarray, low: float) -> str:
    """The modality in a DICOM header; CT where whole numbers go as far below 0 as only Hounsfield
    units do."""
    if path.is_dir():
        return _dicom_modality(path)
    whole = np.array_equal(sample, np.round(sample))
    return "CT" if low < -200.0 or (whole and low < -50.0) else ""


def _dicom_modality(path: Path) -> str:
    """That in the first header of a DICOM folder, "" of all else."""
    if not path.is_dir():
        return ""
    files = (p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith("."))
    try:
        return guarded.read_notes(next(files)).get("0008|0060", "").strip(" \0").upper()
    except (InputError, StopIteration):
        return ""


Masks = dict[int, tuple[np.ndarray, np.ndarray]]


def _masks(marked: np.ndarray, values: Sequence[int], first: np.ndarray) -> Masks:
    """The mask of each value within its bounding box, and the first voxel of the box in the image,
    in which ``marked`` begins at the voxel ``first``."""
    from scipy import ndimage

    boxes = ndimage.find_objects(marked.astype(np.int32))
    return {
        v: (marked[boxes[v - 1]] == v, first + [b.start for b in boxes[v - 1]]) for v in values
    }


def _structure(
    mask: tuple[np.ndarray, np.ndarray],
    value: int,
    spacing: tuple[float, float, float],
    shape: tuple[int, int, int],
) -> Structure:
    from scipy import ndimage

    part, first = mask
    pieces, _ = ndimage.label(part)
    sizes = np.bincount(pieces.ravel())[1:]
    largest = pieces == sizes.argmax() + 1
    inner = bounding_box(largest)
    places = np.argwhere(part).mean(0) + first
    return Structure(
        value,
        float(sizes.sum()) / math.prod(shape),
        int((sizes >= _WHOLE * sizes.sum()).sum()),
        tuple((b.stop - b.start) * s for b, s in zip(inner, spacing, strict=True)),
        tuple(float(p * s) for p, s in zip(places, spacing, strict=True)),
        _radius(part, first, shape, spacing),
    )


def _radius(
    part: np.ndarray,
    first: np.ndarray,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
) -> float:
    """Of the largest ball inside ``part``, the box of an image of ``shape`` that begins at the
    voxel ``first``. Where the image ends, the structure may go on, as in the distances of a
    training: a slice of a disc is as deep as the disc, not as half of a slice."""
    last = first + part.shape
    around = [(int(a > 0), int(b < n)) for a, b, n in zip(first, last, shape, strict=True)]
    if part.all() and not np.any(around):  # it fills the image, of which the edges remain
        around = [(int(n > 1),) * 2 for n in shape] if max(shape) > 1 else [(1, 1)] * 3
    return -float(signed_distance(np.pad(part, around), spacing).min())


def _twins(
    marked: np.ndarray,
    corner: np.ndarray,
    masks: Masks,
    structures: Sequence[Structure],
    spacing: tuple[float, float, float],
) -> list[Twins]:
    """Pairs that may be distinguishable by their position alone; ``marked`` begins at the voxel
    ``corner``."""
    found = []
    points = {s.value: _points(*masks[s.value]) for s in structures}
    step = np.array(spacing)
    for a, b in itertools.combinations(structures, 2):
        gap = np.array(b.center) - np.array(a.center)
        axis = int(np.abs(gap).argmax())
        if abs(gap[axis]) < 0.5 * (a.extent[axis] + b.extent[axis]) * 0.8:
            continue
        likeness = []
        for one, other in ((a, b), (b, a)):
            offset = points[one.value] * step - np.array(one.center)
            offset[:, axis] *= -1.0
            place = np.round((np.array(other.center) + offset) / step).astype(int) - corner
            inside = ((place >= 0) & (place < marked.shape)).all(axis=1)
            hits = marked[tuple(place[inside].T)] == other.value
            likeness.append(hits.sum() / len(place))
        if min(likeness) >= _ALIKE:
            first, second = (a, b) if gap[axis] > 0 else (b, a)
            found.append(Twins(first.value, second.value, axis, float(min(likeness))))
    return found


def _points(mask: np.ndarray, first: np.ndarray) -> np.ndarray:
    voxels = np.argwhere(mask) + first
    return voxels[:: max(1, len(voxels) // _POINTS)].astype(float)
