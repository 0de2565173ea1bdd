"""A training that stays alive: cases that join it, models that take over, and its ends."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import torch
from samples import SHAPE, SPACING, tiny_model

from ugmcl_core.data import phantoms
from ugmcl_core.errors import Canceled, InputError
from ugmcl_core.models.model import open_model
from ugmcl_core.training.finetuning.verdict import CHOSEN
from ugmcl_core.training.keep_learning import courtesy
from ugmcl_core.training.keep_learning import learning as keep_learning
from ugmcl_core.training.keep_learning.learning import (
    ADD_CASE,
    STOP,
    TAKE_MODEL,
    Learning,
    Measured,
    OpenTrainer,
)
from ugmcl_core.worker.server import protocol

LONG = 1000.0  # minutes: no check by time


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keeping")
    tiny_model(folder / "tiny", patch=(48, 32, 16))
    phantoms.write_cohort(folder, 6, 0, SHAPE, SPACING)
    return folder


def write_list(path, places, roles):
    """A case list of the first phantoms with these roles."""
    cases = [
        {"name": f"case {n}", "role": role, "image": str(places / f"images/phantom-{n:03d}.nrrd"),
         "label": str(places / f"labels/phantom-{n:03d}.nrrd")}
        for n, role in enumerate(roles)
    ]  # fmt: skip
    path.write_text(json.dumps({"cases": cases}))
    return path


class Person:
    """Whoever sits before the training: does what ``script`` has for each step, waits there for
    an event of a kind in parentheses, and stops it at the end; `events` are what it sent."""

    def __init__(self, *script):
        self.script, self.events, self.done = list(script), [], []

    def send(self, event, **content):
        self.events.append({"event": event, **content})

    def progress(self, fraction, text):
        assert 0 <= fraction <= 1

    def canceled(self):
        return bool(self.script) and self.script[0] == "cancel" and self.script.pop(0) != ""

    def controls(self):
        if not self.script:
            return [STOP]
        now = self.script[0]
        if isinstance(now, tuple):  # for the next event of this kind
            kind, count = now if len(now) == 2 else (now[0], 1)
            if len(self.of(kind)) < count:
                return []
        self.script.pop(0)
        if isinstance(now, tuple):
            return []
        return now() if callable(now) else [now] if now else []

    def of(self, kind):
        return [e for e in self.events if e["event"] == kind]


@pytest.fixture(autouse=True)
def as_fast_as_before(monkeypatch):
    """The process of the tests keeps its priority."""
    monkeypatch.setattr(courtesy, "_lower", lambda: None)


def wanted(places, folder, roles, **changes):
    folder.mkdir(exist_ok=True)
    path = write_list(folder / "cases.json", places, roles)
    given = {"command": "keep_learning", "case_list": str(path), "base": str(places / "tiny"),
             "output": str(folder / "run"), "seed": 1, "device": "cpu", "check_minutes": LONG,
             "cores": 1.0, "method": "supervised"}  # fmt: skip
    return protocol.parse({**given, **changes})


def learn(request, person):
    return keep_learning.keep_learning(
        request, person.send, person.progress, person.canceled, person.controls
    )


def adding(request, places, roles):
    def now():
        write_list(request_path(request), places, roles)
        return [ADD_CASE]

    return now


def request_path(request):
    from pathlib import Path

    return Path(request.case_list)


def test_a_case_joins_and_the_better_model_takes_over(places, tmp_path):
    roles = ["labeled", "holdout", "unlabeled"]
    request = wanted(places, tmp_path / "a", roles, method="ugmcl")
    more = adding(request, places, ["labeled", "holdout", "labeled"])
    person = Person(*[""] * 4, more, ("joined",), "", TAKE_MODEL, "", "")
    result = learn(request, person)
    (joined,) = person.of("joined")
    assert (joined["name"], joined["cases"]) == ("case 2", 2) and 0 <= joined["dice"] <= 1
    checks = person.of("check")
    assert len(checks) == 2  # as asked, and at the end
    used = checks[0]["former"]
    for check in checks:
        assert check["former"] == used and check["taken"] == (check["dice"] >= used)
        used = check["dice"] if check["taken"] else used
    assert result["report"] == "holdout" and result["labeled"] == 2
    assert result["taken"] == sum(c["taken"] for c in checks)
    assert [c["name"] for c in result["cases"]] == ["case 1"]
    if result["taken"]:
        card = open_model(result["model"]).card
        assert card.training["labeled"] == 2 and card.training["parents"][0]["name"] == "tiny"
        assert "case 1" not in card.to_json()
    manifest = json.loads((tmp_path / "a/run/manifest.json").read_text())
    assert manifest["command"] == "keep_learning"
    assert not (tmp_path / "a/run/cache").exists()


@pytest.mark.parametrize(("after", "taken"), [(0.9, True), (0.5, True), (0.4, False)])
def test_a_model_is_never_replaced_by_a_worse_one(places, tmp_path, monkeypatch, after, taken):
    def measured(self, network):
        dice = 0.5 if network is self.present else after
        return Measured(dice, [dice])

    monkeypatch.setattr(Learning, "_holdout", measured)
    request = wanted(places, tmp_path / "a", ["labeled", "holdout"])
    person = Person(*[""] * 4, TAKE_MODEL, "")
    result = learn(request, person)
    assert person.of("check")[0]["taken"] is taken
    assert (result["model"] is not None) is taken is (tmp_path / "a/run/model").is_dir()
    assert ("No model took over" in result["text"]) is not taken
    assert (CHOSEN in result["text"]) is taken  # there are hold-out cases
    if not taken:
        (case,) = result["cases"]
        assert case["before"] == case["after"]


def test_without_hold_out_a_new_case_shows_which_model_is_better(places, tmp_path, monkeypatch):
    found = iter([0.5, 0.7, 0.8, 0.6])  # of the model in use and of the candidate, twice
    monkeypatch.setattr(OpenTrainer, "dice_of", lambda *_arguments: [next(found)])
    roles = ["labeled", "unlabeled", "unlabeled"]
    request = wanted(places, tmp_path / "a", roles, keep_names=True)
    person = Person(
        *[""] * 4, adding(request, places, ["labeled", "labeled", "unlabeled"]), ("joined",), "",
        adding(request, places, ["labeled"] * 3), ("joined", 2), "",
    )  # fmt: skip
    result = learn(request, person)
    assert [(c["case"], c["taken"]) for c in person.of("check")] == [
        ("case 1", True), ("case 2", False)
    ]  # fmt: skip
    assert result["report"] == "arrival" and [c["name"] for c in result["cases"]] == [
        "case 1", "case 2"
    ]  # fmt: skip
    assert result["taken"] == 1  # the last comparison was lost
    assert open_model(result["model"]).card.training["labeled"] == 1


def test_it_goes_on_after_a_cancel_with_what_came_meanwhile(places, tmp_path):
    request = wanted(places, tmp_path / "a", ["labeled", "holdout", "unlabeled"])
    with pytest.raises(Canceled):
        learn(request, Person(*[""] * 8, "cancel"))
    with pytest.raises(InputError, match="already contains a training"):
        learn(request, Person())
    write_list(request_path(request), places, ["labeled", "holdout", "labeled"])
    person = Person(("joined",), "")
    result = learn(replace(request, resume=True), person)
    (line,) = [e["text"] for e in person.of("log") if "resumed" in e["text"]]
    assert int(line.split()[-1]) > 0
    assert [e["name"] for e in person.of("joined")] == ["case 2"] and result["labeled"] == 2
    again = learn(replace(request, resume=True), Person())
    assert again["steps"] == result["steps"]


def test_it_goes_on_after_a_crash_from_where_a_case_joined(places, tmp_path):
    request = wanted(places, tmp_path / "a", ["labeled", "holdout", "unlabeled"])

    def crash():
        raise RuntimeError("power cut")

    more = adding(request, places, ["labeled", "holdout", "labeled"])
    person = Person(*[""] * 4, more, ("joined",), "", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        learn(request, person)
    (joined,) = person.of("joined")
    person = Person("", "")
    result = learn(replace(request, resume=True), person)
    assert f"resumed at step {joined['step']}" in [e["text"] for e in person.of("log")]
    assert not person.of("joined") and result["labeled"] == 2
    assert result["steps"] > joined["step"]


def test_it_waits_for_a_case_when_nothing_is_learned_and_ends_without(
    places, tmp_path, monkeypatch
):
    monkeypatch.setattr(Learning, "_holdout", lambda self, network: Measured(0.5, [0.5]))
    request = wanted(
        places, tmp_path / "a", ["labeled", "holdout"],
        check_minutes=1e-6, patience=2, wait_minutes=0.003,
    )  # fmt: skip
    person = Person(*[""] * 10_000)
    result = learn(request, person)
    assert [e["why"] for e in person.of("waiting")] == ["case", ""]
    assert len(person.of("check")) == 2 and result["steps"] < 20


def test_a_hold_out_case_does_not_join(places, tmp_path):
    request = wanted(places, tmp_path / "a", ["labeled", "holdout"])

    def same():
        content = json.loads(request_path(request).read_text())
        copied = places / "copy.nrrd"
        copied.write_bytes((places / "images/phantom-001.nrrd").read_bytes())
        case = {**content["cases"][1], "name": "twin", "role": "labeled", "image": str(copied)}
        content["cases"].append(case)
        request_path(request).write_text(json.dumps(content))
        return [ADD_CASE]

    person = Person("", "", same, ("log",))
    result = learn(request, person)
    assert result["labeled"] == 1
    assert any("twin is left out: hold-out case case 1" in e["text"] for e in person.of("log"))


def test_fresh_cases_make_half_of_the_labeled_patches():
    trainer = OpenTrainer.__new__(OpenTrainer)
    names = "abcdefg"
    trainer.labeled = [type("C", (), {"name": n})() for n in names]
    trainer.state = keep_learning.State({n: 0 for n in names} | {"g": 50})
    trainer.index = 50 + keep_learning.FRESH - 1
    assert [c.name for c in trainer.sampled()].count("g") == 6
    trainer.index += 1
    assert [c.name for c in trainer.sampled()] == list(names)


def test_methods_without_a_course_of_their_own(places, tmp_path):
    request = wanted(places, tmp_path / "a", ["labeled", "unlabeled"], method="ugmcl-volumes")
    with pytest.raises(InputError, match="choose another method"):
        learn(request, Person())
    with pytest.raises(InputError, match="cores 2"):
        wanted(places, tmp_path / "a", ["labeled"], cores=2)


@pytest.mark.parametrize(
    ("online", "expected"), [([], False), (["1"], False), (["0"], True), (["0", "1"], False)]
)
def test_the_battery(tmp_path, online, expected):
    if os.name == "nt":
        pytest.skip("a fact of Linux")
    for number, text in enumerate(online):
        (tmp_path / f"AC{number}").mkdir()
        (tmp_path / f"AC{number}/type").write_text("Mains\n")
        (tmp_path / f"AC{number}/online").write_text(f"{text}\n")
    (tmp_path / "BAT0").mkdir()
    (tmp_path / "BAT0/type").write_text("Battery\n")
    assert courtesy.on_battery(tmp_path) is expected


def test_it_waits_on_battery(places, tmp_path, monkeypatch):
    answers = [True, False]
    monkeypatch.setattr(courtesy, "on_battery", lambda: answers.pop(0) if answers else False)
    monkeypatch.setattr(keep_learning, "_LOOK_EVERY", 0.05)
    request = wanted(places, tmp_path / "a", ["labeled", "holdout"])
    person = Person(*[""] * 8)
    learn(request, person)
    assert [e["why"] for e in person.of("waiting")] == ["battery", ""]


def test_threads_are_given_back(monkeypatch):
    monkeypatch.setattr(courtesy, "_cores", lambda: 2)
    before = torch.get_num_threads()
    with courtesy.courteous(0.5):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
