"""From a volume and a model to labels, signed distance and uncertainty on its grid."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from ..data import nnunet, preprocessing
from ..data.components import keep_common, keep_surest
from ..data.preprocessing import Prepared, normalization_of, spans
from ..data.volume import Volume
from ..errors import Canceled, InputError
from ..models.card import ModelCard, images_of_a_case
from ..models.foreign.settings import is_foreign
from ..models.model import Model
from ..models.network import build_network
from ..nn import devices
from ..nn.level_sets import signed_distance
from ..nn.network import for_inference
from .doubt import doubt_of
from .localization import exceeds, is_large, localize, surroundings
from .settings import BAND_MM, UNSURE_MM, SegmentSettings
from .sliding_window import Prediction, class_map, lead, predict_mirrored
from .surface_error import band, near_surface, surface_voxels

_SEED = 2022
_PREPARE = {"ugmcl": preprocessing.prepare, "nnunet": nnunet.prepare}
# Times the largest extent seen in training from which on ...
_WIDE = 1.3  # ... the structure is located first,
_TOO_WIDE = 1.5  # ... a region of interest is advised.
_MOST_VALUES = 1 << 27  # interpolated probabilities that are in memory at a time: 512 MiB


@dataclass(frozen=True)
class ClassResult:
    """One class of a segmentation: volume in ml; mean uncertainty within 5 mm of its surface, and
    the part of its surface where the error may exceed 2 mm, or None where there is no surface or
    no uncertainty; the bounds of the volume's 95 % interval in ml, or None without an
    uncertainty."""

    value: int
    name: str
    volume_ml: float
    mean_uncertainty: float | None
    unsure_surface: float | None = None
    volume_interval_ml: tuple[float, float] | None = None


@dataclass(frozen=True)
class Segmentation:
    """Everything on the input's grid: ``labels`` uint8; ``sdf`` mm, float32, negative inside, one
    per class, from the network's distance head, computed when it is read; ``uncertainty`` 0 to 1,
    float32, or None; ``surface_error`` float32, the bound in mm below which the error of nine of
    ten surface points lies, where the true surface may be by it (5 mm away at most) and 0
    elsewhere, or None without an uncertainty;
    ``predicted_dice`` with the bounds of its 95 % interval, or None without an uncertainty and
    where nothing was found."""

    labels: Volume
    sdf: Sequence[Volume]
    uncertainty: Volume | None
    surface_error: Volume | None
    predicted_dice: tuple[float, float, float] | None
    classes: tuple[ClassResult, ...]
    advice: tuple[str, ...]
    seconds: float


class Segmenter:
    """A model loaded on a device, to segment any number of volumes."""

    def __init__(self, model: Model, device: str = "auto") -> None:
        devices.prepare_cpu()
        self.model = model
        self.device = devices.resolve(device)
        network = build_network(model, self.device)
        self._is_foreign = is_foreign(model.card.network)
        self.network = network if self._is_foreign else for_inference(network)

    def segment(
        self,
        volume: Volume | Sequence[Volume],
        settings: SegmentSettings | None = None,
        *,
        roi: Sequence[float] | None = None,
        progress: Callable[[float, str], None] | None = None,
        canceled: Callable[[], bool] | None = None,
    ) -> Segmentation:
        """Segment a volume (or one per input channel), or the part of it in the RAS box ``roi`` in
        mm.

        ``progress`` gets a fraction and a line of text. Raises InputError for volumes that cannot
        be segmented and Canceled.
        """
        settings = settings or SegmentSettings()
        began = time.monotonic()
        report = progress or (lambda fraction, text: None)
        prediction, prepared, wide = self.predict(
            volume, settings, roi=roi, progress=report, canceled=canceled
        )
        report(0.9, "resampling results")
        if canceled is not None and canceled():
            raise Canceled
        found = self._assemble(prediction, prepared, settings, wide, began)
        volumes = [volume] if isinstance(volume, Volume) else volume
        remarks = dict.fromkeys(remark for v in volumes for remark in v.remarks)
        return replace(found, advice=(*remarks, *found.advice))

    def predict(
        self,
        volume: Volume | Sequence[Volume],
        settings: SegmentSettings,
        *,
        roi: Sequence[float] | None = None,
        progress: Callable[[float, str], None],
        canceled: Callable[[], bool] | None = None,
    ) -> tuple[Prediction, Prepared, bool]:
        """The prediction on the model's grid, the way back, and whether the field of view is far
        beyond the training's; arguments and errors as of `segment`."""
        card = self.model.card
        mirrored = bool(card.mirror_axes)
        if settings.passes and settings.uncertainty == "flips" and not mirrored:
            raise InputError(
                f"model {self.model.name} was not trained on mirrored images, so flips cannot "
                "show its uncertainty; choose dropout"
            )
        volumes = [volume] if isinstance(volume, Volume) else list(volume)
        if len(volumes) != len(card.channels):
            raise InputError(
                f"model {self.model.name} takes {images_of_a_case(card.channels)}, "
                f"{len(volumes)} given"
            )
        progress(0.0, "preparing")
        prepared = _PREPARE[card.preparation](
            volumes, card.spacing, normalization_of(card.normalization), roi
        )
        if canceled is not None and canceled():
            raise Canceled
        whole = prepared
        # a seed of its own: the same volume has the same uncertainty, run after run
        with devices.autocast(self.device), torch.random.fork_rng():
            torch.manual_seed(_SEED)
            if self._is_one_piece(settings) and exceeds(card, whole, _WIDE):
                progress(0.02, "looking for the structure")
                prepared = localize(self.network, volumes, whole, card, canceled)
            elif is_large(whole.image.shape[1:], card.patch):
                progress(0.02, "looking for the structure")
                one_piece = [
                    bool(c.largest_component) and not settings.all_components for c in card.classes
                ]
                where = surroundings(
                    self.network, whole.image, card.patch, one_piece, card.mirror_axes, canceled
                )
                prepared = whole.part(where)
            prediction = predict_mirrored(
                self.network,
                prepared.image,
                card.patch,
                card.mirror_axes,
                passes=settings.passes,
                # a foreign network has no dropout to vary
                uncertainty="flips" if self._is_foreign and mirrored else settings.uncertainty,
                overlap=settings.overlap,
                together=1 if self.device.type == "cpu" else 4,
                canceled=canceled,
                progress=lambda fraction: progress(0.05 + 0.85 * fraction, "segmenting"),
            )
        self._check(prediction)
        return prediction, prepared, exceeds(card, whole, _TOO_WIDE)

    def _check(self, prediction: Prediction) -> None:
        """Raise InputError for values that are not finite, which cannot become a result."""
        fields = (prediction.foreground, prediction.distance, prediction.sampled)
        if not all(bool(f.isfinite().all()) for f in fields if f is not None):
            raise InputError(
                f"model {self.model.name} gives values that are not finite for this image: its "
                "weights are too large or damaged; choose another model, or train it again"
            )

    def _is_one_piece(self, settings: SegmentSettings) -> bool:
        """Whether every structure is one piece in one place."""
        return not settings.all_components and all(
            c.largest_component for c in self.model.card.classes
        )

    def _assemble(
        self,
        prediction: Prediction,
        prepared: Prepared,
        settings: SegmentSettings,
        wide: bool,
        began: float,
    ) -> Segmentation:
        """Interpolate probabilities, level sets and entropy, then threshold."""
        card, grid = self.model.card, prepared.grid

        def back(field: torch.Tensor) -> np.ndarray:
            return prepared.place(prepared.restore(field[None].cpu().float()).numpy()[0], 0.0)

        coarse = self.classes(prediction, settings)
        labels = _classes(prediction.foreground, prepared)
        near = cache(lambda: prepared.nearest(coarse))
        for n in self._in_one_piece(settings):
            keep_common(labels, n, near)
        labels = prepared.place(labels, 0)
        sdf: Sequence[Volume] = ()
        if prediction.distance is not None:
            sdf = LevelSets(prediction.distance.cpu(), prepared, card.sdf, card.scale_mm)
        uncertainty = error = dice = None
        if prediction.uncertainty is not None:
            uncertainty = Volume(back(prediction.uncertainty[0]), grid)
            error = Volume(np.zeros(grid.shape, np.float32), grid)
            doubt = doubt_of(prediction, coarse, prepared.spacing, card.calibration)
            dice = doubt.dice
        results = []
        for n, item in enumerate(card.classes):
            mask = labels == item.value
            volume_ml = float(np.count_nonzero(mask)) * grid.voxel_ml
            mean = unsure = interval = None
            if uncertainty is not None:
                low, high = doubt.intervals[n]
                # the full grid's own volume lies within, too
                interval = min(low, volume_ml), max(high, volume_ml)
            if uncertainty is not None and mask.any():
                where, distance = near_surface(mask, grid.spacing)
                near = distance <= BAND_MM
                if near.any():
                    mean = float(uncertainty.array[where][near].mean(dtype=np.float64))
                    found = back(doubt.bound(n))[where]
                    shown = error.array[where]
                    np.maximum(shown, band(found, mask[where], distance), out=shown)
                    unsure = float((found[surface_voxels(mask[where])] > UNSURE_MM).mean())
            results.append(ClassResult(
                item.value, item.name, volume_ml, mean, unsure, interval))  # fmt: skip
        return Segmentation(
            Volume(labels, grid),
            sdf,
            uncertainty,
            error,
            dice,
            tuple(results),
            tuple(_advice(card, wide, results)),
            time.monotonic() - began,
        )

    def classes(self, prediction: Prediction, settings: SegmentSettings) -> np.ndarray:
        """The classes on the model's grid (I, J, K), those in one piece without others."""
        foreground = prediction.foreground.cpu().numpy()
        found, ahead = class_map(foreground), lead(foreground)
        for value in self._in_one_piece(settings):
            keep_surest(found, value, ahead)
        return found

    def _in_one_piece(self, settings: SegmentSettings) -> list[int]:
        """The values of the classes of which only one component is kept."""
        if settings.all_components:
            return []
        return [item.value for item in self.model.card.classes if item.largest_component]


class LevelSets(Sequence[Volume]):
    """The signed distance of each class in mm, float32, on the input's grid; interpolated on
    demand, since those of many classes may not fit in memory together."""

    def __init__(
        self, distance: torch.Tensor, prepared: Prepared, kind: str, scale: float
    ) -> None:
        self._distance, self._prepared = distance, prepared
        self._kind, self._scale = kind, scale

    def __len__(self) -> int:
        return len(self._distance)

    def __getitem__(self, index: int) -> Volume:
        prepared, scale = self._prepared, self._scale
        level = prepared.restore(self._distance[index][None].float()).numpy()[0]
        if self._kind == "truncated":
            mm = level * np.float32(scale)
        else:  # no unit of its own: the distance to its zero level, clamped like the others
            mm = signed_distance(level < 0, prepared.grid.spacing, scale)
        return Volume(prepared.place(mm, scale), prepared.grid)


def _classes(foreground: torch.Tensor, prepared: Prepared) -> np.ndarray:
    """The most probable class of each voxel of the region of interest, (I, J, K) uint8. Where
    the interpolated probabilities of all classes would be large, by rows."""
    foreground, shape, axis = foreground.cpu().float(), prepared.region, prepared.order[0]
    rows = max(1, _MOST_VALUES * shape[axis] // (len(foreground) * math.prod(shape)))
    if rows >= shape[axis]:
        return class_map(prepared.restore(foreground).numpy())
    labels = np.empty(shape, np.uint8)
    for start in range(0, shape[axis], rows):
        part = slice(start, min(start + rows, shape[axis]))
        where = tuple(part if a == axis else slice(None) for a in range(3))
        labels[where] = class_map(prepared.restore(foreground, part).numpy())
    return labels


def _advice(card: ModelCard, wide: bool, results: Sequence[ClassResult]) -> list[str]:
    """Notices for the user: a field of view beyond the training's, an empty result."""
    advice = []
    if wide:
        seen = spans(card.field_of_view_mm[1])
        advice.append(
            "The field of view is much larger than the crops that the model was trained on "
            f"(up to {seen} mm), and the structure was looked for in it: check that the right one "
            "was found, or set a region of interest around it."
        )
    if all(r.volume_ml == 0 for r in results):
        advice.append(
            "Nothing was found: check that the model fits this kind of image, and set a "
            "region of interest around the structure."
        )
    return advice
