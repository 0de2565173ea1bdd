"""ugmcl on another computer: what that computer has, and how to install ugmcl on it.

This package travels as a wheel that is built here, and pip installs it there, with what it needs,
into a private environment. Nothing else there changes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import threading
import zipfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import InputError
from .connection import HOME, Computer, explained, start

REQUIREMENTS = (
    "torch>=2.3,!=2.9.*", "safetensors>=0.4", "numpy>=1.24", "scipy>=1.10", "SimpleITK>=2.3",
    "pydicom>=2.4",
)  # fmt: skip
"""As in pyproject.toml, which an installed extension does not have."""
PYTHONS = ("python3.12", "python3.13", "python3.11", "python3.10", "python3")
_NEWEST = (3, 14)  # torch's builds end before it


@dataclass(frozen=True)
class PythonThere:
    """A Python that can create an environment."""

    path: str
    version: str


def wheel() -> tuple[str, bytes]:
    """The name and the content of a wheel of this package, without models, which travel when they
    are used."""
    package = Path(__file__).resolve().parents[1]
    info = f"ugmcl-{__version__}.dist-info"
    files = {
        f"{package.name}/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*.py"))
        if "bundled" not in path.relative_to(package).parts
    }
    needs = "".join(f"Requires-Dist: {text}\n" for text in REQUIREMENTS)
    head = f"Metadata-Version: 2.1\nName: ugmcl\nVersion: {__version__}\n"
    files[f"{info}/METADATA"] = f"{head}Requires-Python: >=3.10\n{needs}".encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: ugmcl\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\nugmcl = ugmcl_core.__main__:main\n"
    record = [f"{n},sha256={_digest(content)},{len(content)}" for n, content in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return f"ugmcl-{__version__}-py3-none-any.whl", target.getvalue()


def _digest(content: bytes) -> str:
    digest = hashlib.sha256(content).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


_LOOK = f"""
for p in {" ".join(PYTHONS)}; do
  "$p" -c 'import sys, venv, ensurepip; assert (3, 10) <= sys.version_info[:2] < {_NEWEST}
print("python", sys.executable, sys.version.split()[0])' 2>/dev/null && break
done
df -Pk "$HOME" | tail -n 1 | while read -r _ _ _ free _; do echo "free $free"; done
nvidia-smi --query-gpu=name,memory.total --format=csv,noheader 2>/dev/null | sed 's/^/gpu /'
exit 0
"""


def look(computer: Computer) -> dict[str, Any]:
    """What a computer without ugmcl has: `python` (PythonThere or None), `free_bytes` in the home
    folder, and `gpus` (texts). Raises InputError where it cannot be reached."""
    lines: list[str] = []
    _run(computer, "sh -s", _LOOK.encode(), lines.append)
    found: dict[str, Any] = {"python": None, "free_bytes": None, "gpus": []}
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "python":
            path, _, version = rest.rpartition(" ")
            found["python"] = PythonThere(path, version)
        elif kind == "free" and rest.isdigit():
            found["free_bytes"] = int(rest) * 1024
        elif kind == "gpu":
            found["gpus"].append(rest)
    return found


# It runs under the Python there, reads one line from stdin, and prints what pip prints.
_INSTALL = f"""
import base64, json, os, subprocess, sys
from pathlib import Path
given = json.loads(sys.stdin.buffer.readline())
home = Path(os.environ.get("{HOME}") or Path.home() / ".ugmcl")
home.mkdir(mode=0o700, parents=True, exist_ok=True)
place = home / "environment"
python = place / "bin" / "python"
def run(*words):
    code = subprocess.call([str(w) for w in words], stdout=1, stderr=1)
    if code:
        sys.exit(code)
works = subprocess.call([str(python), "-m", "pip", "--version"], stdout=2, stderr=2) == 0 \\
    if python.exists() else False
if not works:
    print("making an environment in", place, flush=True)
    more = ["--system-site-packages"] if given["system_packages"] else []
    run(sys.executable, "-m", "venv", "--clear", *more, place)
wheel = home / given["name"]
wheel.write_bytes(base64.b64decode(given["wheel"]))
try:
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    run(*pip, "--progress-bar", "off", *given["pip"], wheel)
    run(*pip, "--quiet", "--no-deps", "--force-reinstall", "--no-index", wheel)
finally:
    wheel.unlink()
run(python, "-c", "import torch; print('PyTorch', torch.__version__)")
"""


def install(
    computer: Computer,
    python: str,
    say: Callable[[str], None],
    pip: tuple[str, ...] = (),
    system_packages: bool = False,
) -> None:
    """Make or update the private environment there with this ``python``; ``say`` gets each line
    that pip prints, ``pip`` are further options for it. ``system_packages`` uses the packages that
    the Python has. Raises InputError in one line."""
    name, content = wheel()
    given = {
        "name": name,
        "wheel": base64.b64encode(content).decode(),
        "pip": [*pip],
        "system_packages": system_packages,
    }
    script = base64.b64encode(_INSTALL.encode()).decode()
    command = f"{python} -c \"import base64;exec(base64.b64decode('{script}'))\""
    _run(computer, command, json.dumps(given).encode() + b"\n", say)


def _run(computer: Computer, command: str, given: bytes, say: Callable[[str], None]) -> None:
    process = start(computer, command)
    words: deque[str] = deque(maxlen=30)

    def read_errors() -> None:
        for line in process.stderr:
            words.append(line.decode(errors="replace").strip()[:400])

    reader = threading.Thread(target=read_errors, daemon=True)
    reader.start()
    writer = threading.Thread(target=_write, args=(process, given), daemon=True)
    writer.start()
    last = ""
    try:
        for line in process.stdout:
            last = line.decode(errors="replace").rstrip()[:400] or last
            say(last)
        code = process.wait()
    except BaseException:
        process.kill()
        raise
    reader.join(timeout=1)
    if code == 255:
        raise InputError(explained(computer.destination, code, [w for w in words if w], False))
    if code:
        line = last or (words[-1] if words else f"exit code {code}")
        raise InputError(
            f"{computer.destination}: the installation failed, see its last line: {line}"
        )


def _write(process: subprocess.Popen[bytes], given: bytes) -> None:
    try:
        process.stdin.write(given)
        process.stdin.close()
    except OSError:
        pass  # it has ended; the reason is reported elsewhere
