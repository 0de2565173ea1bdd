"""Peak memory of one real-size segmentation on the CPU: at most 6 GiB for 640x640x88 voxels.

    python Testing/benchmarks/memory.py [MODEL] [--shape 640,640,88] [--spacing 0.625,0.625,1.25]

Run it alone in its process: the peak counts everything since the start.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

LIMIT = 6.0  # GiB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="la-lge-mri", help="name or folder")
    parser.add_argument("--shape", default="640,640,88")
    parser.add_argument("--spacing", default="0.625,0.625,1.25", help="mm")
    parser.add_argument("--passes", type=int, default=8)
    words = parser.parse_args()
    shape = tuple(int(n) for n in words.shape.split(","))
    spacing = tuple(float(n) for n in words.spacing.split(","))

    from ugmcl_core.data.volume import Grid, Volume
    from ugmcl_core.inference.segmenter import Segmenter
    from ugmcl_core.inference.settings import SegmentSettings
    from ugmcl_core.models.model import resolve

    began, said = time.monotonic(), [0.0]

    def progress(fraction: float, text: str) -> None:
        now = time.monotonic() - began
        if now - said[0] > 10:
            said[0] = now
            print(f"{now:6.0f} s  {fraction:4.0%} {text}  peak {peak():.2f} GiB", flush=True)

    array = np.random.default_rng(0).integers(0, 800, shape, np.int16)
    segmenter = Segmenter(resolve(words.model), "cpu")
    print(f"before: {peak():.2f} GiB")
    settings = SegmentSettings(passes=words.passes)
    found = segmenter.segment(Volume(array, Grid(shape, spacing)), settings, progress=progress)
    print(f"{'x'.join(map(str, shape))} voxels of {words.spacing} mm, {words.passes} passes, "
          f"{segmenter.model.name}: {found.seconds:.0f} s, peak {peak():.2f} GiB "
          f"(limit {LIMIT:g})")  # fmt: skip
    return 0 if peak() <= LIMIT else 1


def peak() -> float:
    """Largest resident size so far in GiB."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1 << 30 if sys.platform == "darwin" else 1 << 20)


if __name__ == "__main__":
    sys.exit(main())
