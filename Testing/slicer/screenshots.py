"""The README's picture of the panel and the views, and the tutorial's of the spots to check: a
phantom segmented by the bundled model.

    python Testing/slicer/screenshots.py [folder]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import harness  # noqa: E402

VIEW = 440  # pixels of a view's side
FIELD_MM = 100.0  # what the slice views show of the phantom
PANEL = 420
USER = "/home/user"  # in the pictures, in place of the folder of the run that takes them
BACKGROUND = (44, 44, 48)
CAPTIONS = {"SurfaceError": "Surface error", "3D": "Surface",
            "Distance": "Signed distance", "Uncertainty": "Uncertainty"}  # fmt: skip


def add_phantom(folder: Path):
    """A heart-like scan, written by ugmcl_core and loaded as a user would."""
    import slicer

    from ugmcl_core.data import phantoms, volume

    image, _labels = phantoms.phantom(17, (150, 128, 76), (0.8, 0.8, 0.9))
    volume.write(folder / "Phantom.nrrd", image)
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


def segment(model: str, folder: Path):
    """Load the module, segment the phantom; returns the panel."""
    import module_support as support
    import numpy as np
    import slicer

    harness.start()
    node = add_phantom(folder)
    display = node.GetDisplayNode()
    low, high = np.percentile(slicer.util.arrayFromVolume(node), (1, 98))
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(float(low), float(high))
    slicer.util.setSliceViewerLayers(background=node)
    panel = support.Panel(command=None, shown=None)
    panel.parameters.model = model
    panel.widget.segment.choices.refresh()
    panel.segment(node, seconds=600)
    return panel


def grab_views(folder: Path, panel) -> list[Path]:
    """One axial slice with each overlay, that of a new user first, and the surface."""
    view = harness.slice_view("Red")
    view.resize(VIEW, VIEW)
    view.fit()
    x, y, z = view.node.GetFieldOfView()
    view.node.SetFieldOfView(FIELD_MM, FIELD_MM * y / x, z)
    segmentation = panel.parameters.segmentation
    height = segmentation.GetSegmentCenterRAS("class_1")[2]
    view.node.JumpSliceByCentering(5.0, 0.0, height + 4.0)  # with a vein from end to end
    paths = []
    overlays = ("SurfaceError", "Distance", "Uncertainty")
    for shown in overlays:
        for name in overlays:
            setattr(panel.parameters, f"show{name}", name == shown)
        panel.parameters.segmentationOpacity = 0.2 if shown == "SurfaceError" else 0.0
        harness.process_events()
        paths.append(folder / f"{shown}.png")
        view.grab(paths[-1])
    panel.parameters.showUncertainty, panel.parameters.showSurfaceError = False, True
    panel.parameters.segmentationOpacity = 0.2
    harness.process_events()
    view = harness.three_d_view(0)
    view.resize(VIEW, VIEW)
    view.node.SetBoxVisible(False)
    view.node.SetAxisLabelsVisible(False)
    view.fit()
    camera = view.window.renderer.GetActiveCamera()
    camera.Azimuth(20)
    camera.Elevation(20)
    camera.Zoom(0.95)
    paths.insert(1, folder / "3D.png")
    view.grab(paths[1])
    return paths


def grab_section(panel: Any, name: str, path: Path, last: str = "") -> None:
    """A picture of one section, or of all from it to the `last`."""
    from PIL import Image

    whole = path.with_suffix(".whole.png")
    harness.grab(panel.loaded.panel, whole, width=PANEL)
    section = getattr(panel.ui, name)
    corner = section.mapTo(panel.loaded.panel, section.rect.topLeft())
    picture = Image.open(whole).convert("RGB")
    end = getattr(panel.ui, last or name)
    bottom = end.mapTo(panel.loaded.panel, end.rect.topLeft()).y() + end.height
    box = (0, max(0, corner.y() - 8), PANEL, bottom + 8)
    picture.crop(box).quantize(256, dither=0).save(path, optimize=True)
    whole.unlink()


def grab_review(folder: Path, panel, target: Path) -> None:
    """The list of spots, two of them checked, and the views as they turn to another one."""
    import qt
    from PIL import Image

    panel.ui.segmentSection.collapsed = True
    panel.ui.spotsSection.collapsed = False
    for row in range(2):
        panel.ui.spotsTable.item(row, 0).setCheckState(qt.Qt.Checked)
    panel.ui.spotsTable.selectRow(3)  # far from the border of the phantom
    harness.process_events()
    section = folder / "display.png"
    grab_section(panel, "displaySection", section)
    height = Image.open(section).height
    paths = []
    views = {"SurfaceError": harness.slice_view("Red"), "3D": harness.three_d_view(0)}
    for name, view in views.items():
        view.resize(VIEW, height)
        paths.append(folder / f"{name}.png")
        view.grab(paths[-1])
    compose(section, paths, target)


def compose(panelPath: Path, views: list[Path], target: Path) -> None:
    """The panel on the left, the views beside it, two in a row."""
    from PIL import Image, ImageDraw, ImageFont

    panel = Image.open(panelPath).convert("RGB")
    gap = 4
    rows = -(-len(views) // 2)
    height = max(panel.height, rows * VIEW + (rows - 1) * gap)
    whole = Image.new("RGB", (panel.width + gap + 2 * VIEW + gap, height), BACKGROUND)
    whole.paste(Image.new("RGB", (panel.width, height), panel.getpixel((2, panel.height - 2))))
    whole.paste(panel, (0, 0))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(17)
    for number, path in enumerate(views):
        x = panel.width + gap + (number % 2) * (VIEW + gap)
        y = (number // 2) * (VIEW + gap)
        whole.paste(Image.open(path).convert("RGB"), (x, y))
        caption = {"font": font, "fill": "white", "stroke_width": 2, "stroke_fill": "black"}
        draw.text((x + 12, y + 10), CAPTIONS[path.stem], **caption)
    save(whole, target, most=900_000)


def save(picture, target: Path, most: int = 290_000) -> None:
    """As a PNG, of at most 256 colors where it would have more than `most` bytes."""
    picture.save(target, optimize=True)
    if target.stat().st_size > most:
        picture.quantize(256, dither=0).save(target, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = HERE.parents[1] / "Resources" / "Screenshots"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    parser.add_argument("--model", default="la-lge-mri", help="name or folder")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        panel = segment(arguments.model, Path(scratch))
        views = grab_views(Path(scratch), panel)
        path = Path(scratch) / "panel.png"
        harness.grab(panel.loaded.panel, path, width=PANEL)
        compose(path, views, arguments.folder / "overview.png")
        grab_review(Path(scratch), panel, arguments.folder / "review.png")
        panel.close()


if __name__ == "__main__":
    main()
