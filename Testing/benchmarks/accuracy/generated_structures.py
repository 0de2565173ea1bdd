"""What the plan learns from generated cases unlike the atrium, beside the fixed grid.

    python Testing/benchmarks/accuracy/generated_structures.py FAMILY --minutes M [--labeled N]
        [--tested N] [--seed S] [--kinds plan,compact] [--set NAME=VALUE]

FAMILY is a function of Testing/core/structure_samples.py. `dual-task` is trained from scratch for
M minutes of one CPU thread (processor time, so that other work does not count) with 8 filters.
Prints the mean Dice of the test cases and structures, by the plan and by `compact`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "core"))

import torch
from structure_samples import FAMILIES
from structure_training import mean_dice


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", choices=FAMILIES, metavar="FAMILY")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--labeled", type=int, default=5)
    parser.add_argument("--tested", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default="plan,compact")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = mean_dice(
            Path(folder),
            given.family,
            given.minutes,
            given.overrides,
            kinds=given.kinds.split(","),
            trained=given.labeled,
            tested=given.tested,
            seed=given.seed,
        )
    for kind, dice in found.items():
        print(f"{given.family}, seed {given.seed}: {kind} {100 * dice:.1f} %")


if __name__ == "__main__":
    main()
