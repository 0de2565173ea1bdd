"""What the ways around oneDNN's slow operations gain: each beside torch's plain one, in turns.

    python Testing/benchmarks/layer_times.py

On the CPU, in the processor's precision: the first layer over a heart crop; the backward pass of
the last upsampling at the paper's patch, batch 4; the network over a heart crop, without and with
convolution and ReLU in one operation; the entropy of a heart crop. Least of several, in ms.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from ugmcl_core.nn import devices
from ugmcl_core.nn.convolutions import Convolution, Upsampling
from ugmcl_core.nn.network import DualTaskVNet, for_inference, without_normalization
from ugmcl_core.nn.uncertainty import entropy

CROP, REPEATS = (192, 144, 96), 30
LAYOUT = torch.channels_last_3d
CPU = torch.device("cpu")


def least(*ways: Callable[[], object]) -> list[float]:
    """Milliseconds of each, the least of several in turns."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(1 + REPEATS):
        for found, way in zip(times, ways, strict=True):
            began = time.perf_counter()
            way()
            found.append(1e3 * (time.perf_counter() - began))
    return [min(found[1:]) for found in times]


def first_layer() -> list[float]:
    image = torch.randn(1, 1, *CROP).contiguous(memory_format=LAYOUT)
    layer = Convolution(1, 16, 3, padding=1).to(memory_format=LAYOUT)
    with torch.no_grad(), devices.autocast(CPU):
        return least(lambda: nn.Conv3d.forward(layer, image), lambda: layer(image))


def upsampling() -> list[float]:
    kind = devices.precision(CPU)
    layer = Upsampling(32, 16, 2, stride=2).to(kind)
    x = torch.randn(4, 32, 56, 56, 40, dtype=kind).contiguous(memory_format=LAYOUT)
    outputs = [nn.ConvTranspose3d.forward(layer, x.requires_grad_()), layer(x)]
    gradient = torch.randn_like(outputs[0])
    return least(*(lambda y=y: y.backward(gradient, retain_graph=True) for y in outputs))


def network() -> list[float]:
    image = torch.randn(1, 1, *CROP).contiguous(memory_format=LAYOUT)
    plain = DualTaskVNet().to(memory_format=LAYOUT)
    networks = without_normalization(plain), for_inference(plain)
    with torch.inference_mode(), devices.autocast(CPU):
        return least(*(lambda network=network: network(image) for network in networks))


def entropies() -> list[float]:
    p = torch.rand(1, 2, *CROP)

    def plain() -> Tensor:
        return -torch.xlogy(p, p).sum(dim=1, keepdim=True)

    return least(plain, lambda: entropy(p))


def main() -> None:
    devices.prepare_cpu()
    torch.manual_seed(0)
    print(f"{devices.precision(CPU)}, {torch.get_num_threads()} threads")
    print("\n| what | plain | here | ratio |\n|---|---|---|---|")
    for what, measured in (
        ("first layer, heart crop", first_layer),
        ("last upsampling, backward, 4 patches", upsampling),
        ("network, heart crop, ReLU with the convolution", network),
        ("entropy, heart crop", entropies),
    ):
        plain, here = measured()
        print(f"| {what} | {plain:.1f} ms | {here:.1f} ms | {plain / here:.1f}x |", flush=True)


if __name__ == "__main__":
    main()
