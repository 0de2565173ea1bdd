"""A detached training: ugmcl with the words of its folder; `python -m ugmcl_core.remote.job`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from ..__main__ import main
from . import runs


def run(folder: Path) -> int:
    """Run the training, keep its exit code, and remove its images if it completed."""
    words = json.loads((folder / runs.JOB).read_text(encoding="utf-8"))["words"]
    try:
        code = main(words)
    except SystemExit as error:  # bad usage
        code = error.code if isinstance(error.code, int) else 2
    if code == 0:
        shutil.rmtree(folder / runs.CASES, ignore_errors=True)
        for cache in (folder / runs.OUTPUT).rglob(runs.CACHE):
            shutil.rmtree(cache, ignore_errors=True)
    partial = folder / f"{runs.CODE}.new"
    partial.write_text(str(code))
    partial.replace(folder / runs.CODE)
    return code


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
