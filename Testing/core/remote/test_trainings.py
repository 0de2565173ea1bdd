"""Trainings on another computer over a real OpenSSH server: they outlive the connection."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from samples import write_case_list
from ssh_support import NAME, ROOT, needs_sshd, wait_until
from worker_support import Process, training

from ugmcl_core.errors import Canceled, InputError
from ugmcl_core.models.model import open_model
from ugmcl_core.remote import runs, trainings
from ugmcl_core.remote.handler import RemoteHandler
from ugmcl_core.remote.session import GOING
from ugmcl_core.worker import protocol

pytestmark = [needs_sshd, pytest.mark.slow]
ROLES = ["labeled", "unlabeled", "holdout"]


class Events:
    """Takes events, and acts at the first one of a kind."""

    def __init__(self, act=lambda: None, at="metrics"):
        self.all, self.act, self.at = [], act, at

    def __call__(self, event, **content):
        self.all.append({"event": event, **content})
        if event == self.at:
            act, self.act = self.act, lambda: None
            act()

    def of(self, name):
        return [e for e in self.all if e["event"] == name]


class Setting:
    stopped = held = left = False


def asked(folder, **changes):
    return protocol.parse(training(folder, ROLES, **changes))


def the_run(sshd):
    (run,) = (sshd.home / "runs").iterdir()
    return run


def nothing_left(sshd):
    assert list((sshd.home / "runs").iterdir()) == []
    assert not sshd.processes("ugmcl_core.remote.job")


def test_the_same_model_as_here_with_the_connection_cut(sshd, tmp_path, computer):
    from ugmcl_core.worker.handlers import RequestHandler
    from ugmcl_core.worker.server import PendingRequest

    here = RequestHandler().do(
        asked(tmp_path / "a", iterations=8), lambda *a, **k: None, PendingRequest("1", {})
    )
    handler = RemoteHandler(computer)
    events = Events(sshd.cut)
    request = asked(tmp_path / "b", iterations=8)
    there = handler.do(request, events, GOING)
    handler.close()
    assert any("trying again" in e["text"] for e in events.of("log"))
    assert any("connected to gpu-box again" in e["text"] for e in events.of("log"))
    steps = [e["step"] for e in events.of("metrics")]
    assert steps == sorted(steps) and steps[-1] == 8  # none twice, none lost
    assert [c["after"] for c in there["cases"]] == [c["after"] for c in here["cases"]]
    one, other = (open_model(Path(r["model"])) for r in (here, there))
    assert one.card.sha256 == other.card.sha256
    assert Path(there["model"]).is_relative_to(request.output)
    names = {p.name for p in Path(request.output).iterdir()}
    assert {"model", "report.json", "manifest.json"} <= names
    assert not {"checkpoint.safetensors", trainings.RECORD} & names
    nothing_left(sshd)
    again = RemoteHandler(computer).do(
        asked(tmp_path / "b", iterations=8, resume=True), events, GOING
    )
    assert again["verdict"] == there["verdict"]  # from its report, without a connection


def test_it_goes_on_alone_and_is_fetched_by_another_program(sshd, tmp_path, places):
    """Slicer quits, or dies, and is started again."""
    content = training(tmp_path / "t", ROLES, iterations=12)
    process = Process("--on", NAME, models=places / "models")
    process.send(id="1", **content)
    begun = process.wait_for("metrics", "error", seconds=100)
    assert begun["event"] == "metrics", begun
    process.process.kill()
    run = the_run(sshd)
    wait_until(lambda: not sshd.left())  # the session is over
    assert runs.state(run) == runs.RUNNING
    process = Process("--on", NAME, models=places / "models")
    process.send(id="2", **{**content, "resume": True})
    result = process.wait_for("result", "error", seconds=100)
    assert result["event"] == "result", result
    assert open_model(result["model"]).card.training["iterations"] == 12
    process.close()
    nothing_left(sshd)


def test_a_finished_training_waits_without_its_images(sshd, tmp_path, places, computer):
    request = asked(tmp_path / "t", iterations=3)
    control = Setting()
    with pytest.raises(Canceled):
        RemoteHandler(computer).do(
            request, Events(lambda: setattr(control, "left", True), "progress"), control
        )
    wait_until(lambda: runs.state(the_run(sshd)) == runs.DONE, 100)
    assert not (the_run(sshd) / runs.CASES).exists()
    for path in (tmp_path / "t").glob("*/*.nrrd"):
        path.unlink()  # nor are they needed here
    resumed = RemoteHandler(computer).do(
        protocol.parse({**request.request(), "resume": True}), Events(), GOING
    )
    assert Path(resumed["model"]).is_dir()
    nothing_left(sshd)


def test_pause_cancel_and_resume(sshd, tmp_path, computer):
    control = Setting()
    events = Events()
    request = asked(tmp_path / "t", iterations=120)
    handler = RemoteHandler(computer)
    found = []

    def work():
        try:
            handler.do(request, events, control)
        except Canceled:
            found.append(time.monotonic())

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: events.of("metrics"), 100)
    control.held = True
    wait_until(lambda: (the_run(sshd) / runs.PAUSE).exists())
    time.sleep(1.0)
    count = len(events.of("metrics"))
    time.sleep(1.5)
    assert len(events.of("metrics")) == count
    control.held = False
    wait_until(lambda: len(events.of("metrics")) > count)
    began = time.monotonic()
    control.stopped = True
    wait_until(lambda: (the_run(sshd) / runs.CANCEL).exists(), 1.0)
    thread.join(60)
    assert found and found[0] - began < 20  # the step under way, a checkpoint, the model's way
    assert (Path(request.output) / "model" / "model.json").is_file()
    assert runs.state(the_run(sshd)) == runs.STOPPED
    resumed = Events()
    result = handler.do(
        protocol.parse({**request.request(), "resume": True}), resumed, GOING
    )
    assert resumed.of("metrics")[0]["step"] > 2  # it did not start again
    assert open_model(result["model"]).card.training["iterations"] == 120
    handler.close()
    nothing_left(sshd)


def test_a_killed_training_is_one_line_and_can_be_resumed(sshd, tmp_path, computer):
    def kill():
        for process in sshd.processes("ugmcl_core.remote.job"):
            process.kill()

    request = asked(tmp_path / "t", iterations=10)
    handler = RemoteHandler(computer)
    with pytest.raises(InputError, match=r"on gpu-box was killed, .*; resume it"):
        handler.do(request, Events(kill), GOING)
    result = handler.do(protocol.parse({**request.request(), "resume": True}), Events(), GOING)
    assert Path(result["model"]).is_dir()
    handler.close()
    nothing_left(sshd)


def test_an_estimate_sends_the_images_that_the_training_then_uses(sshd, tmp_path, computer):
    handler = RemoteHandler(computer)
    content = training(tmp_path / "t", ROLES, iterations=2)
    found = handler.do(protocol.parse({**content, "command": "estimate"}), Events(), GOING)
    assert found["seconds"] > 0
    files = sorted(next(iter(sshd.left())).glob("files/*/*"))
    assert len(files) == 5
    inodes = {p.stat().st_ino for p in files}
    control = Setting()
    with pytest.raises(Canceled):
        handler.do(
            protocol.parse(content),
            Events(lambda: setattr(control, "left", True), "progress"),
            control,
        )
    moved = {p.stat().st_ino for p in (the_run(sshd) / runs.CASES).rglob("*.nrrd")}
    assert moved <= inodes
    handler.close()


def test_bad_cases_are_named_as_here_and_nothing_stays(sshd, tmp_path, computer):
    content = training(tmp_path / "t", ROLES)
    listed = json.loads(Path(content["case_list"]).read_text())
    label = Path(content["case_list"]).parent / listed["cases"][0]["label"]
    label.write_text("no image")
    with pytest.raises(InputError) as error:
        RemoteHandler(computer).do(protocol.parse(content), Events(), GOING)
    assert str(label) in str(error.value) and str(sshd.home) not in str(error.value)
    nothing_left(sshd)


def start(*words) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "ugmcl_core", *map(str, words)],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_the_command_line_trains_leaves_alone_stops_and_resumes(sshd, tmp_path):
    write_case_list(tmp_path / "t", ["labeled", "unlabeled"])
    (tmp_path / "t" / "labels" / "phantom-001.nrrd").unlink()
    output = tmp_path / "mine"
    words = ["train", "--images", tmp_path / "t" / "images", "--labels", tmp_path / "t" / "labels",
             "--base", "tiny", "--iterations", "300", "--device", "cpu", "--output", output,
             "--on", NAME]  # fmt: skip
    closed = start(*words)
    wait_until(lambda: list((sshd.home / "runs").glob(f"*/{runs.OUTPUT}/log.jsonl")), 100)
    closed.send_signal(signal.SIGTERM)  # as a closed terminal
    closed.wait(30)
    run = the_run(sshd)
    assert runs.state(run) == runs.RUNNING
    stopped = start(*words, "--resume")
    wait_until(lambda: len(sshd.left()) == 1, 100)
    time.sleep(1.0)
    stopped.send_signal(signal.SIGINT)
    assert stopped.wait(60) == 130
    assert runs.state(run) == runs.STOPPED
    assert open_model(output / "model").name == "mine"
    local = start(*[w for w in words[:-2]], "--resume")
    assert local.wait(60) == 2 and "resume it with --on gpu-box" in local.stderr.read()
    resumed = start(*words, "--resume", "--json")
    out, errors = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, errors
    assert json.loads(out.strip().splitlines()[-1])["model"] == str(output / "model")
    assert open_model(output / "model").card.training["iterations"] == 300
    nothing_left(sshd)
    assert os.listdir(sshd.home / "sessions") == []


def test_a_fault_of_the_command_line_there_is_one_line(sshd, tmp_path):
    write_case_list(tmp_path / "t", ["labeled", "unlabeled"])
    words = ["train", "--images", tmp_path / "t" / "images", "--labels", tmp_path / "t" / "labels",
             "--method", "nonsense", "--output", tmp_path / "mine", "--on", NAME]  # fmt: skip
    process = start(*words)
    out, errors = process.communicate(timeout=100)
    assert process.returncode == 2 and out == ""
    assert "nonsense" in errors and len(errors.strip().splitlines()) == 1
    nothing_left(sshd)
