"""The same cases with thick slices: thicken.py IMAGES LABELS OUTPUT [--voxels 2,2,8].

Averages boxes of so many voxels, as a scanner with thick slices does, and labels a box whose
voxels are labeled by at least half with the label that most of them have. OUTPUT gets `images/`
and `labels/`; voxels that fill no box are left out.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from ugmcl_core.data.volume import Grid, Volume, read, read_labels, write

Box = tuple[int, int, int]


def boxes(array: np.ndarray, box: Box) -> np.ndarray:
    """The voxels of each box, (I/a, J/b, K/c, abc)."""
    shape = tuple(n // b for n, b in zip(array.shape, box, strict=True))
    whole = array[tuple(slice(n * b) for n, b in zip(shape, box, strict=True))]
    split = whole.reshape([size for pair in zip(shape, box, strict=True) for size in pair])
    return split.transpose(0, 2, 4, 1, 3, 5).reshape(*shape, -1)


def thick_grid(grid: Grid, box: Box) -> Grid:
    """The grid of the boxes; the first center is that of the first box."""
    middle = [(b - 1) / 2 for b in box]
    return replace(
        grid,
        shape=tuple(n // b for n, b in zip(grid.shape, box, strict=True)),
        spacing=tuple(s * b for s, b in zip(grid.spacing, box, strict=True)),
        origin=tuple((grid.affine @ np.array([*middle, 1.0]))[:3].tolist()),
    )


def thick_image(image: Volume, box: Box) -> Volume:
    means = boxes(image.array.astype(np.float32), box).mean(-1)
    return Volume(means, thick_grid(image.grid, box))


def thick_labels(labels: Volume, box: Box) -> Volume:
    parts = boxes(labels.array, box)
    values = [int(v) for v in np.unique(parts) if v]
    counts = np.stack([(parts == v).sum(-1) for v in values])
    most = np.array(values, np.uint8)[counts.argmax(0)]
    labeled = 2 * (parts != 0).sum(-1) >= parts.shape[-1]
    return Volume(np.where(labeled, most, 0).astype(np.uint8), thick_grid(labels.grid, box))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("images", "labels", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--voxels", default="2,2,8")
    given = parser.parse_args()
    box = tuple(int(n) for n in given.voxels.split(","))
    for kind in ("images", "labels"):
        (given.output / kind).mkdir(parents=True, exist_ok=True)
    for path in sorted(given.images.iterdir()):
        write(given.output / "images" / path.name, thick_image(read(path), box))
    for path in sorted(given.labels.iterdir()):
        write(given.output / "labels" / path.name, thick_labels(read_labels(path), box))


if __name__ == "__main__":
    main()
