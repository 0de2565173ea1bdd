"""Volumes that a model labels as wholes: what it gives them, and how trainings go on with them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from training_samples import CPU, SMALL, write_phantoms

from ugmcl_core.data import batches
from ugmcl_core.data.cases import Case, Cohort, find_cohort, prepare_cases
from ugmcl_core.data.volume import read, write
from ugmcl_core.errors import Canceled
from ugmcl_core.inference.sliding_window import Prediction, predict_mirrored
from ugmcl_core.methods import DualTask, Method, UGMCLVolumes
from ugmcl_core.models.model import Model
from ugmcl_core.nn.network import DualTaskVNet
from ugmcl_core.training import pseudo_labels, trainer
from ugmcl_core.training.memory import attempts_for
from ugmcl_core.training.planning import pace
from ugmcl_core.training.profiles import with_classes
from ugmcl_core.training.pseudo_labels import (
    PseudoLabel,
    affordable,
    believed,
    label_volume,
    labeled_case,
    renewal_steps,
)
from ugmcl_core.training.task import TrainingTask
from ugmcl_core.training.train import train
from ugmcl_core.training.trainer import Trainer

# of 12 iterations: before the 6th and the 9th
METHOD = UGMCLVolumes(start=0.5, renewals=2, epochs=0)


@pytest.fixture(autouse=True)
def short_courses(monkeypatch):
    """Trainings of 12 iterations may label twice, and are believed."""
    monkeypatch.setattr(pseudo_labels, "LEAST", 0.0)
    everywhere = partial(renewal_steps, least=3)
    monkeypatch.setattr(trainer, "renewal_steps", everywhere)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    root, _ = write_phantoms(tmp_path_factory.mktemp("cases"), 2)
    return find_cohort(root / "images", root / "labels", labeled=["p0", "p1"], holdout=["p5"])


@pytest.fixture(scope="module")
def case(cohort, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return prepare_cases(cohort.unlabeled[:1], SMALL.representation, cache=cache)[0]


def network() -> DualTaskVNet:
    """An untrained network that finds the structure in about half of the voxels."""
    torch.manual_seed(0)
    net = DualTaskVNet(SMALL.network).eval()
    with torch.no_grad():
        logits = net(torch.randn(1, 1, *SMALL.batch.patch)).logits
        net.segmentation_head.bias[1] += (logits[:, 0] - logits[:, 1]).median()
    return net


def test_a_volume_is_labeled_by_the_mean_of_its_views(case):
    net, patch = network(), SMALL.batch.patch
    label = label_volume(net, case, patch, (0, 1), [True])
    image = torch.from_numpy(np.asarray(case.image, np.float32))
    found = predict_mirrored(net, image, patch, (0, 1))
    p, distance = found.foreground[0].numpy(), found.distance[0].numpy()
    pieces, count = ndimage.label(p > 0.5)
    sizes = ndimage.sum_labels(p > 0.5, pieces, range(1, count + 1))
    largest = pieces == 1 + int(np.argmax(sizes))
    assert count > 1, "else the test says nothing of the largest piece"
    assert np.array_equal(label.classes == 1, largest)
    assert np.array_equal(label.valid, largest == (distance < 0))
    assert 0 < label.valid.mean() < 1
    assert label.belief == pytest.approx(
        2 * p[largest].sum() / (largest.sum() + p.sum()), rel=1e-4
    )
    target = labeled_case(case, label, SMALL.representation).fractions[0]
    kept = largest | (p <= 0.5)
    assert np.abs(target - p)[kept].max() < 1 / 255 + 1e-3, "the probability itself"
    assert (target[~kept] == 0).all() and ((target[kept] > 0) & (target[kept] < 1)).any()
    every = label_volume(net, case, patch, (0, 1), [False])
    assert np.array_equal(every.classes == 1, p > 0.5)


def test_of_several_finds_the_surest_is_the_label(case, monkeypatch):
    p = torch.zeros(1, *case.image.shape[1:])
    p[0, 2:6, 2:6, 2:6], p[0, 8:14, 8:14, 2:8] = 0.97, 0.6  # the larger one is doubtful
    found = Prediction(p, 0.5 - p)
    monkeypatch.setattr(pseudo_labels, "predict_mirrored", lambda *given, **options: found)
    label = label_volume(network(), case, SMALL.batch.patch, (0,), [True])
    assert np.array_equal(label.classes == 1, p[0].numpy() > 0.9)
    several = label_volume(network(), case, SMALL.batch.patch, (0,), [False])
    assert np.array_equal(several.classes == 1, p[0].numpy() > 0.5)


def test_a_large_volume_is_labeled_as_its_part_is(case, monkeypatch):
    net, patch = network(), SMALL.batch.patch
    where = tuple(slice(2, 2 + min(n - 3, 2 * p)) for n, p in zip(
        case.image.shape[1:], patch, strict=True))  # fmt: skip
    monkeypatch.setattr(pseudo_labels, "is_large", lambda shape, patch: True)
    monkeypatch.setattr(pseudo_labels, "surroundings", lambda *arguments: where)
    label = label_volume(net, case, patch, (0,), [True])
    part = replace(case, image=np.ascontiguousarray(case.image[(slice(None), *where)]))
    monkeypatch.setattr(pseudo_labels, "is_large", lambda shape, patch: False)
    alone = label_volume(net, part, patch, (0,), [True])
    whole, inner = (labeled_case(c, found, SMALL.representation).fractions[0]
                    for c, found in ((case, label), (part, alone)))  # fmt: skip
    assert np.array_equal(whole[where], inner) and inner.any()
    whole[where] = 0
    assert not whole.any()


def test_a_stop_ends_the_labeling(case):
    with pytest.raises(Canceled):
        label_volume(network(), case, SMALL.batch.patch, (), [True], lambda: True)


def test_the_most_believed_volumes_are_taken_and_empty_ones_never():
    some, none = np.ones((2, 2, 2), np.uint8), np.zeros((2, 2, 2), np.uint8)
    sure = np.ones((2, 2, 2), bool)
    labels = [PseudoLabel(some, sure, 0.9), PseudoLabel(none, sure, 1.0),
              PseudoLabel(some, sure, 0.5), PseudoLabel(some, sure, 0.7)]  # fmt: skip
    assert believed(labels, 1.0) == [0, 2, 3]
    assert believed(labels, 0.67) == [0, 3]
    assert believed(labels, 0.0) == [0]
    assert believed([labels[1]], 1.0) == []


def test_a_labeled_case_has_the_targets_of_its_classes(case):
    classes = np.zeros(case.image.shape[1:], np.uint8)
    classes[5:12, 6:14, 3:8] = 1
    valid = np.ones(classes.shape, bool)
    valid[:4] = False
    made = labeled_case(case, PseudoLabel(classes, valid, 1.0), SMALL.representation)
    assert np.array_equal(made.fractions[0], classes) and np.array_equal(made.valid[0], valid)
    outside = ndimage.distance_transform_edt(classes == 0, case.spacing)
    inside = ndimage.distance_transform_edt(classes == 1, case.spacing)
    far = 4 * SMALL.representation.scale
    gap = made.distance[0] - np.clip(outside - inside, -far, far)
    assert np.abs(gap).max() < max(case.spacing)  # centers of voxels against their border
    assert ((made.distance[0] < 0) == (classes == 1)).all()
    (voxels,) = made.foreground_voxels
    assert (classes[tuple(voxels.T)] == 1).all()


def test_what_a_hardly_trained_model_gives_is_not_learned_from(cohort, tmp_path, monkeypatch):
    masks = np.ones((2, 2, 2), np.uint8)
    labels = [PseudoLabel(masks, masks > 0, belief) for belief in (0.3, 0.6, 0.49)]
    monkeypatch.setattr(pseudo_labels, "LEAST", 0.5)
    assert believed(labels, 1.0) == [1]
    monkeypatch.setattr(pseudo_labels, "LEAST", 1.1)
    train(cohort, METHOD, SMALL, tmp_path / "run", CPU)
    count = len(cohort.unlabeled)
    events = [(e["volumes"], e["left_out"]) for e in logged(tmp_path / "run", "labeled")]
    assert events == [(0, count)] * 2, "the labeled cases go on alone"


def test_no_sample_is_drawn_twice_where_volumes_are_believed_late(cohort, tmp_path, monkeypatch):
    drawn, beliefs = [], iter([[], [], [0, 2], [0, 2]])
    real = batches.pick

    def pick(key, cases, start, count):
        drawn.extend((key[2], n) for n in range(start, start + count))
        return real(key, cases, start, count)

    monkeypatch.setattr(batches, "pick", pick)
    monkeypatch.setattr(pseudo_labels, "believed", lambda labels, admitted: next(beliefs))
    train(cohort, METHOD, SMALL, tmp_path / "run", CPU)
    assert [e["volumes"] for e in logged(tmp_path / "run", "labeled")] == [0, 2]
    assert len(drawn) == 12 * 4 and len(set(drawn)) == len(drawn)


def test_labels_survive_the_disk_and_half_a_file_is_none(tmp_path):
    rng = np.random.default_rng(0)
    labels = [PseudoLabel(rng.integers(0, 3, (5, 4, 3)).astype(np.uint8),
                          rng.random((5, 4, 3)) > 0.5, float(rng.random()),
                          np.sort(rng.permutation(120)[:9]), rng.integers(0, 255, 9, np.uint8))
              for _ in range(3)]  # fmt: skip
    path, shapes = tmp_path / "new" / "labels.npz", [(5, 4, 3)] * 3
    pseudo_labels.save(path, labels)
    for before, after in zip(labels, pseudo_labels.load(path, shapes), strict=True):
        assert np.array_equal(before.classes, after.classes) and before.belief == after.belief
        assert np.array_equal(before.valid, after.valid)
        assert np.array_equal(before.doubtful, after.doubtful)
        assert np.array_equal(before.probabilities, after.probabilities)
    assert pseudo_labels.load(path, [(5, 4, 3)] * 4) is None
    assert pseudo_labels.load(path, [(5, 4, 3), (5, 4, 3), (5, 3, 4)]) is None
    whole = path.read_bytes()
    for content in (whole[:-40], b"", whole[:300] + bytes(300) + whole[600:]):
        path.write_bytes(content)
        assert pseudo_labels.load(path, shapes) is None
    assert pseudo_labels.load(tmp_path / "none.npz", shapes) is None


def test_renewals_are_spread_over_what_follows_the_start():
    assert renewal_steps(1000, 500, 5) == [500, 600, 700, 800, 900]
    assert renewal_steps(700, 300, 5) == [300, 400, 500, 600], "100 iterations apart"
    assert renewal_steps(200, 0, 5, least=50) == [0, 50, 100, 150]
    assert renewal_steps(10, 8, 5) == [8], "once at least"
    assert renewal_steps(10, 10, 5) == [] and renewal_steps(1000, 0, 0) == []


def logged(folder: Path, kind: str) -> list[dict]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for line in lines if (event := json.loads(line))["event"] == kind]


def test_volumes_are_labeled_at_each_renewal_and_trained_on(cohort, tmp_path, monkeypatch):
    made = []
    real = trainer.batches

    def seen(source, steps):
        for batch in real(source, steps):
            made.append((len(source.unlabeled), len(batch.labels), len(batch.image)))
            yield batch

    monkeypatch.setattr(trainer, "batches", seen)
    train(cohort, METHOD, SMALL, tmp_path / "run", CPU)
    assert [e["step"] for e in logged(tmp_path / "run", "labeled")] == [6, 9]
    assert [b[0] for b in made] == [0] * 6 + [len(cohort.unlabeled)] * 6
    assert {b[1:] for b in made} == {(4, 4)}, "all samples have labels"
    assert not (tmp_path / "run" / "cache").exists()


@pytest.mark.parametrize("room", [1 << 40, 300_000])
def test_all_of_a_pseudo_labeled_case_lies_in_one_place(cohort, tmp_path, monkeypatch, room):
    sources = []
    real = trainer.batches

    def seen(source, steps):
        sources.append(source)
        return real(source, steps)

    monkeypatch.setattr(trainer, "batches", seen)
    whole = train(cohort, METHOD, SMALL, tmp_path / "whole", CPU)
    monkeypatch.setattr(trainer.devices, "room_for_cases", lambda device: room)  # as on a GPU
    placed = train(cohort, METHOD, SMALL, tmp_path / "placed", CPU)
    assert placed.card.sha256 == whole.card.sha256
    kinds = [
        {type(a) for a in (c.image, c.fractions, c.distance, c.valid)}
        for source in sources[-2:] for c in source.unlabeled
    ]  # fmt: skip
    assert kinds and all(len(kind) == 1 for kind in kinds)
    assert {torch.Tensor} in kinds


def stopped(steps: int, cohort: Cohort, method: Method, output: Path) -> Model:
    """The model of a training that was stopped after so many steps."""
    done = [0]
    real = Trainer.step

    def step(self, *arguments):
        done[0] += 1
        return real(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        return train(cohort, method, SMALL, output, CPU, should_stop=lambda: done[0] >= steps)


@pytest.mark.parametrize(
    "stop", [6, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 8, 11))]
)
def test_a_resumed_training_gives_the_same_numbers(cohort, tmp_path, stop):
    whole = train(cohort, METHOD, SMALL, tmp_path / "whole", CPU)
    half = stopped(stop, cohort, METHOD, tmp_path / "parts")
    assert half.card.training["iterations"] == stop
    parts = train(cohort, METHOD, SMALL, tmp_path / "parts", CPU, resume=True)
    assert parts.card.sha256 == whole.card.sha256


def test_labels_of_a_training_that_is_gone_are_not_learned_from(cohort, tmp_path):
    run = tmp_path / "run"
    stopped(7, cohort, METHOD, run)
    assert list((run / "cache").glob("pseudo-labels-6.npz"))
    (run / "checkpoint.safetensors").unlink()  # as a message says where it cannot be read
    shutil.rmtree(run / "model")
    settings = replace(CPU, seed=4)
    again = train(cohort, METHOD, SMALL, run, settings, resume=True)
    whole = train(cohort, METHOD, SMALL, tmp_path / "whole", settings)
    assert again.card.sha256 == whole.card.sha256


def test_without_unlabeled_volumes_it_is_dual_task_supervision(cohort, tmp_path):
    alone = replace(cohort, unlabeled=())
    a = train(alone, METHOD, SMALL, tmp_path / "a", CPU)
    b = train(alone, DualTask(), SMALL, tmp_path / "b", CPU)
    assert a.card.sha256 == b.card.sha256


def test_without_unlabeled_patches_none_is_labeled(cohort, tmp_path):
    profile = replace(SMALL, batch=replace(SMALL.batch, labeled=4, unlabeled=0))
    a = train(cohort, METHOD, profile, tmp_path / "a", CPU)
    b = train(cohort, DualTask(), profile, tmp_path / "b", CPU)
    assert a.card.sha256 == b.card.sha256 and a.card.training["unlabeled"] == 0
    assert not logged(tmp_path / "a", "labeled")


def test_a_base_begins_with_its_labels_at_once(cohort, tmp_path):
    base = train(cohort, DualTask(), SMALL, tmp_path / "base", CPU)
    train(cohort, METHOD, replace(SMALL, iterations=6), tmp_path / "run", CPU, base=base)
    assert [e["step"] for e in logged(tmp_path / "run", "labeled")] == [0, 3]


def test_a_base_learns_its_new_classes_before_it_labels(cohort, tmp_path):
    base = train(cohort, DualTask(), SMALL, tmp_path / "base", CPU)
    more = TrainingTask(cohort, METHOD, with_classes(SMALL, 3), tmp_path / "run", CPU, base)
    assert more.profile.warmup == 6
    same = TrainingTask(cohort, METHOD, SMALL, tmp_path / "run", CPU, base)
    assert same.profile.warmup == 0


def test_the_time_of_a_base_with_new_classes_is_that_of_a_training_from_scratch(cohort, tmp_path):
    base = train(cohort, METHOD, SMALL, tmp_path / "base", CPU)
    for profile, expected in ((SMALL, True), (with_classes(SMALL, 3), False)):
        course = pace.Course(cohort, METHOD, base)
        cost = pace.measure(course, attempts_for(profile, "cpu")[0], 1)
        assert cost.has_learned == expected
    anew = pace.measure(pace.Course(cohort, METHOD), attempts_for(SMALL, "cpu")[0], 1)
    assert not anew.has_learned


def test_before_volumes_join_it_is_dual_task_supervision(cohort, tmp_path):
    """The schedule of the learning rate too: one that starts anew when they join costs as much as
    they bring."""
    one, other = (stopped(6, cohort, m, tmp_path / m.name) for m in (METHOD, DualTask()))
    assert one.card.training["iterations"] == other.card.training["iterations"] == 6
    assert one.card.sha256 == other.card.sha256


def test_pseudo_labels_beyond_the_memory_are_mapped_from_the_disk(cohort, tmp_path):
    few = replace(CPU, memory=1)
    mapped = train(cohort, METHOD, SMALL, tmp_path / "mapped", few)
    whole = train(cohort, METHOD, SMALL, tmp_path / "whole", CPU)
    assert mapped.card.sha256 == whole.card.sha256


def test_at_most_so_many_volumes_are_labeled(cohort, tmp_path):
    train(cohort, replace(METHOD, volumes=2), SMALL, tmp_path / "run", CPU)
    assert [e["volumes"] for e in logged(tmp_path / "run", "labeled")] == [2, 2]


def test_labeling_takes_a_fifth_of_the_work_of_a_training():
    profile = replace(SMALL, iterations=1000, batch=replace(SMALL.batch, patch=(80, 64, 10)))
    each = profile.batch.labeled + profile.batch.unlabeled
    views = 2 ** len(profile.batch.augmentation.mirror_axes)
    stack = (96, 96, 10)
    # a step costs three times as much as a prediction
    wanted = 0.2 * 3 * 1000 * each * 80 * 64 * 10 / (5 * views * 96 * 96 * 10)
    assert affordable(profile, 5, [stack] * 3) == int(wanted)
    # a large volume is looked at once, and then its part in all views
    field = (512, 512, 300)
    wanted = 0.2 * 3 * 1000 * each * 80 * 64 * 10 / (5 * 512 * 512 * 300)
    assert affordable(replace(profile, iterations=20_000), 5, [field]) == int(20 * wanted)
    assert affordable(profile, 5, [field]) == 4


def test_doubtful_volumes_are_left_out_if_wanted(cohort, tmp_path):
    method = replace(METHOD, admitted=0.4)
    train(cohort, method, SMALL, tmp_path / "run", CPU)
    count = len(cohort.unlabeled)
    kept = [(e["volumes"], e["left_out"]) for e in logged(tmp_path / "run", "labeled")]
    assert kept == [(round(0.4 * count), count - round(0.4 * count))] * 2


def test_the_time_of_a_larger_unlabeled_volume_is_that_of_its_size(cohort, tmp_path):
    image = read(cohort.unlabeled[0].image)
    grid = replace(image.grid, shape=tuple(2 * n for n in image.grid.shape))
    array = np.tile(image.array, (2, 2, 2))
    write(tmp_path / "large.nrrd", replace(image, array=array, grid=grid))
    large = replace(cohort, unlabeled=(Case("large", tmp_path / "large.nrrd"),))
    attempt = attempts_for(SMALL, "cpu")[0]
    same, more = (pace.measure(pace.Course(c, METHOD), attempt, 1).larger for c in (cohort, large))
    assert same == 1.0 and more >= 8.0


def test_the_time_of_unlabeled_volumes_counts(cohort):
    cost = pace.Cost(0.1, 0.1, 0.5, 0.2, 0, views=4)
    many = replace(cohort, unlabeled=cohort.unlabeled * 50)
    method = UGMCLVolumes(epochs=0)
    for each, volumes in ((cohort, len(cohort.unlabeled)), (many, 64)):
        seconds = pace.unlabeled_seconds(pace.Course(each, method), cost, 10_000)
        preparing = 0.1 * len(each.unlabeled)
        assert seconds == pytest.approx(preparing + 5 * volumes * 4 * 0.2)
    # a fifth of a short training, in addition to it
    course, preparing = pace.Course(many, method), 0.1 * len(many.unlabeled)
    assert pace.unlabeled_seconds(course, cost, 1000) == pytest.approx(preparing + 100.0)
    # four volumes once, since 100 iterations lie between two labelings
    assert pace.unlabeled_seconds(course, cost, 10) == pytest.approx(preparing + 4 * 0.8)
    larger = replace(cost, larger=8.0)
    assert pace.unlabeled_seconds(course, larger, 10) == pytest.approx(preparing + 4 * 6.4)
    assert pace.unlabeled_seconds(pace.Course(cohort, DualTask()), cost, 1000) == 0.0
    # two labeled volumes give four patches an iteration
    late = pace.Course(many, UGMCLVolumes(start=0.0, epochs=800))
    assert pace.unlabeled_seconds(late, cost, 400) == 0.0
    assert pace.unlabeled_seconds(late, cost, 401) > preparing
    assert pace.unlabeled_seconds(late, replace(cost, has_learned=True), 10) > preparing
    costs = {"ugmcl-volumes": cost, "dual-task": cost}
    with_them, without = (
        pace.Pace(10, 0.0, [pace.Course(cohort, m)], costs).iterations
        for m in (method, DualTask())
    )
    assert with_them < without
