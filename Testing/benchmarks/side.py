"""One side of one row in a process of its own: `side.py ROW SIDE`, driven over stdin by bench.py.

Each line on stdin asks for one measurement; the answer is its seconds. At the end of stdin the
peak memory in bytes is printed: of the process, or of its largest child where that is more.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "slicer"), str(HERE.parents[1])]


def main(row: str, side: str) -> None:
    """Prepare, say so, measure on request."""
    answers = os.fdopen(os.dup(1), "w")  # what others print must not get between the answers
    os.dup2(2, 1)
    from rows import ROWS

    measured = ROWS[row].sides[side]()
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        own = measured()
        passed = time.perf_counter() - began
        print(own if isinstance(own, float) else passed, file=answers, flush=True)
    most = max(resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF,
                                                         resource.RUSAGE_CHILDREN))  # fmt: skip
    print(most * (1 if sys.platform == "darwin" else 1024), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
