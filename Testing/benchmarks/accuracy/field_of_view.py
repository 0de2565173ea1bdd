"""How a model's Dice depends on how a scan's field of view was cropped.

    python Testing/benchmarks/accuracy/field_of_view.py --images DIR --labels DIR --cases LIST
        --model NAME

Each scan is segmented as it is, with 10 and 30 mm of surroundings added on every side, and with
10 mm cut off every side. The surroundings continue the border's tissue outward, blurred along the
border, with the noise of the scan: no anatomy, but nothing that a threshold would recognize.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from ugmcl_core.data.cases import find_cohort
from ugmcl_core.data.pairing import read_list
from ugmcl_core.data.volume import Grid, Volume, read
from ugmcl_core.evaluation import metrics
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.models.model import resolve

BLUR_MM = 3.0


def widened(volume: Volume, margin: float, seed: int) -> tuple[Volume, tuple[slice, ...]]:
    """The volume with ``margin`` mm of surroundings on every side, and where it lies in it."""
    rng = np.random.default_rng(seed)
    width = [round(margin / s) for s in volume.grid.spacing]
    image = volume.array.astype(np.float32)
    wide = np.pad(image, [(w, w) for w in width], mode="edge")
    smooth = ndimage.gaussian_filter(wide, [BLUR_MM / s for s in volume.grid.spacing])
    noise = np.std(image - ndimage.gaussian_filter(image, 1.0))
    around = np.clip(smooth + rng.normal(0, noise, wide.shape), image.min(), image.max())
    box = tuple(slice(w, w + n) for w, n in zip(width, image.shape, strict=True))
    around[box] = image
    grid = volume.grid
    origin = grid.affine @ [*(-w for w in width), 1.0]
    return Volume(
        around.astype(np.float32),
        Grid(wide.shape, grid.spacing, tuple(origin[:3].tolist()), grid.axes),
    ), box


def main() -> int:
    """Print a table: one row a case, then means and the loss against the scan as it is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", required=True, help="folder of images")
    parser.add_argument("--labels", required=True, help="folder of label maps, same names")
    parser.add_argument("--cases", required=True, help="list of case names, one a line")
    parser.add_argument("--model", default="la-lge-mri", help="name or folder of a model")
    arguments = parser.parse_args()
    segmenter = Segmenter(resolve(arguments.model))
    settings = SegmentSettings(passes=0)
    names = read_list(arguments.cases)
    cohort = find_cohort(arguments.images, arguments.labels, names)
    header = ("as it is", "+10 mm", "+30 mm", "-10 mm")
    print(f"{'case':24s}" + "".join(f"{h:>10s}" for h in header))
    rows = []
    for number, case in enumerate(cohort.labeled):
        volume, truth = read(case.image), read(case.label).array == 1

        def dice(volume: Volume, box: tuple[slice, ...], truth: np.ndarray) -> float:
            found = segmenter.segment(volume, settings).labels.array[box] == 1
            return metrics.dice(found, truth)

        everything = (slice(None),) * 3
        row = [dice(volume, everything, truth)]
        row += [dice(*widened(volume, margin, number), truth) for margin in (10.0, 30.0)]
        width = [round(10.0 / s) for s in volume.grid.spacing]
        inner = tuple(slice(w, n - w) for w, n in zip(width, truth.shape, strict=True))
        cut = Volume(volume.array[inner], volume.grid.cropped(inner))
        row.append(dice(cut, everything, truth[inner]))
        rows.append(row)
        print(f"{case.name:24s}" + "".join(f"{100 * v:10.2f}" for v in row), flush=True)
    mean = np.mean(rows, axis=0)
    print(f"{'mean':24s}" + "".join(f"{100 * v:10.2f}" for v in mean))
    print(f"{'loss':24s}" + "".join(f"{100 * (mean[0] - v):10.2f}" for v in mean))
    return 0


if __name__ == "__main__":
    sys.exit(main())
