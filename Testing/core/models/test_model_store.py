"""Models brought in, given away, renamed and removed; and all that is refused on the way."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from samples import STAYS, contents, left_over

from ugmcl_core.__main__ import main
from ugmcl_core.errors import InputError
from ugmcl_core.models import archives, store
from ugmcl_core.models.model import resolve, verify

ROOT = Path(__file__).resolve().parents[3]


def zipped(files: dict[str, bytes], path: Path, **more) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = more.get("mode", 0o644) << 16
            file.writestr(entry, content)
    return path


def test_a_folder_goes_in_and_can_be_used_by_its_name(original, place):
    model = store.add(original.folder, place)
    assert model.folder == place / "tiny" and left_over(place) == []
    assert set(contents(model.folder)) == {"model.json", "weights.safetensors", "NOTICE.txt"}
    assert resolve("tiny").folder == model.folder
    verify(model)
    with pytest.raises(InputError, match="there is a model tiny"):
        store.add(original.folder, place)
    other = store.add(original.folder, place, name="mine")
    assert other.card.name == "mine" and other.folder.name == "mine"
    verify(other)


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_what_goes_out_comes_in_again(original, place, tmp_path, suffix):
    target = store.export(original, tmp_path / f"out{suffix}")
    model = store.add(target, place)
    expected = {k: v for k, v in contents(original.folder).items() if k not in STAYS}
    assert contents(model.folder) == expected
    with pytest.raises(InputError, match="exists"):
        store.export(original, target)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["models", target.name])


def test_the_same_model_makes_the_same_zip(original, tmp_path):
    a, b = (store.export(original, tmp_path / n).read_bytes() for n in ("a.zip", "b.zip"))
    assert a == b


def test_files_at_the_top_of_a_zip_and_what_macos_adds(original, place, tmp_path):
    files = {n: v for n, v in contents(original.folder).items() if n not in STAYS}
    path = zipped({**files, "__MACOSX/._model.json": b"x", ".DS_Store": b"y"}, tmp_path / "a.zip")
    assert set(contents(store.add(path, place).folder)) == set(files)


BAD_NAMES = ["../model.json", "/model.json", "a/../../x.txt", "..\\x.txt", "C:x.txt", "a/b/x.txt"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_path_that_leaves_the_folder_is_refused(original, place, tmp_path, name):
    path = zipped({**contents(original.folder), name: b"x"}, tmp_path / "a.zip")
    with pytest.raises(InputError, match=r"would leave the folder|more than one folder|twice"):
        store.add(path, place)
    assert left_over(place) == [] and not (place / "tiny").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "models"]


def test_a_link_in_a_zip_is_refused(original, place, tmp_path):
    path = zipped({"weights.safetensors": b"/etc/passwd"}, tmp_path / "a.zip",
                  mode=stat.S_IFLNK | 0o777)  # fmt: skip
    with pytest.raises(InputError, match="link"):
        store.add(path, place)


def test_bombs_are_refused(original, place, tmp_path, monkeypatch):
    path = zipped({"model.json": b"{}", "weights.safetensors": bytes(3 << 20)}, tmp_path / "a.zip")
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(archives, "MOST_BYTES", 1 << 20)
    with pytest.raises(InputError, match="unpacks to more than"):
        store.add(path, place)
    # a zip that lies: the directory says 100 bytes
    content = bytearray(path.read_bytes())
    for size in (3 << 20,):
        content = content.replace(size.to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"larger than it says|not a readable zip"):
        store.add(path, place)
    many = zipped({f"{n}.txt": b"" for n in range(60)}, tmp_path / "b.zip")
    with pytest.raises(InputError, match="60 files"):
        store.add(many, place)


def test_damaged_zips(place, tmp_path, original):
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK no zip")
    with pytest.raises(InputError, match="not a readable zip"):
        store.add(path, place)
    whole = store.export(original, tmp_path / "b.zip").read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"\0" + whole[len(whole) // 2 + 1 :])
    with pytest.raises(InputError, match=r"not a readable zip|SHA-256 differs"):
        store.add(path, place)
    assert left_over(place) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("damage", ["all", "end", "encryption"])
def test_zips_with_damaged_content(method, damage, place, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("model.json", bytes(range(256)) * 40)
        start = len("model.json") + 30  # of what the only file holds
        size = file.infolist()[0].compress_size
    content = bytearray(path.read_bytes())
    if damage == "all":
        content[start : start + size] = b"\xff" * size
    elif damage == "end":
        content[start + size // 2 : start + size] = bytes(size - size // 2)
    else:
        content[content.index(b"PK\1\2") + 8] |= 1  # the directory says so
    path.write_bytes(content)
    why = r"a\.zip(: model\.json is encrypted| is not a readable zip| cannot be unpacked)"
    with pytest.raises(InputError, match=why):
        store.add(path, place)
    assert left_over(place) == []


def test_pickles_and_altered_weights_are_refused(original, place, tmp_path):
    files = {n: v for n, v in contents(original.folder).items() if n not in STAYS}
    with pytest.raises(InputError, match="pickle"):
        store.add(zipped({**files, "extra.pt": b"x"}, tmp_path / "a.zip"), place)
    weights = files["weights.safetensors"]
    altered = {**files, "weights.safetensors": weights[:-1] + bytes([weights[-1] ^ 1])}
    with pytest.raises(InputError, match="SHA-256 differs"):
        store.add(zipped(altered, tmp_path / "b.zip"), place)
    # the right sum, of a pickle in safetensors' clothes
    pickle = b"\x80\x04\x95\x00" * 8
    card = json.loads(files["model.json"])
    card["sha256"] = hashlib.sha256(pickle).hexdigest()
    fake = {"model.json": json.dumps(card).encode(), "weights.safetensors": pickle}
    with pytest.raises(InputError, match="not a safetensors file"):
        store.add(zipped(fake, tmp_path / "c.zip"), place)
    only = zipped({"weights.pt": b"x"}, tmp_path / "d.zip")
    with pytest.raises(InputError, match="pickle"):
        store.add(only, place)
    assert left_over(place) == []


def test_links_in_a_folder_are_not_followed(original, place, tmp_path):
    source = store.export(original, tmp_path / "source")
    (tmp_path / "secret.txt").write_text("secret")
    (source / "notes.txt").symlink_to(tmp_path / "secret.txt")
    assert "notes.txt" not in contents(store.add(source, place).folder)
    (source / "weights.safetensors").rename(tmp_path / "w")
    (source / "weights.safetensors").symlink_to(tmp_path / "w")
    with pytest.raises(InputError, match="is a link"):
        store.add(source, place, name="other")


@pytest.mark.parametrize("text", ["[]", "{", '{"format": 2, "models": []}',
                                  '{"format": 1, "models": [{"name": "x"}]}'])  # fmt: skip
def test_an_index_that_is_none(place, text):
    place.mkdir()
    (place / "index.json").write_text(text)
    with pytest.raises(InputError, match=r"index\.json"):
        store.known_models()


def test_the_index_that_comes_along_can_be_read(place):
    assert all(entry.url.startswith("https://") for entry in store.known_models())


def test_the_command_line(original, place, tmp_path, capsys):
    archive = tmp_path / "a.zip"
    assert main(["models", "export", str(original.folder), str(archive)]) == 0
    assert main(["models", "export", str(original.folder), "--monai", str(tmp_path / "b")]) == 0
    assert (tmp_path / "b" / "configs").is_dir()
    assert main(["models", "import", "--name", "first", str(archive)]) == 0
    assert "first: imported" in capsys.readouterr().out
    assert main(["models", "rename", "first", "second"]) == 0
    assert main(["models", "remove", "second"]) == 0
    assert list(place.iterdir()) == []
    for words in (["import"], ["export", "x"], ["rename", "x"], ["remove"], ["remove", "gone"],
                  ["remove", "la-lge-mri"], ["import", str(archive), "--sha256", "0" * 64],
                  ["import", str(original.folder), "--sha256", "0" * 64]):  # fmt: skip
        assert main(["models", *words]) == 2, words
        assert capsys.readouterr().err.count("\n") == 1


def test_import_needs_to_know_where_to(original, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("UGMCL_MODELS", raising=False)
    assert main(["models", "import", str(original.folder)]) == 2
    assert "UGMCL_MODELS" in capsys.readouterr().err
    assert main(["models", "import", str(original.folder), "--to", str(tmp_path)]) == 0


def test_nothing_here_needs_torch(original, place, tmp_path):
    """The panel does it in Slicer's process."""
    code = (
        "import sys; from ugmcl_core.models import store\n"
        "from ugmcl_core.models.model import open_model\n"
        f"from pathlib import Path; place = Path({str(place)!r})\n"
        f"m = store.add({str(original.folder)!r}, place)\n"
        f"store.export(m, {str(tmp_path / 'x.zip')!r})\n"
        "store.remove(store.rename(m, 'other').folder)\n"
        "assert not {'torch', 'scipy', 'safetensors'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
