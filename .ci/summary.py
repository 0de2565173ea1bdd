"""Adds up the last lines of several runs of pytest: `summary.py LOG...`; 1 if one is missing."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

LINE = re.compile(r"^=*\s*((?:\d+ [a-z]+, )*\d+ [a-z]+) in ([\d.]+)s\b", re.MULTILINE)
ORDER = ("failed", "error", "passed", "skipped", "xfailed", "xpassed")


def main(paths: list[str]) -> int:
    """Print each run's summary, then their sum; tests that another run takes are no part of it."""
    counts: Counter[str] = Counter()
    seconds, code = 0.0, 0
    for path in paths:
        found = LINE.findall(Path(path).read_text(encoding="utf-8", errors="replace"))
        if not found:
            print(f"{path}: the test runner did not come to its end")
            counts["error"] += 1
            code = 1
            continue
        outcomes, spent = found[-1]
        print(f"{path}: {outcomes} in {spent}s")
        for number, outcome in re.findall(r"(\d+) ([a-z]+)", outcomes):
            counts[outcome.replace("errors", "error")] += int(number)
        seconds += float(spent)
    parts = [f"{counts[outcome]} {outcome}" for outcome in ORDER if counts[outcome]]
    parts = [part.replace("error", "errors") if part[:2] != "1 " else part for part in parts]
    print(f"{', '.join(parts)} in {seconds:.2f}s")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
