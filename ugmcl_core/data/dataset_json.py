"""``dataset.json``: what the Medical Segmentation Decathlon and nnU-Net say about a data set.

Sources: http://medicaldecathlon.com (``"labels": {"0": "background", "1": "spleen"}``,
``"modality": {"0": "CT"}``) and nnU-Net's documentation/dataset_format.md (``"labels":
{"background": 0, "spleen": 1, "ignore": 2}``, ``"channel_names": {"0": "CT"}``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError

NAME = "dataset.json"


@dataclass(frozen=True)
class DatasetJson:
    """``classes``: label values and names, without the background; ``ignore``: the label of voxels
    that nobody annotated, or None; ``channels``: what the images of a case are called."""

    path: Path
    classes: tuple[tuple[int, str], ...] = ()
    ignore: int | None = None
    channels: tuple[str, ...] = ()

    @property
    def modality(self) -> str:
        """DICOM's short name of the kind of its first images, "" if it is not known."""
        return modality_of(self.channels[0]) if self.channels else ""


def read_of(images: str | Path) -> DatasetJson | None:
    """The ``dataset.json`` in the folder ``images`` or in the one that it lies in; None without.

    Raises InputError for a file that cannot be read, and for regions of several labels.
    """
    folder = Path(images).expanduser().absolute()
    path = next((p for p in (folder / NAME, folder.parent / NAME) if p.is_file()), None)
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        channels = content.get("channel_names", content.get("modality", {}))
        classes, ignore = _labels(path, content["labels"])
        return DatasetJson(path, classes, ignore, tuple(str(c) for _, c in _in_order(channels)))
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from None
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise InputError(
            f"{path}: holds no \"labels\" in the format of the Medical Segmentation Decathlon or "
            "nnU-Net; correct it, or give --classes"
        ) from None


def modality_of(text: str) -> str:
    """DICOM's short name of the kind of image that ``text`` is about, "" if it is none of them."""
    words = set(re.split(r"[^A-Z0-9]+", text.upper()))
    for name, signs in (
        ("CT", {"CT"}),
        ("PT", {"PET", "PT"}),
        ("MR", {"MR", "MRI", "T1", "T1W", "T1C", "T1GD", "T2", "T2W", "FLAIR", "ADC", "DWI"}),
    ):
        if words & signs:
            return name
    return ""


def _labels(path: Path, labels: Mapping[str, Any]) -> tuple[tuple[tuple[int, str], ...], Any]:
    pairs: list[tuple[int, str]] = []
    for key, value in labels.items():
        if isinstance(value, list):
            raise InputError(
                f"{path}: {key} is a region of the labels {', '.join(map(str, value))}, and one "
                "label for each structure is supported; name those of the label maps by --classes"
            )
        pairs.append((int(key), str(value)) if key.isdigit() else (int(value), key))
    ignore = next((v for v, name in pairs if name.lower() == "ignore"), None)
    classes = tuple(sorted(p for p in pairs if p[0] not in (0, ignore)))
    if not classes or any(len({p[n] for p in classes}) < len(classes) for n in (0, 1)):
        raise ValueError("no classes, or two of the same value or name")
    return classes, ignore


def _in_order(channels: Mapping[str, Any] | list[Any]) -> list[tuple[int, Any]]:
    if isinstance(channels, list):
        return list(enumerate(channels))
    return sorted((int(number), name) for number, name in channels.items())
