"""What holds for every method: where gradients go, that every term and option counts."""

import dataclasses
import math
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from method_samples import MIDDLE, made, small_networks

from ugmcl_core.methods import METHODS
from ugmcl_core.nn.batch import Batch
from ugmcl_core.nn.schedules import Step

# those whose losses see unlabeled samples; in others the trainer labels whole volumes
SEMI = [n for n in METHODS if METHODS[n]().uses_unlabeled and not METHODS[n]().renewals]
OF_THE_TRAINER = ("start", "epochs", "renewals", "admitted", "volumes")  # see test_pseudo_labels
OPTIONS = [(n, f.name) for n in METHODS for f in dataclasses.fields(METHODS[n])
           if f.name not in OF_THE_TRAINER or n in SEMI]  # fmt: skip


@pytest.fixture(params=[2, 3])
def classes(request):
    return request.param


def total_gradient(module):
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", METHODS)
def test_gradients_reach_the_student_and_never_the_teacher(classes, name):
    method = made(name)
    student, teacher, batch = small_networks(classes, method)
    teacher.requires_grad_(True)
    terms = method.losses(student, teacher, batch, MIDDLE)
    sum(terms.values()).backward()
    assert all(p.grad is None for p in teacher.parameters())
    heads = [student.segmentation_head] + [student.distance_head] * method.uses_distance
    for part in (student.levels_down[0], student.levels_up[0], *heads):
        assert total_gradient(part) > 0


@pytest.mark.parametrize("name", METHODS)
def test_every_term_has_a_gradient_of_its_own(classes, name):
    method = made(name)
    student, teacher, batch = small_networks(classes, method)
    torch.manual_seed(5)
    terms = method.losses(student, teacher, batch, Step(95, 100, 20))
    for term, value in terms.items():
        assert value.item() > 0, term
        student.zero_grad()
        value.backward(retain_graph=True)
        assert total_gradient(student) > 0, term


@pytest.mark.parametrize(
    "name,term,segmentation,distance",
    [
        ("dual-task", "dice", True, False),
        ("dual-task", "distance", False, True),
        ("dtc", "cross", True, True),
        ("sassnet", "adversarial", False, True),
        ("ugmcl", "intra", True, True),
        ("ugmcl", "cross", True, True),
        ("ugmcl-plus", "intra", True, True),
        ("ugmcl-plus", "cross", True, True),
    ],
)
def test_a_term_teaches_the_heads_that_it_is_about(classes, name, term, segmentation, distance):
    method = made(name)
    student, teacher, batch = small_networks(classes, method)
    method.losses(student, teacher, batch, Step(95, 100, 20))[term].backward()
    assert (total_gradient(student.segmentation_head) > 0) == segmentation
    assert (total_gradient(student.distance_head) > 0) == distance


@pytest.mark.parametrize("name", SEMI)
def test_the_supervised_iterations_are_those_of_the_labeled_samples(classes, name):
    method = made(name)
    student, _, batch = small_networks(classes, method)
    early = method.losses(student, None, batch, Step(5, 100, 20))
    late = method.losses(student, small_networks(classes)[1], batch, MIDDLE)
    assert early and set(early) < set(late)
    assert set(early) <= {"ce", "dice", "distance", "distance_dice"}


@pytest.mark.parametrize("name", METHODS)
def test_a_training_without_unlabeled_cases_stays_finite(classes, name):
    method = made(name)
    student, teacher, batch = small_networks(classes, method)
    targets = (batch.labels, batch.level_set, batch.valid, batch.distance_known)
    known = Batch(batch.image[:2], batch.weak[:2], *targets)
    terms = method.losses(student, teacher, known, MIDDLE)
    assert all(math.isfinite(v.detach()) for v in terms.values())


def other(method, name):
    """Another allowed value of an option."""
    hint = get_type_hints(type(method))[name]
    value = getattr(method, name)
    if get_origin(hint) is Literal:
        return get_args(hint)[-1]
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else 0.4 * value or 0.3


@pytest.mark.parametrize("name,option", OPTIONS)
def test_each_option_changes_the_objective(name, option):
    plain = made(name)
    changed = dataclasses.replace(plain, **{option: other(plain, option)})
    totals = []
    for method in (plain, changed):
        student, teacher, batch = small_networks(2, method)
        torch.manual_seed(8)
        terms = method.losses(student, teacher, batch, Step(40, 100, 20))
        totals.append(sum(float(v.detach()) for v in terms.values()))
    assert totals[0] != pytest.approx(totals[1], rel=1e-7, abs=0)


@pytest.mark.parametrize("name", [n for n in METHODS if n in ("urpc", "dtml", "duwm")])
def test_a_companion_learns_with_its_student(classes, name):
    method = made(name)
    student, teacher, batch = small_networks(classes, method)
    sum(method.losses(student, teacher, batch, MIDDLE).values()).backward()
    trained = [n for n, p in student.auxiliary.named_parameters() if p.grad is not None]
    assert trained and total_gradient(student.auxiliary) > 0
    unused = {n for n, _ in student.auxiliary.named_parameters()} - set(trained)
    assert all(n.startswith("segmentation_head.") for n in unused)  # of DTML's second network
    with pytest.raises(TypeError, match="no auxiliary"):
        method.losses(small_networks(classes)[0], teacher, batch, MIDDLE)


@pytest.mark.parametrize("name", METHODS)
def test_methods_say_what_they_are(name):
    method = METHODS[name]
    assert method.name == name and method.paper and method.year >= 2015 and method.when
    assert method.__doc__
