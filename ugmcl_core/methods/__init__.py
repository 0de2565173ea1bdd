"""The semi-supervised methods of the project; those of other papers are in `baselines`.

One file each. To add one, write its file and name its class in ``METHODS``. A method is a frozen
dataclass of its options, a subclass of ``Method``, with

- ``losses(student, teacher, batch, step) -> dict[str, Tensor]``: named terms; the trainer adds
  them up,
- class attributes ``name``, ``paper``, ``year``, ``when`` (a line on when to use it),
- ``uses_teacher``, ``uses_unlabeled``, ``uses_distance``: what it needs.
"""

from __future__ import annotations

from .base import Method
from .baselines.dtc import DTC
from .baselines.dtml import DTML
from .baselines.duwm import DUWM
from .baselines.entropy_minimization import EntropyMinimization
from .baselines.mean_teacher import MeanTeacher
from .baselines.sassnet import SASSNet
from .baselines.tcse import TCSE
from .baselines.ua_mt import UAMT
from .baselines.urpc import URPC
from .dual_task import DualTask
from .supervised import Supervised
from .ugmcl import UGMCL
from .ugmcl_official import UGMCLOfficial
from .ugmcl_plus import UGMCLPlus
from .ugmcl_volumes import UGMCLVolumes

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        *(Supervised, DualTask, MeanTeacher, UAMT, EntropyMinimization, TCSE, SASSNet, DUWM, URPC),
        *(DTC, DTML, UGMCL, UGMCLOfficial, UGMCLPlus, UGMCLVolumes),
    )
}
