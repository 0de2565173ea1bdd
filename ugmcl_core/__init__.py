"""Uncertainty-guided mutual consistency learning (UG-MCL) for medical image segmentation.

Importing this package imports neither torch nor scipy: the submodules do, when they are used.
"""

__version__ = "0.1.0"
