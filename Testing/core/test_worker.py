"""The worker's protocol, with the true process behind pipes and with its parts."""

from __future__ import annotations

import io
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from samples import tiny_model, write_image

from ugmcl_core import phantoms, requests, volume, worker
from ugmcl_core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
LONG = {"passes": 64}


class Process:
    """A worker process and its events."""

    def __init__(self, *words: str, models: Path | None = None) -> None:
        environment = {**os.environ, "UGMCL_MODELS": str(models or "")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ugmcl_core", "worker", *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.events: queue.Queue[dict] = queue.Queue()
        self.errors = b""
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.events.put(json.loads(line))  # anything but protocol lines would fail here

    def _read_errors(self) -> None:
        self.errors = self.process.stderr.read()

    def send(self, **request) -> None:
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def wait_for(self, *names: str, seconds: float = 60) -> dict:
        """The next event of one of `names`; others are passed over."""
        deadline = time.monotonic() + seconds
        while True:
            event = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            if event["event"] in names:
                return event

    def close(self) -> int:
        self.process.stdin.close()
        return self.process.wait(timeout=10)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with a tiny model (large patch count on the big scan) and two scans."""
    folder = tmp_path_factory.mktemp("worker")
    tiny_model(folder / "models" / "tiny")
    write_image(folder / "scan.nrrd")
    image, _ = phantoms.phantom(1, (120, 100, 90), (2.0, 2.0, 2.0))
    volume.write(folder / "big.nrrd", image, compress=False)
    return folder


@pytest.fixture(scope="module")
def running(places):
    """One process that several tests share, as the panel does."""
    process = Process(models=places / "models")
    process.hello = process.wait_for("hello")
    yield process
    assert process.close() == 0
    assert b"Traceback" not in process.errors


def request(places, folder, **changes):
    plain = {"id": "1", "command": "segment", "image": str(places / "scan.nrrd"),
             "output": str(folder), "model": "tiny", "device": "cpu", "passes": 2, "roi": None,
             "all_components": False, "stem": "case"}  # fmt: skip
    return {**plain, **changes}


def test_hello(running):
    hello = running.hello
    assert hello["pid"] == running.process.pid
    assert hello["protocol"] == 1
    assert hello["devices"][-1]["name"] == "cpu"
    assert "ugmcl" in [method["name"] for method in hello["methods"]]
    assert {"version", "torch"} <= set(hello)


def test_segment(running, places, tmp_path):
    running.send(**request(places, tmp_path))
    assert running.wait_for("progress")["id"] == "1"
    result = running.wait_for("result", "error")
    assert result["event"] == "result", result
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "case_labels.nrrd",
        "case_sdf.nrrd",
        "case_uncertainty.nrrd",
    ]
    (info,) = result["classes"]
    assert info["sdf"] == str(tmp_path / "case_sdf.nrrd")
    assert set(result) == {
        "event",
        "id",
        "labels",
        "uncertainty",
        "classes",
        "sdf_scale_mm",
        "advice",
        "model",
        "device",
        "passes",
        "seconds",
    }
    assert set(info) == {
        "value",
        "name",
        "color",
        "terminology",
        "sdf",
        "volume_ml",
        "mean_uncertainty",
    }


def test_the_same_voxels_as_the_command_line(running, places, tmp_path):
    from ugmcl_core.__main__ import main

    running.send(**request(places, tmp_path, id="cli", passes=0))
    running.wait_for("result")
    words = [
        "segment",
        str(places / "scan.nrrd"),
        "--model",
        str(places / "models" / "tiny"),
        "--output",
        str(tmp_path),
        "--uncertainty-passes",
        "0",
        "--device",
        "cpu",
    ]
    assert main(words) == 0
    for kind in ("labels", "sdf"):
        a, b = (volume.read(tmp_path / f"{stem}_{kind}.nrrd") for stem in ("case", "scan"))
        assert (a.array == b.array).all() and a.grid == b.grid


def test_cancel_is_acknowledged_at_once_and_leaves_nothing(running, places, tmp_path):
    running.send(**request(places, tmp_path, id="long", image=str(places / "big.nrrd"), **LONG))
    while running.wait_for("progress")["text"] != "segmenting":
        pass
    delays = []
    for _ in range(9):  # a cancel of something else is answered the same way
        delays.append(answered(running, "log", id="other", command="cancel"))
        time.sleep(0.03)
    delays.append(answered(running, "cancelling", id="long", command="cancel"))
    assert sorted(delays)[len(delays) // 2] < 0.2, delays
    assert running.wait_for("cancelled", "result", seconds=5)["event"] == "cancelled"
    assert list(tmp_path.iterdir()) == []


def answered(process, event, **message) -> float:
    """Seconds from a message to its `event`. A single one may be late on a busy machine."""
    began = time.monotonic()
    process.send(**message)
    assert process.wait_for(event, seconds=5)["id"] == message["id"]
    return time.monotonic() - began


def test_after_a_cancel_the_next_request_works(running, places, tmp_path):
    running.send(**request(places, tmp_path, id="a", image=str(places / "big.nrrd"), **LONG))
    running.send(**request(places, tmp_path, id="b", image=str(places / "big.nrrd")))
    running.send(**request(places, tmp_path, id="c"))
    running.send(id="b", command="cancel")
    running.send(id="a", command="cancel")
    ends = [running.wait_for("cancelled", "result", "error") for _ in range(3)]
    assert [(e["id"], e["event"]) for e in ends] == [
        ("a", "cancelled"),
        ("b", "cancelled"),
        ("c", "result"),
    ]


def test_an_error_is_one_line_and_the_worker_goes_on(running, places, tmp_path):
    bad = [
        ({"image": str(places / "none.nrrd")}, "none.nrrd"),
        ({"model": "ghost"}, "available: "),
        ({"device": "abacus"}, "abacus"),
        ({"output": str(tmp_path / "none")}, "no such folder"),
        ({"roi": [0, 1, 2]}, "roi"),
        ({"roi": [900, 950, 900, 950, 900, 950]}, "outside"),
        ({"command": "dance"}, "unknown command"),
    ]
    for n, (changes, word) in enumerate(bad):
        running.send(**request(places, tmp_path, **{"id": n, **changes}))
        event = running.wait_for("error", "result")
        assert (event["event"], event["id"]) == ("error", n)
        assert word in event["message"] and "\n" not in event["message"]
    running.process.stdin.write(b"{nonsense\n[]\n{}\n\n")
    running.process.stdin.flush()
    for _ in range(3):
        assert running.wait_for("error")["id"] is None
    running.send(id="x", command="cancel")
    assert running.wait_for("log")["level"] == "warning"
    assert list(tmp_path.iterdir()) == []


def test_models(running):
    running.send(id=5, command="models")
    listed = {m["name"]: m for m in running.wait_for("result")["models"]}
    assert listed["tiny"]["classes"] == ["left atrium"]
    assert set(listed["tiny"]) == {
        "name",
        "folder",
        "classes",
        "modality",
        "description",
        "license",
        "bundled",
    }


def training(folder, roles, **changes):
    """A request to fine-tune on phantoms of these roles."""
    names = phantoms.write_cohort(folder, len(roles), shape=(36, 30, 22), spacing=(3.0, 3.0, 2.5))
    cases = [
        {
            "name": name,
            "role": role,
            "image": f"images/{name}.nrrd",
            "label": f"labels/{name}.nrrd",
        }
        for name, role in zip(names, roles, strict=True)
    ]
    (folder / "cases.json").write_text(json.dumps({"cases": cases}))
    files = {"case_list": str(folder / "cases.json"), "output": str(folder / "run")}
    plain = {"command": "finetune", "base": "tiny", "iterations": 2, "seed": 1, "device": "cpu"}
    return {**plain, **files, **changes}


def test_finetune(running, tmp_path):
    roles = ["labelled", "labelled", "unlabelled", "holdout"]
    running.send(id="ft", **training(tmp_path, roles))
    metrics = running.wait_for("metrics", "error")
    assert metrics["event"] == "metrics", metrics
    assert metrics["step"] in (1, 2) and metrics["speed"] > 0 and metrics["part"] == ""
    assert all(isinstance(v, float) for v in metrics["losses"].values())
    result = running.wait_for("result", "error")
    assert result["event"] == "result", result
    assert set(result) == {"event", "id", "model", "report", "cases", "verdict", "text"}
    assert (Path(result["model"]) / "model.json").is_file()
    (case,) = result["cases"]
    assert case["name"] == "phantom-003" and case["supervised"] is None
    measures = {"dice", "jaccard", "asd_mm", "hd95_mm", "classes"}
    assert set(case["before"]) == set(case["after"]) == measures
    running.send(
        id="seg",
        command="segment",
        image=str(tmp_path / "images" / "phantom-003.nrrd"),
        output=str(tmp_path),
        model=result["model"],
        device="cpu",
        passes=0,
    )
    assert running.wait_for("result", "error")["model"] == "run"


def test_rank_and_evaluate(running, places, tmp_path):
    (tmp_path / "broken.nrrd").write_bytes(b"NRRD0004\n")
    images = [str(places / "scan.nrrd"), str(tmp_path / "broken.nrrd"), str(places / "big.nrrd")]
    running.send(id="r", command="rank", images=images, model="tiny", device="cpu", passes=2)
    first = running.wait_for("ranked", "error")
    assert first["image"] == images[0] and set(first) == {
        "event", "id", "image", "uncertainty", "predicted_dice"}  # fmt: skip
    assert "broken.nrrd" in running.wait_for("log")["text"]
    cases = running.wait_for("result", "error")["cases"]
    assert sorted(c["image"] for c in cases) == sorted(images[::2])

    running.send(**request(places, tmp_path, id="a", uncertainty="both"))
    labels = running.wait_for("result", "error")["labels"]
    errors = tmp_path / "errors.nrrd"
    running.send(
        id="e", command="evaluate", prediction=labels, reference=labels, errors=str(errors)
    )
    (item,) = running.wait_for("result", "error")["classes"]
    assert item == {"value": 1, "dice": 1.0, "jaccard": 1.0, "asd_mm": 0.0, "hd95_mm": 0.0}
    assert not volume.read(errors).array.any()
    running.send(id="v", command="evaluate", prediction=labels, reference=labels, values=[9])
    (item,) = running.wait_for("result", "error")["classes"]
    assert (item["value"], item["dice"]) == (9, None)


def test_estimate(running, tmp_path):
    running.send(
        id="e", **{**training(tmp_path, ["labelled", "unlabelled"]), "command": "estimate"}
    )
    result = running.wait_for("result", "error")
    assert {"seconds", "seconds_per_iteration", "memory_bytes"} < set(result), result
    assert not (tmp_path / "run").exists()


def test_a_finetune_pauses_continues_cancels_and_resumes(running, tmp_path):
    request = training(tmp_path, ["labelled"], iterations=100_000)
    running.send(id="ft", **request)
    running.wait_for("metrics")
    delays = []
    for _ in range(5):
        delays.append(answered(running, "paused", id="ft", command="pause"))
        delays.append(answered(running, "continued", id="ft", command="continue"))
    assert sorted(delays)[len(delays) // 2] < 0.2, delays
    answered(running, "paused", id="ft", command="pause")
    with pytest.raises(queue.Empty):  # metrics come every 2 s while it runs
        for _ in range(5):  # some of the step under way
            running.events.get(timeout=5.0)
    answered(running, "continued", id="ft", command="continue")
    assert running.wait_for("metrics", seconds=10)["step"] > 0
    answered(running, "paused", id="ft", command="pause")
    assert answered(running, "cancelling", id="ft", command="cancel") < 2
    assert running.wait_for("cancelled", "result", "error", seconds=20)["event"] == "cancelled"
    card = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert card["training"]["iterations"] > 0
    running.send(id="again", **{**request, "resume": True})
    assert running.wait_for("metrics", "error")["step"] > card["training"]["iterations"]
    running.send(id="again", command="cancel")
    running.wait_for("cancelled")


def test_a_finetune_writes_its_checkpoint_when_stdin_closes(places, tmp_path):
    process = Process(models=places / "models")
    process.wait_for("hello")
    process.send(id="ft", **training(tmp_path, ["labelled"], iterations=100_000))
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


def test_a_stuck_request_does_not_keep_the_process():
    """The watchdog ends the process if a step does not end in time."""
    code = (
        "import sys, time; from ugmcl_core import worker; worker.GRACE = 0.3\n"
        "class Stuck:\n"
        "    def do(self, request, send, cancelled): send('progress'); time.sleep(60)\n"
        "worker._start = lambda wire: wire.send('hello') or Stuck()\n"
        "sys.exit(worker.serve())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdin.write(b'{"id": 1, "command": "models"}\n')
    process.stdin.flush()
    events = [json.loads(process.stdout.readline())["event"] for _ in range(3)]
    assert events == ["hello", "accepted", "progress"]
    process.stdin.close()
    assert process.wait(timeout=30) == 130
    process.stdout.close()


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
    assert len(list(tmp_path.iterdir())) == 4


def test_a_single_job_is_cancelled_by_a_file(places, tmp_path):
    process = run_job(places, tmp_path, True, image=str(places / "big.nrrd"), **LONG)
    process.wait_for("progress")
    (tmp_path / "stop").touch()
    process.wait_for("cancelling", seconds=5)
    process.wait_for("cancelled", seconds=10)
    assert process.process.wait(timeout=20) == 130
    assert sorted(p.name for p in tmp_path.iterdir()) == ["job.json", "stop"]


def test_stray_prints_do_not_reach_the_protocol():
    code = (
        "import os, sys; from ugmcl_core import worker\n"
        "class Loud:\n"
        "    def do(self, request, send, cancelled):\n"
        "        print('python'); os.write(1, b'C\\n'); sys.stdout.flush()\n"
        "        return {'value': float('nan')}\n"
        "worker._start = lambda wire: wire.send('hello') or Loud()\n"
        "sys.exit(worker.serve())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdin.write(b'{"id": 1, "command": "models"}\n')
    process.stdin.flush()
    events = [json.loads(process.stdout.readline()) for _ in range(3)]
    rest, errors = process.communicate(timeout=20)
    assert [e["event"] for e in events] == ["hello", "accepted", "result"] and rest == b""
    assert events[2]["value"] is None, "JSON has no NaN"
    assert b"python\n" in errors and b"C\n" in errors


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told to keep freed memory")
@pytest.mark.parametrize("ending", ["return {}", "raise RuntimeError('trouble')"])
def test_memory_goes_back_to_the_system_after_a_request(ending):
    code = (
        "import sys, numpy as np, psutil; from ugmcl_core import devices, worker\n"
        "devices.prepare_cpu()\n"
        "class Work:\n"
        "    def do(self, request, send, cancelled):\n"
        "        send('log', resident=psutil.Process().memory_info().rss)\n"
        "        blocks = [np.ones(1 << 19) for _ in range(100)]\n"
        f"        {ending}\n"
        "worker._start = lambda wire: wire.send('hello') or Work()\n"
        "sys.exit(worker.serve())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    process.stdin.writelines(b'{"id": %d, "command": "models"}\n' % n for n in range(2))
    process.stdin.flush()
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


def test_lines_of_a_wire_are_whole():
    file = io.BytesIO()
    wire = worker.Wire(file)
    threads = [
        threading.Thread(target=lambda n=n: [wire.send("x", n=n) for _ in range(50)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = [json.loads(line) for line in file.getvalue().splitlines()]
    assert len(events) == 200


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"command": "segment"}, "needs image"),
        ({"passes": 65}, "passes"),
        ({"passes": True}, "passes"),
        ({"passes": "8"}, "passes"),
        ({"all_components": 1}, "all_components"),
        ({"roi": [0, 1, 0, 1, 0, float("nan")]}, "roi"),
        ({"roi": [1, 0, 0, 1, 0, 1]}, "roi"),
        ({"stem": "../../etc/passwd"}, "stem"),
        ({"stem": ".."}, "stem"),
        ({"image": 7}, "image"),
        ({"image": "a\0b"}, "image"),
        ({"colour": "red"}, "colour"),
        ({"uncertainty": "dice"}, "uncertainty"),
        ({"command": "rank", "images": [], "model": "m"}, "no images"),
        ({"command": "rank", "images": "a", "model": "m"}, "list of texts"),
        ({"command": "rank", "images": ["a"], "model": "m", "passes": 0}, "passes is 0"),
        ({"command": "evaluate", "prediction": "a", "reference": "b", "values": [1.5]}, "values"),
        ({"command": "finetune", "output": "o"}, "needs case_list"),
        ({"command": "finetune", "output": "o", "case_list": "c", "iterations": 0}, "at least 1"),
        ({"command": "estimate", "output": "o", "case_list": "c", "seed": -1}, "negative"),
        ({"command": "finetune", "output": "o", "case_list": "c", "compare": 1}, "compare"),
    ],
)
def test_requests_are_checked(tmp_path, content, word):
    plain = {"command": "segment", "image": "i", "model": "m", "output": str(tmp_path)}
    given = content if content.get("command") else {**plain, **content}
    with pytest.raises(InputError, match=word):
        requests.parse(given)


def test_a_request_without_options_has_defaults(tmp_path):
    plain = {"id": 3, "command": "segment", "image": "/x/scan.nii.gz", "model": "m",
             "output": str(tmp_path)}  # fmt: skip
    found = requests.parse(plain)
    assert (found.passes, found.device, found.roi, found.output_stem) == (8, "auto", None, "scan")


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_outputs_are_named_after_the_link_that_was_given(tmp_path):
    (tmp_path / "true.nrrd").touch()
    (tmp_path / "given.nrrd").symlink_to(tmp_path / "true.nrrd")
    plain = {"command": "segment", "image": str(tmp_path / "given.nrrd"), "model": "m",
             "output": str(tmp_path)}  # fmt: skip
    assert requests.parse(plain).output_stem == "given"
