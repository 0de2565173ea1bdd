"""Many volumes on a cluster of two processes here: what it costs, and whether anything is lost.

    python Testing/benchmarks/scale.py [--volumes 2000] [--compared 200]

1. COMPARED generated volumes are segmented by the bundled model, one after the other in one
   process, and then on ``--cluster local:1``: the overhead is the difference of the two times,
   starts left out.
2. VOLUMES small volumes are segmented on ``--cluster local:2`` by a small untrained network. In
   the middle one worker is killed. Memory of all processes is sampled.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "core")]

from samples import SHAPE, SPACING, tiny_model  # noqa: E402

from ugmcl_core.data import phantoms, volume  # noqa: E402

COMPARED_SHAPE = (88, 72, 44)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--volumes", type=int, default=2000)
    parser.add_argument("--compared", type=int, default=200)
    arguments = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    print(f"{platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}, {commit}")
    with tempfile.TemporaryDirectory() as place:
        _overhead(Path(place), arguments.compared)
        _cohort(Path(place), arguments.volumes)


def _overhead(place: Path, count: int) -> None:
    scans = _generated(place / "compared", count, COMPARED_SHAPE, (1.25, 1.25, 1.25))
    seconds = {}
    for name, words in (("one process", ()), ("a cluster of one", ("--cluster", "local:1"))):
        times = []
        process = _started(scans, place / name, "la-lge-mri", *words)
        for _line in process.stdout:  # one for each image
            times.append(time.monotonic())
        process.wait()
        assert len(times) == count, f"{len(times)} of {count} were segmented"
        seconds[name] = (times[-1] - times[0]) / (count - 1)
        print(f"{name}: {seconds[name]:.3f} s a volume, from the first to the last of {count}")
    alone, cluster = seconds.values()
    print(f"overhead {100 * (cluster / alone - 1):+.1f} %")


def _cohort(place: Path, count: int) -> None:
    scans = _generated(place / "many", count, SHAPE, SPACING)
    model = tiny_model(place / "tiny").folder
    process = _started(scans, place / "out", str(model), "--cluster", "local:2")
    began, memory = time.monotonic(), []
    for done, _line in enumerate(process.stdout, 1):
        if done % max(1, count // 10) == 0:
            memory.append(_memory(process.pid))
        if done == count // 2:
            _kill_a_worker(process.pid)
    code = process.wait()
    seconds = time.monotonic() - began
    results = len(list((place / "out").glob("*_labels.nrrd")))
    early, late = memory[1], memory[-2]
    print(f"{count} volumes in {seconds:.0f} s, a worker killed in the middle: {results} results, "
          f"exit code {code}")  # fmt: skip
    print(f"memory of all processes: {early:.0f} MiB at 20 %, {late:.0f} MiB at 90 %")


def _generated(folder: Path, count: int, shape, spacing) -> Path:
    """Copies of ten phantoms: their voxels do not matter, and 2,000 take minutes to make."""
    folder.mkdir()
    for number in range(min(10, count)):
        volume.write(folder / f"v{number:05d}.nrrd", phantoms.phantom(number, shape, spacing)[0])
    for number in range(10, count):
        (folder / f"v{number:05d}.nrrd").hardlink_to(folder / f"v{number % 10:05d}.nrrd")
    return folder


def _started(scans: Path, out: Path, model: str, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "ugmcl_core", "segment", str(scans), "--output", str(out),
               "--model", model, "--uncertainty-passes", "0", "--device", "cpu",
               *words]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _memory(pid: int) -> float:
    """MiB in all processes of the command."""
    total = 0
    for process in _family(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def _kill_a_worker(pid: int) -> None:
    """The largest of the children is one."""
    children = _family(pid)[1:]
    largest = max(children, key=lambda process: process.memory_info().rss)
    os.kill(largest.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
