"""Models renamed and removed: nothing goes that is not the model's, nor anybody else's model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from samples import contents, tiny_model

from ugmcl_core.__main__ import main
from ugmcl_core.errors import InputError
from ugmcl_core.models import store
from ugmcl_core.models.model import open_model, resolve, verify


def test_renaming_and_removing(original, place):
    model = store.add(original.folder, place)
    renamed = store.rename(model, "better")
    assert renamed.name == renamed.folder.name == "better" and not model.folder.exists()
    verify(renamed)
    assert set(contents(renamed.folder)) == {"model.json", "weights.safetensors", "NOTICE.txt"}
    for name in ("no spaces", "../up", "", "la-lge-mri", "Better"):
        with pytest.raises(InputError):
            store.rename(renamed, name)
    assert open_model(place / "better").name == "better"
    store.remove(renamed.folder)
    assert list(place.iterdir()) == []


def spoil(folder: Path, kind: str) -> Path:
    """Something in a model's folder that is no part of the model."""
    path = folder / kind
    if kind == "folder":
        path.mkdir()
        (path / "scan.nrrd").write_bytes(b"x")
    elif kind == "link":
        (folder.parent / "other.txt").write_text("x")
        path.symlink_to(folder.parent / "other.txt")
    elif kind == "NOTICE-large.txt":
        path.write_bytes(bytes(store.LARGEST_NOTE + 1))
    elif kind == "Thumbs.db":
        path.mkdir()  # of that name, but no file
    else:
        path.write_bytes(b"x")
    return path


FOREIGN = ["notes.txt", "mine", "data.nii.gz", ".hidden", "folder", "link", "NOTICE-large.txt",
           "weights.pt", "Thumbs.db"]  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_part_of_a_model_is_kept(original, place, kind):
    model = store.add(original.folder, place)
    foreign = spoil(model.folder, kind)
    before = sorted(model.folder.iterdir())
    with pytest.raises(InputError, match=f"holds {kind}, which is not part of the model"):
        store.remove(model.folder)
    assert sorted(model.folder.iterdir()) == before
    renamed = store.rename(model, "better")
    there = renamed.folder / kind
    assert os.path.lexists(there) and not os.path.lexists(foreign)
    verify(renamed)
    if kind == "folder":
        assert (there / "scan.nrrd").read_bytes() == b"x"


def test_what_file_managers_leave_is_no_obstacle(original, place):
    model = store.add(original.folder, place)
    (model.folder / ".DS_Store").write_bytes(b"x")
    (model.folder / "LICENSE").write_text("of the authors")
    store.remove(model.folder)
    assert list(place.iterdir()) == []


def test_a_rename_that_fails_changes_nothing(original, place, monkeypatch):
    model = store.add(original.folder, place)
    before = contents(model.folder)

    def fail(*_arguments, **_changes):
        raise InputError("the disk is full")

    monkeypatch.setattr(store, "update_card", fail)
    with pytest.raises(InputError, match="disk is full"):
        store.rename(model, "better")
    assert contents(model.folder) == before and not (place / "better").exists()


class Killed(BaseException):
    """Nothing that runs after it is seen on the disk."""


def test_a_rename_that_was_killed_can_be_repeated(original, place, monkeypatch):
    store.add(original.folder, place)

    def kill(*_arguments, **_changes):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(store, "update_card", kill)
        main(["models", "rename", "tiny", "better"])
    verify(resolve("tiny"))  # it was never absent
    assert main(["models", "rename", "tiny", "better"]) == 0
    assert resolve("better").folder == place / "better"
    assert [p.name for p in place.iterdir()] == ["better"]
    assert "NOTICE.txt" in contents(place / "better")


def test_a_killed_removal_is_ended_by_the_next_command(original, place, monkeypatch):
    model = store.add(original.folder, place)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_arguments, **_options: None)
        store.remove(model.folder)
    assert [p.name.startswith(".") for p in place.iterdir()] == [True]
    assert main(["models"]) == 0
    assert list(place.iterdir()) == []


def test_what_comes_into_a_model_while_it_is_removed_is_kept(original, place, monkeypatch):
    model = store.add(original.folder, place)
    real = Path.rename

    def rename(path, target):
        (path / "notes.txt").write_text("mine")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(InputError, match=r"holds notes\.txt"):
        store.remove(model.folder)
    assert (model.folder / "notes.txt").exists()
    verify(open_model(model.folder))


def test_bundled_models_stay(place):
    bundled = resolve("la-lge-mri")
    with pytest.raises(InputError, match="came with the program"):
        store.remove(bundled.folder)
    with pytest.raises(InputError, match="came with the program"):
        store.rename(bundled, "x")
    assert bundled.folder.is_dir()


@pytest.mark.parametrize("by", ["name", "folder"])
@pytest.mark.parametrize("words", [["remove"], ["rename", "better"]])
def test_a_model_behind_a_link_stays(place, tmp_path, capsys, words, by):
    theirs = tiny_model(tmp_path / "theirs" / "tiny")
    place.mkdir()
    (place / "tiny").symlink_to(theirs.folder)
    given = "tiny" if by == "name" else str(place / "tiny")
    before = contents(theirs.folder)
    assert main(["models", words[0], given, *words[1:]]) == 2
    assert "link" in capsys.readouterr().err
    assert contents(theirs.folder) == before and (place / "tiny").is_symlink()
    assert main(["models", words[0], str(theirs.folder), *words[1:]]) == 0  # plainly asked for
    assert not theirs.folder.exists()


def test_a_place_that_is_a_link_is_the_users_choice(original, tmp_path, monkeypatch, capsys):
    (tmp_path / "disk").mkdir()
    (tmp_path / "models").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("UGMCL_MODELS", str(tmp_path / "models"))
    store.add(original.folder, tmp_path / "disk")
    assert main(["models", "rename", "tiny", "better"]) == 0
    assert main(["models", "remove", "better"]) == 0
    assert list((tmp_path / "disk").iterdir()) == []


def test_a_run_is_not_taken_for_its_model(tmp_path, place, capsys):
    model = tiny_model(tmp_path / "run" / "model")
    assert main(["models", "remove", str(tmp_path / "run")]) == 2
    assert "is not a model" in capsys.readouterr().err and model.folder.is_dir()


def damage(folder: Path, kind: str) -> None:
    if kind == "no weights":
        (folder / "weights.safetensors").unlink()
    elif kind == "no JSON":
        (folder / "model.json").write_text("{")
    else:
        card = (folder / "model.json").read_text()
        (folder / "model.json").write_text(card.replace('"format": 1', '"format": 99'))


@pytest.mark.parametrize("by", ["name", "folder"])
@pytest.mark.parametrize("kind", ["no weights", "no JSON", "of another version"])
def test_a_broken_model_can_be_removed(original, place, capsys, kind, by):
    folder = store.add(original.folder, place).folder
    damage(folder, kind)
    assert main(["models"]) == 0
    assert str(folder) in capsys.readouterr().err  # listed as broken
    assert main(["models", "remove", "tiny" if by == "name" else str(folder)]) == 0
    assert str(folder) in capsys.readouterr().out
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("kind", ["no weights", "no JSON"])
def test_a_broken_model_goes_without_what_is_not_its_own(original, place, tmp_path, capsys, kind):
    folder = store.add(original.folder, place).folder
    damage(folder, kind)
    (folder / "scan.nrrd").write_bytes(b"x")
    before = contents(folder)
    assert main(["models", "remove", str(folder)]) == 2
    assert "holds scan.nrrd" in capsys.readouterr().err and contents(folder) == before
    (place / "link").symlink_to(folder)
    assert main(["models", "remove", str(place / "link")]) == 2
    assert "link" in capsys.readouterr().err and contents(folder) == before


def test_a_model_that_another_process_removes_is_one_line(original, place, monkeypatch):
    model = store.add(original.folder, place)

    def gone(*_):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(store, "_refuse_others", gone)
    with pytest.raises(InputError, match=r"cannot be removed \(No such file or directory\)"):
        store.remove(model.folder)
