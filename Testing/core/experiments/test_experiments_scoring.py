"""Scoring: the paper's windows, and the measures that go on record."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from samples import ball, on_grid, small_case, tiny_model

from ugmcl_core.data import volume
from ugmcl_core.data.cases import Case
from ugmcl_core.errors import InputError
from ugmcl_core.evaluation import metrics
from ugmcl_core.experiments.scoring import (
    Scoring,
    case_rows,
    predict_strided,
    score_cases,
    segment_as_published,
)
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.nn.network import DualTaskVNet, NetworkSettings


class Places(DualTaskVNet):
    """Stands in for a network: a probability that depends on the place in the window alone, and
    is large where the image is."""

    def forward(self, image):
        ramp = torch.arange(image[0, 0].numel(), dtype=torch.float32).reshape(image.shape[2:])
        logit = ramp / ramp.numel() + 3.0 * image[:, 0]
        logits = torch.stack([torch.zeros_like(logit), logit], dim=1)
        return type("Out", (), {"probabilities": logits.softmax(dim=1)})()


@pytest.mark.parametrize(
    ("shape", "patch", "stride"),
    [
        ((20, 18, 10), (8, 8, 8), (3, 5, 2)),
        ((8, 8, 8), (8, 8, 8), (18, 18, 4)),
        ((5, 12, 7), (8, 8, 8), (3, 3, 3)),  # two axes are smaller than the patch
    ],
)
def test_windows_of_the_paper_by_hand(shape, patch, stride):
    image = torch.randn(1, *shape)
    network = Places(NetworkSettings(filters=1))
    found = predict_strided(network, image, patch, stride).numpy()
    assert found.shape == (1, *shape)
    # by hand, with NumPy: zeros around, every window, the mean
    gaps = [max(0, p - n) for n, p in zip(shape, patch, strict=True)]
    around = [(g // 2, g - g // 2) for g in gaps]
    padded = np.pad(image[0].numpy().astype(float), around)
    starts = []
    for n, p, s in zip(padded.shape, patch, stride, strict=True):
        places = list(range(0, n - p + 1, s))
        starts.append(places if places[-1] == n - p else [*places, n - p])
    total, count = np.zeros(padded.shape), np.zeros(padded.shape)
    ramp = np.arange(math.prod(patch)).reshape(patch) / math.prod(patch)
    for corner in itertools.product(*starts):
        box = tuple(slice(a, a + p) for a, p in zip(corner, patch, strict=True))
        total[box] += 1 / (1 + np.exp(-(ramp + 3.0 * padded[box])))
        count[box] += 1
    inner = tuple(slice(b, b + n) for (b, _), n in zip(around, shape, strict=True))
    np.testing.assert_allclose(found[0], (total / count)[inner], atol=1e-5)


def test_published_inference_is_on_the_images_grid(tmp_path):
    image, _ = small_case(3)
    model = tiny_model(tmp_path / "m", patch=(32, 32, 16))
    labels = segment_as_published(Segmenter(model, "cpu"), image)
    assert labels.grid.same_as(image.grid) and labels.array.shape == image.array.shape
    assert labels.array.dtype == np.uint8 and set(np.unique(labels.array)) <= {0, 1}


def test_rows_hold_both_with_and_without_the_largest_component():
    reference = on_grid(ball().astype(np.uint16), (1.0, 1.0, 2.0))
    labels = ball().astype(np.uint8)
    labels[0, 0, 0] = 1  # an island
    (row,) = case_rows("a", labels, reference, [1])
    truth = reference.array == 1
    whole = metrics.score(labels == 1, truth, (1.0, 1.0, 2.0))
    assert row["dice"] == whole.dice < 1.0 and row["hd95_mm"] == whole.hd95_mm
    assert row["largest"]["dice"] == 1.0 and row["largest"]["asd"] == 0.0
    assert labels[0, 0, 0] == 1, "the label map itself was changed"
    (empty,) = case_rows("b", np.zeros_like(labels), reference, [1])
    assert empty["dice"] == 0.0 and math.isnan(empty["asd"])


def test_every_class_is_scored(tmp_path):
    image, labels = small_case(1, classes=3)
    volume.write(tmp_path / "image.nrrd", image)
    volume.write(tmp_path / "label.nrrd", labels)
    case = Case("a", tmp_path / "image.nrrd", tmp_path / "label.nrrd")
    model = tiny_model(tmp_path / "m", classes=3)
    out = tmp_path / "out"

    def score(case):
        return score_cases(model, [case], Scoring(), "cpu", out, lambda fraction, text: None)

    assert [(r["case"], r["label"]) for r in score(case)] == [("a", 1), ("a", 2)]
    written = volume.read_labels(out / "a.nrrd")
    assert written.grid.same_as(labels.grid)
    volume.write(tmp_path / "label.nrrd", on_grid(np.zeros((4, 4, 4), np.uint8)))
    with pytest.raises(InputError, match="is on a different grid"):
        score(case)


def test_each_way_of_scoring_has_its_own_name():
    names = {Scoring(c, s).key for c in ("dev", "report") for s in (False, True)}
    assert names == {"dev", "report", "dev-paper-stride", "report-paper-stride"}
