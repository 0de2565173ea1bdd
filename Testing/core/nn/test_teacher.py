"""The mean teacher: its average, and that its targets carries no gradient."""

import math

import pytest
import torch

from ugmcl_core.nn.network import DualTaskVNet, NetworkSettings
from ugmcl_core.nn.teacher import Teacher, mc_dropout_targets, mc_dropout_targets_by_decoder, noisy


@pytest.fixture
def student():
    torch.manual_seed(0)
    return DualTaskVNet(NetworkSettings(filters=2))


def test_the_average_follows_its_formula(student):
    teacher = Teacher(student, decay=0.9)
    name = "segmentation_head.weight"
    expected = teacher.network.state_dict()[name].clone()
    for index in range(30):
        with torch.no_grad():
            student.segmentation_head.weight += 1.0
        teacher.update(student, index)
        alpha = min(1 - 1 / (index + 1), 0.9)
        expected = alpha * expected + (1 - alpha) * student.segmentation_head.weight
    got = teacher.network.segmentation_head.weight
    assert torch.allclose(got, expected, atol=1e-4)
    assert not torch.allclose(got, student.segmentation_head.weight)
    assert got.abs().sum() > 0


def test_statistics_are_copied_or_averaged(student):
    copying, averaging = Teacher(student, 0.5), Teacher(student, 0.5, average_buffers=True)
    key = "down.0.1.running_mean"
    start = student.state_dict()[key].clone()
    with torch.no_grad():
        student.get_buffer(key).add_(8.0)
    for teacher in (copying, averaging):
        teacher.update(student, 9)
    assert torch.allclose(copying.network.get_buffer(key), start + 8.0)
    assert torch.allclose(averaging.network.get_buffer(key), start + 4.0)


@pytest.mark.parametrize("ask", [mc_dropout_targets, mc_dropout_targets_by_decoder])
def test_advice_has_no_gradient_and_an_entropy_in_range(student, ask):
    teacher = Teacher(student).network
    targets = ask(teacher, torch.randn(2, 1, 16, 16, 16), 3)
    for tensor in (targets.probabilities, targets.distance, targets.entropy):
        assert not tensor.requires_grad
    assert targets.entropy.shape == (2, 1, 16, 16, 16)
    assert targets.entropy.min() >= 0 and targets.entropy.max() <= math.log(2) + 1e-5


def test_published_advice_is_drawn_anew_at_each_pass(student):
    teacher = Teacher(student).network
    x = torch.randn(2, 1, 16, 16, 16)
    first, second = mc_dropout_targets(teacher, x, 1), mc_dropout_targets(teacher, x, 1)
    assert not torch.equal(first.probabilities, second.probabilities)


def test_published_advice_runs_on_batch_statistics_and_changes_none(student):
    teacher = Teacher(student).network
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    x = torch.randn(2, 1, 16, 16, 16)
    torch.manual_seed(1)
    first = mc_dropout_targets(teacher, x, 2)
    with torch.no_grad():
        for name, buffer in teacher.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(5.0)
    torch.manual_seed(1)
    assert torch.equal(mc_dropout_targets(teacher, x, 2).entropy, first.entropy)
    changed = [k for k, v in teacher.state_dict().items() if not torch.equal(v, before[k])]
    assert changed and all(k.endswith("running_mean") for k in changed)
    assert not torch.equal(teacher.eval()(x).logits, Teacher(student).network.eval()(x).logits)


def test_a_shared_encoding_has_entropy_over_dropout_alone(student):
    """Over many passes the mean of the samples is that of whole passes over the same noise."""
    teacher = Teacher(student).network.train()
    teacher.segmentation_head.weight.mul_(20.0)  # sure of something
    x = torch.randn(2, 1, 16, 16, 16)
    torch.manual_seed(3)
    shared = mc_dropout_targets(teacher, x, 120, shared_encoder=True)
    torch.manual_seed(3)
    with torch.no_grad():
        teacher(noisy(x))  # the target pass
        image = noisy(x)
        samples = [teacher(image).probabilities for _ in range(120)]
    mean = sum(samples) / 120
    plain = -(mean * mean.log()).sum(1, keepdim=True)
    assert (shared.entropy - plain).abs().mean() < 0.25 * plain.std()
    one = mc_dropout_targets(teacher, x, 1, shared_encoder=True)
    assert not torch.equal(one.probabilities, mc_dropout_targets(teacher, x, 1).probabilities)


def test_decoder_advice_has_steady_targets_and_leaves_statistics_alone(student):
    teacher = Teacher(student).network
    before = [b.clone() for b in teacher.buffers()]
    x = torch.randn(1, 1, 16, 16, 16)
    first, second = (mc_dropout_targets_by_decoder(teacher, x, 2) for _ in range(2))
    assert torch.equal(first.probabilities, second.probabilities)
    assert not torch.equal(first.entropy, second.entropy)
    assert all(map(torch.equal, before, teacher.buffers()))


def test_noise_is_bounded():
    x = torch.zeros(1, 1, 40, 40, 40)
    noise = noisy(x)
    assert noise.abs().max() <= 0.2
    assert 0.09 < noise.std() < 0.1
