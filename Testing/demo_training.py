"""The training half of the demo, in a process of its own: `demo_training.py FOLDER`.

Makes phantom cases, trains a small start model for a few dozen supervised iterations, and
fine-tunes it with UG-MCL on 3 labelled and 5 unlabelled cases. FOLDER then holds `cases/`,
`start/model` and `tuned/model`; the last case of `cases/` takes no part in either training.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ugmcl_core import phantoms, protocols
from ugmcl_core.cases import Cohort, find_cohort
from ugmcl_core.methods import METHODS
from ugmcl_core.model import ClassInfo, Model, Terminology
from ugmcl_core.profiles import COMPACT, Profile, with_patch
from ugmcl_core.training import Description, TrainingSettings, train

LABELLED, UNLABELLED, SEED = 3, 5, 40
START, TUNE = 32, 150
PASSES = 2


def main(folder: Path) -> None:
    """Make the cases and both models."""
    names = phantoms.write_cohort(folder / "cases", LABELLED + UNLABELLED + 1, SEED)
    images, labels = folder / "cases" / "images", folder / "cases" / "labels"
    cohort = find_cohort(images, labels, names[:LABELLED], exclude=names[-1:])
    print(f"{LABELLED} labelled, {UNLABELLED} unlabelled and 1 held-out phantom", flush=True)
    atrium = ClassInfo(1, "left atrium", (0.86, 0.36, 0.31),
                       Terminology("SCT", "82471001", "Left atrium"))
    about = Description("demo-start", "Trained by the demo on phantoms.", "phantom", (atrium,))
    start = taught(cohort, "supervised", small(START), folder / "start", about, None)
    about = replace(about, name="demo-tuned")
    taught(cohort, "ugmcl", small(TUNE), folder / "tuned", about, start)


def small(iterations: int) -> Profile:
    """A protocol whose iterations take a fraction of a second on two cores."""
    profile = with_patch(protocols.with_iterations(COMPACT, iterations), (64, 48, 32))
    batch = replace(profile.batch, augmentation=replace(profile.batch.augmentation, affine=0.4))
    return replace(profile, network=replace(profile.network, filters=8), batch=batch, warmup=0)


def taught(cohort: Cohort, method: str, profile: Profile, output: Path, about: Description,
           base: Model | None) -> Model:
    """Train and say how long it took."""
    kind = METHODS[method]
    settings = kind(passes=PASSES) if method == "ugmcl" else kind()
    began = time.monotonic()
    print(f"{about.name}: {profile.iterations} iterations of {method} ...", flush=True)
    model = train(cohort, settings, profile, output, TrainingSettings(seed=1, device="cpu"),
                  description=about, base=base)
    print(f"{about.name}: {time.monotonic() - began:.0f} s", flush=True)
    return model


if __name__ == "__main__":
    main(Path(sys.argv[1]))
