"""How the worker's process ends, and what it leaves: closed pipes, jobs, memory, its parent."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import psutil
import pytest
from worker_support import LONG, ROOT, Process, make_places, request, training


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return make_places(tmp_path_factory.mktemp("worker"))


@pytest.mark.slow
def test_a_finetune_writes_its_checkpoint_when_stdin_closes(places, tmp_path):
    process = Process(models=places / "models")
    process.wait_for("hello")
    process.send(id="ft", **training(tmp_path, ["labeled"], iterations=100_000))
    step = process.wait_for("metrics")["step"]
    assert process.close() == 0
    card = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert card["training"]["iterations"] >= step
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()


@pytest.mark.parametrize("ending", ["close", "shutdown"])
def test_the_process_ends_with_its_stdin_even_in_the_middle(places, tmp_path, ending):
    process = Process(models=places / "models")
    process.wait_for("hello")
    process.send(**request(places, tmp_path, image=str(places / "big.nrrd"), **LONG))
    process.wait_for("progress")
    began = time.monotonic()
    if ending == "shutdown":
        process.send(command="shutdown")
    else:
        process.process.stdin.close()
    process.process.wait(timeout=8)
    assert time.monotonic() - began < 5
    assert [p for p in tmp_path.iterdir() if not p.name.startswith(".")] == []


def test_the_process_ends_with_its_stdin_after_a_request_that_is_none():
    process = Process()
    process.wait_for("hello")
    process.send(id=1, command=["x"])
    assert process.wait_for("error")["id"] == 1
    assert process.close() == 0


def serve(code: str, requests: int = 1) -> subprocess.Popen:
    """A process that serves by ``code``, asked for so much."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes)
    content = {"command": "evaluate", "prediction": "a", "reference": "b"}
    for number in range(requests):
        process.stdin.write(json.dumps({"id": number, **content}).encode() + b"\n")
    process.stdin.flush()
    return process


def test_a_stuck_request_does_not_keep_the_process():
    """The watchdog ends the process if a step does not end in time."""
    code = (
        "import sys, time; from ugmcl_core.worker import server; server.GRACE = 0.3\n"
        "class Stuck:\n"
        "    def do(self, request, send, control): send('progress'); time.sleep(60)\n"
        "server._start = lambda events: events.send('hello') or Stuck()\n"
        "sys.exit(server.serve())"
    )
    process = serve(code)
    events = [json.loads(process.stdout.readline())["event"] for _ in range(3)]
    assert events == ["hello", "accepted", "progress"]
    process.stdin.close()
    assert process.wait(timeout=30) == 130
    process.stdout.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("busy", [False, True])
def test_a_term_signal_ends_the_process_cleanly(busy):
    code = (
        "import sys, time; from ugmcl_core import __main__\n"
        "from ugmcl_core.worker import server; server.MEMORY_EVERY = 60\n"
        "class Slow:\n"
        "    def do(self, request, send, control):\n"
        "        send('progress')\n"
        "        for _ in range(600): time.sleep(0.1)\n"
        "server._start = lambda events: events.send('hello') or Slow()\n"
        "sys.exit(__main__.main(['worker']))"
    )
    process = serve(code, requests=2 if busy else 0)
    wanted = {"hello", "accepted", "progress"} if busy else {"hello"}
    for _ in range(4 if busy else 1):
        assert json.loads(process.stdout.readline())["event"] in wanted
    process.terminate()
    rest, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    ends = [(e["event"], e["id"]) for e in map(json.loads, rest.splitlines())]
    assert ends == ([("canceled", 0), ("canceled", 1)] if busy else [])
    assert b"Traceback" not in errors


def run_job(places, tmp_path, cancel: bool, **changes):
    job = tmp_path / "job.json"
    job.write_text(json.dumps(request(places, tmp_path, **changes)))
    words = ["--job", str(job)] + (["--cancel-file", str(tmp_path / "stop")] if cancel else [])
    return Process(*words, models=places / "models")


def test_a_single_job_without_stdin(places, tmp_path):
    process = run_job(places, tmp_path, cancel=False)
    process.process.stdin.close()
    assert process.wait_for("hello")
    assert process.wait_for("result", "error")["event"] == "result"
    assert process.process.wait(timeout=10) == 0
    assert len(list(tmp_path.iterdir())) == 5


def test_a_single_job_is_canceled_by_a_file(places, tmp_path):
    process = run_job(places, tmp_path, True, image=str(places / "big.nrrd"), **LONG)
    process.wait_for("progress")
    (tmp_path / "stop").touch()
    process.wait_for("canceling", seconds=5)
    process.wait_for("canceled", seconds=10)
    assert process.process.wait(timeout=20) == 130
    assert sorted(p.name for p in tmp_path.iterdir()) == ["job.json", "stop"]


def test_stray_prints_do_not_reach_the_protocol():
    code = (
        "import os, sys; from ugmcl_core.worker import server\n"
        "class Loud:\n"
        "    def do(self, request, send, control):\n"
        "        print('python'); os.write(1, b'C\\n'); sys.stdout.flush()\n"
        "        return {'value': float('nan')}\n"
        "server._start = lambda events: events.send('hello') or Loud()\n"
        "sys.exit(server.serve())"
    )
    process = serve(code)
    events = [json.loads(process.stdout.readline()) for _ in range(3)]
    rest, errors = process.communicate(timeout=20)
    assert [e["event"] for e in events] == ["hello", "accepted", "result"] and rest == b""
    assert events[2]["value"] is None, "JSON has no NaN"
    assert b"python\n" in errors and b"C\n" in errors


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told to keep freed memory")
@pytest.mark.parametrize("ending", ["return {}", "raise RuntimeError('trouble')"])
def test_memory_goes_back_to_the_system_after_a_request(ending):
    code = (
        "import sys, numpy as np, psutil; from ugmcl_core.nn import devices\n"
        "from ugmcl_core.worker import server\n"
        "devices.prepare_cpu()\n"
        "class Work:\n"
        "    def do(self, request, send, control):\n"
        "        send('log', resident=psutil.Process().memory_info().rss)\n"
        "        blocks = [np.ones(1 << 19) for _ in range(100)]\n"
        f"        {ending}\n"
        "server._start = lambda events: events.send('hello') or Work()\n"
        "sys.exit(server.serve())"
    )
    process = serve(code, requests=2)
    events = [json.loads(process.stdout.readline()) for _ in range(7)]
    process.communicate(timeout=20)
    first, second = (e["resident"] for e in events if e["event"] == "log")
    assert second < first + 100e6, "400 MB were freed and kept"


def test_the_process_ends_when_its_parent_dies():
    """As in a crash of Slicer: nobody closes anything, the pipes just break."""
    code = (
        "import os, subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-m', 'ugmcl_core', 'worker'],\n"
        "                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "p.stdout.readline(); print(p.pid, flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    pid = int(done.stdout)
    deadline = time.monotonic() + 8
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.05)


def keep_learning(folder, roles, **changes):
    plain = training(folder, roles)
    given = {k: plain[k] for k in ("case_list", "output", "base", "seed", "device")}
    return {**given, "command": "keep_learning", "id": "k", "method": "supervised", "cores": 1.0,
            **changes}  # fmt: skip


@pytest.mark.slow
def test_a_training_that_keeps_learning_takes_cases_and_ends_in_time(places, tmp_path):
    process = Process(models=places / "models")
    process.send(**keep_learning(tmp_path, ["labeled", "unlabeled", "holdout"]))
    process.wait_for("metrics")
    memory = process.wait_for("memory")
    assert 0 < memory["resident"] < memory["total"] and memory["gpu"] is None
    process.send(id="k", command="pause")
    process.wait_for("paused")
    process.send(id="k", command="continue")
    process.wait_for("continued")
    path = tmp_path / "cases.json"
    content = json.loads(path.read_text())
    content["cases"][1]["role"] = "labeled"
    path.write_text(json.dumps(content))
    began = time.monotonic()
    process.send(id="k", command="add_case")
    assert process.wait_for("told")["what"] == "add_case"
    joined = process.wait_for("joined", "error")
    assert joined["name"] == "phantom-001" and joined["cases"] == 2, joined
    assert time.monotonic() - began < 10  # seconds, on a busy computer
    process.send(id="k", command="take_model")
    check = process.wait_for("check")
    assert check["taken"] == (check["dice"] >= check["former"])
    began = time.monotonic()
    process.close()
    assert time.monotonic() - began < 3
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()


@pytest.mark.slow
def test_a_training_that_keeps_learning_resumes_after_a_kill_and_reports(places, tmp_path):
    process = Process(models=places / "models")
    request = keep_learning(tmp_path, ["labeled", "unlabeled", "holdout"])
    process.send(**request)
    process.wait_for("metrics")
    process.process.kill()
    process.process.wait()
    process = Process(models=places / "models")
    process.send(**request, resume=True)
    process.wait_for("metrics")
    process.send(id="k", command="stop")
    result = process.wait_for("result", "error")
    assert result["report"] == "holdout" and result["steps"] > 0, result
    assert process.close() == 0
