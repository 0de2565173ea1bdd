"""Profiles made to fit a number of iterations or a base model."""

from __future__ import annotations

import pytest
from samples import tiny_model

from ugmcl_core.errors import InputError
from ugmcl_core.nn.network import NetworkSettings
from ugmcl_core.nn.schedules import LearningRate
from ugmcl_core.training import profiles
from ugmcl_core.training.profiles import COMPACT, PAPER


def test_a_shorter_course_keeps_its_proportions():
    short = profiles.with_iterations(COMPACT, COMPACT.iterations // 4)
    assert short.iterations == COMPACT.iterations // 4
    assert short.warmup == COMPACT.warmup // 4
    assert short.optimization.rate.warmup == COMPACT.optimization.rate.warmup // 4
    assert short.optimization.rate.base == COMPACT.optimization.rate.base
    # A teacher that remembers four times fewer iterations: the same part of the course.
    assert 1 - short.optimization.decay == pytest.approx(4 * (1 - COMPACT.optimization.decay))


def test_the_published_learning_rate_falls_at_the_same_parts_of_any_course():
    for iterations in (600, 6000, 21000):
        rate = profiles.with_iterations(PAPER, iterations).optimization.rate
        found = [rate.at(round(part * iterations), iterations) for part in (0.4, 0.43, 0.85)]
        assert found == pytest.approx([0.01, 0.001, 0.0001])


def test_the_start_is_forgotten_even_in_a_very_short_course():
    decay = profiles.with_iterations(COMPACT, 50).optimization.decay
    assert decay**50 < 1e-3


def test_a_teacher_that_is_not_saved_and_a_longer_course_keep_their_decay():
    assert profiles.with_iterations(PAPER, 60).optimization.decay == PAPER.optimization.decay
    longer = profiles.with_iterations(COMPACT, 2 * COMPACT.iterations)
    assert longer.optimization.decay == COMPACT.optimization.decay


def test_fine_tuning_is_on_the_bases_grid_and_gentle(tmp_path):
    base = tiny_model(tmp_path / "tiny", classes=3)
    profile = profiles.fine_tuning(base, COMPACT, 100)
    assert profile.representation.spacing == base.card.spacing
    assert profile.representation.classes == profile.network.classes == 3
    assert profile.network == NetworkSettings(**base.card.network)
    assert profile.batch.patch == base.card.patch
    assert (profile.iterations, profile.warmup) == (100, 0)
    rate = profile.optimization.rate.base
    assert rate == pytest.approx(profiles.GENTLE * COMPACT.optimization.rate.base)


def test_a_base_with_other_channels_is_refused(tmp_path):
    one = tiny_model(tmp_path / "one")
    two = tiny_model(tmp_path / "two", channels=("T1", "T2"))
    profiles.check_channels(one, ("whatever",))
    profiles.check_channels(two, ("t1", "t2"))
    for base, channels, words in (
        (one, ("T1", "T2"), r"takes one image a case, and the cases have 2 images .*\(T1, T2\)"),
        (two, ("T1",), r"takes 2 images a case \(T1, T2\), and the cases have one image"),
        (two, ("T2", "T1"), r"takes T1, T2 in this order, and the cases have T2, T1"),
    ):
        with pytest.raises(InputError, match=words):
            profiles.check_channels(base, channels)


def test_unknown_names_list_what_there_is():
    with pytest.raises(InputError, match="ugmcl"):
        profiles.method_named("magic")
    with pytest.raises(InputError, match="compact"):
        profiles.profile_named("magic")


def test_a_short_course_may_begin_with_more():
    rate = LearningRate(1e-3, "cosine", length=2400)
    starts = {total: rate.at(0, total) for total in (4800, 2400, 600, 10)}
    assert starts == pytest.approx({4800: 1e-3, 2400: 1e-3, 600: 2e-3, 10: 5e-3})
    assert rate.at(300, 600) == pytest.approx(1e-3), "half of it in the middle"
    assert LearningRate(1e-3, "cosine").at(0, 10) == 1e-3
