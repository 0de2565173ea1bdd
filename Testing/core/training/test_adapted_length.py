"""A training that is to last some time gets another length once the computer proves to be faster
or slower."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from training_samples import CPU, TINY, write_phantoms

from ugmcl_core.data.cases import find_cohort
from ugmcl_core.methods import UGMCL, DualTask, UGMCLVolumes
from ugmcl_core.models.model import open_model
from ugmcl_core.nn.schedules import Step
from ugmcl_core.training.planning.pace import iterations_of
from ugmcl_core.training.profiles import CoarseStart, with_iterations
from ugmcl_core.training.train import describe, train

START = CoarseStart((6.0, 6.0, 8.0), (16, 16, 6), 2 / 3)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root, _ = write_phantoms(tmp_path_factory.mktemp("phantoms"), 2)
    return find_cohort(root / "images", root / "labels", ["p0", "p1"], holdout=["p5"])


@dataclass
class Course:
    """A training whose length may change to the next of ``lengths`` (the last one from then on),
    and what it was asked and did."""

    cohort: object
    method: object
    profile: object
    lengths: tuple = ()
    asked: list = field(default_factory=list)
    events: list = field(default_factory=list)
    steps: dict[int, Step] = field(default_factory=dict)

    def run(self, output, *, resume=False, stop_at=None, settings=CPU):
        course = self

        class Watched(type(self.method)):
            def losses(self, student, teacher, batch, step):
                course.steps[len(course.steps)] = step
                return super().losses(student, teacher, batch, step)

        def adapt(progress, canceled):
            assert progress.seconds >= progress.each > 0.0 and not canceled()
            length = self.lengths[min(len(self.asked), len(self.lengths) - 1)]
            self.asked.append((progress.index, progress.total))
            if length == progress.total:
                return None
            return with_iterations(self.profile, length), replace(described, description="new")

        described = describe(None, "run", self.profile)
        watched = Watched(**{k: getattr(self.method, k) for k in vars(self.method)})
        return train(
            self.cohort, watched, self.profile, output, settings, description=described,
            resume=resume, on_event=self.events.append,
            should_stop=lambda: stop_at is not None and len(self.steps) >= stop_at,
            adapt=adapt if self.lengths else None,
        )  # fmt: skip

    @property
    def notices(self):
        return [e["text"] for e in self.events if e["event"] == "notice"]


def equal(a, b):
    b = b.load_weights()
    return all(torch.equal(value, b[key]) for key, value in a.load_weights().items())


@pytest.mark.parametrize(("coarse", "asked"), [
    (None, [(1, 16), (6, 24), (12, 24)]), (START, [(1, 16), (4, 24), (8, 24)])])  # fmt: skip
def test_a_longer_one_goes_on_as_one_of_its_length(cohort, tmp_path, coarse, asked):
    profile = replace(with_iterations(TINY, 16), coarse=coarse)
    course = Course(cohort, DualTask(), profile, (24,))
    model = course.run(tmp_path / "run")
    assert course.asked == asked
    assert model.card.training["iterations"] == 24 and model.card.description == "new"
    assert "24 iterations instead of 16: the computer is faster now" in course.notices
    assert course.events[-1]["total"] == course.events[-1]["step"] == 24
    plain = Course(cohort, DualTask(), with_iterations(profile, 24))
    whole = plain.run(tmp_path / "plain")
    change = asked[0][0]
    assert [s.total for s in list(course.steps.values())[:change]] == [
        16 if coarse is None else 11] * change  # fmt: skip
    later = {n: step for n, step in course.steps.items() if n >= change}
    assert later == {n: plain.steps[n] for n in later}
    assert equal(model, whole), "both have the same rate in the first iterations"
    # stopped after the change, it goes on to the same weights with the length that it then had
    half = Course(cohort, DualTask(), profile, (24,))
    half.run(tmp_path / "half", stop_at=change + 3)
    assert open_model(tmp_path / "half/model").card.training["iterations"] == change + 3
    assert iterations_of(tmp_path / "half") == 24
    rest = Course(cohort, DualTask(), with_iterations(profile, 24), (32,))
    assert equal(rest.run(tmp_path / "half", resume=True), model)
    assert not rest.asked, "a training that is resumed keeps its length"


def test_the_hold_out_cases_are_looked_at_as_often_and_where_the_length_may_change(
    cohort, tmp_path
):
    course = Course(cohort, DualTask(), with_iterations(TINY, 16), (24,))
    course.run(tmp_path / "run", settings=replace(CPU, evaluate_every=4))
    assert course.asked == [(1, 16), (6, 24), (12, 24)]
    looks = {e["step"]: e["dice"] for e in course.events if e["event"] in ("holdout", "done")}
    assert list(looks) == [6, 12, 18, 24] and all(len(dice) == 1 for dice in looks.values())


def test_a_shorter_one_ends_sooner(cohort, tmp_path):
    course = Course(cohort, DualTask(), with_iterations(TINY, 64), (64, 32))
    model = course.run(tmp_path / "run")
    assert course.asked == [(4, 64), (16, 64)], "half of the new one is done already"
    assert model.card.training["iterations"] == len(course.steps) == 32
    assert course.notices[-1] == "32 iterations instead of 64: the computer is slower now"


def test_the_length_stays_once_it_would_change_what_is_past(cohort, tmp_path):
    """The patches of a method that learns from unlabeled ones depend on the supervised start."""
    course = Course(cohort, UGMCL(), with_iterations(TINY, 32), (32, 48))
    model = course.run(tmp_path / "run")
    assert TINY.warmup / TINY.iterations * 32 < 8 and course.asked == [(2, 32)]
    assert model.card.training["iterations"] == 32


@pytest.mark.parametrize(("lengths", "unlabeled"), [((32, 48), 3), ((64, 32), 0)])
def test_unlabeled_volumes_join_or_stay_out_as_the_new_length_has_it(
    cohort, tmp_path, lengths, unlabeled
):
    """They join after 20 patches of each of two labeled ones, four a step: after 40 iterations."""
    before, after = lengths
    method = UGMCLVolumes(start=0.0, renewals=1, epochs=80)
    course = Course(cohort, method, with_iterations(TINY, before), (after,))
    model = course.run(tmp_path / "run")
    assert model.card.training["iterations"] == after
    assert model.card.training["unlabeled"] == unlabeled
    labeled = [e["step"] for e in course.events if e["event"] == "labeled"]
    assert labeled == ([40] if unlabeled else [])
    told = "so unlabeled cases join after iteration 40" if unlabeled else "the labels alone"
    assert any(told in text for text in course.notices[-2:])
