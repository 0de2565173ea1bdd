"""Memory and work of what is large: many classes, and a small structure in a large field."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parents[1]
GIB = 1 << 30

_BEGIN = """
import json, resource, sys
from dataclasses import replace
import numpy as np, torch
from samples import tiny_model
from ugmcl_core.data.volume import Grid, Volume
from ugmcl_core.inference.segmenter import Segmenter
from ugmcl_core.inference.settings import SegmentSettings
from ugmcl_core.models.card import ClassInfo
from ugmcl_core.models.model import save_model
from ugmcl_core.nn.network import DualTaskVNet, NetworkSettings, Output, start_at

torch.set_num_threads(1)

def done(**found):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
    print(json.dumps({"peak": peak, **found}))
"""

_MANY_CLASSES = """
settings = NetworkSettings(classes=101, filters=2)
network = DualTaskVNet(settings)
start_at(network, [1e-4] * 41 + [0.9] + [1e-4] * 58)
infos = tuple(ClassInfo(n, f"class {n}") for n in range(1, 101))
card = replace(tiny_model(sys.argv[1]).card, classes=infos, network=settings.to_dict())
model = save_model(sys.argv[1] + "/many", card, network.state_dict())
shape = (256, 256, 120)
image = np.random.default_rng(0).normal(100, 9, shape).astype(np.float32)
found = Segmenter(model, "cpu").segment(Volume(image, Grid(shape)), SegmentSettings(2))
one = found.sdf[41].array
done(voxels=image.size, labels=np.unique(found.labels.array).tolist(), sdf=len(found.sdf),
     shape=one.shape)
"""

_LARGE_FIELD = """
class Bright(torch.nn.Module):
    '''Finds what is bright, in the form of a network.'''

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.settings, self.distance_head, self.seen = NetworkSettings(), True, 0

    def encode(self, image):
        self.seen += image[0, 0].numel()
        return image

    def decode(self, image, distance=True):
        score = 8 * (image - 2)
        logits = torch.cat([-score, score], 1)
        return Output(logits, -score.tanh() if distance else None)

shape, spacing = (512, 512, 300), (0.7, 0.7, 1.0)
i, j, k = np.ogrid[:512, :512, :300]
body = ((i - 256) / 200.0) ** 2 + ((j - 256) / 150.0) ** 2 < 1
gland = ((i - 300) / 7.0) ** 2 + ((j - 200) / 6.0) ** 2 + ((k - 150) / 5.0) ** 2 < 1
noise = np.random.default_rng(0).integers(-20, 21, shape, np.int16)
image = noise - np.int16(1000)
image += (body * np.int16(1040)).astype(np.int16)
image[gland] += 160
del noise
card = replace(
    tiny_model(sys.argv[1]).card, spacing=spacing, patch=(64, 64, 64), mirror_axes=(0, 1),
    normalization={"kind": "global", "low": -100, "high": 300, "mean": 40.0, "deviation": 40.0},
)
segmenter = Segmenter(tiny_model(sys.argv[1] + "/other", **{
    key: getattr(card, key) for key in ("spacing", "patch", "mirror_axes", "normalization")
}), "cpu")
segmenter.network = network = Bright()
found = segmenter.segment(Volume(image, Grid(shape, spacing)), SegmentSettings(8))
wrong = int((found.labels.array.astype(bool) != gland).sum())
done(voxels=image.size, gland=int(gland.sum()), wrong=wrong, seen=network.seen)
"""


def run(text: str, folder: Path) -> dict:
    """What a program prints at its end, run by itself so that its memory is its own."""
    path = f"import sys; sys.path[:0] = [{str(CORE)!r}, {str(CORE.parents[1])!r}]\n"
    ended = subprocess.run(
        [sys.executable, "-c", path + _BEGIN + text, str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_memory_of_a_hundred_classes_is_bounded(tmp_path):
    found = run(_MANY_CLASSES, tmp_path)
    assert found["labels"] == [42] and found["sdf"] == 100 and found["shape"] == [256, 256, 120]
    # the probabilities of all classes on the image's grid alone
    assert 100 * 4 * found["voxels"] > 2.9 * GIB
    assert found["peak"] < 2.75 * GIB, f"{found['peak'] / GIB:.2f} GiB"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_small_structure_in_a_large_field_costs_one_look_at_it(tmp_path):
    found = run(_LARGE_FIELD, tmp_path)
    assert found["wrong"] < 0.02 * found["gland"]
    # half of the field is air, and all views are of a small part
    assert found["seen"] < found["voxels"]
    assert found["peak"] < 3.5 * GIB, f"{found['peak'] / GIB:.2f} GiB"
