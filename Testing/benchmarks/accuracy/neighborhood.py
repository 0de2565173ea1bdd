"""What would be lost if Monte Carlo passes were confined to the neighborhood of the prediction.

    python Testing/benchmarks/accuracy/neighborhood.py --images DIR --cases LIST --model NAME

For boxes around what the pass without dropout holds possible (p above 0.5, 0.1 and 0.02, and 5 mm
on every side): their part of the volume, and of the voxels outside the greatest change of the
reported uncertainty if it came from that one pass instead, and the part that changes by more than
0.05.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from ugmcl_core.data.pairing import by_stem, read_list
from ugmcl_core.data.preprocessing import Normalization, prepare
from ugmcl_core.data.volume import read
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.sliding_window import predict, spread
from ugmcl_core.models.model import resolve
from ugmcl_core.nn import devices

PROBABILITIES = (0.5, 0.1, 0.02)
MARGIN_MM = 5.0


def box(possible: np.ndarray, margin: tuple[int, ...]) -> tuple[slice, ...]:
    """The bounding box of ``possible`` (I, J, K) and ``margin`` voxels around it."""
    places = np.argwhere(possible)
    low = np.maximum(places.min(0) - margin, 0)
    high = np.minimum(places.max(0) + 1 + margin, possible.shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def main() -> int:
    """Print a table: a row a case, three columns a box, then means and the greatest change."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", required=True, help="folder of images")
    parser.add_argument("--cases", required=True, help="list of case names, one a line")
    parser.add_argument("--model", default="la-lge-mri", help="name or folder of a model")
    words = parser.parse_args()
    segmenter = Segmenter(resolve(words.model), "cpu")
    card = segmenter.model.card
    header = "".join(
        f"{f'p > {p:g}: part':>16s}{'change':>8s}{'> 0.05':>8s}" for p in PROBABILITIES
    )
    print(f"{'case':24s}{header}")
    rows = []
    torch.manual_seed(0)
    images = by_stem(words.images)
    for name in read_list(words.cases):
        volume = read(images[name])
        image = prepare(volume, card.spacing, Normalization(**card.normalization)).image
        with devices.autocast(segmenter.device):
            found = predict(segmenter.network, image, card.patch, passes=8)
        margin = tuple(round(MARGIN_MM / s) for s in card.spacing)
        change = (found.uncertainty - spread(found.foreground))[0].abs().numpy()
        possible = found.foreground.max(dim=0).values.numpy()
        row: list[float] = []
        for probability in PROBABILITIES:
            inside = np.zeros(change.shape, bool)
            if (possible > probability).any():
                inside[box(possible > probability, margin)] = True
            lost = np.where(inside, 0.0, change)
            row += [inside.mean(), lost.max(), (lost > 0.05).sum() / max(1, (~inside).sum())]
        rows.append(row)
        print(f"{name:24s}{_texts(row)}", flush=True)
    print(f"{'mean':24s}{_texts(np.mean(rows, axis=0))}")
    print(f"{'greatest':24s}{_texts(np.max(rows, axis=0))}")
    return 0


def _texts(row: list[float]) -> str:
    return "".join(f"{a:16.2f}{b:8.3f}{c:8.3f}" for a, b, c in zip(*[iter(row)] * 3, strict=True))


if __name__ == "__main__":
    sys.exit(main())
