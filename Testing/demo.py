"""See it work: `make demo`, `make demo IMAGE=scan.nrrd`, or `make demo IMAGE=phantom`.

Without an image, phantom cases are made and a small model is trained on a few of them; then the
module's own panel, in the headless Slicer of the tests, fine-tunes it semi-supervised (ugmcl-plus)
on labeled and unlabeled volumes of the scene, measures it on hold-out ones, and segments one
before and after. With an image, the bundled model segments it through the same panel.
Pictures, the report and the exported label maps are written to out/demo.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import demo_finetuning

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# Never this folder itself: its subfolder slicer would be merged with the package of that name.
sys.path[:] = [
    str(HERE / "slicer"), str(ROOT), *(p for p in sys.path if Path(p).resolve() != HERE)
]  # fmt: skip

OUTPUT = ROOT / "out" / "demo"
PATIENCE = 600.0  # seconds for one segmentation
PHANTOM = "phantom"


def main() -> int:
    """Run the demo; 0 if it worked."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.split("\n\n")[0])
    parser.add_argument("--image", help="segment this scan, or a generated one: phantom")
    given = parser.parse_args().image
    if given not in (None, PHANTOM) and not Path(given).is_file():
        parser.error(f"{given}: no such file (`{PHANTOM}` is a generated scan)")
    began = time.monotonic()
    # Threads that wait asleep: much faster beside other programs, before torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    if given is None:
        show_phantoms()
    else:
        show_scan(add_phantom() if given == PHANTOM else Path(given).resolve())
    print(f"pictures and label maps: {os.path.relpath(OUTPUT)}")
    print(f"{time.monotonic() - began:.0f} s")
    return 0


def show_phantoms() -> None:
    """Fine-tune on the scene, and segment a hold-out phantom before and after."""
    subprocess.run([sys.executable, str(HERE / "demo_training.py"), str(OUTPUT)], check=True)
    panel, volumes = open_panel(sorted((OUTPUT / "cases" / "images").iterdir()))
    from UGMCLSegmentationLib.storage import userFolder

    userFolder.setPath(OUTPUT / "user")
    panel.widget.segment.useModelFolder(str(OUTPUT / "start" / "model"))
    held_out = volumes[-1]
    reference = OUTPUT / "cases" / "labels" / f"{held_out.GetName()}.nrrd"
    before = dice_of(segment_and_export(panel, held_out, OUTPUT / "before"), reference)
    rose = demo_finetuning.run(panel, volumes, OUTPUT)
    after = dice_of(segment_and_export(panel, held_out, OUTPUT / "after"), reference)
    print(f"Dice of {held_out.GetName()}: {before:.3f} before, {after:.3f} after", flush=True)
    take_pictures(panel)
    panel.close()
    if not rose:
        sys.exit("the fine-tuned model is not better than the one that it started from")


def add_phantom() -> Path:
    """The scan that Slicer's Sample Data module offers, as a file."""
    import harness

    harness.start()
    import slicer

    sys.path.append(str(ROOT / "UGMCLSegmentation"))
    from UGMCLSegmentationLib.scene import sampleData

    (node,) = sampleData.loadScan()
    path = OUTPUT / "Phantom.nrrd"
    if not slicer.util.saveNode(node, str(path)):
        sys.exit(f"{path} cannot be written")
    slicer.mrmlScene.RemoveNode(node)
    return path


def show_scan(image: Path) -> None:
    """Segment one scan with the bundled model."""
    panel, (volume,) = open_panel([image])
    if not panel.parameters.model:
        sys.exit("no model is bundled yet: name a folder of models in UGMCL_MODELS")
    exported = segment_and_export(panel, volume, OUTPUT)
    print(f"{panel.ui.statisticsLabel.text} -> {os.path.relpath(exported)}")
    take_pictures(panel)
    panel.close()


def open_panel(images: Sequence[Path]) -> tuple[Any, list[Any]]:
    """The module's panel in a scene with the volumes in it, the last one selected."""
    import harness
    import module_support

    harness.start()
    import slicer

    panel = module_support.Panel(command=None)  # the module's own worker process
    volumes = []
    for image in images:
        volumes.append(slicer.util.loadVolume(str(image)))
        if volumes[-1] is None:
            sys.exit(f"{image}: Slicer cannot read it")
    panel.select(volumes[-1])
    return panel, volumes


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
    from ugmcl_core.data import volume
    from ugmcl_core.evaluation import metrics

    found, truth = volume.read_labels(labels), volume.read_labels(reference)
    if not found.grid.same_as(truth.grid):
        sys.exit(f"{labels}: exported on another grid than the phantom's")
    return metrics.dice(found.array == 1, truth.array == 1)


def take_pictures(panel: Any) -> None:
    """The slice view with each overlay and with all, the surface, and the panel."""
    import harness
    import slicer

    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node is not panel.parameters.segmentation and node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility(False)  # the references would cover the result
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
