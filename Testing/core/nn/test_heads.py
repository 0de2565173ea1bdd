"""New classes on a base model, and its weights in another network: what it knew stays."""

import math

import pytest
import torch
from samples import tiny_model

from ugmcl_core.nn.network import (
    DualTaskVNet,
    NetworkSettings,
    load_weights,
    take_over,
    with_new_classes,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("m") / "tiny", classes=3).load_weights()


def network(weights, classes):
    result = DualTaskVNet(NetworkSettings(classes=classes, filters=2)).eval()
    load_weights(result, weights)
    return result


@pytest.mark.parametrize("more", [1, 2])
def test_the_old_classes_answers_are_the_bases(weights, more):
    torch.manual_seed(0)
    image = torch.randn(1, 1, 32, 16, 16)
    with torch.no_grad():
        old = network(weights, 3)(image)
        new = network(with_new_classes(weights, 3 + more), 3 + more)(image)
    assert torch.allclose(new.logits[:, :3], old.logits, atol=1e-5)
    assert torch.allclose(new.distance[:, :2], old.distance, atol=1e-5)
    p, q = new.probabilities, old.probabilities
    assert torch.allclose(p[:, :3] / p[:, :3].sum(1, keepdim=True), q, atol=1e-6)
    added = p[:, 3:].sum(1).mean()
    assert 0.2 < added / p[:, 0].mean() < 5.0, "about as probable as the background"
    assert (new.distance[:, 2:] > 0).all(), "nothing is inside the new classes yet"


def test_new_classes_differ_from_the_background_and_from_each_other(weights):
    """Equal kernels would get equal gradients, and teach the features nothing of the class."""
    torch.manual_seed(0)
    kernels = with_new_classes(weights, 5)["segmentation_head.weight"].flatten(1)
    for a, b in ((0, 3), (0, 4), (3, 4)):
        assert (kernels[a] - kernels[b]).abs().mean() > 0.1
    torch.manual_seed(0)
    again = with_new_classes(weights, 5)["segmentation_head.weight"].flatten(1)
    assert torch.equal(kernels, again), "a function of the seed"


def test_the_same_number_of_classes_changes_nothing(weights):
    assert all(v is weights[k] for k, v in with_new_classes(weights, 3).items())


def test_classes_cannot_be_taken_away(weights):
    with pytest.raises(ValueError, match="more than 2"):
        with_new_classes(weights, 2)


def test_a_base_without_distance_head_gets_a_segmentation_channel(weights):
    plain = {k: v for k, v in weights.items() if not k.startswith("distance_head")}
    extended = with_new_classes(plain, 5)
    assert extended["segmentation_head.bias"][3] == pytest.approx(
        float(plain["segmentation_head.bias"][0]) - math.log(2)
    )
    assert set(extended) == set(plain)


def test_a_network_for_thick_slices_answers_as_the_base_where_slices_are_alike(weights):
    torch.manual_seed(0)
    base = network(weights, 3)
    flat = NetworkSettings(
        classes=3, filters=2, strides=((2, 2, 1),) * 4, kernels=((3, 3, 1),) * 5
    )
    other = DualTaskVNet(flat).eval()
    assert take_over(other, weights) == (62, 62)
    plane = torch.randn(1, 1, 64, 64, 1)
    with torch.no_grad():
        # so many equal slices that the zeros beyond the border do not reach the middle
        whole = base.encode(plane.expand(-1, -1, -1, -1, 160))[2]
        found = other.encode(plane)[2]
    assert torch.allclose(found[..., 0], whole[..., 20], rtol=1e-3, atol=1e-4)


def test_layers_of_other_sizes_start_anew(weights):
    torch.manual_seed(0)
    other = DualTaskVNet(NetworkSettings(classes=5, filters=2, kernels=((3, 3, 1),) * 5))
    names = ("segmentation_head.weight", "distance_head.1.weight")
    heads = {name: other.state_dict()[name].clone() for name in names}
    some, all_ = take_over(other, weights)
    assert (some, all_) == (60, 62), "the last layer of each head"
    assert all(torch.equal(other.state_dict()[name], head) for name, head in heads.items())
    wider = DualTaskVNet(NetworkSettings(classes=3, filters=4))
    assert take_over(wider, weights)[0] == 0
