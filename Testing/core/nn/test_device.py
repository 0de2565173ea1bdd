"""What a GPU would meet, on a CPU: cases kept on the device, and steps that never wait for it.

torch's device *meta* computes shapes alone. It refuses what a GPU refuses, tensors of two devices
in one operation, and what makes a GPU wait, reading a tensor's value. What it allows and a GPU
waits for, copying arrays to it, is refused here.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_samples import with_patch

from ugmcl_core.data import augmentation
from ugmcl_core.data.batches import BatchSource, make_batch
from ugmcl_core.data.cases import PreparedCase, find_cohort, on_device
from ugmcl_core.data.phantoms import write_cohort
from ugmcl_core.methods import METHODS, UGMCL
from ugmcl_core.nn import devices
from ugmcl_core.nn.network import DualTaskVNet, NetworkSettings
from ugmcl_core.nn.schedules import Step
from ugmcl_core.nn.teacher import Teacher
from ugmcl_core.training import profiles, trainer
from ugmcl_core.training.profiles import Optimization
from ugmcl_core.training.task import TrainingSettings, TrainingTask
from ugmcl_core.training.trainer import Trainer

META, CPU = torch.device("meta"), torch.device("cpu")
PATCH = (32, 32, 16)
STEPS = [Step(n, 1000) for n in range(500, 520)]
VARIANTS = [(name, {}) for name in METHODS] + [
    ("ugmcl", {"threshold_reference": "quantile", "mask_cross": True}),
    ("ugmcl", {"shared_encoder": True, "sharpness_start": 5.0}),
]


def case(number, labeled):
    rng, shape = np.random.default_rng(number), (1, 40, 36, 30)
    image = rng.normal(size=shape).astype(np.float16)
    found = PreparedCase(f"c{number}", image, (1.0,) * 3)
    if not labeled:
        return found
    mask = rng.random(shape) > 0.5
    return replace(
        found,
        fractions=mask.astype(np.float16),
        distance=rng.normal(size=shape).astype(np.float16),
        valid=np.ones(shape, np.float16),
        foreground_voxels=(np.argwhere(mask[0])[::50],),
    )


def batch_of(profile, step, device, resident):
    groups = [[case(0, True), case(1, True)], [case(2, False)]]
    if resident:
        groups = [on_device(group, device, 1 << 30) for group in groups]
    settings = replace(profile.batch, patch=PATCH)
    with pytest.MonkeyPatch.context() as patch:
        if device == META:
            # it has no generator of random numbers
            patch.setattr(augmentation, "_noise", lambda shape, device, rng: torch.empty(
                tuple(shape), device=device))  # fmt: skip
            patch.setattr(torch, "from_numpy", refused)
        source = BatchSource(*groups, settings, profile.representation, 3, device=device)
        return make_batch(source, step)


def refused(array):
    raise AssertionError(f"an array of {array.size} values was to be copied to the device")


@pytest.mark.parametrize("profile", [profiles.COMPACT, profiles.PAPER], ids=lambda p: p.name)
def test_cases_on_a_device_give_the_same_batches(profile):
    for step in STEPS[:6]:
        a, b = (batch_of(profile, step, CPU, resident) for resident in (False, True))
        for name in ("image", "weak", "labels", "level_set", "valid", "distance_known"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize("profile", [profiles.COMPACT, profiles.PAPER], ids=lambda p: p.name)
def test_batches_are_made_on_the_device_without_waiting_for_it(profile):
    for step in STEPS:  # all that augmentation draws comes up
        batch = batch_of(profile, step, META, True)
    made = (batch.image, batch.weak, batch.labels, batch.distance_known)
    assert {t.device for t in made} == {META}


@pytest.mark.parametrize("name,options", VARIANTS, ids=lambda v: str(v))
def test_no_step_waits_for_the_device(name, options):
    method, step = METHODS[name](**options), STEPS[0]
    strides = ((2, 2, 2), (2, 2, 2), (2, 2, 1), (2, 2, 1))
    settings = NetworkSettings(filters=2, strides=strides, distance_head=method.uses_distance)
    student = DualTaskVNet(settings).to(META)
    auxiliary = method.auxiliary(student, None)
    if auxiliary is not None:
        student.auxiliary = auxiliary.to(META)
    teacher = Teacher(student)
    student.train()
    batch = batch_of(profiles.COMPACT, step, META, True)
    sum(method.losses(student, teacher.network, batch, step).values()).backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
    torch.optim.AdamW(student.parameters()).step()
    teacher.update(student, step.index)
    if method.adversarial:
        sum(method.discriminator_losses(student, batch, step).values()).backward()


def test_the_device_takes_cases_up_to_the_budget_and_leaves_those_in_files(tmp_path):
    cases = [case(0, True), case(1, False), case(2, False)]
    placed = on_device(cases, CPU, cases[0].nbytes + cases[1].nbytes)
    assert [isinstance(c.image, torch.Tensor) for c in placed] == [True, True, False]
    assert placed[0].distance_known is None and placed[1].fractions is None
    np.save(tmp_path / "image.npy", cases[1].image)
    mapped = replace(cases[1], image=tmp_path / "image.npy")
    assert on_device([mapped], CPU, 1 << 30) == [mapped]


def test_a_training_keeps_its_cases_on_the_device_and_learns_the_same(tmp_path, monkeypatch):
    names = write_cohort(tmp_path, 3, 1, (40, 36, 30), (2.5, 2.5, 2.5))
    cohort = find_cohort(tmp_path / "images", tmp_path / "labels", names[:2])
    profile = with_patch(replace(profiles.COMPACT, iterations=2, warmup=0), PATCH)
    profile = replace(profile, network=replace(profile.network, filters=2))
    weights = []
    monkeypatch.setattr(devices, "room_for_cases", lambda device: 1 << 30)
    for resident in (False, True):
        folder = tmp_path / str(resident)
        settings = TrainingSettings(device="cpu", resident=resident)
        run = Trainer(TrainingTask(cohort, UGMCL(passes=2), profile, folder, settings), CPU)
        lie = [isinstance(c.image, torch.Tensor) for c in (*run.labeled, *run.unlabeled)]
        assert lie == [resident] * 3
        folder.mkdir()
        run.loop(lambda: False)
        weights.append(run.weights())
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_a_gpu_gives_cases_a_quarter_of_its_free_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", {0: (400, 800), 1: (80, 800)}.__getitem__)
    assert devices.room_for_cases(torch.device("cuda:0")) == 100
    assert devices.room_for_cases(torch.device("cuda")) == 20
    assert devices.room_for_cases(CPU) == 0


@pytest.mark.parametrize(("kind", "name"), [("adamw", "AdamW"), ("sgd", "SGD")])
@pytest.mark.parametrize(("places", "fused"), [(("cuda", "cuda"), True), (("cuda", "cpu"), False),
                                                (("cpu", "cpu"), False)])  # fmt: skip
def test_the_optimizer_is_one_kernel_on_a_gpu(monkeypatch, kind, name, places, fused):
    asked = {}
    monkeypatch.setattr(torch.optim, name, lambda _, rate, **options: asked.update(options))
    profile = replace(profiles.PAPER, optimization=Optimization(kind))
    trainer._optimizer([SimpleNamespace(device=torch.device(d)) for d in places], profile)
    assert asked.get("fused", False) is fused
    assert asked["weight_decay"] == profile.optimization.weight_decay
