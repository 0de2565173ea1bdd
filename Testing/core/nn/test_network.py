"""The V-Net: its size, its heads, its parts apart."""

import pytest
import torch

from ugmcl_core.nn.network import (
    DualTaskVNet,
    NetworkSettings,
    Output,
    set_dropout,
    start_at,
    without_normalization,
)


def small(**options):
    torch.manual_seed(0)
    return DualTaskVNet(NetworkSettings(filters=4, **options))


def test_it_has_the_published_number_of_parameters():
    network = DualTaskVNet(NetworkSettings(distance_head=False))
    assert sum(p.numel() for p in network.parameters()) == 9_448_866


@pytest.mark.parametrize("classes,channels", [(2, 1), (3, 2), (5, 1)])
def test_heads_have_the_right_shapes_and_ranges(classes, channels):
    out = small(classes=classes, channels=channels)(torch.randn(2, channels, 32, 16, 16))
    assert out.logits.shape == (2, classes, 32, 16, 16)
    assert out.distance.shape == (2, classes - 1, 32, 16, 16)
    assert out.distance.abs().max() <= 1
    assert torch.allclose(out.probabilities.sum(1), torch.ones(2, 32, 16, 16), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_foreground_is_the_softmax_without_the_background(classes):
    logits = 20 * torch.randn(2, classes, 4, 4, 4)
    out = Output(logits, None)
    torch.testing.assert_close(out.foreground, logits.softmax(1)[:, 1:], rtol=1e-5, atol=1e-7)
    assert Output(logits.bfloat16(), None).foreground.dtype == torch.float32


def test_the_heads_are_separate():
    network = small().eval()
    x = torch.randn(1, 1, 16, 16, 16)
    before = network(x)
    with torch.no_grad():
        network.distance_head[1].bias += 1.0
    after = network(x)
    assert torch.equal(before.logits, after.logits)
    assert not torch.allclose(before.distance, after.distance)


def test_encoding_and_decoding_apart_is_the_forward_pass():
    network = small().eval()
    x = torch.randn(1, 1, 32, 16, 16)
    whole, parts = network(x), network.decode(network.encode(x))
    assert torch.equal(whole.logits, parts.logits)
    assert torch.equal(whole.distance, parts.distance)


def test_moving_normalization_into_the_convolutions_leaves_the_function():
    network = small(classes=3)
    for _ in range(3):  # statistics of its own
        network(torch.randn(2, 1, 16, 16, 16) * 2 + 1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.weight, -1.0, 2.0)
            torch.nn.init.normal_(module.bias)
    folded = without_normalization(network.train())
    assert not any(isinstance(m, torch.nn.BatchNorm3d) for m in folded.modules())
    assert network.training and any(isinstance(m, torch.nn.BatchNorm3d) for m in network.modules())
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        plain, fast = network.eval()(x), folded(x)
    assert torch.allclose(plain.logits, fast.logits, atol=1e-4 * float(plain.logits.abs().max()))
    assert torch.allclose(plain.distance, fast.distance, atol=1e-4)


def test_sharing_the_encoding_leaves_the_distribution_of_monte_carlo_passes():
    network = small().eval()
    set_dropout(network, True)
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.manual_seed(1)
        full = torch.stack([network(x).probabilities[0, 1] for _ in range(200)])
        features = network.encode(x)
        shared = torch.stack([network.decode(features).probabilities[0, 1] for _ in range(200)])
    spread = full.std(0)
    # two means of 200 draws differ by less than 5 standard errors everywhere
    assert ((full.mean(0) - shared.mean(0)).abs() < 5 * spread * (2 / 200) ** 0.5 + 1e-6).all()
    assert 0.9 < (shared.var(0).mean() / full.var(0).mean()) < 1.1


def test_dropout_is_switched_without_touching_batch_normalization():
    network = small().eval()
    set_dropout(network, True)
    x = torch.randn(1, 1, 16, 16, 16)
    statistics = [b.clone() for b in network.buffers()]
    assert not torch.equal(network(x).logits, network(x).logits)
    assert all(map(torch.equal, statistics, network.buffers()))
    set_dropout(network, False)
    assert torch.equal(network(x).logits, network(x).logits)


@pytest.mark.parametrize("classes,distance_dropout", [(2, False), (4, False), (2, True)])
def test_dropout_in_the_weights_is_dropout_of_the_features(classes, distance_dropout):
    network = small(classes=classes, distance_dropout=distance_dropout)
    head = network.segmentation_head
    features = torch.randn(3, 4, 8, 6, 5, requires_grad=True)
    toward, results = torch.randn(3, classes, 8, 6, 5), []
    for logits in (
        lambda: network.heads(features, distance=not distance_dropout).logits,
        lambda: head(torch.nn.functional.dropout3d(features, 0.5)),
    ):
        torch.manual_seed(3)
        out = logits()
        gradients = torch.autograd.grad(out, [features, head.weight, head.bias], toward)
        results.append((out, *gradients))
    assert not torch.allclose(results[0][0], head(features))
    for fast, plain in zip(*results, strict=True):
        assert torch.allclose(fast, plain, atol=1e-4)


def test_a_card_rebuilds_the_network():
    settings = NetworkSettings(classes=3, filters=2, strides=((2, 2, 1),) * 4)
    assert NetworkSettings(**settings.to_dict()) == settings
    assert "kernels" not in settings.to_dict(), "as before there were others"
    flat = NetworkSettings(filters=2, kernels=((3, 3, 1),) * 2 + ((3, 3, 3),) * 3)
    assert NetworkSettings(**flat.to_dict()) == flat
    assert DualTaskVNet(flat).levels_up[0][0][0].weight.shape[2:] == (3, 3, 1)
    with pytest.raises(ValueError, match="kernels"):
        NetworkSettings(kernels=((5, 3, 3),) * 5)


@pytest.mark.parametrize("distance_dropout", [True, False])
def test_the_distance_head_may_see_features_before_dropout(distance_dropout):
    network = small(distance_dropout=distance_dropout).eval()
    features = network.encode(torch.randn(1, 1, 16, 16, 16))
    features[-1] = torch.zeros_like(features[-1])  # which leaves the bottleneck's no effect
    set_dropout(network, True)
    first, second = network.decode(features), network.decode(features)
    assert not torch.equal(first.logits, second.logits)
    assert torch.equal(first.distance, second.distance) != distance_dropout


def test_a_network_may_start_at_the_shares_of_the_classes():
    network = small(classes=3).eval()
    with torch.no_grad():
        network.segmentation_head.weight.zero_()
        network.distance_head[1].weight.zero_()
    start_at(network, (0.1, 0.0))
    out = network(torch.randn(1, 1, 16, 16, 16))
    found = out.probabilities.mean((0, 2, 3, 4)).tolist()
    assert found == pytest.approx([0.9, 0.1, 0.0], abs=1e-3) and found[2] > 0
    assert torch.allclose(out.distance, torch.tensor(1.0).tanh())
