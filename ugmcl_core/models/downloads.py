"""Files from the network: https only, checked by their SHA-256, resumed where they stopped."""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import not_following, sha256_of

MOST_BYTES = 4 << 30
TIMEOUT = 30.0
"""Seconds without a byte after which the server counts as unreachable."""
_CHUNK = 1 << 18
_MOST_TEXT = 1 << 20

Progress = Callable[[int, int | None], None]
"""Called with the bytes so far and in total (None where the server does not report it)."""


class Absent(InputError):
    """The server has no such file."""


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows a redirection from https to https, and to nothing else."""

    def redirect_request(self, request, file, code, message, headers, url):
        if not url.lower().startswith("https://"):
            raise InputError(f"{request.full_url} leads to {url}, which is not https: refused")
        return super().redirect_request(request, file, code, message, headers, url)


def _open(request: urllib.request.Request, timeout: float) -> Any:
    return urllib.request.build_opener(_HttpsOnly()).open(request, timeout=timeout)


def fetch(
    url: str,
    sha256: str,
    folder: Path,
    progress: Progress = lambda done, total: None,
    opener: Callable[..., Any] = _open,
) -> Path:
    """Download into `folder`; returns the file, whose name is its SHA-256.

    What an earlier call has got is kept as NAME.part and resumed. `opener` replaces the network,
    called with a Request and a timeout in seconds. Raises InputError if the address is not https,
    the server cannot be reached, or the file does not have this `sha256`; it is deleted
    then.
    """
    sha256 = sha256.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise InputError(
            "a download needs its SHA-256, which is 64 hexadecimal digits: give it too"
        )
    if not url.lower().startswith("https://"):
        raise InputError(f"{url}: only https addresses are allowed; give one")
    target, partial = folder / sha256, folder / f"{sha256}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _get(url, partial, progress, opener)
        if sha256_of(partial) != sha256:
            partial.unlink()
            raise InputError(
                f"what {url} sent is not what was announced (its SHA-256 differs); it was "
                "deleted: check the address and the SHA-256"
            )
        partial.replace(target)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(_why(url, error)) from None
    return target


def read_text(url: str, opener: Callable[..., Any] = _open) -> str:
    """The text at an address, of at most `_MOST_TEXT` bytes; raises Absent, and InputError as
    `fetch` does."""
    try:
        with contextlib.closing(opener(urllib.request.Request(url), timeout=TIMEOUT)) as answer:
            content = answer.read(_MOST_TEXT + 1)
        if len(content) > _MOST_TEXT:
            raise InputError(f"{url} has more than {_MOST_TEXT >> 20} MiB: refused")
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{url} is not text: check the address") from None
    except (OSError, http.client.HTTPException) as error:
        is_absent = isinstance(error, urllib.error.HTTPError) and error.code == 404
        raise (Absent if is_absent else InputError)(_why(url, error)) from None


def _get(url: str, partial: Path, progress: Progress, opener: Callable[..., Any]) -> None:
    if partial.is_symlink():  # possibly planted: never write to its target
        partial.unlink()
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "ugmcl"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = opener(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing left to send: complete, or another file
            return
        raise
    with contextlib.closing(answer):
        if answer.status != 206 or not _starts_at(answer, have):
            have = 0  # the server sends all of it again
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        if (total or 0) > MOST_BYTES:
            raise InputError(f"{url} has {total} bytes, above {MOST_BYTES >> 30} GiB: refused")
        with open(partial, "ab" if have else "wb", opener=not_following) as file:
            progress(have, total)
            while chunk := answer.read(_CHUNK):
                have += len(chunk)
                if have > MOST_BYTES:
                    raise InputError(f"{url} sends more than {MOST_BYTES >> 30} GiB: refused")
                file.write(chunk)
                progress(have, total)
        if total is not None and have < total:
            raise OSError(f"it stopped after {have} of {total} bytes; try again to resume")


def _starts_at(answer: Any, have: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _why(url: str, error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{url} cannot be downloaded: the server answered {error.code} {error.reason}"
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLError):
        return f"{url} cannot be downloaded: its certificate is not trusted ({reason.reason})"
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return f"{url} cannot be downloaded: {text}"
