"""From scratch by the plan on cases with two images, each of which shows half of the structure.
Minutes are those of one thread, whatever else the machine does."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import structure_samples
import torch
from computer_speed import minutes_here
from samples import dice

from ugmcl_core.data import volume
from ugmcl_core.data.cases import find_cohort
from ugmcl_core.data.pairing import Channels
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.methods import DualTask
from ugmcl_core.training.planning import pace
from ugmcl_core.training.planning.plan import plan_cohort
from ugmcl_core.training.profiles import with_iterations
from ugmcl_core.training.train import TrainingSettings, describe, train

TRAINED, TESTED = 5, 2
CPU = torch.device("cpu")
FILTERS = 8  # to save time
MINUTES = 0.8


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_channels_show_what_one_alone_misses(tmp_path, monkeypatch):
    minutes = minutes_here(MINUTES)
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=time.process_time))
    root = structure_samples.write_family(tmp_path, "halves", TRAINED + TESTED)
    names = sorted(p.stem for p in (root / "labels").iterdir())
    found = {}
    kinds = {"both": None, "_0000": Channels(("one",), ("_0000",))}
    for kind, channels in kinds.items():
        cohort = find_cohort(
            root / "images", root / "labels", names[:TRAINED], exclude=names[TRAINED:],
            channels=channels,
        )  # fmt: skip
        plan = plan_cohort(cohort, (), CPU, [f"filters={FILTERS}"])
        course = pace.Course(cohort, DualTask())
        iterations = pace.pace_of(plan.profile, minutes, [course], "cpu", 1).iterations
        profile = with_iterations(plan.profile, iterations)
        model = train(
            cohort,
            DualTask(),
            profile,
            tmp_path / kind,
            TrainingSettings(1, "cpu"),
            description=replace(describe(None, f"of{kind}", profile), classes=plan.classes),
        )
        assert len(model.card.channels) == model.card.network["channels"] == len(cohort.channels)
        segmenter, scores = Segmenter(model, "cpu"), []
        for case in names[TRAINED:]:
            paths = sorted((root / "images").glob(f"{case}{kind if channels else ''}*"))
            images = volume.read_images(paths, len(cohort.channels))
            truth = volume.read_labels(root / "labels" / f"{case}.nrrd").array
            labels = segmenter.segment(images, SegmentSettings(passes=0)).labels.array
            scores.append(dice(labels == 1, truth == 1))
        found[kind] = float(np.mean(scores))
    assert found["both"] > 0.8 and found["_0000"] < 0.7, found
