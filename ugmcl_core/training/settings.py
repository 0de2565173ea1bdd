"""The settings of a fine-tuning, shared by the panel, the worker and the command line.

Imports no torch: Slicer reads it in its own process.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FinetuneSettings:
    """Train `base` further, or a new model without one, on the volumes of a case list."""

    case_list: str
    output: str
    base: str = ""
    method: str = "ugmcl"
    iterations: int = 300
    seed: int = 0
    device: str = "auto"
    resume: bool = False
    name: str = ""
    compare: bool = False
    leave_one_out: bool = False
    keep_names: bool = False


