"""A training for test_parallel.py, as one process or as one of several: FOLDER METHOD OUTPUT, and
perhaps the spacing in mm of a coarse start.

Batch-norm statistics are frozen, and dropout and the teacher's noise are off, since both make
one process differ from several by nature.
"""

import sys
from dataclasses import replace
from pathlib import Path

from torch import nn
from training_samples import CPU, TINY

from ugmcl_core.data.cases import find_cohort
from ugmcl_core.methods import METHODS
from ugmcl_core.nn import teacher
from ugmcl_core.nn.schedules import LearningRate
from ugmcl_core.training.profiles import CoarseStart, Optimization
from ugmcl_core.training.train import train


def main(folder, name, output, spacing=None):
    nn.BatchNorm3d.train = lambda self, mode=True: nn.Module.train(self, False)
    teacher.noisy = lambda image: image
    method = METHODS[name]()
    if name == "ugmcl":
        method = replace(method, passes=1, sharpness=4.0, threshold_start=0.97, weight=1.0)
    if name == "ua-mt":
        method = replace(method, passes=1, weight=1.0)
    profile = replace(
        TINY,
        network=replace(TINY.network, dropout=0.0),
        optimization=Optimization("sgd", LearningRate(0.05, "constant"), clip=1.0),
        iterations=6,
        warmup=2,
        coarse=spacing and CoarseStart((float(spacing),) * 3, TINY.batch.patch, 0.5),
    )
    cases = find_cohort(folder / "images", folder / "labels", ["phantom-005", "phantom-006"])
    train(cases, method, profile, output, CPU)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
