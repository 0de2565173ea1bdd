"""Many volumes on a cluster of two processes here: what it costs, and whether anything is lost.

    python Testing/benchmarks/scale.py [--volumes 2000] [--compared 200] [--planned 20]

1. COMPARED generated volumes are segmented by the bundled model, one after the other in one
   process, and then on ``--cluster local:1``: the overhead is the difference of the two times,
   starts left out.
2. VOLUMES small volumes are segmented on ``--cluster local:2`` by a small untrained network. In
   the middle one worker is killed. Memory of all processes is sampled.
3. What a plan for many more needs, from PLANNED generated volumes of the size of a heart scan: a
   processor's time and the bytes of one, the time of one that ``--resume`` leaves out, and the
   memory of a task that waits.

A part of 0 volumes is left out.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
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
from ugmcl_core.remote import cluster  # noqa: E402

COMPARED_SHAPE = (88, 72, 44)
PLANNED_SHAPE, PLANNED_SPACING = (190, 142, 88), (0.625, 0.625, 0.625)
WAITING = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--volumes", type=int, default=2000)
    parser.add_argument("--compared", type=int, default=200)
    parser.add_argument("--planned", type=int, default=20)
    arguments = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    print(f"{platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}, {commit}")
    with tempfile.TemporaryDirectory() as place:
        for part, count in (
            (_overhead, arguments.compared), (_cohort, arguments.volumes),
            (_plan, arguments.planned),
        ):  # fmt: skip
            if count:
                part(Path(place), count)


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


def _plan(place: Path, count: int) -> None:
    scans = _generated(place / "planned", count, PLANNED_SHAPE, PLANNED_SPACING)
    one = _generated(place / "one", 1, PLANNED_SHAPE, PLANNED_SPACING)
    print(f"an image: {_megabytes(scans) / count:.1f} MB")
    for passes in ("0", "8"):
        words = ("--uncertainty-passes", passes)
        out = place / f"planned-{passes}"
        begun = _processor_seconds(one, place / f"one-{passes}", *words)
        each = (_processor_seconds(scans, out, *words) - begun) / (count - 1)
        files = ", ".join(
            f"{name} {_megabytes(out, f'*_{name}.nrrd') / count:.2f}"
            for name in ("labels", "sdf", "uncertainty", "surface_error")
        )
        left_out = (_processor_seconds(scans, out, *words, "--resume")
                    - _processor_seconds(one, place / f"one-{passes}", *words, "--resume"))
        print(f"passes {passes}: {each:.2f} s of one processor a volume; {files} MB; "
              f"left out with --resume: {left_out / (count - 1):.3f} s")  # fmt: skip
    before = psutil.Process().memory_info().rss
    tasks = {f"v{n:07d}": (None, f"v{n:07d}", (scans / f"v{n:07d}.nrrd",)) for n in range(WAITING)}
    board = cluster._Board(None, print, print)
    board.add(tasks)
    size = (psutil.Process().memory_info().rss - before) / 2**20
    print(f"{WAITING} tasks that wait: {size:.0f} MiB")


def _processor_seconds(scans: Path, out: Path, *words: str) -> float:
    """Of segmenting a folder in one process, its start included."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    process = _started(scans, out, "la-lge-mri", *words)
    process.communicate()
    assert process.returncode == 0
    return spent() - before


def _megabytes(folder: Path, pattern: str = "*") -> float:
    return sum(path.stat().st_size for path in folder.glob(pattern)) / 1e6


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
