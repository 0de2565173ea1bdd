"""Every method trains on anisotropic phantoms: a few iterations, and until its loss has fallen."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from method_samples import made
from safetensors import safe_open
from safetensors.torch import save_file
from training_samples import CPU, TINY

from ugmcl_core.data.cases import find_cohort
from ugmcl_core.data.phantoms import write_cohort
from ugmcl_core.methods import METHODS
from ugmcl_core.nn.schedules import LearningRate
from ugmcl_core.training.checkpoint import NAME
from ugmcl_core.training.profiles import with_classes
from ugmcl_core.training.train import train


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def cohort(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(f"phantoms{request.param}")
    names = write_cohort(root, 4, 5, (24, 22, 8), (4.0, 4.4, 8.0), request.param)
    found = find_cohort(root / "images", root / "labels", names[:2])
    return found, with_classes(TINY, request.param)


@pytest.mark.parametrize("iterations", [12, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", METHODS)
def test_the_losses_and_the_model_are_finite(cohort, tmp_path, monkeypatch, name, iterations):
    cases, profile = cohort
    profile = replace(profile, iterations=iterations, warmup=iterations // 5)
    method, seen = made(name), []
    losses = type(method).losses

    def noted(self, *arguments):
        terms = losses(self, *arguments)
        seen.append({k: float(v.detach()) for k, v in terms.items()})
        return terms

    monkeypatch.setattr(type(method), "losses", noted)
    model = train(cases, method, profile, tmp_path / "run", CPU)
    assert len(seen) == iterations
    assert all(math.isfinite(v) for terms in seen for v in terms.values())
    if iterations == 50:
        supervised = [t["dice"] + t.get("ce", 0.0) for t in seen]
        assert np.mean(supervised[-10:]) < 0.9 * np.mean(supervised[:5])
    if method.uses_unlabeled and not method.renewals:
        assert set(seen[1]) < set(seen[-1])  # the consistency terms came after the warm-up
    state = model.load_weights()
    assert all(bool(v.isfinite().all()) for v in state.values())
    assert not any(k.startswith("auxiliary.") for k in state)
    assert any(k.startswith("distance_head.") for k in state) == method.uses_distance


@pytest.mark.parametrize("name", ["sassnet", "dtml", "duwm", "urpc"])
def test_a_model_is_fine_tuned_with_an_auxiliary_module(cohort, tmp_path, name):
    cases, profile = cohort
    short = replace(profile, iterations=2, warmup=0)
    base = train(cases, made("dual-task"), short, tmp_path / "base", CPU)
    rate = LearningRate(0.0)
    still = replace(short, optimization=replace(short.optimization, rate=rate))
    tuned = train(cases, made(name), still, tmp_path / "tuned", CPU, base=base)
    key = "levels_down.0.0.0.weight"
    assert torch.allclose(tuned.load_weights()[key], base.load_weights()[key], atol=1e-3)


def give_former_names(checkpoint):
    """The tensors' names as checkpoints of version 0.1 have them."""
    former = {"student.auxiliary.": "student.companion.", "discriminator.": "opponent."}
    with safe_open(checkpoint, "pt") as file:
        header = file.metadata()
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    for now, then in former.items():
        assert any(k.startswith(now) for k in tensors)
        tensors = {k.replace(now, then, 1): v for k, v in tensors.items()}
    save_file(tensors, checkpoint, header)


@pytest.mark.parametrize(
    ("name", "is_former"),
    [("sassnet", True), ("sassnet", False), ("dtml", False), ("duwm", False)],
)
def test_an_auxiliary_module_is_resumed_exactly(cohort, tmp_path, name, is_former):
    cases, profile = cohort
    short = replace(profile, iterations=8, warmup=2)
    whole = train(cases, made(name), short, tmp_path / "whole", CPU)
    asked = []
    train(
        cases,
        made(name),
        short,
        tmp_path / "parts",
        CPU,
        should_stop=lambda: asked.append(1) or len(asked) == 5,
    )
    if is_former:
        give_former_names(tmp_path / "parts" / NAME)
    parts = train(cases, made(name), short, tmp_path / "parts", CPU, resume=True)
    state = parts.load_weights()
    assert all(torch.equal(v, state[k]) for k, v in whole.load_weights().items())
