"""One side of one row in a process of its own: `subprocess_runner.py ROW SIDE`, run by bench.py.

Each line on stdin asks for one measurement; the answer is its seconds. At the end of stdin the
peak memory in bytes is printed: of the GPU if one computed, else of the process, or of its largest
child where that is more.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "slicer"), str(HERE.parents[1])]


def main(row: str, side: str) -> None:
    """Prepare, say so, measure on request."""
    answers = os.fdopen(os.dup(1), "w")  # what others print must not get between the answers
    os.dup2(2, 1)
    from table import ROWS

    measured = ROWS[row].sides[side]()
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        own = measured()
        torch = gpu()
        if torch is not None:
            torch.cuda.synchronize()
        passed = time.perf_counter() - began
        print(own if isinstance(own, float) else passed, file=answers, flush=True)
    print(gpu_peak() or peak(), file=answers, flush=True)


def gpu() -> ModuleType | None:
    """torch, if it computed on a GPU."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


def gpu_peak() -> int:
    """Bytes of GPU memory held at most; 0 without one."""
    torch = gpu()
    return 0 if torch is None else torch.cuda.max_memory_allocated()


def peak() -> int:
    """Bytes that this process, or its largest child, held at most."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    most = max(resource.getrusage(w).ru_maxrss for w in who)
    return most * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
