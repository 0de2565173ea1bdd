"""The methods: one file each. To add one, write its file and name its class in ``METHODS``.

A method is a frozen dataclass of its options, a subclass of ``Method``, with

- ``losses(student, teacher, batch, step) -> dict[str, Tensor]``: named terms; the loop sums them,
- class attributes ``name``, ``paper``, ``year``, ``when`` (a line on when to use it),
- ``uses_teacher``, ``uses_unlabelled``, ``uses_distance``: what it needs of the loop.
"""

from __future__ import annotations

from .base import Batch, Method
from .dtc import DTC
from .dtml import DTML
from .dual_task import DualTask
from .duwm import DUWM
from .entropy_minimization import EntropyMinimization
from .mean_teacher import MeanTeacher
from .sassnet import SASSNet
from .supervised import Supervised
from .tcse import TCSE
from .ua_mt import UAMT
from .ugmcl import UGMCL
from .ugmcl_official import UGMCLOfficial
from .ugmcl_plus import UGMCLPlus
from .urpc import URPC

METHODS: dict[str, type[Method]] = {
    m.name: m
    for m in (
        Supervised,
        DualTask,
        MeanTeacher,
        UAMT,
        EntropyMinimization,
        TCSE,
        SASSNet,
        DUWM,
        URPC,
        DTC,
        DTML,
        UGMCL,
        UGMCLOfficial,
        UGMCLPlus,
    )
}

__all__ = [
    "DTC",
    "DTML",
    "DUWM",
    "METHODS",
    "TCSE",
    "UAMT",
    "UGMCL",
    "URPC",
    "Batch",
    "DualTask",
    "EntropyMinimization",
    "MeanTeacher",
    "Method",
    "SASSNet",
    "Supervised",
    "UGMCLOfficial",
    "UGMCLPlus",
]
