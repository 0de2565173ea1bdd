"""Models of Hugging Face, from a server of the test that stands for it."""

from __future__ import annotations

import hashlib
import http.server
import subprocess
import sys
import threading
import urllib.request
from functools import partial
from pathlib import Path

import bundle_samples
import hub_samples
import nnunet_samples
import pytest
from samples import contents, left_over

from ugmcl_core.__main__ import main
from ugmcl_core.errors import InputError
from ugmcl_core.models import downloads, hub, store
from ugmcl_core.models.model import verify


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def repository(original, tmp_path, monkeypatch):
    """The folder of the revision v1 of owner/heart; https is sent to it without encryption."""
    root = tmp_path / "hub"
    folder = store.export(original, root / "owner" / "heart" / "resolve" / "v1")
    handler = partial(Quiet, directory=str(root))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def opener(request, timeout):
        url = request.full_url.replace(hub.HOST, f"http://127.0.0.1:{server.server_port}")
        return urllib.request.urlopen(urllib.request.Request(url), None, timeout)

    monkeypatch.setattr(downloads.fetch, "__defaults__", (downloads.fetch.__defaults__[0], opener))
    monkeypatch.setattr(downloads.read_text, "__defaults__", (opener,))
    yield folder
    server.shutdown()
    server.server_close()


def test_a_model_is_imported_with_its_checksum(repository, original, place, capsys):
    assert main(["models", "import", "hf:owner/heart@v1", "--to", str(place)]) == 0
    assert "tiny: imported" in capsys.readouterr().out
    found = store.open_model(place / "tiny")
    verify(found)
    assert found.card == original.card and left_over(place) == []
    sum_ = hashlib.sha256((repository / "weights.safetensors").read_bytes()).hexdigest()
    again = store.add("hf:owner/heart@v1", place, name="again", sha256=sum_)
    assert contents(again.folder)["weights.safetensors"] == contents(found.folder)[
        "weights.safetensors"
    ]


@hub_samples.needs_openssl
def test_the_program_downloads_through_the_proxy_of_the_system(
    original, place, tmp_path, monkeypatch
):
    store.export(original, tmp_path / "hub" / "owner" / "heart" / "resolve" / "v1")
    with hub_samples.serving(tmp_path / "hub", tmp_path, monkeypatch):
        done = subprocess.run(
            [sys.executable, "-m", "ugmcl_core", "models", "import", "hf:owner/heart@v1"],
            cwd=Path(__file__).resolve().parents[3], capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    verify(store.open_model(place / "tiny"))


def test_other_weights_than_announced_are_refused(repository, place):
    with pytest.raises(InputError, match="SHA-256 of its weights differs"):
        store.add("hf:owner/heart@v1", place, sha256="0" * 64)
    weights = repository / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="is not what was announced"):
        store.add("hf:owner/heart@v1", place)
    assert not (place / "tiny").exists() and left_over(place) == []


def test_what_is_not_there_is_named(repository, place):
    with pytest.raises(InputError, match=r"hf:owner/heart@main holds no model .*answered 404"):
        store.add("hf:owner/heart", place)
    (repository / "model.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not text"):
        store.add("hf:owner/heart@v1", place)
    (repository / "model.json").write_bytes(b" " * (2 << 20))
    with pytest.raises(InputError, match="more than 1 MiB"):
        store.add("hf:owner/heart@v1", place)
    assert left_over(place) == []


def test_what_others_publish_is_converted(repository, place, tmp_path):
    """A bundle of MONAI, and results of nnU-Net in a folder of a repository."""
    pytest.importorskip("monai")
    pytest.importorskip("dynamic_network_architectures.architectures.unet")
    root = repository.parents[3]
    spleen = hub_samples.publish(bundle_samples.bundle(tmp_path / "zoo"), root, "spleen")
    model = store.add("hf:owner/spleen@v1", place)
    assert model.name == "Spleen-CT-segmentation"
    assert (model.folder / "LICENSE.txt").read_text() == "Apache License 2.0"
    assert model.card.mirror_axes == (0, 1), "as its train.json says"
    weights = spleen / "models" / "model.pt"
    sum_ = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert store.add("hf:owner/spleen@v1", place, "again", sum_).card.sha256 == model.card.sha256
    with pytest.raises(InputError, match="SHA-256 of its weights differs"):
        store.add("hf:owner/spleen@v1", place, "other", "0" * 64)
    pointer = root / "owner" / "spleen" / "raw" / "v1" / "models" / "model.pt"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"model\.pt sent is not what was announced"):
        store.add("hf:owner/spleen@v1", place, "other")
    pointer.write_text("PK")
    with pytest.raises(InputError, match="is stored without a SHA-256"):
        store.add("hf:owner/spleen@v1", place, "other")
    pointer.unlink()
    with pytest.raises(InputError, match=r"spleen/models/model\.pt is missing"):
        store.add("hf:owner/spleen@v1", place, "other")
    folder = nnunet_samples.results(tmp_path / "liver" / "full", (0, 2))
    hub_samples.publish(folder.parent, root, "liver")
    assert store.add("hf:owner/liver@v1/full", place).card.training["folds"] == "0, 2"
    assert left_over(place) == []


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("hf:a/b", "a/b/resolve/main/f"),
        ("hf:a/b@1.0", "a/b/resolve/1.0/f"),
        ("hf:a/b@0a1b/models/left", "a/b/resolve/0a1b/models/left/f"),
        ("hf:a/b/models", "a/b/resolve/main/models/f"),
    ],
)
def test_how_a_repository_is_written(source, address):
    assert hub.parse(source).address("f") == f"{hub.HOST}/{address}"


@pytest.mark.parametrize("source", ["hf:a", "hf:a/b@", "hf:a/b@x/../y", "hf:a/b c", "hf:/a/b"])
def test_another_form_is_refused(source, place):
    with pytest.raises(InputError, match="hf:OWNER/NAME@REVISION"):
        store.add(source, place)
