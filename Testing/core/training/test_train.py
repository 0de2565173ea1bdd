"""The loop: it learns, repeats, resumes exactly, stops cleanly, refuses others' folders."""

import json
import math
import shutil
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from samples import dice
from training_samples import CPU, write_phantoms

from ugmcl_core.data.batches import batches
from ugmcl_core.data.cases import find_cohort
from ugmcl_core.data.volume import Volume, read, write
from ugmcl_core.errors import InputError
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.methods import METHODS, UGMCL, DualTask, Supervised
from ugmcl_core.models.model import open_model
from ugmcl_core.nn.schedules import LearningRate
from ugmcl_core.training import trainer
from ugmcl_core.training.checkpoint import NAME, load
from ugmcl_core.training.profiles import COMPACT, Optimization, with_classes
from ugmcl_core.training.train import Description, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), 3)


@pytest.fixture(scope="module")
def of_classes(request, tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp(f"phantoms{request.param}"), request.param)


def cohort_of(root, labeled=2):
    names = [f"p{n}" for n in range(labeled)]
    return find_cohort(root / "images", root / "labels", names, holdout=["p5"])


def weights(model):
    return model.load_weights()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of_classes", "name"),
    [(2, "supervised"), (2, "ugmcl-plus"), (3, "ugmcl")],
    indirect=["of_classes"],
)
def test_each_method_learns_phantoms_in_50_iterations(of_classes, tmp_path, name):
    root, profile = of_classes
    events = []
    model = train(
        cohort_of(root),
        METHODS[name](),
        replace(profile, iterations=50, warmup=25),
        tmp_path / "run",
        CPU,
        on_event=events.append,
    )
    reported = [e for e in events if e["event"] == "progress"]
    assert reported[-1]["step"] == 50 and reported[-1]["remaining"] == 0
    assert all(np.isfinite(v) for e in reported for v in e["losses"].values())
    dice = events[-1]["dice"][0]
    assert dice > 0.5, dice  # a network that learned nothing finds nothing
    found = Segmenter(model, "cpu").segment(read(root / "images/p5.nrrd"), SegmentSettings(2))
    truth = read(root / "labels/p5.nrrd").array
    for value in range(1, profile.network.classes):
        a, b = found.labels.array == value, truth == value
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.5


def test_a_stop_does_not_wait_for_the_hold_out_cases(folder, tmp_path):
    root, profile = folder
    looks, events = [], []

    def stop():
        looks.append(None)
        return len(looks) > 4  # after each of three steps, and in the first window

    train(
        cohort_of(root),
        DualTask(),
        profile,
        tmp_path / "run",
        replace(CPU, evaluate_every=4),
        on_event=events.append,
        should_stop=stop,
    )
    assert [e["dice"] for e in events if e["event"] == "holdout"] == [None]
    assert len(looks) < 7, "the rest of the hold-out cases' windows was looked at"
    assert events[-1] == {"event": "stopped", "step": 4, "total": 12}
    assert json.loads((tmp_path / "run/model/model.json").read_text())["training"][
        "iterations"] == 4  # fmt: skip


def test_hold_out_dice_is_told_of_each_class_too(folder, tmp_path):
    """Over the cases that show it; the second hold-out case here lacks class 1, the third both."""
    root, profile = tmp_path / "data", folder[1]
    shutil.copytree(folder[0], root)
    for name, gone in (("p4", [1]), ("p3", [1, 2])):
        labels = read(root / f"labels/{name}.nrrd")
        kept = np.where(np.isin(labels.array, gone), 0, labels.array)
        write(root / f"labels/{name}.nrrd", Volume(kept.astype(np.uint8), labels.grid))
    cohort = find_cohort(root / "images", root / "labels", ["p0"], holdout=["p5", "p4", "p3"])
    cohort, events = cohort.with_changes(may_be_empty=True), []
    model = train(cohort, DualTask(), profile, tmp_path / "run", CPU, on_event=events.append)
    segmenter, scores = Segmenter(model, "cpu"), {}
    for name in ("p5", "p4"):
        image, truth = read(root / f"images/{name}.nrrd"), read(root / f"labels/{name}.nrrd").array
        found = segmenter.segment(image, SegmentSettings(passes=0)).labels.array
        for value in (1, 2):
            scores[name, value] = dice(found == value, truth == value)
    said = events[-1]
    each = [np.mean([scores["p5", 1], scores["p5", 2]]), scores["p4", 2]]
    assert said["dice"][:2] == pytest.approx(each, abs=0.02) and math.isnan(said["dice"][2])
    second = np.mean([scores["p5", 2], scores["p4", 2]])
    assert said["classes"] == pytest.approx([scores["p5", 1], second], abs=0.02)
    last = json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[-1])
    assert last["dice"][2] is None, "NaN is no JSON"


def test_hold_out_dice_is_that_of_what_results_keep():
    truth, p = np.zeros((1, 20, 16, 12), np.float32), np.zeros((1, 20, 16, 12), np.float32)
    truth[0, 2:6, 2:6, 2:6] = 1.0
    p[0, 2:6, 2:6, 2:6], p[0, 10:16, 8:14, 4:10] = 0.95, 0.6
    case = SimpleNamespace(fractions=truth, valid=np.ones_like(truth))
    assert trainer._dice(p, case, [True]) == [1.0]
    assert trainer._dice(p, case, [False]) == [pytest.approx(2 * 64 / (64 + 64 + 216))]


@pytest.mark.parametrize("method", [DualTask(), UGMCL(passes=2)])
def test_a_resumed_training_gives_the_same_numbers(folder, tmp_path, method):
    root, profile = folder
    whole = train(cohort_of(root), method, profile, tmp_path / "whole", CPU)
    seen = []
    train(
        cohort_of(root),
        method,
        profile,
        tmp_path / "parts",
        CPU,
        should_stop=lambda: seen.append(1) or len(seen) == 7,
    )
    half = json.loads((tmp_path / "parts/model/model.json").read_text())
    assert half["training"]["iterations"] == 7
    parts = train(cohort_of(root), method, profile, tmp_path / "parts", CPU, resume=True)
    assert parts.card.training["iterations"] == 12
    assert all(torch.equal(v, weights(parts)[k]) for k, v in weights(whole).items())


def test_the_seed_decides_everything(folder, tmp_path):
    root, profile = folder
    models = [
        train(
            cohort_of(root), UGMCL(passes=1), profile, tmp_path / str(n), replace(CPU, seed=seed)
        )
        for n, seed in enumerate((3, 3, 4))
    ]
    sums = [m.card.sha256 for m in models]
    assert sums[0] == sums[1] != sums[2]


def test_unlabeled_cases_change_what_is_learned(folder, tmp_path):
    root, profile = folder
    cohort = cohort_of(root)
    with_them = train(cohort, UGMCL(passes=1), profile, tmp_path / "a", CPU)
    without = train(replace(cohort, unlabeled=()), UGMCL(passes=1), profile, tmp_path / "b", CPU)
    assert with_them.card.sha256 != without.card.sha256
    assert with_them.card.training["unlabeled"] == 3


def test_ctrl_c_leaves_a_checkpoint_and_a_usable_model_and_resumes_exactly(folder, tmp_path):
    root, profile = folder
    whole = train(cohort_of(root), DualTask(), profile, tmp_path / "whole", CPU)

    class Interrupting(DualTask):
        """Presses Ctrl-C in the middle of the fifth step."""

        def losses(self, student, teacher, batch, step):
            if step.index == 4:
                signal.raise_signal(signal.SIGINT)
            return super().losses(student, teacher, batch, step)

    run = tmp_path / "run"
    handler = signal.getsignal(signal.SIGINT)  # a shell's background jobs ignore it
    with pytest.raises(KeyboardInterrupt):
        train(cohort_of(root), Interrupting(), profile, run, CPU)
    half = open_model(run / "model")
    assert half.card.training["iterations"] == 5
    assert Segmenter(half, "cpu").segment(read(root / "images/p5.nrrd"), SegmentSettings(0))
    parts = train(cohort_of(root), DualTask(), profile, run, CPU, resume=True)
    assert all(torch.equal(v, weights(parts)[k]) for k, v in weights(whole).items())
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has none")
def test_a_closed_terminal_leaves_a_checkpoint_and_a_model(folder, tmp_path):
    root, profile = folder
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup

    class ClosingTheTerminal(DualTask):
        def losses(self, student, teacher, batch, step):
            if step.index == 4:
                signal.raise_signal(signal.SIGHUP)
            return super().losses(student, teacher, batch, step)

    try:
        with pytest.raises(KeyboardInterrupt):
            train(cohort_of(root), ClosingTheTerminal(), profile, tmp_path / "run", CPU)
    finally:
        signal.signal(signal.SIGHUP, former)
    assert load(tmp_path / "run").index == 5
    assert open_model(tmp_path / "run" / "model").card.training["iterations"] == 5


def test_two_trainings_never_share_a_folder(folder, tmp_path):
    """The second is refused and deletes nothing, whether or not the first made something yet."""
    root, profile = folder
    run = tmp_path / "run"

    class Meanwhile(DualTask):
        def losses(self, student, teacher, batch, step):
            if step.index == 2:
                before = sorted(p.name for p in run.iterdir())
                for resume in (False, True):
                    with pytest.raises(InputError, match=r"another training \(process \d+ on"):
                        train(cohort_of(root), DualTask(), profile, run, CPU, resume=resume)
                assert sorted(p.name for p in run.iterdir()) == before
            return super().losses(student, teacher, batch, step)

    whole = train(cohort_of(root), Meanwhile(), profile, run, CPU)
    assert whole.card.training["iterations"] == profile.iterations
    with pytest.raises(InputError, match="already contains a training"):
        train(cohort_of(root), DualTask(), profile, run, CPU)


def test_checkpoints_come_early_and_by_time(folder, tmp_path, monkeypatch):
    """A kill loses two minutes at most, however long an iteration takes."""
    root, profile = folder
    saved, clock = [], iter(range(0, 100_000, 50))  # each look at the clock takes 50 seconds
    monkeypatch.setattr(trainer.time, "monotonic", lambda: next(clock))
    keep = trainer.Trainer.save
    monkeypatch.setattr(trainer.Trainer, "save", lambda t: saved.append(t.index) or keep(t))
    train(cohort_of(root), DualTask(), profile, tmp_path / "run", CPU)
    assert CPU.checkpoint_every > profile.iterations
    assert saved[0] <= 2 and len(saved) >= 4 and saved[-1] == profile.iterations


def test_a_huge_number_of_iterations_takes_no_memory(folder, tmp_path):
    root, profile = folder
    huge, stopped = replace(profile, iterations=1_000_000_000), iter((False, True))
    train(
        cohort_of(root), DualTask(), huge, tmp_path / "run", CPU,
        should_stop=lambda: next(stopped, True),
    )  # fmt: skip
    assert load(tmp_path / "run").index == 2


def test_a_refused_training_leaves_nothing(folder, tmp_path):
    root, profile = folder
    few = replace(profile, representation=replace(profile.representation, classes=1))
    with pytest.raises(InputError, match="is unknown"):
        train(cohort_of(root), DualTask(), few, tmp_path / "run", CPU)
    assert not (tmp_path / "run").exists()


def test_a_description_that_no_card_accepts_is_refused_before_the_training(folder, tmp_path):
    events = []
    with pytest.raises(InputError, match="not a usable model card"):
        train(
            cohort_of(folder[0]),
            DualTask(),
            folder[1],
            tmp_path / "run",
            CPU,
            description=Description("nameless"),
            on_event=events.append,
        )
    assert not any(e["event"] == "progress" for e in events)


def test_structures_in_several_pieces_keep_them_and_the_user_is_told(folder, tmp_path):
    root, profile = folder
    labels = tmp_path / "labels"
    shutil.copytree(root / "labels", labels)
    apart = read(labels / "p0.nrrd")
    array = apart.array.copy()
    array[array == 1] = 0
    array[2:8, 4:9, 4:9], array[2:8, 20:25, 4:9] = 1, 1
    write(labels / "p0.nrrd", Volume(array, apart.grid))
    cohort, said = find_cohort(root / "images", labels, ["p0", "p1"]), []
    model = train(cohort, Supervised(), replace(profile, iterations=1), tmp_path / "run", CPU,
                  on_event=lambda e: said.append(e.get("text")))  # fmt: skip
    assert [c.largest_component for c in model.card.classes] == [False, True]
    assert "the labels show several pieces of class 1, all of which results keep" in said
    assert "the labels show one piece of class 2, so results keep the surest one" in said
    for name in ("p0", "p1"):
        array[array == 2] = 0
        write(labels / f"{name}.nrrd", Volume(array, apart.grid))
    said.clear()
    train(cohort, Supervised(), replace(profile, iterations=1), tmp_path / "none", CPU,
          on_event=lambda e: said.append(e.get("text")))  # fmt: skip
    assert any("no label holds class 2" in text for text in said if text)
    assert not any("piece of class 2" in text for text in said if text)


def test_a_class_that_no_label_holds_is_named(folder, tmp_path):
    root, profile = folder
    told = []
    profile = replace(with_classes(profile, 4), iterations=1)
    train(cohort_of(root), Supervised(), profile, tmp_path / "run", CPU, on_event=told.append)
    texts = [event["text"] for event in told if event["event"] == "notice"]
    assert any("no label holds class 3 (value 3)" in text for text in texts), texts
    assert not any("class 2 (value 2)" in text for text in texts)


def test_a_full_disk_while_preparing_is_named_and_gives_back_what_it_took(
    folder, tmp_path, monkeypatch
):
    root, profile = folder
    save, saved = np.save, []

    def full(*arguments):
        if len(saved) == 3:
            raise OSError("4000000 requested and 524224 written")  # as NumPy says it
        saved.append(save(*arguments))

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InputError, match=r"524224 written.*check the folder, its permissions"):
        train(cohort_of(root), DualTask(), profile, tmp_path / "run", replace(CPU, memory=0))
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_named(folder, tmp_path, monkeypatch):
    import safetensors
    import safetensors.torch

    def full(*_):
        raise safetensors.SafetensorError("No space left on device")

    root, profile = folder
    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(InputError, match="No space left"):
        train(cohort_of(root), DualTask(), profile, tmp_path / "run", CPU)


def test_a_diverged_training_is_stopped_before_its_checkpoint(folder, tmp_path):
    root, profile = folder
    wild = replace(profile, optimization=Optimization("sgd", LearningRate(1e12)))
    with pytest.raises(InputError, match=r"diverged at iteration \d+ .its loss is not a finite"):
        train(
            cohort_of(root), DualTask(), wild, tmp_path / "run", replace(CPU, checkpoint_every=4)
        )
    assert not (tmp_path / "run" / NAME).exists()


def test_weights_that_are_not_finite_never_replace_a_checkpoint(folder, tmp_path):
    root, profile = folder

    class Exploding(DualTask):
        """A finite loss whose gradient is not, in the last step."""

        def losses(self, student, teacher, batch, step):
            terms = super().losses(student, teacher, batch, step)
            if step.index == 11:
                nothing = (next(student.parameters()).sum() * 0.0).clamp_min(0.0)
                terms["explosion"] = nothing.sqrt()
            return terms

    run = tmp_path / "run"
    wild = replace(profile, optimization=replace(profile.optimization, clip=0.0))
    with pytest.raises(InputError, match=r"diverged at iteration 12 .its weights are not finite"):
        train(cohort_of(root), Exploding(), wild, run, replace(CPU, checkpoint_every=4))
    assert load(run).index == 8
    assert all(bool(v.isfinite().all()) for v in load(run).tensors.values())


def test_mapped_cases_train_the_same_model_and_are_removed(folder, tmp_path):
    root, profile = folder
    kept = train(cohort_of(root), UGMCL(passes=1), profile, tmp_path / "a", CPU)
    mapped = train(
        cohort_of(root), UGMCL(passes=1), profile, tmp_path / "b", replace(CPU, memory=0)
    )
    assert kept.card.sha256 == mapped.card.sha256
    assert not (tmp_path / "b/cache").exists()


def test_another_training_is_neither_overwritten_nor_continued(folder, tmp_path):
    root, profile = folder
    train(cohort_of(root), DualTask(), profile, tmp_path / "run", CPU)
    with pytest.raises(InputError, match="already contains a training"):
        train(cohort_of(root), DualTask(), profile, tmp_path / "run", CPU)
    with pytest.raises(InputError, match="different settings"):
        train(
            cohort_of(root),
            DualTask(distance_weight=9.0),
            profile,
            tmp_path / "run",
            CPU,
            resume=True,
        )


@pytest.mark.parametrize("resume", [False, True])
def test_a_model_whose_checkpoint_is_gone_is_not_replaced(folder, tmp_path, resume):
    root, profile = folder
    train(cohort_of(root), DualTask(), profile, tmp_path, CPU)
    (tmp_path / NAME).unlink()
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match="a model without the checkpoint of its training"):
        train(cohort_of(root), DualTask(), profile, tmp_path, CPU, resume=resume)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("resume", [False, True])
def test_resuming_what_was_not_begun_starts_anew_and_says_so(folder, tmp_path, resume):
    root, profile = folder
    events = []
    train(
        cohort_of(root), DualTask(), profile, tmp_path, CPU, resume=resume, on_event=events.append
    )
    notices = [e["text"] for e in events if e["event"] == "notice"]
    assert [text for text in notices if "starts again" in text] == notices[:1] * resume


def test_a_broken_checkpoint_is_named(folder, tmp_path):
    root, profile = folder
    (tmp_path / NAME).write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not a usable checkpoint"):
        train(cohort_of(root), DualTask(), profile, tmp_path, CPU, resume=True)


def test_fine_tuning_starts_from_the_base(folder, tmp_path):
    root, profile = folder
    base = train(
        cohort_of(root),
        DualTask(),
        replace(profile, iterations=40, warmup=0),
        tmp_path / "base",
        CPU,
    )
    still = replace(profile, iterations=1, optimization=Optimization("sgd", LearningRate(0.0)))
    tuned = train(cohort_of(root), DualTask(), still, tmp_path / "tuned", CPU, base=base)
    key = "segmentation_head.weight"
    # stored in half precision once more, and not trained: the same weights
    assert torch.allclose(weights(base)[key], weights(tuned)[key], atol=1e-3)
    assert tuned.card.training["base"] == base.name


def test_a_second_round_with_the_same_seed_sees_other_patches(folder, tmp_path, monkeypatch):
    root, profile = folder
    few, seen = replace(profile, iterations=2, warmup=0), []

    def recorded(*arguments):
        for batch in batches(*arguments):
            seen.append(batch.image.numpy().tobytes())
            yield batch

    monkeypatch.setattr(trainer, "batches", recorded)
    base = None
    for folder_name in ("first", "second", "third"):
        output = tmp_path / folder_name
        base = train(cohort_of(root), DualTask(), few, output, CPU, base=base)
    assert len(seen) == len(set(seen)) == 6


def test_a_distance_head_is_there_where_it_was_trained(folder, tmp_path):
    root, profile = folder
    few = replace(profile, iterations=2, warmup=0)
    plain = train(cohort_of(root), Supervised(), few, tmp_path / "plain", CPU)
    found = Segmenter(plain, "cpu").segment(read(root / "images/p5.nrrd"), SegmentSettings(1))
    assert found.sdf == () and found.uncertainty is not None
    tuned = train(cohort_of(root), DualTask(), few, tmp_path / "tuned", CPU, base=plain)
    assert any(k.startswith("distance_head.") for k in weights(tuned))
    back = train(cohort_of(root), Supervised(), few, tmp_path / "back", CPU, base=tuned)
    assert not any(k.startswith("distance_head.") for k in weights(back))


def test_the_last_weights_are_never_chosen_by_the_hold_out(folder, tmp_path):
    root, profile = folder
    one = train(cohort_of(root), DualTask(), profile, tmp_path / "a", CPU)
    other = train(
        cohort_of(root), DualTask(), profile, tmp_path / "b", replace(CPU, evaluate_every=2)
    )
    assert one.card.sha256 == other.card.sha256


def test_the_compact_profile_fits_its_network():
    assert all(
        n % m == 0 for n, m in zip(COMPACT.batch.patch, COMPACT.network.multiple, strict=True)
    )
