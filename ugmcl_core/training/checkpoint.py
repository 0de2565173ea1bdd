"""The state of a training on disk: one safetensors file, written whole or not at all.

It contains no pickle: optimizer state is flattened to tensors by parameter number, and everything
else is JSON in the file's header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn, optim

from ..errors import InputError
from ..files import whole_file
from ..nn.teacher import Teacher

NAME = "checkpoint.safetensors"
_FORMER_PREFIXES = {"student.companion.": "student.auxiliary.", "opponent.": "discriminator."}


@dataclass(frozen=True)
class Checkpoint:
    """``index`` iterations are done; ``settings`` identify the training, so that another's
    checkpoint is refused."""

    index: int
    settings: dict[str, Any]
    tensors: dict[str, Tensor]


def save(
    folder: Path,
    index: int,
    settings: dict[str, Any],
    student: nn.Module,
    teacher: Teacher | None,
    optimizers: Mapping[str, optim.Optimizer],
) -> None:
    """Write the checkpoint of ``folder``; a kill leaves the former one. The student's auxiliary
    module is part of the student."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {f"student.{k}": v for k, v in student.state_dict().items()}
    if teacher is not None:
        tensors.update({f"teacher.{k}": v for k, v in teacher.network.state_dict().items()})
    for name, optimizer in optimizers.items():
        for number, state in optimizer.state_dict()["state"].items():
            tensors.update(
                {f"{name}.{number}.{k}": v for k, v in state.items() if isinstance(v, Tensor)}
            )
    plain = {k: v.detach().contiguous().clone() for k, v in tensors.items()}
    header = {"index": str(index), "settings": json.dumps(settings)}
    with whole_file(folder / NAME, SafetensorError) as partial:  # raised for a full disk
        save_file(plain, partial, header)


def load(folder: Path) -> Checkpoint | None:
    """The checkpoint of ``folder``, None if there is none; InputError if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    path = folder / NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            tensors = {_current(key): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return Checkpoint(int(header["index"]), json.loads(header["settings"]), tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a usable checkpoint ({error}); delete it to start again"
        ) from error


def _current(key: str) -> str:
    """The name of a tensor, also where the checkpoint has a former one."""
    for former, name in _FORMER_PREFIXES.items():
        if key.startswith(former):
            return name + key.removeprefix(former)
    return key


def restore(
    checkpoint: Checkpoint,
    student: nn.Module,
    teacher: Teacher | None,
    optimizers: Mapping[str, optim.Optimizer],
) -> None:
    """Put the networks and the optimizers into the checkpoint's state."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix) :]: v for k, v in checkpoint.tensors.items() if k.startswith(prefix)}

    student.load_state_dict(part("student."))
    if teacher is not None:
        teacher.network.load_state_dict(part("teacher."))
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in part(f"{name}.").items():
            number, _, entry = key.partition(".")
            state.setdefault(int(number), {})[entry] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
