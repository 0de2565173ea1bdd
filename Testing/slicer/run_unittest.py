"""Run the unit tests of a scripted module in the headless Slicer, as ctest has Slicer do.

python Testing/slicer/run_unittest.py [--generic] MODULE.py

With --generic only loads the module, opens and closes its panel.
"""

from __future__ import annotations

import argparse
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generic", action="store_true")
    parser.add_argument("entry", type=Path)
    arguments = parser.parse_args()
    harness.start()
    loaded = harness.load_module(arguments.entry)
    try:
        if arguments.generic:
            loaded.exit()
            return 0
        for name in ("Red", "Green", "Yellow"):
            harness.slice_view(name).render()  # views are there before modules, as in Slicer
        cases = unittest.TestLoader().loadTestsFromModule(loaded.module)
        done = unittest.TextTestRunner(verbosity=2).run(cases)
        return 0 if done.testsRun and done.wasSuccessful() else 1
    finally:
        loaded.unload()
        for text in harness.errors.take():
            print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
