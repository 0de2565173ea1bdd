"""The goals of *From scratch* at full size: `make test-long`, about an hour of two cores."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pytest
import structure_samples
import torch
from computer_speed import slower
from samples import dice
from structure_training import mean_dice

from ugmcl_core.data import volume
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.models.model import open_model

GIB = 1 << 30
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3 * 3600)]


def ugmcl(*words) -> float:
    """How many seconds the program takes, on all cores."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    begin = time.monotonic()
    command = [sys.executable, "-m", "ugmcl_core", *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return time.monotonic() - begin


@pytest.fixture
def all_cores():
    """As the goals have it; the tests run with one thread each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    yield
    torch.set_num_threads(threads)


def test_thick_slices_in_25_minutes(tmp_path, record_property, all_cores):
    """7 labeled short-axis stacks and 133 unlabeled ones, judged on 40 others."""
    write = partial(structure_samples.write_family, tmp_path / "cases", "ventricles", 1)
    with ProcessPoolExecutor(2) as workers:
        list(workers.map(write, range(180)))
    images, labels = tmp_path / "cases" / "images", tmp_path / "cases" / "labels"
    names = sorted(p.stem for p in images.iterdir())
    for name in names[7:]:
        (labels / f"{name}.nrrd").rename(tmp_path / f"{name}-label.nrrd")
    for name in names[140:]:
        (images / f"{name}.nrrd").rename(tmp_path / f"{name}.nrrd")

    planning = ugmcl("plan", images, labels)
    assert planning < 20.0

    run = tmp_path / "run"
    given = ["--images", images, "--labels", labels, "--minutes", 25]
    training = ugmcl("train", *given, "--output", run)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert training < 30 * 60 and most < 6 * GIB

    segmenter = Segmenter(open_model(run / "model"), "cpu")
    scores, times = [], {0: [], 8: []}
    for name in names[140:]:
        image = volume.read(tmp_path / f"{name}.nrrd")
        truth = volume.read_labels(tmp_path / f"{name}-label.nrrd").array
        for passes, spent in times.items():
            begin = time.monotonic()
            found = segmenter.segment(image, SegmentSettings(passes)).labels.array
            spent.append(time.monotonic() - begin)
        scores.append([dice(found == c, truth == c) for c in (1, 2, 3)])
    warm = {passes: max(spent[1:]) for passes, spent in times.items()}
    times_slower = slower(torch.get_num_threads())
    mean = np.mean(scores, axis=0)
    figures = (
        f"thick slices: planned in {planning:.0f} s, trained in {training / 60:.0f} min with "
        f"{most / GIB:.1f} GiB; Dice {mean.round(3)}, mean {mean.mean():.3f}, worst stack "
        f"{np.mean(scores, axis=1).min():.3f}; a stack, T = 0 and 8, at most {warm[0]:.1f} and "
        f"{warm[8]:.1f} s, on a computer {times_slower:.1f} times slower than usual"
    )
    record_property("figures", figures)
    assert mean.mean() > 0.8, figures
    assert warm[0] < 2.0 * times_slower and warm[8] < 4.0 * times_slower, figures


def test_a_little_gland_in_a_large_volume(tmp_path, record_property):
    """512x512x300 voxels, three of them labeled, 6 minutes of one thread."""
    found = mean_dice(tmp_path, "abdomen", 6.0, trained=3, tested=3)
    record_property("figures", f"a little gland in a large volume: {found}")
    assert found["plan"] > 0.9 and found["compact"] < 0.3, found
