"""Whether the surface error that a model shows is right, and its calibration.

    python Testing/benchmarks/accuracy/surface_error.py --images DIR --labels DIR --cases LIST
        [--model NAME] [--fit LIST]

For every case of LIST, which the model was not trained on: the true distance of each point of the
predicted surface to the reference's, against the map that `ugmcl segment` writes. Prints the AUROC
for points that are off by more than 3 mm (pooled and as the mean over the cases that have some),
of the expected offset and, beside it, of the entropy at the point and of its mean within 5 mm;
of the points said to be within 2 mm the part that is; the expected against the true Dice; and
how often the interval of the volume holds the true one.
With --fit, the calibration for the model's card from the cases of that list.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage, stats

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from ugmcl_core.data.components import keep_largest
from ugmcl_core.data.pairing import by_stem, read_list
from ugmcl_core.data.preprocessing import resize, to_canonical
from ugmcl_core.data.volume import read, read_labels
from ugmcl_core.inference.agreement import agreement
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import BAND_MM, UNSURE_MM, SegmentSettings
from ugmcl_core.inference.sliding_window import class_map
from ugmcl_core.inference.surface_error import bound, expected_offset, surface_voxels
from ugmcl_core.inference.volume_interval import volume_interval
from ugmcl_core.models.card import Calibration
from ugmcl_core.models.model import resolve
from ugmcl_core.nn.level_sets import signed_distance

WRONG_MM = 3.0


@dataclass(frozen=True)
class Case:
    """The points of one predicted surface: their true ``error`` and the measures of doubt, each
    (N,); the Dice of the case and its `agreement`; the reference's volume in mL, the predicted
    one, and its interval."""

    error: np.ndarray
    offset: np.ndarray
    entropy: np.ndarray
    nearby: np.ndarray
    dice: float
    agreement: float
    volume: float
    predicted: float
    interval: tuple[float, float]


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", required=True, help="folder of images")
    parser.add_argument("--labels", required=True, help="folder of label maps")
    parser.add_argument("--cases", required=True, help="list of case names to judge")
    parser.add_argument("--fit", help="list of case names to calibrate by")
    parser.add_argument("--model", default="la-lge-mri", help="name or folder of a model")
    words = parser.parse_args()
    segmenter = Segmenter(resolve(words.model), "cpu")
    calibration = segmenter.model.card.calibration or Calibration()
    if words.fit:
        calibration = fitted(measured(segmenter, words, words.fit))
        print(f"calibration: {asdict(calibration)}")
    report(measured(segmenter, words, words.cases), calibration)
    return 0


def measured(segmenter: Segmenter, words: argparse.Namespace, names: str) -> list[Case]:
    """The cases of a list."""
    images, labels = by_stem(words.images), by_stem(words.labels)
    return [measure(segmenter, images[n], labels[n]) for n in read_list(names)]


def measure(segmenter: Segmenter, image: Path, label: Path) -> Case:
    """One case, on the model's grid; the reference's distance is that of its own grid."""
    prediction, prepared, _ = segmenter.predict(
        read(image), SegmentSettings(), progress=lambda fraction, text: None
    )
    spacing, samples = prepared.spacing, prediction.sampled.cpu()
    found = class_map(prediction.foreground.cpu().numpy())
    keep_largest(found, 1)
    mask = found == 1
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
        offset=expected_offset(samples[0].numpy(), mask, spacing)[points],
        entropy=entropy[points],
        nearby=nearby[points],
        dice=2.0 * (mask & share).sum() / (mask.sum() + share.sum()),
        agreement=agreement(samples, torch.from_numpy(found)),
        volume=truth.sum() * np.prod(fine) / 1000,
        predicted=mask.sum() * np.prod(spacing) / 1000,
        interval=volume_interval(samples[0].numpy(), mask, spacing),
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


def fitted(cases: list[Case]) -> Calibration:
    """Factor and exponent from the 90 % quantiles of the error in 20 groups of equal size by
    offset, a line in logarithms; Dice by least squares on the agreement."""
    offset, error = (np.concatenate([getattr(c, k) for c in cases]) for k in ("offset", "error"))
    groups = np.array_split(np.argsort(offset), 20)
    x = [np.log(offset[g].mean()) for g in groups]
    y = [np.log(np.quantile(error[g], 0.9)) for g in groups]
    exponent, logarithm = np.polyfit(x, y, 1)
    said, true = np.array([c.agreement for c in cases]), np.array([c.dice for c in cases])
    slope, start = np.polyfit(said, true, 1)
    rest = true - (slope * said + start)
    spread = float(np.sqrt((rest**2).sum() / (len(cases) - 2)))
    numbers = (np.exp(logarithm), exponent, slope, start, spread)
    return Calibration(*(round(float(n), 3) for n in numbers))


def auroc(score: np.ndarray, wrong: np.ndarray) -> float:
    """The area under the ROC curve: the part of pairs that ``score`` orders rightly."""
    ranks, count = stats.rankdata(score), int(wrong.sum())
    area = ranks[wrong].sum() - count * (count + 1) / 2
    return float(area / (count * (len(wrong) - count)))


def report(cases: list[Case], calibration: Calibration) -> None:
    """Print what holds on these cases."""
    wrong = [c.error > WRONG_MM for c in cases]
    some = [n for n, w in enumerate(wrong) if w.sum() > 5]
    together = np.concatenate(wrong)
    print(f"{len(cases)} cases, {len(together)} points, {100 * together.mean():.1f} % off by more "
          f"than {WRONG_MM:g} mm")  # fmt: skip
    print("| measure | AUROC, all points | mean of cases |\n| --- | --- | --- |")
    for name, text in (("offset", "expected offset"), ("nearby", "entropy within 5 mm"),
                       ("entropy", "entropy at the point")):  # fmt: skip
        scores = [getattr(c, name) for c in cases]
        mean = np.mean([auroc(scores[n], wrong[n]) for n in some])
        print(f"| {text} | {auroc(np.concatenate(scores), together):.3f} | {mean:.3f} |")
    offset, error = (np.concatenate([getattr(c, k) for c in cases]) for k in ("offset", "error"))
    said = bound(offset, calibration)
    inside = said <= UNSURE_MM
    print(f"said to be within {UNSURE_MM:g} mm: {100 * inside.mean():.0f} % of the points; "
          f"{100 * (error[inside] <= UNSURE_MM).mean():.1f} % of these are, and "
          f"{100 * (error[~inside] <= UNSURE_MM).mean():.0f} % of the others")  # fmt: skip
    print(f"within their own bound: {100 * (error <= said).mean():.1f} % of the points")
    expected = [calibration.dice(c.agreement)[0] for c in cases]
    true = [c.dice for c in cases]
    print(f"Dice: rank correlation {stats.spearmanr(expected, true)[0]:.2f}, mean absolute error "
          f"{np.abs(np.subtract(expected, true)).mean():.3f}")  # fmt: skip
    held = [c.interval[0] <= c.volume <= c.interval[1] for c in cases]
    wide = np.mean([(c.interval[1] - c.interval[0]) / c.predicted for c in cases])
    off = np.mean([abs(c.predicted - c.volume) / c.volume for c in cases])
    print(f"volume: off by {100 * off:.1f} % on average; {sum(held)} of {len(cases)} true volumes "
          f"are in their interval, which is {100 * wide:.0f} % of the volume wide")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
