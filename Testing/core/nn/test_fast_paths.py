"""Fast ways of computing against the plain ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from method_samples import MIDDLE

from ugmcl_core.data import phantoms
from ugmcl_core.evaluation import metrics
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.inference.sliding_window import predict
from ugmcl_core.methods import UGMCL, UGMCLPlus
from ugmcl_core.models.model import resolve
from ugmcl_core.nn import devices
from ugmcl_core.nn.batch import Batch
from ugmcl_core.nn.network import DualTaskVNet, NetworkSettings
from ugmcl_core.nn.teacher import Teacher, mc_dropout_targets, noisy
from ugmcl_core.nn.uncertainty import entropy

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def reference(monkeypatch):
    """The benchmark's plain implementation."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import reference

    return reference


@pytest.mark.parametrize("method", [UGMCL(passes=2), UGMCLPlus(passes=2)])
def test_the_memory_format_leaves_the_losses_alone(method):
    torch.manual_seed(0)
    networks = [DualTaskVNet(NetworkSettings(filters=4, dropout=0.0)) for _ in range(2)]
    image = torch.randn(4, 1, 16, 16, 16)
    labels = torch.nn.functional.one_hot(torch.randint(0, 2, (2, 16, 16, 16))).movedim(-1, 1)
    ones = torch.ones(2, 1, 16, 16, 16)
    targets = (labels.float(), 2 * torch.rand(2, 1, 16, 16, 16) - 1, ones, ones)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        student, teacher = (n.to(memory_format=layout).train() for n in networks)
        view = image.contiguous(memory_format=layout)
        torch.manual_seed(1)
        terms = method.losses(student, teacher, Batch(view, view, *targets), MIDDLE)
        found.append({k: v.item() for k, v in terms.items()})
    assert found[0] == pytest.approx(found[1], rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("before_dropout", [True, False])
def test_sparing_the_distance_head_in_monte_carlo_passes_changes_no_advice(before_dropout):
    torch.manual_seed(0)
    settings = NetworkSettings(filters=4, distance_dropout=not before_dropout)
    network = Teacher(DualTaskVNet(settings)).network.train()
    image = torch.randn(4, 1, 16, 16, 16)
    torch.manual_seed(1)
    advice = mc_dropout_targets(network, image, 3)
    torch.manual_seed(1)
    with torch.no_grad():
        target, *samples = [network(noisy(image)) for _ in range(4)]
    assert torch.equal(advice.distance, target.distance)
    mean = sum(sample.probabilities for sample in samples) / 3
    assert torch.equal(advice.entropy, entropy(mean))


def test_half_precision_gives_the_same_segmentation(monkeypatch):
    if not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this processor does not compute in bfloat16")
    image, _ = phantoms.phantom(3)
    without = SegmentSettings(passes=0)
    half = Segmenter(resolve("la-lge-mri"), "cpu").segment(image, without).labels.array
    monkeypatch.setattr(devices, "precision", lambda device: torch.float32)
    full = Segmenter(resolve("la-lge-mri"), "cpu").segment(image, without).labels.array
    assert full.any()
    assert metrics.dice(half == 1, full == 1) > 0.999


def test_the_benchmarks_reference_segments_alike(reference):
    """In one window both are the softmax of the network, and entropies of the same kind."""
    torch.manual_seed(2)
    network = DualTaskVNet(NetworkSettings(filters=4)).eval()
    image = np.random.default_rng(0).normal(size=(32, 32, 16)).astype(np.float32)
    plain = reference.segment(network, image, (32, 32, 16), passes=64)
    fast = predict(network, torch.from_numpy(image)[None], (32, 32, 16), passes=64)
    assert np.allclose(plain[1], fast.foreground[0], atol=1e-5)
    assert np.allclose(plain[2] / np.log(2), fast.uncertainty[0], atol=0.05)


def test_devices_choose_a_precision_that_the_processor_has():
    with devices.autocast(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    half = torch.cpu._is_avx512_bf16_supported()
    assert product.dtype == (torch.bfloat16 if half else torch.float32)
