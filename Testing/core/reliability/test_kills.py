"""Campaigns of kills at random moments, and of many processes at one folder. The test run prints
their figures at its end."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import SHAPE, SPACING, small_case, tiny_model

from ugmcl_core.data import phantoms, volume
from ugmcl_core.data.cases import find_cohort
from ugmcl_core.errors import InputError
from ugmcl_core.files import sweep
from ugmcl_core.inference import result_files
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.methods import METHODS
from ugmcl_core.models import store
from ugmcl_core.models.model import find_models, open_model, save_model
from ugmcl_core.training import profiles
from ugmcl_core.training.train import TrainingSettings, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform == "win32", reason="signals"),
]
KILLS = 100
LABELS = "scan_labels.nrrd"


@pytest.fixture(scope="module")
def start():
    """Starts a function in a process of its own, which is forked from one that has imported all:
    starting Python and torch each time would take most of a campaign, and a fork of this process
    could not train any more."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with pytest.MonkeyPatch.context() as patch:  # the server itself gets no path
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        multiprocessing.forkserver.ensure_running()

    def start(work: Callable[..., None], *arguments: Any) -> multiprocessing.Process:
        process = context.Process(target=work, args=arguments)
        process.start()
        return process

    start.queue = context.SimpleQueue  # type: ignore[attr-defined]
    return start


def kill_after(process: multiprocessing.Process, seconds: float) -> bool:
    """Kill the process after some seconds; whether it still ran."""
    process.join(seconds)
    ran = process.is_alive()
    if ran:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return ran


def has_begun(place: Path) -> None:
    """Wait until a process has written its first file."""
    end = time.monotonic() + 60
    while not place.exists():
        assert time.monotonic() < end
        time.sleep(0.001)


def hidden(place: Path) -> list[Path]:
    return list(place.glob(".*"))


def swept(place: Path) -> bool:
    """Whether a sweep leaves nothing hidden; an empty folder, which may be another's that was
    made just now, stays a minute."""
    for path in hidden(place):
        if not any(path.iterdir()):
            os.utime(path, (0, 0))
    sweep(place)
    return hidden(place) == []


def save_on(place: Path, first: int, begun: Path) -> None:
    """Replace a model by two others in turn."""
    models = [open_model(place.parent / str(n)) for n in range(2)]
    weights = [model.load_weights() for model in models]
    begun.touch()
    for n in range(first, 10**6):
        save_model(place / "same", models[n % 2].card, weights[n % 2])


def test_a_model_that_is_replaced_is_the_former_or_the_new_one(start, tmp_path, record_property):
    rng, place, seen, leftovers = random.Random(1), tmp_path / "models", Counter(), 0
    weights = []
    for n in range(2):
        model = tiny_model(tmp_path / str(n), name="same", description=f"number {n}")
        state = {key: value + n for key, value in model.load_weights().items()}
        weights.append(save_model(model.folder, model.card, state).load_weights())
    save_model(place / "same", open_model(tmp_path / "0").card, weights[0])
    for number in range(KILLS):
        process = start(save_on, place, number, begun := tmp_path / f"begun-{number}")
        has_begun(begun)
        assert kill_after(process, rng.uniform(0.0, 0.08))
        leftovers += bool(hidden(place))
        found = open_model(place / "same")
        which = int(found.card.description[-1])
        for key, value in found.load_weights().items():  # which compares the SHA-256 too
            assert torch.equal(value, weights[which][key]), key
        seen[which] += 1
    assert swept(place) and min(seen[0], seen[1]) > KILLS // 10
    record_property(
        "figures",
        f"{KILLS} kills while a model was replaced: none absent or mixed, {leftovers} left "
        "something, which was swept",
    )


def segmented(folder: Path) -> tuple[Any, list[Any]]:
    """A model and two results of it."""
    model = tiny_model(folder)
    first = Segmenter(model, "cpu").segment(small_case()[0], SegmentSettings(2))

    def changed(content: Any) -> Any:
        return replace(content, array=content.array + 1)

    second = replace(
        first,
        labels=changed(first.labels),
        sdf=tuple(map(changed, first.sdf)),
        uncertainty=changed(first.uncertainty),
        surface_error=changed(first.surface_error),
    )
    return model, [first, second]


def write_on(place: Path, model: Any, results: list[Any], first: int, begun: Path) -> None:
    """Replace results by others in turn."""
    for n in range(first, 10**6):
        result_files.write(results[n % 2], model, place, "scan", compress=False)
        begun.touch()  # the first one also starts the process that reads


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return {p.name: volume.read(p).array for p in folder.glob("*.nrrd")}


def test_results_are_all_of_one_run(start, tmp_path, record_property):
    rng, place, seen, leftovers = random.Random(2), tmp_path / "out", Counter(), 0
    model, results = segmented(tmp_path / "model")
    whole = []
    for n, result in enumerate(results):
        folder = result_files.make_folder(tmp_path / str(n))
        result_files.write(result, model, folder, "scan")
        whole.append(arrays(folder))
    assert all((whole[0][name] != whole[1][name]).any() for name in whole[0])
    result_files.make_folder(place)
    result_files.write(results[0], model, place, "scan")
    for number in range(KILLS):
        begun = tmp_path / f"begun-{number}"
        process = start(write_on, place, model, results, number, begun)
        has_begun(begun)
        assert kill_after(process, rng.uniform(0.0, 0.08))
        leftovers += bool(hidden(place))
        assert swept(place)  # as the next run does
        found = arrays(place)
        which = int(not np.array_equal(found[LABELS], whole[0][LABELS]))
        assert set(found) == set(whole[which])
        for name, array in found.items():
            assert np.array_equal(array, whole[which][name]), f"{name} is of another run"
        seen[which] += 1
    assert min(seen[0], seen[1]) > KILLS // 10
    record_property(
        "figures",
        f"{KILLS} kills while results were replaced: none absent or mixed, {leftovers} left "
        "something, which was swept",
    )


def train_in(folder: Path, output: Path, resume: bool, told: Any = None, total: int = 12) -> None:
    """A short training on the phantoms in a folder."""
    cohort = find_cohort(folder / "images", folder / "labels", exclude=["phantom-002"])
    base = open_model(folder / "tiny")
    settings = TrainingSettings(device="cpu", checkpoint_every=2)
    profile = profiles.fine_tuning(base, profiles.COMPACT, total)
    try:
        train(cohort, METHODS["ugmcl"](), profile, output, settings, base=base, resume=resume)
    except InputError as error:
        if told is None:
            raise
        told.put(str(error))
    else:
        if told is not None:
            told.put("trained")


def small_cases(folder: Path) -> Path:
    phantoms.write_cohort(folder, 3, shape=SHAPE, spacing=SPACING)
    tiny_model(folder / "tiny")
    return folder


def test_a_training_killed_again_and_again_ends_as_one_that_was_not(
    start, tmp_path, record_property
):
    rng, folder = random.Random(3), small_cases(tmp_path)
    start(train_in, folder, tmp_path / "whole", False).join()
    expected = open_model(tmp_path / "whole" / "model").load_weights()
    output, kills = tmp_path / "killed", 0
    while not (output / "model" / "model.json").exists():
        process = start(train_in, folder, output, True)
        kills += kill_after(process, rng.uniform(0.2, 1.0 + kills / 2))
        assert kills < 100
    found = open_model(output / "model").load_weights()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert kills > 1
    record_property("figures", f"a training killed {kills} times: the same weights, bit by bit")


def change_models(source: Path, place: Path, seed: int, told: Any) -> None:
    """Import, rename, remove and read models in a folder that others use too."""
    os.environ["UGMCL_MODELS"] = str(place)
    rng, count, end = random.Random(seed), Counter(), time.monotonic() + 10
    while time.monotonic() < end:
        name, other = (f"m{rng.randrange(3)}" for _ in range(2))
        action = rng.choice(["add", "rename", "remove", "read"])
        try:
            if action == "add":
                store.add(str(source), place, name=name)
            elif action == "rename":
                store.rename(store.to_change(name), other)
            elif action == "remove":
                store.remove(store.to_remove(name))
            else:
                for model in find_models():
                    model.load_weights()
            count["done"] += 1
        except InputError:
            count["refused"] += 1
        except Exception as error:
            count[f"{action}: {error!r}"] += 1
    told.put(dict(count))


def test_many_processes_at_one_folder(start, tmp_path, record_property):
    folder, told = small_cases(tmp_path), start.queue()
    trainings = [
        start(train_in, folder, tmp_path / "one", False, told, 4) for _ in range(4)
    ]
    ends = [told.get() for _ in trainings]
    for process in trainings:
        process.join()
    assert ends.count("trained") == 1, ends
    reasons = "another training", "contains a training"
    assert all(e == "trained" or any(reason in e for reason in reasons) for e in ends), ends
    open_model(tmp_path / "one" / "model").load_weights()

    place = tmp_path / "models"
    place.mkdir()
    workers = [start(change_models, folder / "tiny", place, n, told) for n in range(4)]
    total = sum((Counter(told.get()) for _ in workers), Counter())
    for process in workers:
        process.join()
    assert set(total) == {"done", "refused"}, total
    for path in place.iterdir():
        open_model(path).load_weights()
    record_property(
        "figures",
        f"4 trainings into one folder: 1 trained, 3 refused; 4 processes at one folder of models: "
        f"{total['done']} changes and looks, {total['refused']} refused, nothing damaged",
    )
