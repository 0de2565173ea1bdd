"""A stand-in for PythonSlicer: it spawns the worker and stands between it and the panel.

`launcher.py KIND ARGUMENT...` with KIND `closed` (the worker's stdin is empty), `held` (it stays
open and silent) or `forwarded`. Killing the launcher does not end the worker.
"""

import subprocess
import sys
from pathlib import Path

STDIN = {"closed": subprocess.DEVNULL, "held": subprocess.PIPE, "forwarded": None}

worker = Path(__file__).with_name("fake_worker.py")
child = subprocess.Popen([sys.executable, str(worker), *sys.argv[2:]], stdin=STDIN[sys.argv[1]])
sys.exit(child.wait())
