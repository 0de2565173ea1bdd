"""What the network asks of a machine, and what the machine gives: a roofline as a table.

    python Testing/benchmarks/roofline.py [--device cpu] [--patch 112x112x80] [--batch 1]

For each stage of the V-Net's forward pass: operations and bytes that its layers read and write,
counted from their shapes; the time taken, the least of several; the operations a second, as a
part of the most that this machine does in a large matrix product of the same precision; and
whether operations or bytes bound it (a stage's least time is the greater of operations / peak and
bytes / bandwidth).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from ugmcl_core.nn import devices
from ugmcl_core.nn.convolutions import Rectified
from ugmcl_core.nn.network import DualTaskVNet, for_inference

REPEATS = 7


def least(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of several calls."""

    def timed() -> float:
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    timed()
    return min(timed() for _ in range(REPEATS))


def peaks(device: torch.device, kind: torch.dtype) -> tuple[float, float]:
    """Operations a second of a large matrix product, bytes a second of a large copy."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    source = torch.zeros(1 << 27, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = 2 * side**3 / least(lambda: a @ b, device)
    return product, 2 * source.numel() / least(lambda: target.copy_(source), device)


def counted(work: Callable[[], object], *modules: nn.Module) -> tuple[float, float]:
    """Operations, and elements that convolutions and activations of ``modules`` read and write, in
    ``work``."""
    totals = [0.0, 0.0]

    def seen(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        totals[1] += inputs[0].numel() + output.numel()
        if isinstance(layer, (nn.ReLU, nn.Dropout3d)):
            return
        # each element of the output is a sum over its filter; what is transposed adds a filter to
        # the output for each element of the input
        transposed = isinstance(layer, nn.ConvTranspose3d) or getattr(layer, "transposed", False)
        a, b = (output, inputs[0]) if not transposed else (inputs[0], output)
        totals[0] += 2 * a.numel() * b.shape[1] * math.prod(layer.weight.shape[2:])

    kinds = (nn.Conv3d, nn.ConvTranspose3d, Rectified, nn.ReLU, nn.Dropout3d)
    layers = [m for module in modules for m in module.modules() if isinstance(m, kinds)]
    hooks = [layer.register_forward_hook(seen) for layer in layers]
    work()
    for hook in hooks:
        hook.remove()
    return totals[0], totals[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--patch", default="112x112x80", help="voxels of a patch")
    parser.add_argument("--batch", type=int, default=1, help="patches at once")
    settings = parser.parse_args()
    device = devices.resolve(settings.device)
    devices.prepare_cpu()
    torch.manual_seed(0)
    layout = torch.channels_last_3d
    network = for_inference(DualTaskVNet().to(device, memory_format=layout))
    patch = [int(n) for n in settings.patch.split("x")]
    image = torch.randn(settings.batch, 1, *patch, device=device).contiguous(memory_format=layout)
    with torch.inference_mode(), devices.autocast(device):
        features = network.encode(image)
        decoded = network.decoded(features)[0]
        kind = decoded.dtype
        operations, bandwidth = peaks(device, kind)
        stages = {
            "encoder": (lambda: network.encode(image), (network.levels_down, network.down)),
            "decoder": (
                lambda: network.decoded(features),
                (network.levels_up, network.up, network.dropout),
            ),
            "segmentation head": (
                lambda: network.heads(decoded, distance=False),
                (network.segmentation_head,),
            ),
            "distance head": (
                lambda: network.distance_head(decoded),
                (network.distance_head,),
            ),
        }
        print(f"{kind}, {operations / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s")
        print("\n| stage | GFLOP | MB | time | GFLOP/s | of the peak | least time | bound by |")
        print("|---|---|---|---|---|---|---|---|")
        sums = [0.0] * 4
        for name, (work, modules) in stages.items():
            flop, elements = counted(work, *modules)
            size = elements * decoded.element_size()
            by_flop, by_bytes = flop / operations, size / bandwidth
            line = [flop, size, least(work, device), max(by_flop, by_bytes)]
            sums = [a + b for a, b in zip(sums, line, strict=True)]
            print(row(name, line, operations, "operations" if by_flop > by_bytes else "bytes"))
        print(row("all", sums, operations, ""))


def row(name: str, line: list[float], peak: float, bound: str) -> str:
    flop, size, seconds, limit = line
    return (
        f"| {name} | {flop / 1e9:.1f} | {size / 1e6:.0f} | {1e3 * seconds:.1f} ms | "
        f"{flop / seconds / 1e9:.0f} | {flop / seconds / peak:.0%} | {1e3 * limit:.1f} ms | "
        f"{bound} |"
    )


if __name__ == "__main__":
    main()
