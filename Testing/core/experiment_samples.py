"""A data set of phantoms and a profile of seconds, for the tests of experiments."""

from __future__ import annotations

from pathlib import Path

from ugmcl_core.data import phantoms
from ugmcl_core.data.batches import BatchSettings
from ugmcl_core.data.cases import Representation
from ugmcl_core.data.preprocessing import Normalization
from ugmcl_core.nn.network import NetworkSettings
from ugmcl_core.nn.schedules import LearningRate
from ugmcl_core.training.profiles import Optimization, Profile

PATCH = (16, 16, 8)
TINY = Profile(
    "tiny",
    "for tests",
    Representation((6.0, 6.0, 6.0), Normalization("z-score")),
    NetworkSettings(filters=2, strides=((2, 2, 2), (2, 2, 1), (1, 1, 1), (1, 1, 1)), dropout=0.1),
    BatchSettings(PATCH, 2, 2, 0.5),
    Optimization("adamw", LearningRate(1e-2)),
    iterations=4,
)


def write_la(folder: Path, labeled: int = 2, unlabeled: int = 3, held: int = 2) -> list[str]:
    """images/, labels/ and the lists of the layout la: ``labeled``, ``unlabeled`` (with labels
    on disk), ``held`` development and as many report cases; returns the names in this order."""
    names = phantoms.write_cohort(
        folder, labeled + unlabeled + 2 * held, 0, (18, 16, 10), (6.0, 6.0, 6.0)
    )
    ends = [labeled, labeled + unlabeled, labeled + unlabeled + held, len(names)]
    starts = [0, labeled, *ends[1:]]
    parts = dict(
        zip(
            ("labeled", "unlabeled", "dev", "report"),
            (names[a:b] for a, b in zip(starts, ends, strict=False)),
            strict=True,
        )
    )
    parts["unlabeled"] += parts["dev"] + parts["report"]  # as the list of the paper's 64 does
    for part, members in parts.items():
        path = folder / f"{part}-{len(members)}.txt"
        path.write_text("\n".join(members) + "\n", encoding="utf-8")
    return names
