"""Commands on a real scheduler of Dask with real worker processes."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_support import files, refuse, segment
from samples import small_case, tiny_model, write_image

from ugmcl_core.__main__ import main
from ugmcl_core.data import volume
from ugmcl_core.errors import InputError
from ugmcl_core.remote import cluster

distributed = pytest.importorskip("distributed")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def scans(tmp_path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for n in range(4):
        write_image(folder / f"s{n}.nrrd", seed=n)
    (folder / "s9.nrrd").write_text("no image")
    return folder


@pytest.fixture
def path_of_workers(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))


@pytest.mark.slow
def test_a_cluster_gives_what_one_process_does(model, scans, tmp_path, capsys, path_of_workers):
    for name, words in (("here", ()), ("there", ("--cluster", "local:2"))):
        assert segment(model, tmp_path / name, scans, "--json", *words) == 1
        told = capsys.readouterr()
        rows = [json.loads(line) for line in told.out.splitlines()]
        names = sorted(Path(row["image"]).name for row in rows)
        assert names == [f"s{n}.nrrd" for n in (0, 1, 2, 3, 9)]
        (bad,) = [r for r in rows if "error" in r]
        assert Path(bad["image"]).name == "s9.nrrd" and "s9.nrrd" in bad["error"]
        assert "1 of 5 images failed" in told.err
    assert "dashboard is at http" in told.err
    assert files(tmp_path / "here") == files(tmp_path / "there") and len(rows) == 5
    for name in files(tmp_path / "here"):
        one, two = (volume.read(tmp_path / f / name).array for f in ("here", "there"))
        assert np.array_equal(one, two), name
    rank = ["rank", "--model", str(model.folder), "--device", "cpu", "--json", str(scans)]
    assert main(rank) == 1
    here = capsys.readouterr().out
    assert main([*rank, "--cluster", "local:2"]) == 1
    assert json.loads(capsys.readouterr().out) == json.loads(here)
    truth = tmp_path / "truth"
    truth.mkdir()
    for n in range(4):
        volume.write(truth / f"s{n}.nrrd", small_case(n)[1])
    score = ["evaluate", "--predictions", str(tmp_path / "here"), "--references", str(truth)]
    assert main([*score, "--json"]) == 0
    here = capsys.readouterr().out
    assert main([*score, "--json", "--cluster", "local:2"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(here)


def dies(place: Path, times: int) -> str:
    """A task that kills its process as often as it is told."""
    for n in range(times):
        if not (place / str(n)).exists():
            (place / str(n)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def fails(place: Path, times: int) -> str:
    """A task that fails as often as it is told, and names the processes that it was in."""
    for n in range(times):
        if not (place / str(n)).exists():
            (place / str(n)).write_text(str(os.getpid()))
            raise OSError(f"no disk at {n}")
    return f"{(place / '0').read_text()} {os.getpid()}"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_task_whose_worker_died_goes_to_another_once(tmp_path, path_of_workers):
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    found, said, shown = {}, [], []
    # one after the other: what waits at a worker that dies is blamed too
    for tasks in ({"never": 0, "once": 1}, {"twice": 2}):
        for name in tasks:
            (tmp_path / name).mkdir()
        work = {name: (tmp_path / name, times) for name, times in tasks.items()}
        with cluster.connected("local:2") as client:
            found |= dict(cluster.run(client, dies, work, lambda *_: None, said.append))
    work = {name: (tmp_path / name, times) for name, times in {"failed": 1, "failing": 2}.items()}
    for place, _ in work.values():
        place.mkdir()
    with cluster.connected("local:2") as client:
        found |= dict(cluster.run(client, fails, work, lambda *a: shown.append(a), said.append))
    assert len(set(found["failed"].split())) == 2 and str(found["failing"]) == "no disk at 1"
    assert found["once"] == found["never"] == "done"
    assert isinstance(found["twice"], InputError)
    assert "two workers died on it" in str(found["twice"])
    assert "dashboard" in said[0]
    assert [part for part, _text in shown] == [0.5, 1.0]
    assert re.fullmatch(r"1 of 2, \d+ s left", shown[0][1])


def asleep(seconds: float) -> tuple[float, float]:
    began = time.time()
    time.sleep(seconds)
    return began, time.time()


@pytest.mark.slow
def test_workers_that_come_later_work_too(path_of_workers):
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as few, distributed.Client(few, set_as_default=False) as client:  # fmt: skip
        tasks = {str(n): (15.0,) for n in range(2)}
        found = dict(
            cluster.run(client, asleep, tasks, lambda *_: None, lambda text: few.scale(2))
        )
    assert max(began for began, _ in found.values()) < min(end for _, end in found.values())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for sbatch")
def test_a_queue_of_slurm(model, scans, tmp_path, monkeypatch, path_of_workers):
    """With dask-jobqueue itself; `sbatch` and `scancel` run the jobs here."""
    pytest.importorskip("dask_jobqueue")
    programs = tmp_path / "bin"
    programs.mkdir()
    job = tmp_path / "job.sh"
    for name, lines in (
        ("sbatch", f'cp "$1" {job}\nbash {job} > {job}.log 2>&1 &\necho "Submitted batch job $!"'),
        ("scancel", 'kill "$1" 2>/dev/null || true'),
    ):
        (programs / name).write_text(f"#!/bin/bash\n{lines}\n")
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    out = tmp_path / "out"
    words = ["segment", scans, "--model", model.folder, "--output", out, "--device", "cpu"]
    with pytest.raises(InputError, match="the queue is not configured"):
        cluster.connected("slurm:1").__enter__()
    import dask

    settings = {"cores": 1, "memory": "2GB", "interface": "lo", "shebang": "#!/bin/bash"}
    with dask.config.set({f"jobqueue.slurm.{k}": v for k, v in settings.items()}):
        assert main([str(w) for w in [*words, "--cluster", "slurm:1"]]) == 1
    assert len([n for n in files(out) if "labels" in n]) == 4


@pytest.mark.slow
def test_a_scheduler_that_runs_already(model, scans, tmp_path, path_of_workers):
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard",
         "--host", "127.0.0.1",
         "--scheduler-file", str(tmp_path / "s.json")], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", "--no-nanny", "--no-dashboard",
         "--host", "127.0.0.1",
         "--scheduler-file", str(tmp_path / "s.json")], stderr=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while not (tmp_path / "s.json").exists():
            assert time.monotonic() < end
            time.sleep(0.1)
        address = json.loads((tmp_path / "s.json").read_text())["address"]
        assert segment(model, tmp_path / "out", scans, "--cluster", address) == 1
        assert len([n for n in files(tmp_path / "out") if "labels" in n]) == 4
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("address", "why"),
    [("local:x", "give a number of workers, as in local:4"), ("slurm:0", "as in slurm:4"),
     ("tcp://127.0.0.1:1", "there is no scheduler"), ("nowhere", "there is no scheduler")],
)  # fmt: skip
def test_an_address_that_is_none(model, scans, tmp_path, capsys, monkeypatch, address, why):
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    (scans / "s9.nrrd").unlink()
    words = ["segment", scans, "--model", model.folder, "--output", tmp_path / "out"]
    refuse(capsys, *words, "--cluster", address, why=why, out=tmp_path / "out")


def test_what_is_segmented_already_is_left_out(model, scans, tmp_path, capsys):
    (scans / "s9.nrrd").unlink()
    out = tmp_path / "out"
    assert segment(model, out, scans / "s0.nrrd", scans / "s1.nrrd") == 0
    (out / "s1_labels.nrrd").unlink()  # as after a kill
    before = (out / "s0_labels.nrrd").stat().st_mtime_ns
    capsys.readouterr()
    assert segment(model, out, scans, "--resume", "--json") == 0
    told = capsys.readouterr()
    assert "1 images are segmented already" in told.err
    made = [Path(json.loads(line)["image"]).name for line in told.out.splitlines()]
    assert made == ["s1.nrrd", "s2.nrrd", "s3.nrrd"]
    assert (out / "s0_labels.nrrd").stat().st_mtime_ns == before
    write_image(scans / "s0.nrrd", seed=8)  # another image, and other settings, are other work
    assert segment(model, out, scans, "--resume") == 0
    assert "3 images are segmented already" in capsys.readouterr().err
    assert segment(model, out, scans, "--resume", "--all-components") == 0
    assert "0 images are segmented already" in capsys.readouterr().err
