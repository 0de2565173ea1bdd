"""Files are written whole or not at all, and JSON has no NaN."""

import dataclasses
import json
import math
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugmcl_core.errors import InputError
from ugmcl_core.files import (
    Busy,
    held,
    plain,
    scratch,
    sweep,
    whole_file,
    whole_folder,
    write_bytes,
    write_json,
    write_text,
)

ROOT = Path(__file__).resolve().parents[2]


class Stop(BaseException):
    """Such as KeyboardInterrupt."""


@pytest.mark.parametrize("error", [Stop(), ValueError("x"), OSError(28, "No space left")])
@pytest.mark.parametrize("former", [None, "before"])
def test_an_interrupted_write_leaves_the_former_file_and_nothing_else(tmp_path, error, former):
    path = tmp_path / "scan.nii.gz"
    if former is not None:
        path.write_text(former)
    wanted = InputError if isinstance(error, OSError) else type(error)
    with pytest.raises(wanted) as found, whole_file(path) as partial:
        assert partial.is_relative_to(tmp_path) and partial.name == path.name
        partial.write_text("half")
        raise error
    if isinstance(error, OSError):
        assert str(found.value).startswith(f"{path}: cannot be written (No space left); check")
    assert [p.name for p in tmp_path.iterdir()] == ([] if former is None else [path.name])
    assert former is None or path.read_text() == former


def test_what_is_whole_replaces_the_former_file(tmp_path):
    path = tmp_path / ("n" * 250)
    for sync, content in ((False, b"one"), (True, b"two")):
        write_bytes(path, content, sync)
        assert path.read_bytes() == content
    write_text(path, "ä")
    assert path.read_bytes() == "ä".encode() and list(tmp_path.iterdir()) == [path]
    (tmp_path / "plain").touch()
    modes = {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert len(modes) == 1  # not private, as temporary files are


@pytest.mark.parametrize("error", [Stop(), InputError("x"), OSError(28, "No space left")])
@pytest.mark.parametrize("replaces", [False, True])
def test_an_interrupted_folder_leaves_the_former_one_and_nothing_else(tmp_path, error, replaces):
    path = tmp_path / "model"
    if replaces:
        path.mkdir()
    wanted = InputError if isinstance(error, OSError) else type(error)
    with pytest.raises(wanted) as found, whole_folder(path, replaces) as partial:
        assert partial.is_relative_to(tmp_path) and not list(partial.iterdir())
        (partial / "half").touch()
        raise error
    if isinstance(error, OSError):
        assert str(found.value).startswith(f"{path}: cannot be written (No space left); check")
    assert list(tmp_path.rglob("*")) == ([path] if replaces else [])


def test_a_folder_is_replaced_only_where_it_may_be(tmp_path):
    path = tmp_path / "made" / "model"
    for content in "ab":
        with whole_folder(path, replace=True) as partial:
            (partial / content).touch()
        assert [p.name for p in path.iterdir()] == [content]
    with pytest.raises(InputError), whole_folder(path) as partial:
        (partial / "c").touch()
    assert sorted(path.parent.rglob("*")) == [path, path / "b"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o755  # not private, as temporary folders are


def test_a_folder_is_held_by_one_process_and_let_go_when_it_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from ugmcl_core.files import held\n"
        f"with held(Path({str(tmp_path)!r})):\n    print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(Busy, match=f"process {other.pid} on "), held(tmp_path):
        pass
    other.kill()
    other.wait()
    other.stdout.close()
    with held(tmp_path), held(tmp_path, ".another"):
        pass


KILLED = """
import os, sys
from pathlib import Path
from ugmcl_core import files
place, left = Path(sys.argv[1]), int(sys.argv[2])
files._swap = files._swap if sys.argv[3] == "swap" else lambda *paths: False

def counted(step):
    def call(*words):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
        return step(*words)
    return call

Path.replace, Path.rename = counted(Path.replace), counted(Path.rename)
"""
REPLACED = KILLED + """
with files.whole_folder(place / "model", replace=True) as new:
    (new / "a").write_text("new")
    (new / "b").write_text("new")
"""
EXCHANGED = KILLED + """
with files.scratch(place) as work:
    for name in ("a", "b"):
        (work / name).write_text("new")
    files.exchange(work, place, ["a", "b"], ["c"])
"""


def killed(code: str, place: Path, step: int, how: str = "no swap") -> bool:
    """Run ``code`` and kill it at its rename number ``step``; whether it was killed."""
    done = subprocess.run([sys.executable, "-c", code, place, str(step), how], cwd=ROOT)
    assert done.returncode in (0, -9)
    return done.returncode != 0


def texts(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.iterdir() if not p.name.startswith(".")}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("how", ["swap", "no swap"])
def test_a_kill_at_any_step_leaves_the_former_folder_or_the_new_one(tmp_path, how):
    for step in range(20):
        place = tmp_path / str(step)
        (place / "model").mkdir(parents=True)
        (place / "model" / "a").write_text("old")
        was_killed = killed(REPLACED, place, step, how)
        assert how != "swap" or (place / "model").is_dir(), "it was absent for a while"
        sweep(place)
        assert texts(place / "model") in ({"a": "old"}, {"a": "new", "b": "new"})
        assert [p.name for p in place.iterdir()] == ["model"]
        if not was_killed:
            break
    assert not was_killed and texts(place / "model") == {"a": "new", "b": "new"}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_kill_at_any_step_never_mixes_new_files_with_old_ones(tmp_path):
    old, new = {"a": "old", "b": "old", "c": "old"}, {"a": "new", "b": "new"}
    for step in range(20):
        place = tmp_path / str(step)
        place.mkdir()
        for name in old:
            (place / name).write_text("old")
        was_killed = killed(EXCHANGED, place, step)
        between = texts(place)
        assert between in (old, new) or "a" not in between
        assert len(set(between.values())) <= 1, "a new file beside an old one"
        sweep(place)
        assert texts(place) in (old, new)
        assert sorted(p.name for p in place.iterdir()) == sorted(texts(place))
        if not was_killed:
            break
    assert step == 5 and texts(place) == new


def test_sweeping_leaves_what_is_in_use_and_what_is_not_ours(tmp_path):
    planted, theirs = tmp_path / ".writing-planted", tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "scan").touch()
    planted.symlink_to(theirs)
    evil = tmp_path / ".writing-evil"
    evil.mkdir()
    (evil / ".held").touch()
    (evil / ".plan").write_text(json.dumps({"names": ["../theirs"], "outdated": ["../theirs"]}))
    for name in (".writing-0a1b2c3d-scan.nrrd", "scan.nrrd"):
        (tmp_path / name).touch()  # the first one as former versions left it
    removed = tmp_path / ".removed-tiny-123"
    removed.mkdir()
    (removed / "weights.safetensors").touch()
    with scratch(tmp_path) as used:
        (used / "half").touch()
        write_text(tmp_path / "b", "")  # which sweeps
        assert (used / "half").exists()
    left = {".writing-evil", ".writing-planted", "theirs", "scan.nrrd", "b"}
    assert {p.name for p in tmp_path.iterdir()} == left
    assert (theirs / "scan").exists()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError), held(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_permissions_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        with whole_file(tmp_path / "file") as partial:
            partial.touch(0o600)  # as safetensors does
        with whole_folder(tmp_path / "folder") as partial:
            (partial / "inside").touch()
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*")}
    assert modes == {"file": 0o666 & ~mask, "folder": 0o777 & ~mask, "inside": 0o666 & ~mask}


def test_errors_are_one_line_with_the_cause(tmp_path):
    with pytest.raises(InputError, match=r"none/a: cannot be written \(No such file"):
        write_text(tmp_path / "none" / "a", "")
    write_text(tmp_path / "made" / "a", "", make_parents=True)
    with pytest.raises(InputError, match="Is a directory"):
        write_text(tmp_path / "made", "")
    message = "ITK says\n  much\nthe cause\n"
    with (
        pytest.raises(InputError, match=r"\(the cause\)"),
        whole_file(tmp_path / "b", RuntimeError),
    ):
        raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="ITK"), whole_file(tmp_path / "b"):
        raise RuntimeError(message)
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


@dataclasses.dataclass(frozen=True)
class Inner:
    value: float


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...]
    names: dict[int, float]


def test_dataclasses_tuples_and_keys_are_as_json_gives_them_back():
    value = Outer((Inner(math.nan), Inner(-math.inf), Inner(1.5)), {1: math.inf, 2: 3})
    wanted = {"inner": [{"value": None}, {"value": None}, {"value": 1.5}],
              "names": {"1": None, "2": 3}}  # fmt: skip
    assert plain(value) == wanted == json.loads(json.dumps(plain(value), allow_nan=False))
    assert plain(Inner) is Inner  # the class itself is no value


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner)
    | st.builds(Inner, inner),
)  # fmt: skip


@settings(deadline=None)
@given(values)
def test_any_value_is_json(value):
    text = json.dumps(plain(value), allow_nan=False)
    assert json.loads(text) == plain(value) == plain(plain(value))


def test_json_files(tmp_path):
    write_json(tmp_path / "a.json", {"dice": math.nan, "name": "Vorhöfe"})
    assert (tmp_path / "a.json").read_text("utf-8") == (
        '{\n  "dice": null,\n  "name": "Vorhöfe"\n}\n'
    )


def test_a_folder_that_is_locked_while_a_sweep_looks_at_it_stays(tmp_path, monkeypatch):
    """Its owner makes the lock after the sweep saw none, as in many processes at one folder."""
    exists = Path.exists
    with scratch(tmp_path) as folder:
        (folder / "part").write_text("of a result")
        monkeypatch.setattr(Path, "exists", lambda p: p.parent != folder and exists(p))
        sweep(tmp_path)
        monkeypatch.undo()
        assert (folder / "part").read_text() == "of a result"
    assert list(tmp_path.iterdir()) == []
