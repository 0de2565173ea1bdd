"""What a card stores about a network of another package. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...errors import InputError

MONAI, NNUNET = "monai", "dynamic_network_architectures"
NETWORKS = {
    MONAI: ("AttentionUnet", "BasicUNet", "DynUNet", "SegResNet", "SwinUNETR", "UNet", "VNet"),
    NNUNET: ("PlainConvUNet", "ResidualEncoderUNet"),
}
"""By package, those for segmentation: of `monai.networks.nets` the ones that take volumes of any
size, of `dynamic_network_architectures.architectures.unet` those of nnU-Net's plans."""
OPERATIONS = {
    "conv_op": ("Conv3d",),
    "norm_op": ("InstanceNorm3d", "BatchNorm3d"),
    "dropout_op": ("Dropout3d",),
    "nonlin": ("LeakyReLU", "ReLU", "GELU", "SiLU"),
}
"""Classes of `torch.nn` that nnU-Net's plans may name, by argument."""
OUTPUTS = ("softmax", "sigmoid")
NO_DISTANCE = "It has no distance head, so results have no signed distance."
"""Ends the description of each such model."""
_TITLES = {NNUNET: "nnU-Net"}


def is_foreign(settings: Mapping[str, Any]) -> bool:
    """Whether the ``network`` of a model's card is one of another package."""
    return "package" in settings


@dataclass(frozen=True)
class ForeignSettings:
    """The ``network`` of a card: ``arguments`` are those of the network's class; ``output`` is
    `softmax` over all classes or the `sigmoid` of the only one. Sizes are multiples of
    ``multiple``. The network takes the image's axes in the order ``axes``. The logits of an
    ensemble's ``members`` are averaged. ValueError for settings that cannot be built."""

    package: str
    network: str
    arguments: dict[str, Any]
    classes: int
    channels: int
    multiple: tuple[int, int, int]
    output: str = "softmax"
    distance_head: bool = False
    axes: tuple[int, int, int] = (0, 1, 2)
    members: int = 1

    fixed_window: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.network not in NETWORKS.get(self.package, ()):
            raise ValueError(f"there is no network {self.network} of {self.package}")
        if self.output not in OUTPUTS or self.distance_head:
            raise ValueError(f"an output {self.output} with a distance head is not known")
        if self.output == "sigmoid" and self.classes != 2:
            raise ValueError("a sigmoid is of one class")
        if sorted(self.axes) != [0, 1, 2] or self.members not in range(1, 101):
            raise ValueError(f"axes {self.axes} of {self.members} networks are not known")
        for key, known in OPERATIONS.items() if self.package == NNUNET else ():
            if self.arguments.get(key) not in (None, *known):
                raise ValueError(f"{key} is {self.arguments[key]}, none of {', '.join(known)}")


def refuse(card_network: Mapping[str, Any], name: str, what: str) -> None:
    """InputError if the model ``name`` is foreign and cannot do ``what``."""
    if is_foreign(card_network):
        package = _TITLES.get(card_network["package"], card_network["package"])
        raise InputError(
            f"{name} is a network of {package}, which can segment but cannot {what}; choose a "
            "model of this program"
        )
