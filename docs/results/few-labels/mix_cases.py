"""True and pseudo-labeled cases as one data set: mix_cases.py DATA PREDICTIONS LIST OUTPUT.

DATA holds `images/` and `labels/`, and the names of development and report cases (dev-10.txt,
report-20.txt); LIST names the labeled cases; PREDICTIONS is what `ugmcl segment` wrote for the
others. OUTPUT gets `images/` (links) and `labels/`.

    --unsure U   label voxels whose uncertainty exceeds U 255, for `ugmcl train --ignore-label 255`
    --share S    repeat the true cases until they are this share of all
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ugmcl_core.data.pairing import read_list
from ugmcl_core.data.volume import Volume, read, read_labels, write


def link(source: Path, target: Path) -> None:
    if not target.exists():
        target.symlink_to(source.resolve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("data", "predictions", "list", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--unsure", type=float)
    parser.add_argument("--share", type=float, default=0.0)
    given = parser.parse_args()
    dev, report = (read_list(given.data / f"{n}.txt") for n in ("dev-10", "report-20"))
    true = read_list(given.list)
    names = sorted(p.stem for p in (given.data / "images").glob("*.nrrd"))
    pseudo = [n for n in names if n not in {*true, *dev, *report}]
    for kind in ("images", "labels"):
        (given.output / kind).mkdir(parents=True, exist_ok=True)
    copies = 1
    if given.share:
        copies = max(1, round(given.share / (1 - given.share) * len(pseudo) / len(true)))
    for name in (*true, *dev):
        for number in range(copies if name in true else 1):
            copy = f"{name}-copy{number}" if number else name
            for kind in ("images", "labels"):
                source = given.data / kind / f"{name}.nrrd"
                link(source, given.output / kind / f"{copy}.nrrd")
    for name in pseudo:
        link(given.data / "images" / f"{name}.nrrd", given.output / "images" / f"{name}.nrrd")
        labels = read_labels(given.predictions / f"{name}_labels.nrrd")
        array = labels.array.astype(np.uint8)
        if given.unsure is not None:
            uncertainty = read(given.predictions / f"{name}_uncertainty.nrrd").array
            array = np.where(uncertainty > given.unsure, 255, array).astype(np.uint8)
        write(given.output / "labels" / f"{name}.nrrd", Volume(array, labels.grid))
    print(f"{len(true)} true cases {copies} times, {len(pseudo)} pseudo-labeled")


if __name__ == "__main__":
    main()
