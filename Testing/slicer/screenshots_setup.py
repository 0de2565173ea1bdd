"""Pictures of each state before a first run, of Advanced, of Models and storage, of an import and
of Computers with the question before the first use and faults, taken in the test harness.

    python Testing/slicer/screenshots_setup.py [folder]

The states are injected: nothing is installed. Their pictures are joined, three in a row.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1]), str(HERE.parent / "core")]

import harness  # noqa: E402
from screenshots import USER  # noqa: E402

WIDTH = 420
CAPTION = 18  # pixels
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
        "PyTorch slow for 3D images": {"torch": "2.9.1+cu128"},
        "NumPy that does not fit": {"numpy": "1.26.4", "numpyWanted": "<2.7,>=2.0"},
        "NumPy repaired": {"replaced": ("numpy",)},
        "safetensors absent": {"others": ()},
        "CPU-only PyTorch beside a GPU": {"torchUsesGpu": False, "hasNvidia": True},
        "All is there": {},
    }  # fmt: skip


def grab(panel, section, path: Path):
    """The part of the panel's picture that shows the section."""
    from PIL import Image

    harness.grab(panel.loaded.panel, path, width=WIDTH)
    corner = section.mapTo(panel.loaded.panel, section.rect.topLeft())
    box = (corner.x(), corner.y(), corner.x() + section.width, corner.y() + section.height)
    return Image.open(path).convert("RGB").crop(box)


def grab_states(panel, path: Path) -> list:
    """A picture of the Segment section in each state, with its caption above it."""
    from PIL import Image, ImageDraw
    from UGMCLSegmentationLib.panel.setup import dependencies, installation

    def end(how):
        def act():
            if how == "declined":
                raise installation.Declined
            offline = ["Failed to establish a new connection"]
            raise installation.Failed(offline if how == "offline" else LINES)

        return act

    usual = dependencies.Facts(torch="2.6.0", others=("safetensors",), numpy="2.4.6")
    pictures = []
    for caption, found in states().items():
        how = found.pop("END", None)
        facts = dataclasses.replace(usual, **found)
        dependencies.facts = lambda facts=facts: facts
        panel.widget.setupSection.refresh()
        if how:
            panel.widget.setupSection._try(end(how))
        shot = grab(panel, panel.ui.segmentSection, path)
        whole = Image.new("RGB", (shot.width, shot.height + CAPTION), "white")
        ImageDraw.Draw(whole).text((4, 3), caption, fill="black")
        whole.paste(shot, (0, CAPTION))
        pictures.append(whole)
    return pictures


def joined(pictures: list):
    """One picture, three of them in a row."""
    from PIL import Image

    columns = 3
    height = max(p.height for p in pictures)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (WIDTH + 8), rows * (height + 8)), "white")
    for number, picture in enumerate(pictures):
        place = ((number % columns) * (WIDTH + 8), (number // columns) * (height + 8))
        sheet.paste(picture, place)
    return sheet


def show_as_of_a_user(ui, folder: Path) -> None:
    """Name a usual folder in place of this temporary one."""
    usual = f"{USER}/.local/share/slicer.org/Slicer/{folder.name}"
    for label in (ui.storedModelLabel, ui.storageLabel):
        label.text = label.text.replace(str(folder), usual)


def grab_advanced(panel, path: Path):
    """With the devices that the worker of this computer reports."""
    ui = panel.ui
    ui.advancedSection.collapsed = False
    harness.wait_until(lambda: panel.widget.logic.worker.hello is not None, 120)
    shot = grab(panel, ui.segmentSection, path)
    ui.advancedSection.collapsed = True
    return shot


def grab_models(panel, path: Path, user: Path):
    """With one model of the user's own, here the bundled one under another name."""
    from UGMCLSegmentationLib.storage import userFolder

    from ugmcl_core.models import store
    from ugmcl_core.models.model import resolve

    ui = panel.ui
    userFolder.setPath(user)
    store.add(resolve("la-lge-mri").folder, userFolder.models(), name="our-scanner")
    ui.segmentSection.collapsed = ui.displaySection.collapsed = True
    ui.modelsSection.collapsed = False
    ui.storedModelSelector.currentIndex = ui.storedModelSelector.findData("our-scanner")
    ui.importSourceEdit.text = "https://models.example.org/left-atrium.zip"
    show_as_of_a_user(ui, user)
    return grab(panel, ui.modelsSection, path)


def grab_computers(panel, path: Path):
    """With a computer that was tested, here by the ssh of the tests, and one that is off."""
    from UGMCLSegmentationLib.storage import computers

    os.environ["UGMCL_SSH"] = f"{sys.executable} {HERE / 'fake_ssh.py'}"
    section, ui = panel.widget.computersSection, panel.ui
    for name in ("me@cluster.example.org", "gpu-box"):
        computers.save(computers.KnownComputer(name))
        section.refresh(name)
        section._onTest()
        harness.wait_until(lambda: not section.running, 60)
    ui.haveGroup.visible = ui.importGroup.visible = ui.storageGroup.visible = False
    shot = grab(panel, ui.modelsSection, path)
    ui.modelsSection.collapsed = True
    ui.segmentSection.collapsed = ui.advancedSection.collapsed = False
    panel.parameters.device = "auto@gpu-box"
    segment = grab(panel, ui.segmentSection, path)
    return beside([shot, segment])


def grab_import(panel, path: Path, scratch: Path):
    """After an import of results of nnU-Net, with a repository of Hugging Face to come next."""
    import nnunet_samples

    ui, section = panel.ui, panel.widget.modelsSection
    ui.segmentSection.collapsed, ui.modelsSection.collapsed = True, False
    ui.haveGroup.visible = ui.importGroup.visible = True
    ui.storageGroup.visible = ui.computersGroup.visible = False
    name = "nnUNetTrainer__nnUNetPlans__3d_fullres"
    ui.importSourceEdit.text = str(nnunet_samples.results(scratch / name))
    panel.click("importModelButton")
    harness.wait_until(lambda: not section.running, 120)
    ui.importSourceEdit.text = "hf:owner/left-atrium@v1.0"
    show_as_of_a_user(ui, scratch / "UGMCLSegmentation")
    return grab(panel, ui.modelsSection, path)


def grab_faults(panel, path: Path):
    """The question before the first use of a computer, and what Segment shows of two faults."""
    import qt
    import slicer
    from PIL import Image

    def ask(text, *_more, **_options):
        if "over ssh" in text:  # not of the license
            box = qt.QMessageBox()
            box.setText(text)
            box.setStandardButtons(qt.QMessageBox.Ok | qt.QMessageBox.Cancel)
            harness.grab(box, path, WIDTH)
            pictures.append(Image.open(path).convert("RGB"))
        return True

    pictures = []
    slicer.app._testing = False  # so that the panel asks
    slicer.util.confirmOkCancelDisplay = ask
    for fault in ("lost", "refused"):
        os.environ["FAKE_SSH"] = fault
        panel.widget.logic.worker.kill()
        panel.click("segmentButton")
        panel.finish(120)
        pictures.append(grab(panel, panel.ui.segmentSection, path))
    slicer.app._testing = True
    return beside(pictures)


def beside(pictures: list):
    """One picture of several in a row."""
    from PIL import Image

    size = sum(p.width + 8 for p in pictures), max(p.height for p in pictures)
    whole = Image.new("RGB", size, "white")
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width + 8
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = HERE.parents[1] / "Resources" / "Screenshots"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    import module_support as support

    panel = support.Panel(command=None)
    panel.select(support.add_volume(support.blob(), name="scan"))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "panel.png"
        advanced = grab_advanced(panel, path)
        sheet = joined(grab_states(panel, path))
        models = grab_models(panel, path, Path(scratch) / "UGMCLSegmentation")
        computers = grab_computers(panel, path)
        faults = grab_faults(panel, path)
        imported = grab_import(panel, path, Path(scratch))
        panel.close()
    pictures = {
        "setup": sheet, "advanced": advanced, "models": models, "computers": computers,
        "computers-faults": faults, "models-import": imported,
    }  # fmt: skip
    for name, picture in pictures.items():
        picture.quantize(64).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
