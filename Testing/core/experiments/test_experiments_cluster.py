"""The trainings of an experiment on a real scheduler of Dask with real worker processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from experiment_samples import write_la

from ugmcl_core.__main__ import main
from ugmcl_core.training import checkpoint

pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="signals of a terminal"),
]
ROOT = Path(__file__).resolve().parents[3]
COMMAND = """
import sys
from experiment_samples import TINY
from ugmcl_core.__main__ import main
from ugmcl_core.training import profiles
profiles.PROFILES["tiny"] = TINY
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("la")
    write_la(folder)
    return folder


@pytest.fixture(autouse=True)
def path_of_workers(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "Testing" / "core")]))


def words(data: Path, output: Path, *more: str) -> list[str]:
    found = ["experiment", "table3", "--data", data, "--output", output, "--profile", "tiny",
             "--device", "cpu", *more]  # fmt: skip
    return [str(word) for word in found]


def results(output: Path) -> dict[str, tuple[list[dict], bytes]]:
    """Scores and weights of each training of equal iterations."""
    return {
        path.parent.name: (
            json.loads(path.read_text())["scores"]["dev"]["rows"],
            (path.parent / "model" / "weights.safetensors").read_bytes(),
        )
        for path in output.glob("*_tiny-4_*/record.json")
    }


@pytest.mark.usefixtures("longer_at_equal_time")
def test_a_cluster_trains_as_one_process_does(data, tmp_path, capsys):
    """Also a row whose training is known only when others are done; and again nothing is left."""
    only = ("--only", "supervised,ugmcl")
    for name, more in (("here", ()), ("there", ("--cluster", "local:2"))):
        assert main(words(data, tmp_path / name, *only, *more)) == 0
    told = capsys.readouterr().err
    assert "dashboard is at http" in told and told.count("done (dev cases scored)") == 8
    here, there = results(tmp_path / "here"), results(tmp_path / "there")
    assert len(here) == 3 and here == there
    timed = list((tmp_path / "there").glob("supervised_*_tiny-7_*/record.json"))
    table = (tmp_path / "there" / "rendered" / "table3-tiny-4-dev.md").read_text("utf-8")
    assert len(timed) == 1 and "Supervised (equal time): seed" not in table
    assert main(words(data, tmp_path / "there", *only, "--cluster", "local:2")) == 0
    assert capsys.readouterr().err.count(": done\n") == 4


def test_a_training_that_fails_is_tried_again_and_named(data, tmp_path, capsys):
    """The image of an unlabeled case cannot be read, and so only UG-MCL fails."""
    import shutil

    wrong = Path(shutil.copytree(data, tmp_path / "la"))
    (wrong / "images" / "phantom-004.nrrd").write_bytes(b"NRRD0004\nnot an image")
    out = tmp_path / "out"
    rows = ("--only", "ugmcl,Supervised", "--cluster", "local:2")
    assert main(words(wrong, out, *rows)) == 1
    (failed,) = [n for n in capsys.readouterr().err.splitlines() if ": failed: " in n]
    assert "ugmcl" in failed and "phantom-004" in failed
    assert "| Supervised | 2 of 5 |" in next((out / "rendered").glob("*.md")).read_text("utf-8")


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen]:
    """The command in a process group of its own, as in a terminal."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments], stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(found: Callable[[], object], process: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while not found():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)


def steps(output: Path) -> dict[str, list[int]]:
    """The steps that the logs of trainings report."""
    found = {}
    for path in output.glob("*/log.jsonl"):
        events = [json.loads(line) for line in path.read_text().splitlines() if line[-1:] == "}"]
        found[path.parent.name] = [e["step"] for e in events if e["event"] == "progress"]
    return found


LONG = ("--iterations", "4000", "--only", "Supervised,Upper bound")


def test_ctrl_c_ends_the_trainings_which_then_go_on(data, tmp_path):
    """A terminal sends it to the workers as well."""
    more = (*LONG, "--cluster", "local:2")
    with started(*words(data, tmp_path, *more)) as process:
        until(lambda: sum(map(bool, steps(tmp_path).values())) == 2, process)
        workers = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and told.splitlines()[-1] == "ugmcl: canceled"
    gone, alive = psutil.wait_procs(workers, 5)
    assert len(gone) >= 2 and not alive
    for folder in steps(tmp_path):  # not those of an interval, but of the stop
        assert (tmp_path / folder / checkpoint.NAME).exists()
        lines = (tmp_path / folder / "log.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["event"] == "stopped"


def test_a_worker_that_is_killed_loses_nothing(data, tmp_path):
    more = ("--iterations", "100", *LONG[2:], "--cluster", "local:2")
    with started(*words(data, tmp_path, *more)) as process:
        until(lambda: sum(map(bool, steps(tmp_path).values())) == 2, process)
        lock = next(tmp_path.glob("*/.lock"))
        os.kill(int(lock.read_text().split()[1]), signal.SIGKILL)
        _, told = process.communicate(timeout=250)
    assert process.returncode == 0, told
    assert told.count("done (dev cases scored)") == 2
    assert len(list(tmp_path.glob("*/record.json"))) == 2


def test_trainings_of_a_command_that_is_killed_end_at_a_scheduler_that_goes_on(data, tmp_path):
    place = tmp_path / "scheduler.json"
    common = ["--no-dashboard", "--host", "127.0.0.1", "--scheduler-file", str(place)]
    programs = [
        subprocess.Popen([sys.executable, "-m", f"distributed.cli.dask_{kind}", *more, *common],
                         stderr=subprocess.DEVNULL, cwd=tmp_path)
        for kind, more in (("scheduler", ("--port", "0")), ("worker", ("--nthreads", "2")))
    ]  # fmt: skip
    try:
        until(place.exists, programs[0])
        address = json.loads(place.read_text())["address"]
        out = tmp_path / "out"
        with started(*words(data, out, *LONG, "--cluster", address)) as process:
            until(lambda: any(steps(out).values()), process)
            assert len(steps(out)) == 1, "one at a time, whatever the threads"
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        (log,) = out.glob("*/log.jsonl")
        until(lambda: '"stopped"' in log.read_text(), programs[1])
        assert (log.parent / checkpoint.NAME).exists()
    finally:
        for program in programs:
            for child in psutil.Process(program.pid).children(recursive=True):
                child.kill()
            program.kill()
            program.wait()
