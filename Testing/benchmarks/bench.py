"""The benchmark table: this project beside a plain reference and a peer, in one run.

    make bench                      all rows (about 20 minutes on two cores)
    make bench ROWS="forward step"  some; --list names them
    make bench ROWS=accuracy DATA=DIR   an hour and more: see accuracy/time_to_accuracy.py
    python Testing/benchmarks/bench.py --json FILE
    python Testing/benchmarks/bench.py --device cuda forward supervised ugmcl-paper segment

The sides of a row take turns, each in a process of its own; the least of several times counts.
Memory is the peak of that process. A ratio says how many times faster than the row's first side.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

from table import PEER, ROWS, Row  # noqa: E402

ACCURACY = "accuracy"
"""A row of its own: a training on scans that are not part of the repository."""


@dataclass(frozen=True)
class Measurement:
    """``seconds``: the least; ``ratio`` to the row's first side; ``goal`` met, missed or none."""

    row: str
    side: str
    seconds: float
    ratio: float | None
    memory: int
    goal: str


class Side:
    """A running `subprocess_runner.py`."""

    def __init__(self, row: str, side: str) -> None:
        command = [sys.executable, str(HERE / "subprocess_runner.py"), row, side]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self._answer()  # ready

    def measure(self) -> float:
        """Seconds of one more call."""
        with contextlib.suppress(BrokenPipeError):  # it has ended; the missing answer says so
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return float(self._answer())

    def end(self) -> int:
        """Peak memory in bytes."""
        self._process.stdin.close()
        return int(self._answer())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            killed = " (out of memory?)" if code == -signal.SIGKILL else ""
            name = " ".join(self._process.args[2:])
            raise SystemExit(f"bench: {name} ended with code {code}{killed}; see above")
        return line


@contextlib.contextmanager
def opened(name: str, chosen: Sequence[str]) -> Iterator[dict[str, Side]]:
    """Sides of a row, but for peers that are not installed."""
    sides: dict[str, Side] = {}
    try:
        for side in chosen:
            if side == PEER and not _has_peer():
                print(f"  {PEER} is not installed: left out", file=sys.stderr)
                continue
            sides[side] = Side(name, side)
        yield sides
    finally:
        for side in sides.values():
            side.kill()


def _has_peer() -> bool:
    import importlib.util

    return importlib.util.find_spec("monai") is not None


def measure(name: str, row: Row) -> list[Measurement]:
    """One row: a first call each that does not count (unless there is only one), then turns."""
    times: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    for chosen in [list(row.sides)] if row.together else [[side] for side in row.sides]:
        with opened(name, chosen) as sides:
            if row.repeats > 1:
                for side in sides.values():
                    side.measure()
            for _ in range(row.repeats):
                for label, side in sides.items():
                    times.setdefault(label, []).append(side.measure())
            memory.update({label: side.end() for label, side in sides.items()})
    least = {label: min(values) for label, values in times.items()}
    first = next(iter(least))
    found = []
    for label, seconds in least.items():
        ratio = None if label == first else least[first] / seconds
        goal = row.goals.get(label)
        reached = goal is not None and (ratio >= goal if ratio is not None else seconds <= goal)
        text = ""
        if goal is not None:
            text = f">= {speed(goal)}" if ratio is not None else f"<= {duration(goal)}"
            text += " ok" if reached else " MISSED"
        found.append(Measurement(name, label, seconds, ratio, memory[label], text))
    return found


def table(found: Sequence[Measurement]) -> str:
    """Markdown."""
    lines = ["| what | by | time | ratio | peak memory | goal |", "|---|---|---|---|---|---|"]
    last = ""
    for m in found:
        title = ROWS[m.row].title if m.row != last else ""
        last = m.row
        ratio = "" if m.ratio is None else speed(m.ratio)
        lines.append(
            f"| {title} | {m.side} | {duration(m.seconds)} | {ratio} | {m.memory / 2**30:.2f} GiB "
            f"| {m.goal} |"
        )
    notes = {m.row: ROWS[m.row].note for m in found if ROWS[m.row].note}
    lines += [""] + [f"- {ROWS[row].title}: {note}." for row, note in notes.items()]
    return "\n".join(lines).rstrip()


def speed(ratio: float) -> str:
    """How many times as fast; what is slower as a fraction."""
    return f"{ratio:.1f}x" if ratio >= 1 else f"1/{1 / ratio:.1f}x"


def duration(seconds: float) -> str:
    """Three digits, in ms, s or min."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:.3g} min"


def machine(device: str) -> str:
    """What was measured where: processor, cores, GPU, torch, date, commit."""
    import torch

    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((s.split(":")[1].strip() for s in lines if s.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=7"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"
    today = datetime.date.today().isoformat()
    gpu = f", {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else ""
    return f"{name}, {cores} cores{gpu}, torch {torch.__version__}, {today}, commit {commit}"


def main() -> int:
    """Print the table; 1 if a goal was missed."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help="some of the rows (default: all)")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    parser.add_argument("--device", default="cpu", help="of the network: cpu, cuda or cuda:N")
    parser.add_argument("--data", metavar="DIR", help=f"the scans of the row {ACCURACY}")
    words = parser.parse_args()
    os.environ["UGMCL_BENCH_DEVICE"] = words.device
    if words.list:
        titles = {**{k: row.title for k, row in ROWS.items()}, ACCURACY: "minutes to a mean Dice"}
        print("\n".join(f"{name:18} {title}" for name, title in titles.items()))
        return 0
    if ACCURACY in words.rows:
        if words.rows != [ACCURACY] or not words.data:
            parser.error(f"{ACCURACY} is measured alone, with --data DIR (make bench DATA=DIR)")
        script = HERE / "accuracy" / "time_to_accuracy.py"
        return subprocess.run([sys.executable, str(script), words.data]).returncode
    if unknown := sorted(set(words.rows) - set(ROWS)):
        parser.error(f"there is no row {unknown[0]!r}; see --list")
    found: list[Measurement] = []
    for name in words.rows or ROWS:
        print(f"{ROWS[name].title} ...", file=sys.stderr, flush=True)
        found += measure(name, ROWS[name])
        if words.json is not None:  # after each row, since a long run may be cut short
            content = {"machine": machine(words.device), "rows": [asdict(m) for m in found]}
            words.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(table(found))
    print(f"\n{machine(words.device)}; load {os.getloadavg()[0]:.1f}")
    return int(any("MISSED" in m.goal for m in found))


if __name__ == "__main__":
    sys.exit(main())
