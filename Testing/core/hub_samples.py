"""Hugging Face as a program of its own sees it: a server of the tests behind a proxy of the
system, with a certificate that Python is told to trust."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

HOST = "huggingface.co"
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl, which makes certificates, is not installed"
)


def publish(folder: Path, root: Path, name: str) -> Path:
    """The files of ``folder`` as those of owner/NAME, revision v1, in the server's ``root``;
    returns where they are. Pickles have a pointer with their SHA-256, as git-lfs writes it."""
    repository = root / "owner" / name
    shutil.copytree(folder, repository / "resolve" / "v1")
    for path in folder.rglob("*.pt*"):
        pointer = repository / "raw" / "v1" / path.relative_to(folder)
        pointer.parent.mkdir(parents=True)
        pointer.write_text(
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
            f"size {path.stat().st_size}\n"
        )
    return repository / "resolve" / "v1"


class _Proxy(http.server.SimpleHTTPRequestHandler):
    """Answers itself for the host that it is asked to connect to."""

    context: ssl.SSLContext

    def do_CONNECT(self):
        if self.path != f"{HOST}:443":
            self.send_error(403, "unknown to the tests")
            return
        self.send_response(200)
        self.end_headers()
        self.request = self.context.wrap_socket(self.connection, server_side=True)
        self.setup()  # from now on it reads and writes through the encryption
        self.close_connection = False

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(root: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve ``root`` as Hugging Face to this process and to those that it starts. ``place`` is for
    the certificate."""
    key, certificate = place / "key.pem", place / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", key, "-out",
         certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handler = type("Handler", (_Proxy,), {"context": context})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(root))
    )
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
