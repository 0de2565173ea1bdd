"""Weights in files of `torch.save`, which are pickles: read by torch's own reader of tensors and
plain values, which runs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ...errors import InputError


def read(path: Path, allowed: Sequence[Any] = ()) -> Any:
    """What the file holds: tensors, numbers, texts and containers of them, and what ``allowed``
    names (as `torch.serialization.safe_globals` takes it, from torch 2.5 on). InputError."""
    import torch

    if allowed and not hasattr(torch.serialization, "safe_globals"):
        raise InputError(f"{path}: torch 2.5 or newer is needed to read it safely")
    known = torch.serialization.safe_globals([*allowed]) if allowed else nullcontext()
    try:
        with known:
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: get it too, since it holds the weights") from None
    except Exception as error:
        why = _reason(error)
        raise InputError(
            f"{path} holds more than tensors and numbers, or is damaged ({why}): refused"
        ) from None


def _reason(error: Exception) -> str:
    """What torch found, without its advice to read the file unsafely."""
    text = " ".join(str(error).split())
    named = re.search(r"(?:GLOBAL|global|class|function) ([\w.]+\.\w+)", text)
    return named[1] if named else text[:80]


def tensors_of(path: Path, content: Any) -> Mapping[str, Any]:
    """``content`` if it is weights by name; InputError."""
    import torch

    if not isinstance(content, Mapping) or not all(
        isinstance(v, torch.Tensor) for v in content.values()
    ):
        raise InputError(f"{path} holds no weights by name: refused")
    return content
