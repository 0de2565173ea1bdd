"""The worker's protocol, with the true process behind pipes and its events."""

from __future__ import annotations

import io
import json
import threading
import time
from pathlib import Path

import pytest
from worker_support import LONG, Process, make_places, request, training

from ugmcl_core.data import volume
from ugmcl_core.worker import server


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return make_places(tmp_path_factory.mktemp("worker"))


@pytest.fixture(scope="module")
def running(places):
    """One process that several tests share, as the panel does."""
    process = Process(models=places / "models")
    process.hello = process.wait_for("hello")
    yield process
    assert process.close() == 0
    assert b"Traceback" not in process.errors


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
        "case_surface_error.nrrd",
        "case_uncertainty.nrrd",
    ]
    (info,) = result["classes"]
    assert info["sdf"] == str(tmp_path / "case_sdf.nrrd")
    assert set(result) == {
        "event",
        "id",
        "labels",
        "uncertainty",
        "surface_error",
        "predicted_dice",
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
        "volume_interval_ml",
        "mean_uncertainty",
        "unsure_surface",
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
    delays.append(answered(running, "canceling", id="long", command="cancel"))
    assert sorted(delays)[len(delays) // 2] < 0.2, delays
    assert running.wait_for("canceled", "result", seconds=5)["event"] == "canceled"
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
    ends = [running.wait_for("canceled", "result", "error") for _ in range(3)]
    assert [(e["id"], e["event"]) for e in ends] == [
        ("a", "canceled"),
        ("b", "canceled"),
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
        ({"image": "x" * 5000}, "File name too long"),
        ({"image": "a\ud800"}, "invalid character"),
        ({"command": "dance"}, "unknown command"),
        ({"command": ["x"]}, "unknown command"),
        ({"command": {}}, "unknown command"),
    ]
    for n, (changes, word) in enumerate(bad):
        running.send(**request(places, tmp_path, **{"id": n, **changes}))
        event = running.wait_for("error", "result")
        assert (event["event"], event["id"]) == ("error", n)
        assert word in event["message"] and "\n" not in event["message"]
        assert "unexpected" not in event["message"]
    running.process.stdin.write(b"{nonsense\n[]\n{}\n\n" + b"[" * 100_000 + b"\n")
    running.process.stdin.flush()
    for _ in range(4):
        assert running.wait_for("error")["id"] is None
    running.send(id="x", command="cancel")
    assert running.wait_for("log")["level"] == "warning"
    assert list(tmp_path.iterdir()) == []


def test_finetune(running, tmp_path):
    roles = ["labeled", "labeled", "unlabeled", "holdout"]
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
        id="e", **{**training(tmp_path, ["labeled", "unlabeled"]), "command": "estimate"}
    )
    result = running.wait_for("result", "error")
    assert {"seconds", "seconds_per_iteration", "memory_bytes"} < set(result), result
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_finetune_pauses_continues_cancels_and_resumes(running, tmp_path):
    request = training(tmp_path, ["labeled"], iterations=100_000)
    running.send(id="ft", **request)
    running.wait_for("metrics")
    delays = []
    for _ in range(5):
        delays.append(answered(running, "paused", id="ft", command="pause"))
        delays.append(answered(running, "continued", id="ft", command="continue"))
    assert sorted(delays)[len(delays) // 2] < 0.2, delays
    answered(running, "paused", id="ft", command="pause")
    time.sleep(1.0)  # the step under way may still send some
    while not running.events.empty():
        running.events.get()
    time.sleep(5.0)  # metrics come every 2 s while it runs
    sent = [running.events.get()["event"] for _ in range(running.events.qsize())]
    assert not {"metrics", "progress"} & set(sent), sent
    answered(running, "continued", id="ft", command="continue")
    assert running.wait_for("metrics", seconds=10)["step"] > 0
    answered(running, "paused", id="ft", command="pause")
    assert answered(running, "canceling", id="ft", command="cancel") < 2
    assert running.wait_for("canceled", "result", "error", seconds=20)["event"] == "canceled"
    card = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert card["training"]["iterations"] > 0
    running.send(id="again", **{**request, "resume": True})
    assert running.wait_for("metrics", "error")["step"] > card["training"]["iterations"]
    running.send(id="again", command="cancel")
    running.wait_for("canceled")


def test_a_line_that_is_too_long_is_an_error_and_the_next_one_is_read(monkeypatch):
    monkeypatch.setattr(server, "LONGEST_LINE", 1000)
    monkeypatch.setattr(server, "GRACE", 1e6)  # the watchdog would end this process
    sent, file = b"x" * 5500 + b'\n{"id": 1, "command": "evaluate"}\n', io.BytesIO()
    events = server.EventWriter(file)
    assert [r.id for r in server.RequestReader(io.BytesIO(sent), events)] == [1]
    error, accepted = map(json.loads, file.getvalue().splitlines())
    assert error["event"] == "error" and "longer than" in error["message"]
    assert accepted["event"] == "accepted"


def test_lines_of_a_wire_are_whole():
    file = io.BytesIO()
    events = server.EventWriter(file)
    threads = [
        threading.Thread(target=lambda n=n: [events.send("x", n=n) for _ in range(50)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = [json.loads(line) for line in file.getvalue().splitlines()]
    assert len(events) == 200


