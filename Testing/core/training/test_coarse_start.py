"""The first part of a training on a coarser grid: what it gives, and how it ends and goes on."""

from dataclasses import replace

import pytest
import torch
from training_samples import CPU, write_phantoms

from ugmcl_core.data.cases import find_cohort
from ugmcl_core.data.volume import read
from ugmcl_core.errors import InputError
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.methods import DualTask, UGMCLVolumes
from ugmcl_core.models.model import open_model
from ugmcl_core.training.memory import attempts_for
from ugmcl_core.training.planning import pace
from ugmcl_core.training.profiles import CoarseStart, stages, with_iterations
from ugmcl_core.training.train import train

START = CoarseStart((4.0, 4.0, 4.0), (16, 16, 12), 2 / 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, profile = write_phantoms(tmp_path_factory.mktemp("phantoms"), 2)
    return root, replace(profile, coarse=START)


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    root, profile = folder
    events = []
    output = tmp_path_factory.mktemp("whole") / "run"
    settings = replace(CPU, evaluate_every=3)
    model = train(cohort_of(root), DualTask(), profile, output, settings, on_event=events.append)
    return model, events


def cohort_of(root):
    return find_cohort(root / "images", root / "labels", ["p0", "p1"], holdout=["p5"])


def equal(a, b):
    b = b.load_weights()
    return all(torch.equal(value, b[key]) for key, value in a.load_weights().items())


def test_the_stages_share_the_course(folder):
    _, profile = folder
    coarse, fine = stages(profile)
    assert (coarse.iterations, fine.iterations) == (8, 4)
    assert (coarse.warmup, fine.warmup) == (4, 0), "the first third of all is supervised"
    assert coarse.representation.spacing == START.spacing and coarse.batch.patch == START.patch
    assert fine.representation == profile.representation and fine.batch == profile.batch
    assert coarse.network == fine.network == profile.network
    rate = replace(profile.optimization.rate, length=100)
    longer = replace(profile, optimization=replace(profile.optimization, rate=rate))
    assert [p.optimization.rate.length for p in stages(longer)] == [100, 0]
    coarse, fine = stages(with_iterations(replace(profile, warmup=10), 24))
    assert (coarse.iterations, coarse.warmup) == (16, 16) and fine.warmup == 4
    assert stages(with_iterations(profile, 1)) == (
        replace(with_iterations(profile, 1), coarse=None),
    )


def test_it_is_two_trainings_one_after_the_other(folder, whole, tmp_path):
    root, profile = folder
    first, second = stages(profile)
    coarse = train(cohort_of(root), DualTask(), first, tmp_path / "first", CPU)
    fine = train(cohort_of(root), DualTask(), second, tmp_path / "second", CPU, base=coarse)
    model, _ = whole
    assert equal(model, fine)
    training = model.card.training
    assert (training["iterations"], training["base"]) == (12, None)
    assert model.card.spacing == profile.representation.spacing
    assert model.card.patch == profile.batch.patch
    alone = train(cohort_of(root), DualTask(), second, tmp_path / "alone", CPU)
    assert not equal(model, alone)


def test_its_events_are_those_of_one_training(whole):
    _, events = whole
    steps = [e["step"] for e in events if "step" in e]
    assert steps == sorted(steps) and steps[-1] == 12
    assert {e["total"] for e in events if "total" in e} == {12}
    done = [range(e["since"], e["step"]) for e in events if e["event"] == "progress"]
    assert [n for each in done for n in each] == list(range(12)), "each iteration is timed once"
    assert [e["step"] for e in events if e.get("dice")] == [3, 6, 8, 11, 12]
    assert [e["event"] for e in events].count("done") == 1
    done = [e["done"] for e in events if e["event"] == "preparing"]
    assert sorted(done) == done and set(done) == {0.0, 2 / 3}, "a progress bar never goes back"
    texts = [e["text"] for e in events if e["event"] == "notice"]
    assert "to iteration 8 on a grid of 4,4,4 mm" in texts
    assert "to iteration 12 on a grid of 2,2,4 mm" in texts
    # 4 iterations of 24 x 24 x 12 voxels are left after the last of 16 x 16 x 12
    last = next(e for e in events if e["event"] == "progress" and e["step"] == 8)
    assert last["remaining"] == pytest.approx(4 / last["speed"] * (24 * 24) / (16 * 16))


@pytest.mark.parametrize(("stops", "spacing"), [(5, START.spacing), (10, (2.0, 2.0, 4.0))])
def test_a_stop_in_either_part_leaves_a_usable_model_and_goes_on_exactly(
    folder, whole, tmp_path, stops, spacing
):
    root, profile = folder
    run, seen = tmp_path / "run", []

    class Counting(DualTask):
        def losses(self, student, teacher, batch, step):
            seen.append(step)
            return super().losses(student, teacher, batch, step)

    half = train(
        cohort_of(root), Counting(), profile, run, CPU, should_stop=lambda: len(seen) >= stops
    )
    assert half.folder == run / "model" and half.card.training["iterations"] == stops
    assert half.card.spacing == spacing and half.name == "run"
    assert Segmenter(half, "cpu").segment(read(root / "images/p5.nrrd"), SegmentSettings(0))
    assert pace.iterations_of(run) == 12
    with pytest.raises(InputError, match="run: already contains a training"):
        train(cohort_of(root), DualTask(), profile, run, CPU)
    other = replace(profile, coarse=replace(START, spacing=(4.0, 4.0, 5.0)))
    with pytest.raises(InputError, match=r"training with different settings \(.*course"):
        train(cohort_of(root), DualTask(), other, run, CPU, resume=True)
    events = []
    parts = train(
        cohort_of(root), DualTask(), profile, run, CPU, resume=True, on_event=events.append
    )
    assert min(e["step"] for e in events if "step" in e) > stops
    assert not any("starts again" in e.get("text", "") for e in events)
    assert equal(whole[0], parts) and parts.card.training["iterations"] == 12
    assert open_model(run / "model").card == parts.card


@pytest.mark.parametrize(("start", "labeled"), [(0.5, [6, 9]), (0.75, [9])])
def test_volumes_are_labeled_when_labels_alone_had_their_part_of_all(
    folder, tmp_path, start, labeled
):
    root, profile = folder
    events = []
    method = UGMCLVolumes(start=start, renewals=1, epochs=0)
    train(cohort_of(root), method, profile, tmp_path / "run", CPU, on_event=events.append)
    # a quarter of the four iterations on the finer grid come before its first labels
    assert [e["step"] for e in events if e["event"] == "labeled"] == labeled


def test_volumes_join_after_as_many_patches_of_each_labeled_one(folder, tmp_path):
    root, profile = folder
    events = []
    method = UGMCLVolumes(start=0.0, renewals=1, epochs=20)  # two volumes, four patches a step
    model = train(cohort_of(root), method, profile, tmp_path / "late", CPU,
                  on_event=events.append)  # fmt: skip
    assert [e["step"] for e in events if e["event"] == "labeled"] == [10]
    assert model.card.training["unlabeled"] == 3
    assert not any("labels alone" in e.get("text", "") for e in events)


def test_volumes_that_would_join_after_the_end_take_no_part(folder, whole, tmp_path):
    root, profile = folder
    events = []
    method = UGMCLVolumes(epochs=24)
    model = train(cohort_of(root), method, profile, tmp_path / "run", CPU, on_event=events.append)
    assert equal(model, whole[0]), "it is dual-task supervision"
    assert model.card.training["unlabeled"] == 0
    (text,) = [e["text"] for e in events if "labels alone" in e.get("text", "")]
    assert "would join after iteration 12, and the training ends at 12" in text


def test_a_base_is_a_start_already(folder, whole, tmp_path):
    root, profile = folder
    model = train(cohort_of(root), DualTask(), profile, tmp_path / "run", CPU, base=whole[0])
    assert model.card.training["base"] == "run" and model.card.training["iterations"] == 12
    assert not (tmp_path / "run/coarse").exists()


def test_the_cost_of_an_iteration_is_that_of_both_parts(folder, monkeypatch):
    root, profile = folder
    early, late = (pace.Cost(1.0, 2.0, 0.3, 9.0, 70, first=0.2), pace.Cost(3.0, 4.0, 0.9, 8.0, 60))
    costs = {START.patch: early, profile.batch.patch: late}

    def measured(course, attempt, seed, canceled):
        return costs[attempt.profile.batch.patch]

    monkeypatch.setattr(pace, "_measure", measured)
    course = pace.Course(cohort_of(root), DualTask())
    cost = pace.measure(course, attempts_for(profile, "cpu")[0], 1)
    each = pytest.approx(2 / 3 * 0.3 + 1 / 3 * 0.9)
    assert cost == pace.Cost(4.0, 6.0, each, 8.0, 70, first=0.2, start=2 / 3)


def test_a_smaller_window_is_the_largest_of_both_parts(folder):
    _, profile = folder
    wide = replace(profile, coarse=replace(START, patch=(24, 24, 12)))
    smallest = attempts_for(wide, "cpu")[-1].profile
    assert smallest.coarse.patch == smallest.batch.patch != profile.batch.patch
