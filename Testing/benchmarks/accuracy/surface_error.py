"""Whether what a model shows of its own errors is right.

    python Testing/benchmarks/accuracy/surface_error.py --images DIR --labels DIR --cases LIST
        [--without LIST] [--model NAME]

For every case of LIST, which the model was neither trained on nor calibrated by: the true distance
of each point of the predicted surface to the reference's, against the map that `ugmcl segment`
writes. Prints the AUROC for points that are off by more than 3 mm (pooled and as the mean over the
cases that have some), of the map and, beside it, of the expected offset without its place, of the
entropy at the point and of its mean within 5 mm; of the points said to be within 2 mm the part
that is; the expected against the true Dice; and how often the intervals hold the truth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage, stats

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import torch

from ugmcl_core.data.pairing import by_stem, read_list
from ugmcl_core.data.preprocessing import resize, to_canonical
from ugmcl_core.data.volume import read, read_labels
from ugmcl_core.inference.agreement import soft_dice
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import BAND_MM, UNSURE_MM, SegmentSettings
from ugmcl_core.inference.surface_error import (
    bound,
    expected_offset,
    place_factor,
    places,
    surface_voxels,
    within_reach_only,
)
from ugmcl_core.inference.volume_interval import moved_volumes, volume_interval
from ugmcl_core.models.card import Calibration
from ugmcl_core.models.model import Model, resolve
from ugmcl_core.nn.level_sets import signed_distance

WRONG_MM = 3.0


@dataclass(frozen=True)
class Case:
    """The points of one predicted surface: their true ``error`` and the measures of doubt, each
    (N,), and their ``place`` (3, N); the Dice of the case and its `soft_dice`; the reference's
    ``volume`` in mL, and the predicted one with its `moved_volumes`."""

    error: np.ndarray
    offset: np.ndarray
    place: np.ndarray
    entropy: np.ndarray
    nearby: np.ndarray
    dice: float
    agreement: float
    volume: float
    volumes: tuple[float, float, float]

    def bound(self, calibration: Calibration) -> np.ndarray:
        """The surface error in mm that the map shows at each point."""
        return bound(self.offset * place_factor(self.place, calibration.places), calibration)


def main() -> int:
    """Print the figures."""
    words = parser(__doc__).parse_args()
    model = resolve(words.model)
    cases = measured(model, words, chosen(words))
    calibration = model.card.calibration or Calibration()
    report(cases, [calibration] * len(cases))
    return 0


def parser(text: str) -> argparse.ArgumentParser:
    """The arguments that name a model and cases; ``text`` is the program's own."""
    words = argparse.ArgumentParser(description=text.split("\n\n")[0])
    words.add_argument("--images", required=True, help="folder of images")
    words.add_argument("--labels", required=True, help="folder of label maps")
    words.add_argument("--cases", required=True, help="list of case names")
    words.add_argument("--without", help="list of case names to leave out of it")
    words.add_argument("--model", default="la-lge-mri", help="name or folder of a model")
    return words


def chosen(words: argparse.Namespace) -> list[str]:
    """The names of the cases."""
    left_out = set(read_list(words.without)) if words.without else set()
    return [n for n in read_list(words.cases) if n not in left_out]


def measured(model: Model, words: argparse.Namespace, names: Sequence[str]) -> list[Case]:
    """The cases of these names, one after the other."""
    images, labels = by_stem(words.images), by_stem(words.labels)
    segmenter = Segmenter(model, "cpu")
    found = []
    for n in names:
        found.append(measure(segmenter, images[n], labels[n]))
        print(f"\r{len(found)} of {len(names)} cases", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def measure(segmenter: Segmenter, image: Path, label: Path) -> Case:
    """One case, on the model's grid; the reference's distance is that of its own grid."""
    settings = SegmentSettings()
    prediction, prepared, _ = segmenter.predict(
        read(image), settings, progress=lambda fraction, text: None
    )
    spacing, pooled = prepared.spacing, prediction.pooled(0)
    mask = segmenter.classes(prediction, settings) == 1
    near = within_reach_only(pooled, mask, spacing)
    truth = to_canonical(read_labels(label).array, prepared.order, prepared.flips) > 0
    fine = tuple(s * m / n for s, m, n in zip(spacing, mask.shape, truth.shape, strict=True))
    distance = on_grid(signed_distance(truth, fine), mask.shape)
    share = on_grid(truth.astype(np.float32), mask.shape) > 0.5
    points = surface_voxels(mask)
    entropy = prediction.uncertainty[0].cpu().numpy()
    ball = ndimage.distance_transform_edt(_ball_seed(spacing), spacing) <= BAND_MM
    nearby = ndimage.convolve(entropy, ball / ball.sum())
    return Case(
        error=crossing_error(prediction.foreground[0].cpu().numpy(), mask, distance)[points],
        offset=expected_offset(pooled, mask, spacing)[points],
        place=places(points, spacing),
        entropy=entropy[points],
        nearby=nearby[points],
        dice=2.0 * (mask & share).sum() / (mask.sum() + share.sum()),
        agreement=soft_dice(near, mask),
        volume=truth.sum() * np.prod(fine) / 1000,
        volumes=moved_volumes(near, mask, spacing),
    )


def on_grid(field: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(I, J, K) on the model's grid."""
    tensor = torch.from_numpy(np.ascontiguousarray(field, np.float32))
    return resize(tensor[None], shape)[0].numpy()


def _ball_seed(spacing: tuple[float, ...]) -> np.ndarray:
    """A box of ones that is 0 in its middle, wide enough for a ball of the band."""
    seed = np.ones([2 * int(BAND_MM / s) + 1 for s in spacing])
    seed[tuple(n // 2 for n in seed.shape)] = 0
    return seed


def crossing_error(p: np.ndarray, mask: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """At each voxel of ``mask`` with a neighbor outside: the mean over those neighbors of the
    reference's distance in mm where p crosses ½ between the two voxels; (I, J, K)."""
    total, count = np.zeros(mask.shape), np.zeros(mask.shape)
    for axis in range(3):
        for step in (1, -1):
            outside = ~np.roll(mask, -step, axis)
            edge = [slice(None)] * 3
            edge[axis] = -1 if step == 1 else 0
            outside[tuple(edge)] = False
            beyond, far = np.roll(p, -step, axis), np.roll(distance, -step, axis)
            part = np.clip((p - 0.5) / np.maximum(p - beyond, 1e-6), 0.0, 1.0)
            face = mask & outside
            total += np.where(face, np.abs((1.0 - part) * distance + part * far), 0.0)
            count += face
    return total / np.maximum(count, 1)


def auroc(score: np.ndarray, wrong: np.ndarray) -> float:
    """The area under the ROC curve: the part of pairs that ``score`` orders rightly."""
    ranks, count = stats.rankdata(score), int(wrong.sum())
    area = ranks[wrong].sum() - count * (count + 1) / 2
    return float(area / (count * (len(wrong) - count)))


def report(cases: Sequence[Case], calibrations: Sequence[Calibration]) -> None:
    """Print what holds on these cases, each with its calibration."""
    wrong = [c.error > WRONG_MM for c in cases]
    some = [n for n, w in enumerate(wrong) if w.sum() > 5]
    together = np.concatenate(wrong)
    print(f"{len(cases)} cases, {len(together)} points, {100 * together.mean():.1f} % off by more "
          f"than {WRONG_MM:g} mm")  # fmt: skip
    print("| measure | AUROC, all points | mean of cases |\n| --- | --- | --- |")
    bounds = [c.bound(k) for c, k in zip(cases, calibrations, strict=True)]
    rows = {"surface error": bounds, "expected offset": [c.offset for c in cases],
            "entropy within 5 mm": [c.nearby for c in cases],
            "entropy at the point": [c.entropy for c in cases]}  # fmt: skip
    for text, scores in rows.items():
        mean = np.mean([auroc(scores[n], wrong[n]) for n in some])
        print(f"| {text} | {auroc(np.concatenate(scores), together):.3f} | {mean:.3f} |")
    said, error = np.concatenate(bounds), np.concatenate([c.error for c in cases])
    inside = said <= UNSURE_MM
    print(f"said to be within {UNSURE_MM:g} mm: {100 * inside.mean():.0f} % of the points; "
          f"{100 * (error[inside] <= UNSURE_MM).mean():.1f} % of these are, and "
          f"{100 * (error[~inside] <= UNSURE_MM).mean():.0f} % of the others")  # fmt: skip
    print(f"within their own bound: {100 * (error <= said).mean():.1f} % of the points")
    expected = np.array([k.dice(c.agreement) for c, k in zip(cases, calibrations, strict=True)])
    true = np.array([c.dice for c in cases])
    held = (expected[:, 1] <= true) & (true <= expected[:, 2])
    print(f"Dice: rank correlation {stats.spearmanr(expected[:, 0], true)[0]:.2f}, mean absolute "
          f"error {np.abs(expected[:, 0] - true).mean():.3f} (of their mean: "
          f"{np.abs(true - true.mean()).mean():.3f}); {held.sum()} of {len(cases)} are in their "
          f"interval, which is {np.diff(expected[:, 1:]).mean():.3f} wide")  # fmt: skip
    ranges = np.array([volume_interval(c.volumes, k.volume_stretch)
                       for c, k in zip(cases, calibrations, strict=True)])  # fmt: skip
    volume, predicted = np.array([c.volume for c in cases]), [c.volumes[0] for c in cases]
    held = (ranges[:, 0] <= volume) & (volume <= ranges[:, 1])
    off = np.mean(np.abs(predicted - volume) / volume)
    wide = np.mean(np.ptp(ranges, axis=1) / predicted)
    print(f"volume: off by {100 * off:.1f} % on average; {held.sum()} of {len(cases)} are in "
          f"their interval, which is {100 * wide:.0f} % of the volume wide")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
