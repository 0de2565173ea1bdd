"""Models from the network: checked, resumed, and what is refused; no server is reached."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import socket
import threading
import urllib.request

import pytest
from samples import left_over

from ugmcl_core.__main__ import main
from ugmcl_core.errors import InputError
from ugmcl_core.models import downloads, store
from ugmcl_core.models.model import verify


class Server(http.server.BaseHTTPRequestHandler):
    """Sends `content` with ranges; breaks off after `limit` bytes; notes the ranges asked for."""

    content, limit, ranges, ignores_ranges = b"", None, [], False

    def do_GET(self):
        start = 0
        asked = self.headers.get("Range")
        self.ranges.append(asked)
        if self.path == "/gone":
            self.send_error(404)
            return
        if asked and not self.ignores_ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(self.content):
                self.send_error(416)
                return
            self.send_response(206)
            end = len(self.content)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        else:
            self.send_response(200)
        rest = self.content[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.limit])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(original, tmp_path, monkeypatch):
    """Its class; https://models.test/... is sent to it without encryption."""
    handler = type("Handler", (Server,), {"ranges": []})
    handler.content = store.export(original, tmp_path / "served.zip").read_bytes()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()

    def opener(request, timeout):
        url = request.full_url.replace(
            "https://models.test", f"http://127.0.0.1:{httpd.server_port}"
        )
        return urllib.request.urlopen(urllib.request.Request(url, headers=request.headers), None,
                                      timeout)  # fmt: skip

    monkeypatch.setattr(downloads.fetch, "__defaults__", (downloads.fetch.__defaults__[0], opener))
    handler.sha256 = hashlib.sha256(handler.content).hexdigest()
    yield handler
    httpd.shutdown()
    httpd.server_close()


URL = "https://models.test/tiny.zip"


def test_a_download_is_checked_and_resumed(server, place):
    told = []

    def progress(done, total):
        told.append((done, total))

    server.limit = 5000
    with pytest.raises(InputError, match="stopped after 5000"):
        store.add(URL, place, sha256=server.sha256, progress=progress)
    server.limit = None
    model = store.add(URL, place, sha256=server.sha256.upper(), progress=progress)
    verify(model)
    size = len(server.content)
    assert server.ranges == [None, "bytes=5000-"]
    assert (5000, size) in told and told[-1] == (size, size)
    assert left_over(place) == []


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_planted_for_a_download_is_not_followed(server, place):
    precious = place.parent / "precious"
    precious.write_text("precious")
    (place / ".downloads").mkdir(parents=True)
    (place / ".downloads" / f"{server.sha256}.part").symlink_to(precious)
    verify(store.add(URL, place, sha256=server.sha256))
    assert precious.read_text() == "precious"


def test_a_server_without_ranges_sends_all_again(server, place):
    server.limit = 5000
    with pytest.raises(InputError):
        store.add(URL, place, sha256=server.sha256)
    server.limit, server.ignores_ranges = None, True
    verify(store.add(URL, place, sha256=server.sha256))


def test_a_download_that_is_another_file_is_deleted(server, place):
    with pytest.raises(InputError, match="not what was announced"):
        store.add(URL, place, sha256="0" * 64)
    assert not any(p.is_file() for p in place.rglob("*"))


@pytest.mark.parametrize(
    ("url", "sha256", "expected"),
    [
        ("http://models.test/tiny.zip", "0" * 64, "only https"),
        ("file:///etc/passwd", "0" * 64, "only https"),
        (URL, "", "SHA-256"),
        (URL, "xyz", "SHA-256"),
        ("https://models.test/gone", "0" * 64, "404"),
    ],
)
def test_downloads_that_cannot_be(server, place, url, sha256, expected):
    with pytest.raises(InputError, match=expected):
        store.add(url, place, sha256=sha256)


def test_too_large_a_download_is_not_begun(server, place, monkeypatch):
    monkeypatch.setattr(downloads, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match="above"):
        store.add(URL, place, sha256=server.sha256)


def test_without_a_network(place):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{closed.getsockname()[1]}/a.zip"
        with pytest.raises(InputError, match=r"cannot be downloaded: .*refused"):
            store.add(url, place, sha256="0" * 64)


class Proxy(http.server.BaseHTTPRequestHandler):
    """Notes what is asked of it, and lets nothing through."""

    asked: list[str]

    def do_CONNECT(self):
        self.asked.append(self.path)
        self.send_error(403, "Blocked by the hospital")

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("source", ["https://models.test/a.zip", "hf:owner/name@v1"])
def test_behind_a_proxy_of_the_system(place, monkeypatch, source):
    """Downloads go through it, and its answer is the one line."""
    handler = type("Handler", (Proxy,), {"asked": []})
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    try:
        with pytest.raises(InputError, match=r"cannot be downloaded: .*403 Blocked by the hosp"):
            store.add(source, place, sha256="0" * 64)
    finally:
        proxy.shutdown()
        proxy.server_close()
    host = "huggingface.co" if source.startswith("hf:") else "models.test"
    assert handler.asked == [f"{host}:443"]


def test_a_redirection_away_from_https_is_refused():
    request = urllib.request.Request("https://models.test/a")
    handler = downloads._HttpsOnly()
    with pytest.raises(InputError, match="not https"):
        handler.redirect_request(request, io.BytesIO(), 302, "Found", {}, "http://other/a")
    further = handler.redirect_request(request, io.BytesIO(), 302, "Found", {}, "https://other/a")
    assert further.full_url == "https://other/a"


def test_a_known_model_comes_by_its_name(server, place, capsys):
    place.mkdir()
    entry = {"name": "tiny", "description": "For tests.", "license": "none", "url": URL,
             "sha256": server.sha256, "bytes": len(server.content)}  # fmt: skip
    (place / "index.json").write_text(json.dumps({"format": 1, "models": [entry]}))
    assert main(["models", "known", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"models": [entry]}
    assert main(["models", "import", "tiny", "--json"]) == 0
    *progress, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert progress[-1]["bytes"] == progress[-1]["total"] == len(server.content)
    assert last == {"model": "tiny", "folder": str(place / "tiny")}
