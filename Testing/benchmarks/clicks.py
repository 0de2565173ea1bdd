"""What a user waits for in the panel, measured in the headless Slicer of the tests."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PATIENCE = 120.0


def setup() -> None:
    """Print how long the module's import and setup() take, Slicer itself being up."""
    import harness
    import module_support

    harness.start()
    before = set(sys.modules)
    began = time.perf_counter()
    loaded = harness.load_module(module_support.ENTRY)
    seconds = time.perf_counter() - began
    heavy = {"torch", "monai", "scipy"} & (set(sys.modules) - before)
    if heavy:
        raise SystemExit(f"the panel's start imported {', '.join(sorted(heavy))}")
    loaded.unload()
    print(seconds)


def click(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    model: Path | None = None,
    cold: bool = False,
) -> Callable[[], float]:
    """From a click on Segment to the first slice picture with overlay pixels, each time anew; with
    the bundled model, or that of the folder ``model``. When ``cold`` the click starts the worker
    and loads the model, as the first one in a session does."""
    import harness
    import module_support

    from ugmcl_core.data import phantoms, volume

    folder = Path(tempfile.mkdtemp(prefix="ugmcl-bench-"))
    image, _ = phantoms.phantom(0, shape, spacing)
    volume.write(folder / "scan.nrrd", image)
    panel = module_support.Panel(command=None)
    if model is not None:
        panel.widget.segment.useModelFolder(str(model))
    import slicer

    panel.select(slicer.util.loadVolume(str(folder / "scan.nrrd")))
    view = harness.slice_view("Red")
    panel.segment(seconds=PATIENCE)  # starts the worker and loads the model

    def there() -> bool:
        return bool(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"))

    def measured() -> float:
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            slicer.mrmlScene.RemoveNode(node)
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            composite.SetForegroundVolumeID(None)
            for layer in range(composite.GetNumberOfAdditionalLayers()):
                composite.SetNthLayerVolumeID(layer + 2, None)
        if cold:
            panel.widget.logic.worker.kill()
        view.fit()
        plain = view.pixels()
        began = time.perf_counter()
        panel.click("segmentButton")
        # as in Slicer, nothing is rendered while nothing in the scene has changed
        while not there() or np.array_equal(view.pixels(), plain):
            harness.process_events(5)
            if time.perf_counter() - began > PATIENCE:
                raise TimeoutError(panel.message or "no overlay appeared")
        seconds = time.perf_counter() - began
        panel.finish(PATIENCE)
        return seconds

    return measured
