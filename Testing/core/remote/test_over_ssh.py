"""Work on another computer over a real OpenSSH server: results, faults, two sessions."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ssh_support import NAME, ROOT, needs_sshd, wait_until
from worker_support import LONG, Process, request

from ugmcl_core.data import volume
from ugmcl_core.errors import Canceled, InputError
from ugmcl_core.remote.handler import RemoteHandler
from ugmcl_core.remote.session import GOING, Session
from ugmcl_core.worker import protocol

pytestmark = [needs_sshd, pytest.mark.slow]


class Stopping:
    """A `Control` that a test sets."""

    stopped = held = left = False


def segmenting(places: Path, folder: Path, **changes):
    content = {k: v for k, v in request(places, folder, **changes).items() if k != "id"}
    return protocol.parse(content)


def ugmcl(*words: object, **more) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ugmcl_core", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, **more)


def nothing(event: str, **content) -> None:
    pass


def test_the_same_files_as_here_bit_for_bit(sshd, places, tmp_path):
    words = ["segment", places / "scan.nrrd", "--model", "tiny", "--uncertainty-passes", "3",
             "--overlap", "0.6", "--device", "cpu", "--output"]  # fmt: skip
    for name, more in (("here", []), ("there", ["--on", NAME])):
        done = ugmcl(*words, tmp_path / name, *more)
        assert done.returncode == 0, done.stderr
    files = sorted(p.name for p in (tmp_path / "here").glob("*.nrrd"))
    assert files == sorted(p.name for p in (tmp_path / "there").glob("*.nrrd")) and len(files) == 4
    for name in files:
        one, other = (tmp_path / place / name for place in ("here", "there"))
        assert one.read_bytes() == other.read_bytes(), name
    assert (tmp_path / "there" / "scan_manifest.json").is_file()
    assert sshd.left() == []
    (model,) = (sshd.home / "models").iterdir()  # the model stays, nothing else
    assert {p.name for p in model.iterdir()} == {"model.json", "weights.safetensors"}
    assert oct(sshd.home.stat().st_mode & 0o777) == "0o700"


def test_ranking_names_the_images_of_here(sshd, places, tmp_path):
    broken = tmp_path / "broken.nrrd"
    broken.write_text("no image")
    done = ugmcl("rank", places / "scan.nrrd", broken, "--model", "tiny", "--passes", "1",
                 "--on", NAME)  # fmt: skip
    assert done.returncode == 1
    assert str(places / "scan.nrrd") in done.stdout and str(broken) in done.stderr
    assert str(sshd.home) not in done.stdout + done.stderr


def test_the_panels_worker_segments_and_cancels_there(sshd, places, tmp_path):
    """The same protocol as a worker of this computer; the model is sent once."""
    process = Process("--on", NAME, models=places / "models")
    try:
        assert process.wait_for("hello")["computer"] == NAME
        process.send(**request(places, tmp_path))
        result = process.wait_for("result", "error")
        assert result["event"] == "result", result
        assert Path(result["labels"]) == tmp_path / "case_labels.nrrd"
        assert volume.read(tmp_path / "case_labels.nrrd").array.any()
        process.send(**request(places, tmp_path, id="2", image=str(places / "big.nrrd"), **LONG))
        while process.wait_for("progress")["text"] != "segmenting":
            pass
        began = time.monotonic()
        process.send(id="2", command="cancel")
        process.wait_for("canceling")
        assert time.monotonic() - began < 0.3
        process.wait_for("canceled", seconds=10)
        assert time.monotonic() - began < 1.0
        process.send(**request(places, tmp_path, id="3"))
        assert process.wait_for("result", "error")["event"] == "result"
    finally:
        process.close()
    wait_until(lambda: not sshd.left() and not sshd.processes("worker"))


def test_a_killed_worker_there_is_one_line_and_the_next_request_works(
    sshd, places, tmp_path, computer
):
    handler = RemoteHandler(computer)
    control = Stopping()

    def kill(event: str, **content) -> None:
        if content.get("text") == "segmenting":
            for process in sshd.processes("worker"):
                if "--session" not in process.cmdline():
                    process.kill()

    long = segmenting(places, tmp_path, image=str(places / "big.nrrd"), **LONG)
    with pytest.raises(InputError, match="gpu-box: the segmentation process was killed there"):
        handler.do(long, kill, control)
    assert list(tmp_path.glob("*.nrrd")) == []
    assert handler.do(segmenting(places, tmp_path), nothing, control)["computer"] == NAME
    handler.close()


def test_a_cut_connection_is_one_line_and_the_next_request_connects_again(
    sshd, places, tmp_path, computer
):
    handler = RemoteHandler(computer)

    def cut(event: str, **content) -> None:
        if content.get("text") == "segmenting":
            sshd.cut()

    long = segmenting(places, tmp_path, image=str(places / "big.nrrd"), **LONG)
    with pytest.raises(InputError, match="the connection to gpu-box was lost"):
        handler.do(long, cut, GOING)
    wait_until(lambda: not sshd.left())  # the images there are gone too
    wait_until(lambda: not sshd.processes("worker"))
    assert handler.do(segmenting(places, tmp_path), nothing, GOING)["computer"] == NAME
    handler.close()


def test_a_killed_session_leaves_nothing_after_the_next(sshd, places, tmp_path, computer):
    session = Session(computer)
    session.put(places / "scan.nrrd")
    (agent,) = sshd.processes("--session")
    os.kill(agent.pid, signal.SIGKILL)
    wait_until(lambda: not session.alive)
    assert len(sshd.left()) == 1
    other = Session(computer)
    assert len(sshd.left()) == 1  # its own
    other.close()
    assert sshd.left() == []


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("changed", "the host key of gpu-box has changed"),
        ("unknown", "the host key of gpu-box is not known here"),
        ("key", "gpu-box refused the key"),
        ("port", "gpu-box cannot be reached (Connection refused)"),
    ],
)
def test_one_line_for_what_ssh_refuses(sshd, places, tmp_path, fault, text):
    if fault == "changed":
        sshd.know("other_host_key")
    elif fault == "unknown":
        sshd.know("")
    else:
        sshd.write_config(**({"key": "other_key"} if fault == "key" else {"port": 1}))
    done = ugmcl("segment", places / "scan.nrrd", "--model", "tiny", "--output", tmp_path / "o",
                 "--on", NAME)  # fmt: skip
    assert done.returncode == 2
    assert text in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert sshd.known.read_text() == "" if fault == "unknown" else True  # and none was learned


def test_a_folder_there_that_cannot_be_used(sshd, places, tmp_path, computer):
    (sshd.home / "sessions").write_text("in the way")
    with pytest.raises(InputError, match=r"gpu-box: .*sessions: cannot be written"):
        Session(computer)


def test_a_full_disk_there(sshd, places, tmp_path, computer):
    big = tmp_path / "big.nrrd"
    big.write_bytes(os.urandom(3_000_000))
    sshd.fill_disk()
    session = Session(computer)
    with pytest.raises(InputError, match=r"gpu-box: .*check the name, the permissions"):
        session.put(big)
    assert session.do("about", "about")["home"] == str(sshd.home)
    session.close()
    assert sshd.left() == []


def test_two_sessions_at_once(sshd, places, tmp_path, computer):
    """Two users' programs, or one user's twice, with the same model for the first time."""
    found, failed = {}, []

    def work(name: str, passes: int) -> None:
        folder = tmp_path / name
        folder.mkdir()
        handler = RemoteHandler(computer)
        try:
            for _ in range(2):
                wanted = segmenting(places, folder, passes=passes)
                found[name] = handler.do(wanted, nothing, GOING)
        except Exception as error:
            failed.append(error)
        finally:
            handler.close()

    both = [threading.Thread(target=work, args=(f"user-{n}", n)) for n in (1, 3)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert failed == []
    for name, passes in (("user-1", 1), ("user-3", 3)):
        assert found[name]["passes"] == passes
        assert Path(found[name]["labels"]).parent == tmp_path / name
    labels = [volume.read(found[n]["labels"]).array for n in found]
    assert (labels[0] == labels[1]).all()
    assert sshd.left() == []
    assert len(list((sshd.home / "models").iterdir())) == 1


def test_a_damaged_model_there_is_sent_again(sshd, places, tmp_path, computer):
    handler = RemoteHandler(computer)
    handler.do(segmenting(places, tmp_path), nothing, GOING)
    (weights,) = (sshd.home / "models").glob("*/weights.safetensors")
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + b"\0" if good[-1:] != b"\0" else good[:-1] + b"\1")
    handler.close()
    handler = RemoteHandler(computer)
    handler.do(segmenting(places, tmp_path), nothing, GOING)
    handler.close()
    assert weights.read_bytes() == good


def test_cancel_while_connecting(sshd, places, tmp_path, computer, monkeypatch):
    monkeypatch.setenv("UGMCL_SSH", "/bin/sh -c 'exec sleep 30'")
    control = Stopping()
    threading.Timer(0.3, lambda: setattr(control, "stopped", True)).start()
    began = time.monotonic()
    with pytest.raises(Canceled):
        RemoteHandler(computer).do(segmenting(places, tmp_path), nothing, control)
    assert time.monotonic() - began < 7
