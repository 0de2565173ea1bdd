"""The network of a model: its card is compared with the weights before anything is built."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from samples import small_case, tiny_model

from ugmcl_core.errors import InputError
from ugmcl_core.inference.ranking import assess
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.models.model import save_model, update_card
from ugmcl_core.models.network import build_network


@pytest.mark.parametrize(
    "changes",
    [
        {"filters": 100_000}, {"filters": 10**30}, {"filters": 3}, {"filters": "2"},
        {"strides": [[2, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 1]]}, {"distance_head": False},
        {"strides": [[10**6, 1, 1]] * 4},
    ],
)  # fmt: skip
def test_a_card_that_does_not_fit_the_weights_builds_nothing(tmp_path, changes, monkeypatch):
    model = tiny_model(tmp_path / "tiny")
    patch = (48, 32, 16) if "strides" not in changes else (10**24, 8, 8)
    model = update_card(model, network={**model.card.network, **changes}, patch=patch)
    built = []
    real = torch.nn.Module.__init__

    def init(module, *words, **options):
        built.append(torch.empty(0).device.type)
        real(module, *words, **options)

    monkeypatch.setattr(torch.nn.Module, "__init__", init)
    with pytest.raises(InputError, match=r"get (it|the model) again"):
        build_network(model, torch.device("cpu"))
    assert set(built) <= {"meta"}, "memory was taken for a network that the weights do not fit"


@pytest.mark.parametrize("value", [1e30, 3e38])
def test_weights_whose_output_is_not_finite_are_an_error(tmp_path, value):
    model = tiny_model(tmp_path / "tiny")
    state = {
        k: torch.full_like(v, value) if v.ndim > 1 else v for k, v in model.load_weights().items()
    }
    model = save_model(tmp_path / "large", replace(model.card, name="large"), state, half=False)
    image, _ = small_case()
    segmenter = Segmenter(model, "cpu")
    with pytest.raises(InputError, match="model large gives values that are not finite"):
        segmenter.segment(image)
    with pytest.raises(InputError, match="not finite"):
        assess(segmenter, image, 1)
