"""See it work: `make demo`, or `make demo IMAGE=scan.nrrd`.

Without an image, phantom cases are made, a small model is trained on them and fine-tuned
semi-supervised (UG-MCL), and both segment a held-out phantom through the module's own panel in the
headless Slicer of the tests. With an image, the bundled model segments it through the same panel.
Pictures and the exported label maps are written to out/demo.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE / "slicer"), str(ROOT)]

OUTPUT = ROOT / "out" / "demo"
PATIENCE = 600.0  # seconds for one segmentation


def main() -> int:
    """Run the demo; 0 if it worked."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.split("\n\n")[0])
    parser.add_argument("--image", type=Path, help="segment this scan instead of phantoms")
    image = parser.parse_args().image
    if image is not None and not image.is_file():
        parser.error(f"{image}: no such file")
    began = time.monotonic()
    # Threads that wait asleep: much faster beside other programs, before torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    if image is None:
        show_phantoms()
    else:
        show_scan(image.resolve())
    print(f"pictures and label maps: {os.path.relpath(OUTPUT)}")
    print(f"{time.monotonic() - began:.0f} s")
    return 0


def show_phantoms() -> None:
    """Train in a child process, then segment the held-out phantom before and after."""
    subprocess.run([sys.executable, str(HERE / "demo_training.py"), str(OUTPUT)], check=True)
    held_out = sorted((OUTPUT / "cases" / "images").iterdir())[-1]
    reference = OUTPUT / "cases" / "labels" / held_out.name
    panel, volume = open_panel(held_out)
    dice = {}
    for name, folder in (("before", "start"), ("after", "tuned")):
        panel.widget.useModelFolder(str(OUTPUT / folder / "model"))
        dice[name] = dice_of(segment_and_export(panel, volume, OUTPUT / name), reference)
        print(f"Dice {name} fine-tuning: {dice[name]:.3f}", flush=True)
    take_pictures(panel)
    panel.close()
    if not dice["after"] > dice["before"]:
        sys.exit("the fine-tuned model is not better than the one that it started from")


def show_scan(image: Path) -> None:
    """Segment one scan with the bundled model."""
    panel, volume = open_panel(image)
    if not panel.parameters.model:
        sys.exit("no model is bundled yet: name a folder of models in UGMCL_MODELS")
    exported = segment_and_export(panel, volume, OUTPUT)
    print(f"{panel.ui.measureLabel.text} -> {os.path.relpath(exported)}")
    take_pictures(panel)
    panel.close()


def open_panel(image: Path) -> tuple[Any, Any]:
    """The module's panel in an empty scene with one volume in it."""
    import harness
    import module_support

    harness.start()
    import slicer

    panel = module_support.Panel(command=None)  # the module's own worker process
    volume = slicer.util.loadVolume(str(image))
    if volume is None:
        sys.exit(f"{image}: Slicer cannot read it")
    panel.select(volume)
    return panel, volume


def segment_and_export(panel: Any, volume: Any, folder: Path) -> Path:
    """Click Segment, wait, and export the label map into `folder`."""
    folder.mkdir(exist_ok=True)
    panel.select(volume)
    panel.click("segmentButton")
    panel.finish(PATIENCE)
    if panel.parameters.segmentation is None:
        sys.exit(panel.message or "the panel shows no result")
    if panel.message:
        print(panel.message)
    before = set(folder.iterdir())
    panel.ui.exportFolderEdit.currentPath = str(folder)
    panel.click("exportButton")
    written = [p for p in folder.iterdir() if p not in before]
    if len(written) != 1:
        sys.exit(panel.ui.exportMessageLabel.text or "nothing was exported")
    return written[0]


def dice_of(labels: Path, reference: Path) -> float:
    """Dice of an exported label map, on the same grid as its reference."""
    from ugmcl_core import metrics, volume

    found, truth = volume.read_labels(labels), volume.read_labels(reference)
    if not found.grid.same_as(truth.grid):
        sys.exit(f"{labels}: exported on another grid than the phantom's")
    return metrics.dice(found.array == 1, truth.array == 1)


def take_pictures(panel: Any) -> None:
    """The slice view with each overlay and with all, the surface, and the panel."""
    import harness

    ui = panel.ui
    boxes = {
        "segmentation": ui.showSegmentationCheckBox,
        "distance": ui.showDistanceCheckBox,
        "uncertainty": ui.showUncertaintyCheckBox,
    }
    red = harness.slice_view("Red")
    red.resize(640, 520)
    red.fit()
    for shown in (*boxes, "all"):
        for name, box in boxes.items():
            box.checked = shown in (name, "all")
        harness.process_events(50)
        red.grab(OUTPUT / f"{shown}.png")
    ui.showSurfaceCheckBox.checked = True
    harness.process_events(50)
    view = harness.three_d_view()
    view.resize(640, 520)
    view.fit()
    view.grab(OUTPUT / "surface.png")
    harness.grab(panel.loaded.panel, OUTPUT / "panel.png")


if __name__ == "__main__":
    sys.exit(main())
