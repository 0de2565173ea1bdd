"""What the tests of the worker share: the process behind pipes, its files and requests."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

from samples import tiny_model, write_case_list, write_image

from ugmcl_core.data import phantoms, volume

ROOT = Path(__file__).resolve().parents[2]
LONG = {"passes": 64}


class Process:
    """A worker process and its events."""

    def __init__(self, *words: str, models: Path | None = None) -> None:
        environment = {**os.environ, "UGMCL_MODELS": str(models or "")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ugmcl_core", "worker", *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.events: queue.Queue[dict] = queue.Queue()
        self.errors = b""
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.events.put(json.loads(line))  # anything but protocol lines would fail here

    def _read_errors(self) -> None:
        self.errors = self.process.stderr.read()

    def send(self, **request) -> None:
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def wait_for(self, *names: str, seconds: float = 60) -> dict:
        """The next event of one of `names`; others are passed over."""
        deadline = time.monotonic() + seconds
        while True:
            event = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            if event["event"] in names:
                return event

    def close(self) -> int:
        self.process.stdin.close()
        return self.process.wait(timeout=10)


def make_places(folder: Path) -> Path:
    """The folder with a tiny model (large patch count on the big scan) and two scans."""
    tiny_model(folder / "models" / "tiny")
    write_image(folder / "scan.nrrd")
    image, _ = phantoms.phantom(1, (120, 100, 90), (2.0, 2.0, 2.0))
    volume.write(folder / "big.nrrd", image, compress=False)
    return folder


def request(places: Path, folder: Path, **changes) -> dict:
    """A request to segment the scan."""
    plain = {"id": "1", "command": "segment", "image": str(places / "scan.nrrd"),
             "output": str(folder), "model": "tiny", "device": "cpu", "passes": 2, "roi": None,
             "all_components": False, "stem": "case"}  # fmt: skip
    return {**plain, **changes}


def training(folder: Path, roles: list[str], **changes) -> dict:
    """A request to fine-tune on phantoms of these roles."""
    files = {"case_list": str(write_case_list(folder, roles)), "output": str(folder / "run")}
    plain = {"command": "finetune", "base": "tiny", "iterations": 2, "seed": 1, "device": "cpu"}
    return {**plain, **files, **changes}
