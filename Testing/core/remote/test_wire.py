"""Files on their way, and what the other end may not do."""

import pytest

from ugmcl_core.errors import InputError
from ugmcl_core.remote import runs, wire


@pytest.mark.parametrize("content", [b"", b"x" * 3_000_000, bytes(range(256)) * 5000])
def test_a_file_arrives_as_it_was(tmp_path, content):
    (tmp_path / "here").write_bytes(content)
    file = wire.IncomingFile(tmp_path / "a" / "there")
    parts = [wire.message_of(wire.line_of(p)) for p in wire.chunks(tmp_path / "here")]
    assert [file.add(part) for part in parts] == [False] * (len(parts) - 1) + [True]
    assert (tmp_path / "a" / "there").read_bytes() == content
    assert all(len(wire.line_of(part)) < wire.LONGEST_LINE for part in parts)


def test_a_damaged_file_is_noticed(tmp_path):
    (tmp_path / "here").write_bytes(b"content")
    first, last = wire.chunks(tmp_path / "here")
    file = wire.IncomingFile(tmp_path / "there")
    file.add(first)
    with pytest.raises(InputError, match="damaged"):
        file.add({**last, "sha256": "0" * 64})
    with pytest.raises(InputError, match="damaged"):
        wire.IncomingFile(tmp_path / "there").add({**first, "data": "!"})


def test_a_part_grows_to_no_more_than_a_chunk(tmp_path):
    import base64
    import zlib

    bomb = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()
    file = wire.IncomingFile(tmp_path / "there")
    file.add({"data": bomb, "packed": True})
    file.close()
    assert (tmp_path / "there").stat().st_size == wire.CHUNK


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a\\b", None, 3, "a/\0"])
def test_names_stay_inside(tmp_path, name):
    with pytest.raises(InputError):
        wire.inside(tmp_path, name)
    with pytest.raises(InputError):
        wire.run_name(name)


def test_a_link_is_never_written_through(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        wire.IncomingFile(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


def test_images_travel_without_their_names(tmp_path):
    for name in ("Jane Doe.nii.gz", "Jane.nrrd", "scan.mhd", "scan.raw", "scanner.raw"):
        (tmp_path / name).write_bytes(b"x")
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"x")
    assert list(wire.contents(tmp_path / "Jane Doe.nii.gz")) == ["image.nii.gz"]
    assert list(wire.contents(tmp_path / "Jane.nrrd")) == ["image.nrrd"]
    assert list(wire.contents(tmp_path / "scan.mhd")) == ["scan.mhd", "scan.raw"]  # it names it
    assert list(wire.contents(series)) == ["image/1.dcm"]
    with pytest.raises(InputError, match="no such file"):
        wire.contents(tmp_path / "none.nrrd")


def test_a_training_runs_as_long_as_its_lock_is_held(tmp_path):
    import fcntl

    folder = tmp_path / "run"
    assert runs.state(folder) == runs.GONE
    folder.mkdir()
    (folder / runs.JOB).write_text("{}")
    assert runs.state(folder) == runs.STOPPED
    with open(folder / runs.LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert runs.state(folder) == runs.RUNNING
    (folder / runs.CODE).write_text("0")
    assert runs.state(folder) == runs.DONE
    (folder / runs.CODE).write_text("130")
    assert runs.state(folder) == runs.STOPPED
