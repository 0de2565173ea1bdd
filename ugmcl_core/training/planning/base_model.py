"""Whether a model can be the start of a training on these cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ...models.card import ModelCard
from .fingerprint import CaseFacts, modalities
from .notation import shown


def contradiction(card: ModelCard, cases: Sequence[CaseFacts]) -> str:
    """Advice to train from scratch where the cases do not fit a base model: another modality,
    slices so thick that most of its grid would be interpolated, or structures too thin for it. ""
    otherwise."""
    grid, spacing = np.array(card.spacing), np.median([c.spacing for c in cases], axis=0)
    thinnest = min((2.0 * s.radius for c in cases for s in c.structures), default=math.inf)
    why = _other_kind(card, modalities(cases))
    if not why and (spacing > 3 * grid).any():
        why = f"the voxels are of {shown(spacing)} mm, and its grid is of {shown(grid)} mm"
    elif not why and thinnest < 3 * grid.min():
        why = (
            f"a structure is {thinnest:.2g} mm thick, less than three voxels of its grid of "
            f"{shown(grid)} mm"
        )
    return why and (
        f"{card.name} hardly fits these cases: {why}. Consider planning anew, which keeps the "
        "weights that fit, or training from scratch."
    )


def _other_kind(card: ModelCard, kinds: Sequence[str]) -> str:
    """A text if the images of a channel have another modality than the model's, "" if none has."""
    alike = isinstance(card.normalization, Mapping)
    each = [card.normalization] * len(kinds) if alike else card.normalization
    for kind, own in zip(kinds, each, strict=True):
        of_ct = own.get("kind") in ("global", "window")
        known_mr = "MR" in card.modality.upper() and not of_ct
        if kind == "CT" and known_mr:
            return f"the images are CT, and it was trained on {card.modality}"
        if kind in ("MR", "PT") and of_ct:
            return f"the images are {kind}, and it was trained on CT"
    return ""
