"""Whether this project's windows segment as well as the field's: Dice of both, same weights.

    python Testing/benchmarks/accuracy/equal_dice.py --images DIR --labels DIR --cases LIST
        --model MODEL [--margin MM] [--overlap F] [--mirrored] [--alone]

Each scan is segmented by `Segmenter` (one window or few, bfloat16 where the processor has it) and
by the plain reference of the benchmark (float32, a patch every 18x18x4 voxels, mean of softmax),
both from the same prepared image, unmirrored, probabilities brought back onto the scan's grid
before they are thresholded; scored with all components, and with the largest alone. The reference
takes up to minutes a scan; --alone leaves it out. With a margin the scans get surroundings first,
as in field_of_view.py, so that a model whose patch holds a whole scan needs several patches as
well.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import reference
from field_of_view import widened

from ugmcl_core.data.cases import find_cohort
from ugmcl_core.data.components import keep_largest
from ugmcl_core.data.pairing import read_list
from ugmcl_core.data.preprocessing import Normalization, prepare
from ugmcl_core.data.volume import read
from ugmcl_core.evaluation import metrics
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.sliding_window import predict_mirrored
from ugmcl_core.models.model import resolve
from ugmcl_core.models.network import build_network
from ugmcl_core.nn import devices


def main() -> int:
    """Print Dice and seconds of both for each case, and the means."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", required=True, help="folder of images")
    parser.add_argument("--labels", required=True, help="folder of label maps, same names")
    parser.add_argument("--cases", required=True, help="list of case names, one a line")
    parser.add_argument("--model", required=True, help="name or folder of a model of one class")
    parser.add_argument("--margin", type=float, default=0.0, help="mm added on every side")
    parser.add_argument("--overlap", type=float, help="of this project's windows, 0 to 0.9")
    parser.add_argument("--mirrored", action="store_true", help="average over mirrored views here")
    parser.add_argument("--alone", action="store_true", help="leave the reference out")
    words = parser.parse_args()
    model = resolve(words.model)
    segmenter = Segmenter(model, "cpu")
    plain = reference.plain(build_network(model, torch.device("cpu")))
    plain = plain.to(memory_format=torch.contiguous_format)
    patch, axes = model.card.patch, model.card.mirror_axes if words.mirrored else ()
    cohort = find_cohort(words.images, words.labels, read_list(words.cases))
    names = ("reference", "largest", "here", "largest", "s", "s")
    print("case" + " " * 20 + "".join(f"{name:>10s}" for name in names))
    rows = []
    for number, case in enumerate(cohort.labeled):
        normalization = Normalization(**model.card.normalization)
        volume, box = widened(read(case.image), words.margin, number)
        prepared = prepare(volume, model.card.spacing, normalization)
        truth = read(case.label).array == 1

        def dice(foreground: np.ndarray, prepared=prepared, truth=truth, box=box) -> list[float]:
            back = prepared.restore(torch.from_numpy(foreground)[None]).numpy()[0]
            labels = prepared.place((back > 0.5).astype(np.uint8), 0)
            scores = [metrics.dice(labels[box] == 1, truth)]
            keep_largest(labels, 1)
            return [*scores, metrics.dice(labels[box] == 1, truth)]

        began = time.perf_counter()
        if not words.alone:
            theirs = _by_reference(plain, prepared.image.numpy()[0], patch)
        middle = time.perf_counter()
        with devices.autocast(segmenter.device):
            found = predict_mirrored(
                segmenter.network, prepared.image, patch, axes, overlap=words.overlap
            )
            ours = np.ascontiguousarray(found.foreground[0].numpy())
        end = time.perf_counter()
        scores = [np.nan, np.nan] if words.alone else dice(theirs)
        rows.append([100 * d for d in scores + dice(ours)] + [middle - began, end - middle])
        print(f"{case.name:24s}" + "".join(f"{v:10.2f}" for v in rows[-1]), flush=True)
    mean = np.mean(rows, axis=0)
    print(f"{'mean':24s}" + "".join(f"{v:10.2f}" for v in mean))
    if not words.alone:
        print(
            f"difference of the means: {mean[2] - mean[0]:+.2f} points of Dice, "
            f"{mean[3] - mean[1]:+.2f} of the largest component"
        )
    return 0


def _by_reference(
    network: torch.nn.Module, image: np.ndarray, patch: tuple[int, int, int]
) -> np.ndarray:
    """The reference's foreground probabilities; smaller images are padded to a patch."""
    around = [(0, max(0, p - n)) for n, p in zip(image.shape, patch, strict=True)]
    found = reference.segment(network, np.pad(image, around, mode="edge"), patch)[1]
    return found[tuple(slice(0, n) for n in image.shape)]


if __name__ == "__main__":
    sys.exit(main())
