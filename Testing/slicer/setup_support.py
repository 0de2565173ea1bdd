"""A computer on which this or that is installed, for what stands before a first run."""

from __future__ import annotations

import dataclasses


class Computer:
    """What `dependencies.facts` finds; installers change it."""

    def __init__(self, monkeypatch) -> None:
        from UGMCLSegmentationLib.panel.setup import dependencies

        self.facts = dependencies.Facts(torch="2.6.0", others=("safetensors",), numpy="2.4.6")
        self.asked: list = []
        monkeypatch.setattr(dependencies, "facts", lambda: self.facts)

    def has(self, **changes) -> None:
        self.facts = dataclasses.replace(self.facts, **changes)
