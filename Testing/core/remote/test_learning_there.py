"""Keep learning on another computer over a real OpenSSH server: cases go there while it runs,
models come here."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path

import pytest
from samples import SHAPE, SPACING, tiny_model
from ssh_support import needs_sshd, wait_until
from test_trainings import Events, nothing_left, the_run

from ugmcl_core.data import phantoms
from ugmcl_core.errors import Canceled
from ugmcl_core.models.model import open_model, verify
from ugmcl_core.remote import runs, trainings
from ugmcl_core.remote.handler import RemoteHandler
from ugmcl_core.training.settings import KeepLearningSettings
from ugmcl_core.worker.server import PendingRequest

pytestmark = [needs_sshd, pytest.mark.slow]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    tiny_model(folder / "tiny", patch=(48, 32, 16))
    phantoms.write_cohort(folder, 4, 0, SHAPE, SPACING)
    return folder


class Person:
    """Who keeps a training alive, in a thread, over one connection."""

    def __init__(self, computer, settings: KeepLearningSettings) -> None:
        self.control = PendingRequest("1", {})
        self.events = Events()
        self.result: dict | None = None
        self._handler = RemoteHandler(computer)
        self._thread = threading.Thread(target=self._work, args=(settings,))
        self._thread.start()

    def _work(self, settings: KeepLearningSettings) -> None:
        with contextlib.suppress(Canceled):
            self.result = self._handler.do(settings, self.events, self.control)

    def wait_for(self, name: str, count: int = 1) -> dict:
        wait_until(lambda: len(self.events.of(name)) >= count or not self._thread.is_alive(), 120)
        assert len(self.events.of(name)) >= count, self.events.all[-5:]
        return self.events.of(name)[-1]

    def end(self) -> None:
        self._thread.join(120)
        assert not self._thread.is_alive()
        self._handler.close()


def write_list(path: Path, data: Path, roles: list[str]) -> Path:
    cases = [
        {"name": f"case {n}", "role": role, "image": str(data / f"images/phantom-{n:03d}.nrrd"),
         "label": str(data / f"labels/phantom-{n:03d}.nrrd")}
        for n, role in enumerate(roles)
    ]  # fmt: skip
    path.write_text(json.dumps({"cases": cases}))
    return path


def asked(place: Path, data: Path, roles: list[str], **changes) -> KeepLearningSettings:
    return KeepLearningSettings(
        str(write_list(place / "cases.json", data, roles)), str(place / "run"),
        str(data / "tiny"), name="kept", check_minutes=1000.0, cores=1.0, on_battery=True,
        **changes,
    )  # fmt: skip


def test_a_case_joins_and_the_model_that_takes_over_comes_here(sshd, data, tmp_path, computer):
    settings = asked(tmp_path, data, ["labeled", "holdout"])
    person = Person(computer, settings)
    person.wait_for("metrics")
    write_list(tmp_path / "cases.json", data, ["labeled", "holdout", "labeled"])
    person.control.tell("add_case")
    joined = person.wait_for("joined")
    assert joined["name"] == "case 2" and joined["cases"] == 2
    count = len(person.events.of("metrics"))
    sshd.cut()  # what is said meanwhile arrives, too
    person.control.tell("take_model")
    check = person.wait_for("check")
    assert any("connected to gpu-box again" in e["text"] for e in person.events.of("log"))
    if check["taken"]:
        assert check["model"] == str(tmp_path / "run" / "model")
        verify(open_model(check["model"]))
    person.wait_for("metrics", count + 2)
    person.control.hold(True)
    wait_until(lambda: (the_run(sshd) / runs.PAUSE).exists())
    person.control.hold(False)
    person.control.tell("stop")
    person.end()
    result = person.result
    assert result["report"] == "holdout" and result["labeled"] == 2 and result["taken"]
    verify(open_model(result["model"]))
    assert Path(result["model"]) == tmp_path / "run" / "model"
    saved = json.loads((tmp_path / "run" / "report.json").read_text())
    assert saved["steps"] == result["steps"] > 0
    nothing_left(sshd)


def test_it_goes_on_without_anybody_and_learns_from_what_was_accepted(
    sshd, data, tmp_path, computer
):
    """Slicer quits, a case is accepted, the training is followed again."""
    settings = asked(tmp_path, data, ["labeled", "holdout"])
    person = Person(computer, settings)
    person.wait_for("metrics")
    person.control.leave()
    person.end()
    assert runs.state(the_run(sshd)) == runs.RUNNING and person.result is None
    assert trainings.Record.read(tmp_path / "run").computer == "gpu-box"
    write_list(tmp_path / "cases.json", data, ["labeled", "holdout", "labeled"])
    resumed = KeepLearningSettings(**{**vars(settings), "resume": True})
    person = Person(computer, resumed)
    assert person.wait_for("joined")["name"] == "case 2"
    person.control.cancel()
    person.end()
    assert person.result is None and runs.state(the_run(sshd)) == runs.STOPPED
    write_list(tmp_path / "cases.json", data, ["labeled", "holdout", "labeled", "labeled"])
    person = Person(computer, resumed)  # from its checkpoint
    assert person.wait_for("joined")["name"] == "case 3"
    person.control.tell("stop")
    person.end()
    assert person.result["labeled"] == 3
    nothing_left(sshd)
