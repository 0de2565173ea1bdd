"""Pictures of the panel and the views for the documentation, taken in the test harness.

    python Testing/slicer/screenshots.py [folder]

The scan is a generated phantom. Without `--model` the phantom's own labels play the result, so
that the pictures show the panel and not what a model can do.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import harness  # noqa: E402

VIEW = 380  # pixels of a view's side
PANEL = 420
BACKGROUND = (44, 44, 48)


def add_phantom(folder: Path):
    """A heart-like scan, written by ugmcl_core and loaded as a user would."""
    import slicer

    from ugmcl_core.data import phantoms, volume

    image, labels = phantoms.phantom(3, (150, 128, 64), (0.9, 0.9, 1.6))
    volume.write(folder / "Phantom.nrrd", image)
    volume.write(folder / "labels.nrrd", labels)
    os.environ["FAKE_LABELS"] = str(folder / "labels.nrrd")
    return slicer.util.loadVolume(str(folder / "Phantom.nrrd"))


def add_model_card(folder: Path) -> None:
    """What the model selector lists; the fake worker never opens it."""
    from ugmcl_core.models.card import ClassInfo, ModelCard

    card = ModelCard(
        name=folder.name, description="", modality="LGE-MRI", channels=("image",),
        classes=(ClassInfo(1, "left atrium"),), spacing=(1.25, 1.25, 1.25), patch=(16, 16, 16),
        normalization={"kind": "robust-z", "low": 1.0, "high": 99.0}, network={}, sha256="0" * 64,
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(card.to_json())
    (folder / "weights.safetensors").write_bytes(b"")


def segment(model: str | None, folder: Path):
    """Load the module, segment the phantom; returns the panel and the volume."""
    import module_support as support
    import numpy as np
    import slicer

    harness.start()
    node = add_phantom(folder)
    if model is None:
        add_model_card(folder / "models" / "la-lge-mri")
        os.environ["UGMCL_MODELS"] = str(folder / "models")
    display = node.GetDisplayNode()
    low, high = np.percentile(slicer.util.arrayFromVolume(node), (1, 99.5))
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(float(low), float(high))
    slicer.util.setSliceViewerLayers(background=node)
    panel = support.Panel(support.FAKE if model is None else None)
    panel.parameters.model = model or "la-lge-mri"
    panel.widget.choices.refresh()
    panel.segment(node, seconds=600)
    return panel, node


def grab_views(folder: Path) -> list[Path]:
    paths = []
    for name in ("Red", "Green", "Yellow"):
        view = harness.slice_view(name)
        view.resize(VIEW, VIEW)
        view.fit()
    import slicer
    from UGMCLSegmentationLib.scene import results

    segmentation = results.find(results.SEGMENTATION)[0]
    center = segmentation.GetSegmentCenterRAS("class_1")
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *center)
    for name in ("Red", "Green", "Yellow"):
        paths.append(folder / f"{name}.png")
        harness.slice_view(name).grab(paths[-1])
    view = harness.three_d_view(0)
    view.resize(VIEW, VIEW)
    view.node.SetBoxVisible(False)
    view.node.SetAxisLabelsVisible(False)
    view.fit()
    view.window.renderer.GetActiveCamera().Zoom(0.95)
    paths.insert(1, folder / "3D.png")
    view.grab(paths[1])
    return paths


def compose(panelPath: Path, views: list[Path], target: Path) -> None:
    """The panel on the left, the four views beside it, as Slicer's four-up layout has them."""
    from PIL import Image

    panel = Image.open(panelPath).convert("RGB")
    gap = 4
    height = max(panel.height, 2 * VIEW + gap)
    whole = Image.new("RGB", (panel.width + gap + 2 * VIEW + gap, height), BACKGROUND)
    whole.paste(Image.new("RGB", (panel.width, height), panel.getpixel((2, panel.height - 2))))
    whole.paste(panel, (0, 0))
    for number, path in enumerate(views):
        x = panel.width + gap + (number % 2) * (VIEW + gap)
        y = (number // 2) * (VIEW + gap)
        whole.paste(Image.open(path).convert("RGB"), (x, y))
    save(whole, target)


def save(picture, target: Path) -> None:
    """As a PNG of at most 256 colors where that keeps it small."""
    picture.save(target, optimize=True)
    if target.stat().st_size > 290_000:
        picture.quantize(256, dither=0).save(target, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = HERE.parents[1] / "Resources" / "Screenshots"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    parser.add_argument("--model", help="name or folder of a model")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    from PIL import Image

    with tempfile.TemporaryDirectory() as scratch:
        panel, _node = segment(arguments.model, Path(scratch))
        views = grab_views(Path(scratch))
        path = Path(scratch) / "panel.png"
        harness.grab(panel.loaded.panel, path, width=PANEL)
        save(Image.open(path).convert("RGB"), arguments.folder / "panel.png")
        compose(path, views, arguments.folder / "overview.png")
        panel.close()


if __name__ == "__main__":
    main()
