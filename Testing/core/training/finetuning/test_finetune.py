"""Fine-tuning by a case list: what is trained on what, reported, resumed and estimated."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import SHAPE, SPACING, reordered, tiny_model

from ugmcl_core.data import phantoms
from ugmcl_core.data.volume import Volume, read_labels
from ugmcl_core.data.volume import read as read_image
from ugmcl_core.data.volume import write as write_volume
from ugmcl_core.errors import Canceled, InputError
from ugmcl_core.models.model import open_model, update_card
from ugmcl_core.training import trainer
from ugmcl_core.training.finetuning import finetune as running
from ugmcl_core.training.finetuning import length
from ugmcl_core.training.finetuning.estimate import estimate
from ugmcl_core.training.finetuning.finetune import finetune
from ugmcl_core.training.finetuning.plan import parts_of, plan
from ugmcl_core.training.finetuning.verdict import CHOSEN, is_ahead, is_choice
from ugmcl_core.training.keep_learning.learning import plan_of
from ugmcl_core.training.planning import pace
from ugmcl_core.training.planning.pace import Cost, Pace
from ugmcl_core.training.trainer import Trainer
from ugmcl_core.worker.server import protocol


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A tiny base with 2 classes, and phantoms with 2 and with 3."""
    folder = tmp_path_factory.mktemp("tuning")
    tiny_model(folder / "tiny", patch=(48, 32, 16))
    for classes in (2, 3):
        phantoms.write_cohort(folder / str(classes), 5, 0, SHAPE, SPACING, classes)
    return folder


def case_list(folder, labeled=2, unlabeled=1, holdout=1, phantoms=2, classes=None):
    roles = ["labeled"] * labeled + ["unlabeled"] * unlabeled + ["holdout"] * holdout
    cases = [
        {"name": f"case {n}", "role": role, "image": f"images/phantom-{n:03d}.nrrd",
         "label": f"labels/phantom-{n:03d}.nrrd"}
        for n, role in enumerate(roles)
    ]  # fmt: skip
    path = folder / str(phantoms) / f"{len(list(folder.rglob('*.json')))}.json"
    path.write_text(json.dumps({"cases": cases, "classes": classes}))
    return path


def asked(places, output, kind="finetune", **changes):
    given = {"command": kind, "case_list": str(case_list(places)), "base": str(places / "tiny"),
             "output": str(output), "iterations": 2, "seed": 1, "device": "cpu",
             "method": "ugmcl"}  # fmt: skip
    return protocol.parse({**given, **changes})


class Told(list):
    """What a request sends, and a cancel before its n-th look."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.looks, self.stop_at = 0, stop_at

    def send(self, event, **content):
        self.append({"event": event, **content})

    def progress(self, fraction, text, remaining=None):
        assert 0 <= fraction <= 1
        self.append({"event": "progress", "text": text})

    def canceled(self):
        self.looks += 1
        return self.stop_at is not None and self.stop_at(self)

    def of(self, kind):
        return [e for e in self if e["event"] == kind]


def run(request, told=None):
    told = told if told is not None else Told()
    return finetune(request, told.send, told.progress, told.canceled), told


def test_the_result_has_each_case_before_and_after(places, tmp_path):
    result, told = run(asked(places, tmp_path / "run", name="Mine, better", compare=True))
    assert result["report"] == "holdout" and result["verdict"] == "not enough evidence"
    (case,) = result["cases"]
    assert case["name"] == "case 3"
    for when in ("before", "after", "supervised"):
        assert {"dice", "jaccard", "asd_mm", "hd95_mm", "classes"} == set(case[when])
    card = open_model(result["model"]).card
    assert card.name == "Mine-better"
    base = open_model(places / "tiny").card
    assert card.training["parents"] == [{"name": "tiny", "sha256": base.sha256}]
    assert card.training["method"] == "ugmcl" and card.training["iterations"] == 2
    assert (card.training["labeled"], card.training["unlabeled"]) == (2, 1)
    assert card.scores["verdict"] == result["verdict"]
    assert "case 3" not in card.to_json()
    parts = [m["part"] for m in told.of("metrics")]
    assert parts[0] == "" and parts[-1] == "supervised"
    assert json.loads((tmp_path / "run/report.json").read_text())["text"] == result["text"]


def test_names_and_grandparents_are_kept_when_asked_for(places, tmp_path):
    first, _ = run(asked(places, tmp_path / "one", keep_names=True, iterations=1))
    card = open_model(first["model"]).card
    assert card.training["cases"]["holdout"] == ["case 3"]
    assert card.scores["cases"][0]["name"] == "case 3"
    second, _ = run(asked(places, tmp_path / "two", base=first["model"], iterations=1))
    parents = open_model(second["model"]).card.training["parents"]
    assert [p["name"] for p in parents] == ["one", "tiny"]


@pytest.mark.parametrize(
    ("holdout", "leave_one_out", "warned"), [(1, False, True), (0, True, True), (0, False, False)]
)
def test_a_base_that_was_fine_tuned_itself_is_noticed(
    places, tmp_path, holdout, leave_one_out, warned
):
    base = tiny_model(tmp_path / "grown", patch=(48, 32, 16))
    training = {**base.card.training, "parents": [{"name": "tiny", "sha256": "0" * 64}]}
    base = update_card(base, training=training)
    path = str(case_list(places, holdout=holdout))
    given = {"case_list": path, "leave_one_out": leave_one_out}
    for model, expected in ((base.folder, warned), (places / "tiny", False)):
        planned = plan(asked(places, tmp_path / "run", base=str(model), **given))
        assert any("was fine-tuned itself" in n for n in planned.notices) == expected


@pytest.mark.slow
def test_leaving_one_out_trains_without_it(places, tmp_path):
    path = case_list(places, labeled=3, unlabeled=1, holdout=0)
    request = asked(
        places, tmp_path / "run", case_list=str(path), leave_one_out=True, compare=True
    )
    planned = plan(request)
    parts = parts_of(planned, Path(request.output))
    assert [p.name for p in parts] == [
        "",
        "without case 0",
        "supervised without case 0",
        "without case 1",
        "supervised without case 1",
        "without case 2",
        "supervised without case 2",
    ]
    for part in parts[1:]:
        left = part.name.split("without ")[1]
        names = {c.name for c in (*part.cohort.labeled, *part.cohort.unlabeled)}
        assert left not in names and len(part.cohort.labeled) == 2
    result, _ = run(request)
    assert result["report"] == "leave-one-out"
    assert [c["name"] for c in result["cases"]] == ["case 0", "case 1", "case 2"]
    assert all(c["supervised"] is not None for c in result["cases"])
    assert open_model(result["model"]).card.training["labeled"] == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compare": True, "method": "dual-task"}, "dual-task is supervised already"),
        ({"leave_one_out": True, "labeled": 1, "holdout": 0}, "needs two labeled cases"),
        ({"compare": True, "holdout": 0}, "no hold-out case to compare"),
        ({"unlabeled": 0}, "no unlabeled volumes"),
    ],
)
def test_what_cannot_be_done_is_noticed(places, tmp_path, changes, words):
    sizes = {k: changes[k] for k in ("labeled", "unlabeled", "holdout") if k in changes}
    rest = {k: v for k, v in changes.items() if k not in sizes}
    path = case_list(places, **sizes)
    planned = plan(asked(places, tmp_path / "run", case_list=str(path), **rest))
    assert len(planned.notices) == 1 and words in planned.notices[0]
    assert planned.comparison is None


def test_a_training_too_short_for_unlabeled_cases_is_compared_with_nothing(places, tmp_path):
    path = case_list(places, classes=[{"value": 1, "name": "atrium"}])
    new = {"case_list": str(path), "base": "", "method": "ugmcl-volumes", "compare": True}
    short = plan(asked(places, tmp_path / "run", **new, iterations=100))
    assert short.comparison is None and "too short" in short.notices[-1]
    long = plan(asked(places, tmp_path / "run", **new, iterations=9000))
    assert long.comparison is not None
    from_base = plan(asked(places, tmp_path / "run", method="ugmcl-volumes",
                                      compare=True, iterations=100))  # fmt: skip
    assert from_base.comparison is not None, "a base has learned what its labels teach"
    alone = {"case_list": str(case_list(places, unlabeled=0)), "compare": True}
    none = plan(asked(places, tmp_path / "run", method="ugmcl-volumes", **alone))
    assert none.comparison is None and "Without unlabeled volumes" in none.notices[-1]
    other = plan(asked(places, tmp_path / "run", method="ugmcl-plus", **alone))
    assert other.comparison is not None, "it has more terms for the labels too"


def test_minutes_too_short_for_a_comparison_are_the_trainings(places, tmp_path, monkeypatch):
    """Unlabeled volumes join after 750 iterations here, 1,500 patches of each of two labeled ones,
    and so it is compared from 751 on."""
    each = 0.0999

    def pace_of(profile, minutes, courses, *_, **__):
        cost = Cost(0.0, 0.0, each, 0.0, 0, first=each)
        return Pace(minutes, 0.0, courses, {c.method.name: cost for c in courses})

    monkeypatch.setattr(length, "pace_of", pace_of)
    path = case_list(places, labeled=2, classes=[{"value": 1, "name": "atrium"}])
    request = asked(places, tmp_path / "run", case_list=str(path), base="", compare=True,
                    method="ugmcl-volumes", minutes=1)  # fmt: skip
    planned = plan(request)

    def timed(minutes, planned=planned):
        given = replace(request, minutes=minutes)
        pace = length.timed(planned, given, 0.0, pytest.fail, lambda: False)
        made = length.lasting(planned, pace.iterations, minutes)
        assert len(pace.courses) == len(parts_of(made, tmp_path))
        return pace.iterations, made.comparison is not None

    assert timed(1) == (582, False), "the time of both"
    assert timed(2) == (750, False), "as long as there is nothing to compare"
    assert timed(3) == (873, True)
    alone = replace(planned, cohort=replace(planned.cohort, unlabeled=()))
    assert timed(3, alone) == (1747, False)
    # a faster computer does not make it long enough for a comparison that has no time
    pace = length.timed(planned, request, 0.0, pytest.fail, lambda: False)
    assert pace.scaled(0.1).again(10, 1.0) == 750


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({}, [2 * 1]),
        ({"holdout": 2, "compare": True}, [2 * 2, 2]),
        ({"holdout": 0, "leave_one_out": True}, [2, 1, 1]),
        ({"holdout": 0}, [0]),
        ({"base": "", "holdout": 2, "compare": True}, [2, 2]),
        ({"base": "", "holdout": 0, "leave_one_out": True}, [0, 1, 1]),
    ],
)
def test_the_time_has_room_for_all_measurements(places, tmp_path, changes, reported):
    """Those of the base before, and those of each model after its training; while it trains, a
    look at the hold-out cases after each eighth, and at least 25 iterations."""
    sizes = {k: changes[k] for k in ("holdout",) if k in changes}
    rest = {k: v for k, v in changes.items() if k not in sizes}
    path = case_list(places, 2, 1, **sizes, classes=[{"value": 1, "name": "left atrium"}])
    request = asked(places, tmp_path / "run", case_list=str(path), **rest)
    courses = length.courses_of(plan(request))
    assert [c.reported for c in courses] == reported
    assert [courses[0].looks(n) for n in (24, 25, 199, 200, 1000)] == [1, 2, 8, 9, 9]


def test_new_classes_get_a_head_and_their_place_in_the_card(places, tmp_path):
    listed = [
        {"value": 2, "name": "right atrium", "color": [0.2, 0.4, 0.9],
         "terminology": {"scheme": "SCT", "code": "73829009", "meaning": "Right atrium"}},
        {"value": 1, "name": "LA",
         "terminology": {"scheme": "SCT", "code": "82471001", "meaning": "Left atrium"}},
    ]  # fmt: skip
    path = case_list(places, unlabeled=0, phantoms=3, classes=listed)
    result, _ = run(asked(places, tmp_path / "run", case_list=str(path)))
    card = open_model(result["model"]).card
    assert [(c.value, c.name) for c in card.classes] == [(1, "left atrium"), (2, "right atrium")]
    assert card.classes[1].color == (0.2, 0.4, 0.9)
    assert card.classes[1].terminology.code == "73829009"
    weights = open_model(result["model"]).load_weights()
    assert weights["segmentation_head.weight"].shape[0] == 3
    before = result["cases"][0]["before"]["classes"]
    assert set(before) == {"left atrium", "right atrium"} and before["right atrium"] == 0
    assert "new, which it cannot find (right atrium)" in result["text"]


def with_case(path, name, role, image, label=None):
    """The case list in ``path`` with another case."""
    content = json.loads(path.read_text())
    content["cases"].append({"name": name, "role": role, "image": str(image), "label": label})
    path.write_text(json.dumps(content))
    return path


def as_ct(places, folder):
    """A phantom with the values of CT."""
    image = read_image(places / "2/images/phantom-004.nrrd")
    path = folder / "ct.nrrd"
    write_volume(path, Volume(np.round(image.array - 700).astype(np.int16), image.grid))
    return path


def test_a_training_from_a_base_leaves_out_volumes_of_other_kinds(places, tmp_path):
    path = with_case(case_list(places), "scan", "unlabeled", as_ct(places, tmp_path))
    given = {"case_list": str(path), "iterations": 1}
    planned = plan(asked(places, tmp_path / "run", **given))
    assert [c.name for c in planned.cohort.unlabeled] == ["case 2"]
    result, told = run(asked(places, tmp_path / "run", **given))
    line = "scan is left out: it is CT, the labeled ones are no CT"
    assert line in [e["text"] for e in told.of("log")]
    assert open_model(result["model"]).card.training["unlabeled"] == 1
    told = Told()
    estimate(asked(places, tmp_path / "e", "estimate", **given), told.send, told.progress,
             told.canceled)  # fmt: skip
    assert line in [e["text"] for e in told.of("log")]
    every = asked(places, tmp_path / "run", **given, overrides=["unlabeled=all"])
    assert len(plan(every).cohort.unlabeled) == 2
    alone = plan(asked(places, tmp_path / "run", **given, method="dual-task"))
    assert alone.left_out == (), "which learns from none of them"
    with pytest.raises(InputError, match="unlabeled=none: this is planned as alike"):
        plan(asked(places, tmp_path, **given, overrides=["unlabeled=none"]))
    with pytest.raises(InputError, match="give overrides other than unlabeled only with replan"):
        asked(places, tmp_path, **given, overrides=["patch=32,32,16"])
    learning = protocol.parse({"command": "keep_learning", "case_list": str(path), "device": "cpu",
                               "base": str(places / "tiny"), "output": str(tmp_path / "k")})
    assert [name for name, _ in plan_of(learning).left_out] == ["scan"]


@pytest.mark.parametrize("role", ["labeled", "unlabeled"])
def test_what_is_left_out_in_turn_is_in_no_other_case(places, tmp_path, role):
    image = read_image(places / "2/images/phantom-000.nrrd")
    write_volume(tmp_path / "copy.nrrd", reordered(image, (0, 1, 2), (True, False, False)))
    path = with_case(case_list(places, holdout=0), "again", role, tmp_path / "copy.nrrd",
                     "labels/phantom-000.nrrd")  # fmt: skip
    given = {"case_list": str(path), "leave_one_out": True}
    with pytest.raises(InputError, match="case 0 and again have the same image, so leaving one"):
        plan(asked(places, tmp_path / "run", **given))
    if role == "unlabeled":
        plan(asked(places, tmp_path / "run", **given, method="dual-task"))


def test_a_plan_is_made_without_the_case_that_is_left_out(places, tmp_path):
    classes = [{"value": n, "name": f"class {n}"} for n in (1, 2)]
    path = case_list(places, labeled=3, holdout=0, classes=classes)
    other = read_image(places / "2/images/phantom-004.nrrd")
    wide = replace(other.grid, spacing=tuple(2.0 * s for s in other.grid.spacing))
    for kind, read in (("images", read_image), ("labels", read_labels)):
        array = read(places / f"2/{kind}/phantom-004.nrrd").array
        write_volume(tmp_path / f"{kind}.nrrd", Volume(array, wide))
    content = json.loads(path.read_text())
    content["cases"][0].update(image=str(tmp_path / "images.nrrd"),
                               label=str(tmp_path / "labels.nrrd"))  # fmt: skip
    content["cases"][2]["role"] = "unlabeled"
    path.write_text(json.dumps(content))
    request = asked(places, tmp_path / "run", base="", case_list=str(path), leave_one_out=True,
                    overrides=["unlabeled=all", *SMALL], method="dual-task")  # fmt: skip
    planned = plan(request)
    whole, without_wide, without_other = parts_of(planned, tmp_path / "run")
    grids = [p.profile.representation.spacing for p in (without_other, whole, without_wide)]
    assert grids[0] > grids[1] > grids[2] and grids[0][0] == 2 * grids[2][0]
    assert {p.profile.iterations for p in (whole, without_wide, without_other)} == {2}
    lines = {d["what"]: d["value"] for d in without_other.description.provenance["plan"]}
    assert lines["grid"] == ",".join(f"{v:g}" for v in grids[0]) and lines["iterations"] == "2"
    for case in content["cases"][1:]:
        if case["role"] == "labeled":
            case.update(empty=True, label=str(tmp_path / "empty.nrrd"))
            empty = read_labels(places / "2/labels/phantom-001.nrrd")
            write_volume(tmp_path / "empty.nrrd", Volume(0 * empty.array, empty.grid))
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="without case 0 no label shows a structure"):
        plan(request)


SMALL = ["filters=2", "patch=32,32,16", "batch=1+1"]  # of a plan, for a test's time


def test_from_scratch_there_is_no_before(places, tmp_path):
    classes = [{"value": 1, "name": "atrium"}]
    path = case_list(places, holdout=2, classes=classes)
    given = {"base": "", "case_list": str(path), "overrides": SMALL}
    result, told = run(asked(places, tmp_path / "run", **given))
    assert [c["before"] for c in result["cases"]] == [None, None]
    made = open_model(result["model"]).card.training["plan"]
    width = {"what": "filters", "means": "width of the network"}
    assert {**width, "value": "2", "why": "given"} in made
    lines = [e["text"] for e in told.of("log")]
    assert all(f"{d['what']} {d['value']} ({d['means']}): {d['why']}" in lines for d in made)
    assert result["text"].startswith("From scratch")
    card = open_model(result["model"]).card
    assert [c.name for c in card.classes] == ["atrium"] and card.training["parents"] == []
    path = case_list(places)
    with pytest.raises(InputError, match="the list needs classes"):
        plan(asked(places, tmp_path / "other", base="", case_list=str(path)))


def test_a_base_may_be_planned_anew_and_gives_the_weights_that_fit(places, tmp_path):
    small = ["patch=32,32,16", "batch=1+1", "kernels=331 331 333 333 333"]
    request = asked(places, tmp_path / "run", replan=True, overrides=small)
    result, told = run(request)
    base, made = (open_model(m).card for m in (places / "tiny", result["model"]))
    assert made.spacing != base.spacing and made.training["base"] == base.name
    assert made.network["filters"] == base.network["filters"]
    assert {"patch", "filters"} <= {d["what"] for d in made.training["plan"]}
    (text,) = [e["text"] for e in told.of("log") if "layers begin" in e["text"]]
    assert text == f"62 of 62 layers begin with the weights of {base.name}"
    assert made.training["parents"][0]["sha256"] == base.sha256
    assert not (tmp_path / "run/coarse").exists()
    wrong = replace(request, overrides=(*small, "coarse=0.5"), output=str(tmp_path / "other"))
    with pytest.raises(InputError, match="coarse applies only to trainings from scratch"):
        run(wrong)


def test_twins_of_a_list_are_never_mirrored_and_a_lone_side_is_pointed_out(places, tmp_path):
    for names, mirrored in ((("left ear", "right ear"), False), (("left ear", "nose"), True)):
        classes = [{"value": n, "name": name} for n, name in enumerate(names, 1)]
        path = case_list(places, classes=classes)
        planned = plan(asked(places, tmp_path, base="", case_list=str(path)))
        axes = planned.profile.batch.augmentation.mirror_axes
        assert (0 in axes) is mirrored
        assert any("the right ear too" in text for text in planned.notices) is mirrored


def same_weights(a, b):
    one, two = (open_model(m).load_weights() for m in (a, b))
    return all(torch.equal(v, two[k]) for k, v in one.items())


@pytest.mark.slow
@pytest.mark.parametrize("part", ["", "supervised"])
def test_a_cancel_in_any_part_can_be_resumed(places, tmp_path, part):
    def stop(told):
        metrics = told.of("metrics")
        return bool(metrics) and metrics[-1]["part"] == part

    told = Told(stop)
    request = asked(places, tmp_path / "run", compare=True, iterations=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_REPORT_EVERY", 0.0)  # so that each step is reported
        with pytest.raises(Canceled):
            run(request, told)
    left = tmp_path / "run" / "model"
    assert open_model(left).card.training["iterations"] >= 1
    result, _ = run(replace(request, resume=True))
    whole, _ = run(asked(places, tmp_path / "whole", compare=True, iterations=4))
    assert same_weights(result["model"], whole["model"])
    assert result["cases"] == whole["cases"]
    again, told = run(replace(request, resume=True))
    assert again["cases"] == json.loads(json.dumps(result["cases"])) and not told
    with pytest.raises(InputError, match=r"finished .* different settings \(iterations 4\)"):
        run(replace(request, resume=True, iterations=5))


def test_out_of_memory_goes_on_with_less_and_says_so(places, tmp_path, monkeypatch):
    sizes = []
    step = Trainer.step

    def failing(self, *arguments):
        batch = self.profile.batch
        sizes.append((batch.labeled + batch.unlabeled, batch.patch, self.index))
        if len(sizes) in (2, 3):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "step", failing)
    monkeypatch.setattr(running, "_CHECKPOINT_EVERY", 1)
    base = tiny_model(tmp_path / "base", patch=(64, 48, 32))
    result, told = run(asked(places, tmp_path / "run", base=str(base.folder), iterations=3))
    assert [e["text"] for e in told.of("log")] == [
        "Not enough memory: continuing with half the batch.",
        "Not enough memory: continuing with a window of 48x48x32 voxels.",
    ]
    assert [s[0] for s in sizes] == [4, 4, 2, 2, 2]
    assert [s[2] for s in sizes] == [0, 1, 1, 1, 2], "it goes on where it was"
    assert open_model(result["model"]).card.patch == (48, 48, 32)


def test_a_length_that_changes_is_that_of_all_parts_and_after_a_lack_of_memory(
    places, tmp_path, monkeypatch
):
    sizes, step = [], Trainer.step

    def failing(self, *arguments):
        sizes.append(self.profile.batch.size)
        if len(sizes) == 4:
            raise MemoryError
        return step(self, *arguments)

    def pace_of(profile, minutes, courses, *_, **__):
        each = 0.97 * 60 * minutes / 2 / 24.5  # two courses
        cost = Cost(0.0, 0.0, each, 0.0, 0, first=each, has_learned=True)
        return Pace(minutes, 0.0, courses, {c.method.name: cost for c in courses})

    monkeypatch.setattr(Trainer, "step", failing)
    monkeypatch.setattr(length, "pace_of", pace_of)
    monkeypatch.setattr(Pace, "again", lambda *_: 30)
    monkeypatch.setattr(running, "_CHECKPOINT_EVERY", 1)
    request = asked(places, tmp_path / "run", method="mean-teacher", minutes=3, compare=True)
    result, told = run(request)
    texts = [e["text"] for e in told.of("log")]
    assert texts == [
        "iterations 24, for 3 minutes",
        "30 iterations instead of 24: the computer is faster now",
        "Not enough memory: continuing with half the batch.",
    ]
    assert sizes == [4] * 4 + [2] * 27 + [4] * 30, "both have 30, and the first three are kept"
    for folder in ("model", "supervised/model"):
        assert open_model(tmp_path / "run" / folder).card.training["iterations"] == 30
    assert result["cases"][0]["supervised"]


def test_an_estimate_runs_some_steps_and_writes_nothing(places, tmp_path, monkeypatch):
    taken = []
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda *a: taken.append(a[0].method.name) or step(*a))
    monkeypatch.setattr(pace, "_SECONDS", math.inf)  # however busy the computer is
    request = asked(places, tmp_path / "run", "estimate", iterations=1000, compare=True)
    told = Told()
    found = estimate(request, told.send, told.progress, told.canceled)
    assert set(taken) == {"ugmcl", "dual-task"} and len(taken) == 10
    assert 1000 * found["seconds_per_iteration"] < found["seconds"]
    assert found["seconds"] < 10_000 * found["seconds_per_iteration"]
    assert found["memory_bytes"] > 50e6
    assert not (tmp_path / "run").exists()
    with pytest.raises(Canceled):
        estimate(request, told.send, told.progress, lambda: True)


def test_two_dimensions_and_empty_labels_are_named(places, tmp_path):
    from ugmcl_core.data import volume

    path = case_list(places)
    content = json.loads(path.read_text())
    image = volume.read(places / "2/images/phantom-000.nrrd")
    empty = volume.Volume(np.zeros(image.array.shape, np.uint8), image.grid)
    volume.write(tmp_path / "empty.nrrd", empty)
    content["cases"][0]["label"] = str(tmp_path / "empty.nrrd")
    changed = places / "2" / "empty.json"
    changed.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"empty\.nrrd: the label is empty"):
        run(asked(places, tmp_path / "run", case_list=str(changed)))
    assert not (tmp_path / "run").exists()


def test_the_label_of_a_class_cannot_be_ignored(places, tmp_path):
    path = case_list(places)
    path.write_text(json.dumps({**json.loads(path.read_text()), "ignore": 1}))
    with pytest.raises(InputError, match="ignore 1 is the label of a class"):
        plan(asked(places, tmp_path / "run", case_list=str(path)))


def test_the_better_of_the_two_compared_models_is_kept(places, tmp_path, monkeypatch):
    def judged(self, models, cases):
        row = {"dice": 0.8, "jaccard": 0.7, "asd_mm": 1.0, "hd95_mm": 3.0, "classes": {}}
        return [dict(row) for _ in cases], [{**row, "dice": 0.9} for _ in cases]

    monkeypatch.setattr(running._FinetuneRun, "judged", judged)
    listed = case_list(places, 1, 1, 3)
    request = asked(places, tmp_path / "run", case_list=str(listed), compare=True, name="mine")
    result, _ = run(request)
    assert "Dice 0.800 with them, 0.900 with the labels alone, whose model" in result["text"]
    assert "Supervised fine-tuning on the same labels" not in result["text"]
    assert result["text"].endswith(CHOSEN)
    assert all(case["after"]["dice"] == 0.9 for case in result["cases"])
    model, alone = open_model(result["model"]), open_model(tmp_path / "run/supervised/model")
    assert model.folder == (tmp_path / "run" / "model").resolve() and model.name == "mine"
    assert model.card.sha256 == alone.card.sha256
    assert model.card.training["method"] == "dual-task"
    assert model.card.scores["text"] == result["text"]


def test_fewer_cases_than_three_keep_no_other_model():
    one, better = {"dice": 0.8}, {"dice": 0.9}
    assert is_ahead([better] * 3, [one] * 3) and not is_ahead([better] * 2, [one] * 2)
    assert not is_ahead([one] * 3, [better] * 3) and not is_ahead([None] * 3, [one] * 3)
    assert not is_ahead([{"dice": math.nan}] * 3, [one] * 3)
    assert is_choice([one] * 3) and not is_choice([one] * 2) and not is_choice([None] * 3)


def test_a_card_is_updated_in_place(tmp_path):
    model = tiny_model(tmp_path / "tiny")
    changed = update_card(model, scores={"dice": 0.5})
    assert changed.card == replace(model.card, scores={"dice": 0.5})
    assert open_model(model.folder).card.scores == {"dice": 0.5}
    changed.load_weights()
    with pytest.raises(InputError):
        update_card(model, name="not a name")
    assert sorted(p.name for p in model.folder.iterdir()) == ["model.json", "weights.safetensors"]
