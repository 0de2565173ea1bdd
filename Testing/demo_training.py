"""What the demo starts from, in a process of its own: `demo_training.py FOLDER`.

Makes phantom cases and trains a small start model on the first for a few dozen supervised
iterations: it finds the atrium in some and has much to learn. FOLDER then
holds `cases/` (labeled, unlabeled and hold-out ones, in this order) and `start/model`.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo_finetuning import HOLDOUT, LABELED, UNLABELED

from ugmcl_core.data import phantoms
from ugmcl_core.data.cases import find_cohort
from ugmcl_core.methods import Supervised
from ugmcl_core.models.card import ClassInfo, Terminology
from ugmcl_core.training import profiles
from ugmcl_core.training.profiles import COMPACT, Profile
from ugmcl_core.training.train import Description, TrainingSettings, train

SEED = 40
START = 64


def main(folder: Path) -> None:
    """Make the cases and the model."""
    names = phantoms.write_cohort(folder / "cases", LABELED + UNLABELED + HOLDOUT, SEED)
    images, labels = folder / "cases" / "images", folder / "cases" / "labels"
    cohort = find_cohort(images, labels, names[:1], exclude=names[-HOLDOUT:])
    atrium = ClassInfo(1, "left atrium", (0.86, 0.36, 0.31),
                       Terminology("SCT", "82471001", "Left atrium"))
    about = Description("demo-start", "Trained by the demo on phantoms.", "phantom", (atrium,))
    began = time.monotonic()
    train(cohort, Supervised(), small(START), folder / "start",
          TrainingSettings(seed=1, device="cpu"), description=about)
    print(f"start model: {time.monotonic() - began:.0f} s", flush=True)


def small(iterations: int) -> Profile:
    """A protocol whose iterations take a fraction of a second on two cores."""
    profile = profiles.with_iterations(COMPACT, iterations)
    augmentation = replace(profile.batch.augmentation, affine=0.4)
    batch = replace(profile.batch, patch=(64, 48, 32), augmentation=augmentation)
    network = replace(profile.network, filters=8, strides=((2, 2, 2),) * 3 + ((2, 1, 1),))
    return replace(profile, network=network, batch=batch, warmup=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
