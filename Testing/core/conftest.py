"""Small networks are fastest on one thread; more threads only wait for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
