"""Trainings from scratch on generated cases unlike the atrium, by the plan and by a fixed grid."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import structure_samples
import torch
from samples import dice

from ugmcl_core.data import volume
from ugmcl_core.data.cases import find_cohort
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.methods import DualTask
from ugmcl_core.training.planning import pace
from ugmcl_core.training.planning.plan import plan_cohort
from ugmcl_core.training.profiles import COMPACT, with_classes, with_iterations
from ugmcl_core.training.train import TrainingSettings, describe, train

CPU = torch.device("cpu")
FILTERS = 8  # of both, to save time


def mean_dice(
    folder: Path,
    name: str,
    minutes: float,
    changes: Sequence[str] = (),
    *,
    kinds: Sequence[str] = ("plan", "compact"),
    trained: int = 5,
    tested: int = 2,
    seed: int = 1,
) -> dict[str, float]:
    """Mean Dice of the ``tested`` cases of a family, by the plan with ``changes`` and by `compact`
    from ``trained`` ones, each after so many ``minutes`` of one thread, whatever else the machine
    does."""
    root = structure_samples.write_family(folder, name, trained + tested)
    names = sorted(p.stem for p in (root / "images").iterdir())
    cohort = find_cohort(
        root / "images", root / "labels", names[:trained], exclude=names[trained:]
    )
    plan = plan_cohort(cohort, (), CPU, [f"filters={FILTERS}", *changes])
    fixed = with_classes(COMPACT, len(plan.classes) + 1)
    fixed = replace(fixed, network=replace(fixed.network, filters=FILTERS))
    found = {}
    for kind in kinds:
        profile = {"plan": plan.profile, "compact": fixed}[kind]
        course = pace.Course(cohort, DualTask())
        with patch.object(pace, "time", SimpleNamespace(monotonic=time.process_time)):
            iterations = pace.pace_of(profile, minutes, [course], "cpu", seed).iterations
        profile = with_iterations(profile, iterations)
        model = train(
            cohort,
            DualTask(),
            profile,
            folder / kind,
            TrainingSettings(seed, "cpu"),
            description=replace(describe(None, kind, profile), classes=plan.classes),
        )
        segmenter = Segmenter(model, "cpu")
        scores = []
        for case in names[trained:]:
            image = volume.read(root / "images" / f"{case}.nrrd")
            truth = volume.read_labels(root / "labels" / f"{case}.nrrd").array
            labels = segmenter.segment(image, SegmentSettings(passes=0)).labels.array
            scores += [dice(labels == c.value, truth == c.value) for c in plan.classes]
        found[kind] = float(np.mean(scores))
    return found
