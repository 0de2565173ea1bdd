"""What a card stores of a network of another package. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InputError

PACKAGE = "monai"
NETWORKS = ("AttentionUnet", "BasicUNet", "DynUNet", "SegResNet", "SwinUNETR", "UNet", "VNet")
"""Of `monai.networks.nets`: those for segmentation that take volumes of any size."""
OUTPUTS = ("softmax", "sigmoid")


def is_foreign(settings: Mapping[str, Any]) -> bool:
    """Whether the ``network`` of a model's card is one of another package."""
    return "package" in settings


@dataclass(frozen=True)
class ForeignSettings:
    """The ``network`` of a card: ``arguments`` are those of the network's class; ``output`` is
    `softmax` over all classes or the `sigmoid` of the only one. Sizes are multiples of
    ``multiple``. ValueError for what cannot be built."""

    package: str
    network: str
    arguments: dict[str, Any]
    classes: int
    channels: int
    multiple: tuple[int, int, int]
    output: str = "softmax"
    distance_head: bool = False

    def __post_init__(self) -> None:
        if self.package != PACKAGE or self.network not in NETWORKS:
            raise ValueError(f"there is no network {self.network} of {self.package}")
        if self.output not in OUTPUTS or self.distance_head:
            raise ValueError(f"an output {self.output} with a distance head is not known")
        if self.output == "sigmoid" and self.classes != 2:
            raise ValueError("a sigmoid is of one class")


def refuse(card_network: Mapping[str, Any], name: str, what: str) -> None:
    """InputError if the model ``name`` is foreign and cannot do ``what``."""
    if is_foreign(card_network):
        package = card_network["package"]
        raise InputError(
            f"{name} is a network of {package}, which segments and cannot {what}; choose a model "
            "of this program"
        )
