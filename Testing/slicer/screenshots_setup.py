"""Pictures of what stands before a first run, one of each state, taken in the test harness.

    python Testing/slicer/screenshots_setup.py [folder]

The states are injected: nothing is installed. The pictures are joined to one per three states.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import harness  # noqa: E402

WIDTH = 420
LINES = ["Collecting torch>=2.3", "  Downloading (780.4 MB)",
         "ERROR: Could not install packages: [Errno 28] No space left on device"]  # fmt: skip


def states() -> dict[str, dict]:
    """By caption, what is found on the computer; a key in capitals is how an attempt ended."""
    absent = {"torch": "", "others": ()}
    return {
        "PyTorch extension absent": {
            **absent, "isExtensionLoaded": False, "isExtensionInstalled": False},
        "Restart needed": {**absent, "isExtensionLoaded": False},
        "PyTorch absent": absent,
        "Declined": {**absent, "END": "declined"},
        "Offline": {**absent, "END": "offline"},
        "Installation failed": {**absent, "END": "failed"},
        "PyTorch too old": {"torch": "2.1.2+cu118"},
        "NumPy replaced": {"numpy": "1.26.4", "numpyWanted": "<2.7,>=2.0"},
        "CPU-only PyTorch beside a GPU": {"torchUsesGpu": False, "hasNvidia": True},
    }  # fmt: skip


def grab(panel, section, path: Path):
    """The part of the panel's picture that shows the section."""
    from PIL import Image

    harness.grab(panel.loaded.panel, path, width=WIDTH)
    corner = section.mapTo(panel.loaded.panel, section.rect.topLeft())
    box = (corner.x(), corner.y(), corner.x() + section.width, corner.y() + section.height)
    return Image.open(path).convert("RGB").crop(box)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = HERE.parents[1] / "Resources" / "Screenshots"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    import module_support as support
    from PIL import Image, ImageDraw

    panel = support.Panel(command=None)
    panel.select(support.add_volume(support.blob(), name="scan"))
    from UGMCLSegmentationLib import dependencies, installing

    def end(how):
        def act():
            if how == "declined":
                raise installing.Declined
            offline = ["Failed to establish a new connection"]
            raise installing.Failed(offline if how == "offline" else LINES)

        return act

    usual = dependencies.Facts(torch="2.6.0", others=("safetensors",), numpy="2.4.6")
    pictures = []
    with tempfile.TemporaryDirectory() as scratch:
        for caption, found in states().items():
            how = found.pop("END", None)
            facts = dataclasses.replace(usual, **found)
            dependencies.facts = lambda facts=facts: facts
            panel.widget.setupSection.refresh()
            if how:
                panel.widget.setupSection._try(end(how))
            path = Path(scratch) / "panel.png"
            shot = grab(panel, panel.ui.segmentSection, path)
            whole = Image.new("RGB", (shot.width, shot.height + 18), "white")
            ImageDraw.Draw(whole).text((4, 3), caption, fill="black")
            whole.paste(shot, (0, 18))
            pictures.append(whole)
    columns = 3
    height = max(p.height for p in pictures)
    rows = -(-len(pictures) // columns)
    size = (columns * (WIDTH + 8), rows * (height + 8))
    sheet = Image.new("RGB", size, "white")
    for number, picture in enumerate(pictures):
        place = ((number % columns) * (WIDTH + 8), (number // columns) * (height + 8))
        sheet.paste(picture, place)
    sheet.quantize(64).save(folder / "setup.png", optimize=True)
    panel.close()


if __name__ == "__main__":
    main()
