"""Which case to annotate next: the doubtful and the broken ones first."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from samples import ball, tiny_model, write_image

from ugmcl_core.__main__ import main
from ugmcl_core.data import volume
from ugmcl_core.data.preprocessing import Normalization, prepare
from ugmcl_core.data.volume import Volume
from ugmcl_core.errors import InputError
from ugmcl_core.inference import ranking
from ugmcl_core.inference import segmenter as module
from ugmcl_core.inference.agreement import agreement
from ugmcl_core.inference.ranking import Assessment, assess, ranked
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.inference.sliding_window import Prediction
from ugmcl_core.inference.surface_error import within_reach_only
from ugmcl_core.inference.surface_uncertainty import surface_uncertainty
from ugmcl_core.models.card import Calibration


def test_the_agreement_is_the_soft_dice_with_the_prediction():
    rng = np.random.default_rng(0)
    sampled = rng.uniform(0, 0.5, (3, 20, 18, 16))
    found = np.zeros((20, 18, 16), int)
    found[ball()] = (
        np.where(np.arange(20) < 10, 1, 3)[:, None, None].repeat(18, 1).repeat(16, 2)[ball()]
    )
    expected = [
        2 * (q * (found == c)).sum() / (q.sum() + (found == c).sum())
        for c, q in ((1, sampled[0]), (3, sampled[2]))
    ]
    got = agreement(torch.from_numpy(sampled), torch.from_numpy(found))
    assert got == pytest.approx(np.mean(expected))
    assert agreement(torch.from_numpy(sampled), torch.zeros(20, 18, 16)) == 0.0
    certain = torch.stack([torch.from_numpy(found == c) for c in (1, 2, 3)]).double()
    assert agreement(certain, torch.from_numpy(found)) == 1.0


def test_what_is_seen_of_another_structure_says_nothing_of_this_one():
    mask = np.zeros((30, 20, 20), bool)
    mask[3:9, 5:12, 5:12] = True
    q = np.zeros(mask.shape, np.float32)
    q[2:10, 5:12, 5:12] = 0.8
    spacing = (2.0, 1.0, 1.0)
    assert np.array_equal(within_reach_only(q, mask, spacing), q)
    more = q.copy()
    more[25:] = 0.9  # 32 mm away
    assert np.array_equal(within_reach_only(more, mask, spacing), q)
    assert not within_reach_only(q, np.zeros_like(mask), spacing).any()


def test_a_case_is_assessed_on_the_models_grid(segmenter, case):
    image, _ = case
    found = assess(segmenter, image, 3)
    prediction, prepared, _ = segmenter.predict(
        image, SegmentSettings(3), progress=lambda f, t: None
    )
    mask = prediction.foreground[0].numpy() > 0.5
    unsure = surface_uncertainty(prediction.uncertainty[0].numpy(), mask, prepared.spacing)
    assert found.uncertainty == pytest.approx(unsure)
    q = (prediction.sampled[0].numpy() + prediction.foreground[0].numpy()) / 2
    q = within_reach_only(q, mask, prepared.spacing)
    agreeing = float(2 * q[mask].sum() / (mask.sum() + q.sum()))
    expected = min(1.0, Calibration.dice_slope * agreeing + Calibration.dice_offset)
    assert found.predicted_dice == pytest.approx(float(expected), rel=1e-4)


def test_islands_that_results_leave_out_do_not_count(segmenter, case, monkeypatch):
    def seen(*pieces):
        def predict(network, image, *arguments, **options):
            p = torch.zeros(1, *image.shape[1:])
            for (first, size), value in pieces:
                p[(0, *(slice(first, first + size),) * 3)] = value
            return Prediction(p, None, 0.9 * p)

        monkeypatch.setattr(module, "predict_mirrored", predict)
        return assess(segmenter, case[0], 1)

    structure, island = ((2, 5), 0.95), ((13, 6), 0.55)
    assert seen(structure, island) == seen(structure) != seen(island)


def test_noise_comes_before_what_the_model_knows(segmenter, case):
    image, _ = case
    rng = np.random.default_rng(5)
    noise = Volume(rng.normal(100, 20, image.array.shape).astype(np.float32), image.grid)
    order = ranked([(n, assess(segmenter, v, 4)) for n, v in (("good", image), ("noise", noise))])
    assert [name for name, _ in order] == ["noise", "good"]


def test_where_nothing_is_found_comes_first():
    nothing = Assessment(math.nan, 0.0)
    good, vague, poor = Assessment(0.2, 0.9), Assessment(0.6, 0.9), Assessment(0.3, 0.7)
    order = ranked([("good", good), ("vague", vague), ("nothing", nothing), ("poor", poor)])
    assert [name for name, _ in order] == ["nothing", "poor", "vague", "good"]
    assert ranking.described("x", nothing) == {
        "image": "x", "uncertainty": None, "predicted_dice": 0.0
    }  # fmt: skip


def test_a_model_that_finds_nothing_says_so(tmp_path):
    model = tiny_model(tmp_path / "tiny")
    segmenter = Segmenter(model, "cpu")
    with torch.no_grad():
        segmenter.network.segmentation_head.bias += torch.tensor([50.0, -50.0])
    image = volume.read(write_image(tmp_path / "scan.nrrd"))
    found = assess(segmenter, image, 2)
    assert math.isnan(found.uncertainty) and found.predicted_dice == 0.0


def test_the_command_ranks_what_it_can_read(tmp_path, capsys):
    model = tiny_model(tmp_path / "tiny")
    for name, seed in (("a", 0), ("b", 1)):
        write_image(tmp_path / f"{name}.nrrd", seed)
    (tmp_path / "broken.nrrd").write_bytes(b"NRRD0004\n")
    names = [str(tmp_path / f"{n}.nrrd") for n in ("a", "broken", "b")]
    words = ["rank", *names, "--model", str(model.folder), "--device", "cpu", "--passes", "2"]
    assert main([*words, "--json"]) == 1
    told = capsys.readouterr()
    cases = json.loads(told.out)["cases"]
    assert sorted(c["image"] for c in cases) == [names[0], names[2]]
    unsure = [math.inf if c["uncertainty"] is None else c["uncertainty"] for c in cases]
    assert unsure == sorted(unsure, reverse=True)
    assert "broken failed" in told.err
    assert main(words) == 1
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in table[1:]] == [c["image"] for c in cases]
    assert main(["rank", names[1], "--model", str(model.folder)]) == 2


@pytest.mark.parametrize("kind", ["dropout", "flips", "both"])
def test_the_uncertainty_is_the_entropy_of_the_mean_of_its_samples(tmp_path, kind, monkeypatch):
    """Against numpy, from the very samples that the network gave."""
    from ugmcl_core.nn.network import DualTaskVNet

    model = tiny_model(tmp_path / "tiny", classes=3, mirror_axes=(0, 2))
    segmenter = Segmenter(model, "cpu")
    image = volume.read(write_image(tmp_path / "scan.nrrd"))
    views, decode, encode = [], DualTaskVNet.decode, DualTaskVNet.encode
    shape = prepare(image, model.card.spacing, Normalization()).image.shape[1:]
    inside = (slice(None), *(slice(0, n) for n in shape))  # of the padding

    def looking(self, part):
        views.append((part[0].numpy()[inside].copy(), []))
        return encode(self, part)

    def deciding(self, features, distance=True):
        out = decode(self, features, distance)
        views[-1][1].append((self.dropout.training, out.probabilities[0].numpy()[inside]))
        return out

    monkeypatch.setattr(DualTaskVNet, "encode", looking)
    monkeypatch.setattr(DualTaskVNet, "decode", deciding)
    settings = SegmentSettings(6, uncertainty=kind)
    prediction, _, _ = segmenter.predict(image, settings, progress=lambda f, t: None)
    assert len(views) == 4
    per_view, plain = [], views[0][0]
    for part, outs in views:
        back = next(a for a in ((), (1,), (3,), (1, 3)) if np.array_equal(part, np.flip(plain, a)))
        chosen = [p for dropped, p in outs if dropped == (kind != "flips")]
        per_view.append([np.flip(p, back) for p in chosen])
    counts = {"dropout": [6, 0, 0, 0], "flips": [1] * 4, "both": [2] * 4}[kind]
    assert [len(v) for v in per_view] == counts
    mean = np.mean([s for v in per_view for s in v], axis=0, dtype=np.float64)
    expected = -(mean * np.log(mean)).sum(0) / math.log(3)
    assert np.abs(prediction.uncertainty[0].numpy() - expected).max() < 1e-4


def test_flips_need_a_model_that_allows_them(tmp_path, capsys):
    model = tiny_model(tmp_path / "tiny")
    scan = write_image(tmp_path / "scan.nrrd")
    words = ["segment", str(scan), "--model", str(model.folder), "--output", str(tmp_path),
             "--device", "cpu", "--uncertainty", "flips"]  # fmt: skip
    assert main(words) == 2
    assert "not trained on mirrored images" in capsys.readouterr().err
    tiny_model(tmp_path / "mirrored", mirror_axes=(0,))
    words[3] = str(tmp_path / "mirrored")
    assert main(words) == 0
    assert (tmp_path / "scan_uncertainty.nrrd").is_file()
    with pytest.raises(InputError, match="'dice' is not one of dropout, flips, both"):
        SegmentSettings(uncertainty="dice")
