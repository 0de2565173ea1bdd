"""What an image may be, for every part of the program.

Imports neither NumPy nor SimpleITK: Slicer reads it in its own process.
"""

SPACING_LIMITS_MM = 1e-6, 100.0
"""Smallest and largest spacing of an image; beyond 1 nm and 10 cm its header is broken."""
LARGEST_GRID = 512**3
"""Voxels of an image on a model's grid, beyond which neither memory nor time suffices."""
LARGEST_VALUE = 65535
"""Of a label map."""
GRID_TOLERANCE = 0.05
"""Voxels by which equal grids may differ, since programs write headers with few digits."""
MOST_SKEW = 2e-3
"""How far the scalar products of an image's axes may be from 0 and 1, in all formats. Rounded
cosines cause 0.8e-3, a gantry tilt of 0.5° causes 9e-3."""
