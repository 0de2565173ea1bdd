"""What stands between a fresh Slicer and a first run: each state's message and its way on.

The installers are injected: nothing is installed and nothing is downloaded.
"""

from __future__ import annotations

import subprocess
import sys
import types

import harness
import module_support as support
import pytest
from packaging.requirements import Requirement
from setup_support import Computer


@pytest.fixture
def computer(panel, monkeypatch):
    return Computer(monkeypatch)


def look(panel):
    """Leave the module and come back."""
    panel.loaded.exit()
    panel.loaded.enter()


def said(panel) -> str:
    return panel.ui.setupLabel.text


def shown(panel) -> tuple[str, str]:
    """The labels of the buttons that are there."""
    buttons = (panel.ui.installButton, panel.ui.otherWayButton)
    return tuple("" if b.isHidden() else b.text for b in buttons)


@pytest.fixture
def torchUtils(computer, monkeypatch):
    """The PyTorch extension's module, with an installer that does what `torchUtils.act` does."""

    class PyTorchUtilsLogic:
        def installTorch(self, **options):
            computer.asked.append(options)
            return module.act()

        def uninstallTorch(self):
            computer.asked.append("uninstall")
            computer.has(torch="")

    def succeed():
        computer.has(torch="2.6.0", torchUsesGpu=True)
        return object()

    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = PyTorchUtilsLogic
    module.act = succeed
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    return module


@pytest.fixture
def pip(computer, monkeypatch):
    """slicer.util.pip_install, which does what `pip.act` does."""
    import slicer

    pip = types.SimpleNamespace(act=lambda: computer.has(others=("safetensors",)))

    def install(requirements, **_options):
        computer.asked.append(requirements)
        pip.act()

    monkeypatch.setattr(slicer.util, "pip_install", install, raising=False)
    return pip


def fails(*lines, code=1):
    def act():
        for line in lines:
            print(line)
        raise subprocess.CalledProcessError(code, ["python", "-m", "pip"])

    return act


def test_nothing_is_shown_when_all_is_there(panel, computer):
    look(panel)
    assert said(panel) == "" and panel.ui.setupLabel.isHidden()
    assert shown(panel) == ("", "")


def test_the_pytorch_extension_is_absent(panel, computer, answers, slicer_app, monkeypatch):
    import slicer

    computer.has(torch="", isExtensionInstalled=False, isExtensionLoaded=False)
    look(panel)
    assert "PyTorch extension is needed" in said(panel)
    assert shown(panel) == ("Install the PyTorch extension…", "Install from a folder…")
    agree(panel)  # the Extensions Manager has no network here
    assert "could not install the PyTorch extension" in said(panel)
    assert shown(panel)[0] == "Try again"

    def install(name, restart):
        assert (name, restart) == ("PyTorch", False)
        computer.has(isExtensionInstalled=True)
        return True

    monkeypatch.setattr(slicer_app.extensionsManagerModel(), "installExtensionFromServer", install)
    panel.click("installButton")
    assert "restart Slicer" in said(panel)
    assert shown(panel) == ("Restart Slicer", "")
    restarted = []
    monkeypatch.setattr(slicer.util, "restart", lambda: restarted.append(True))
    answers.yes = False
    panel.click("installButton")
    assert not restarted
    answers.yes = True
    panel.click("installButton")
    assert restarted == [True]


def agree(panel, answer=True):
    """Click Install; answer the Extensions Manager's question if it comes. Returns those asked."""
    import qt

    with harness.answering(qt.QMessageBox.Yes if answer else qt.QMessageBox.No) as dialogs:
        panel.click("installButton")
    return dialogs.asked


@pytest.mark.parametrize("answer", [False, True])
def test_the_user_confirms_the_extension_once(panel, computer, answers, slicer_app, answer):
    extensions = slicer_app.extensionsManagerModel()
    extensions._on_server.append("PyTorch")
    computer.has(torch="", isExtensionInstalled=False, isExtensionLoaded=False)
    look(panel)
    answers.yes = answer
    asked = agree(panel, answer)
    assert len(asked) + len(answers.questions) == 1
    assert extensions.installedExtensions == (["PyTorch"] if answer else [])
    assert extensions.interactive
    if not answer:
        assert "Nothing was installed" in said(panel)


def test_torch_is_absent(panel, computer, torchUtils):
    hadTorch = "torch" in sys.modules
    computer.has(torch="")
    look(panel)
    assert "PyTorch is not installed" in said(panel)
    assert shown(panel) == ("Install PyTorch…", "Install from a folder…")
    worker = panel.widget.logic.worker
    panel.click("installButton")
    assert computer.asked == [dict(askConfirmation=True, torchVersionRequirement=">=2.3,!=2.9.*")]
    assert said(panel) == "" and shown(panel) == ("", "")
    assert worker is panel.widget.logic.worker
    assert ("torch" in sys.modules) == hadTorch  # other tests in this process may have it


def test_nothing_is_installed_during_a_run_and_no_process_stays(panel, computer, torchUtils):
    logic = panel.widget.logic
    for worker in (logic.worker, logic.trainer):
        worker.start()
    harness.wait_until(lambda: logic.worker.pid and logic.trainer.pid, 20)
    computer.has(torch="")
    look(panel)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logic.trainer, "_request", object())
        panel.click("installButton")
        assert "A run is in progress" in said(panel) and computer.asked == []
        assert logic.worker.pid and logic.trainer.pid
    panel.click("installButton")
    assert len(computer.asked) == 1 and logic.worker.pid == logic.trainer.pid == 0


def test_a_restart_is_asked_for_with_what_it_costs_and_not_during_a_run(
    panel, computer, pip, answers, monkeypatch
):
    restarts = []
    monkeypatch.setattr("slicer.util.restart", lambda: restarts.append(1), raising=False)
    computer.has(numpy="1.26.4", numpyWanted="<2.7,>=2.0")
    look(panel)
    pip.act = lambda: computer.has(numpy="2.4.6", replaced=("numpy",))
    panel.click("installButton")
    assert shown(panel)[0] == "Restart Slicer"
    logic = panel.widget.logic
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logic.trainer, "_request", object())
        panel.click("installButton")
        assert "A run is in progress" in said(panel) and not restarts
    answers.yes = False
    panel.click("installButton")
    assert "Unsaved changes to the scene are lost" in answers.questions[-1] and not restarts
    answers.yes = True
    panel.click("installButton")
    assert restarts == [1]


def test_declined(panel, computer, torchUtils):
    computer.has(torch="")
    torchUtils.act = lambda: None
    look(panel)
    panel.click("installButton")
    assert said(panel).startswith("Nothing was installed.")
    assert shown(panel)[0] == "Install PyTorch…"
    assert panel.ui.installButton.enabled


def test_declined_safetensors(panel, computer, pip, answers):
    computer.has(others=())
    answers.yes = False
    look(panel)
    panel.click("installButton")
    assert computer.asked == []
    assert said(panel).startswith("Nothing was installed.") and "safetensors" in said(panel)


def test_offline(panel, computer, torchUtils, tmp_path, pip):
    computer.has(torch="", others=())
    torchUtils.act = fails(
        "WARNING: Retrying after connection broken by 'NewConnectionError(<...>: Failed to "
        "establish a new connection: [Errno -3] Temporary failure in name resolution')",
        "ERROR: No matching distribution found for torch>=2.3",
    )
    look(panel)
    panel.click("installButton")
    assert "offline" in said(panel) and "\n" not in said(panel)
    assert shown(panel) == ("Try again", "Install from a folder…")
    with harness.answering(""):
        panel.click("otherWayButton")  # the user cancels
    assert "offline" in said(panel)
    with harness.answering(str(tmp_path)):
        panel.click("otherWayButton")
    assert "no package (*.whl)" in said(panel) and computer.asked[1:] == []
    (tmp_path / "torch-2.6.0-cp312-cp312-win_amd64.whl").touch()
    pip.act = lambda: computer.has(torch="2.6.0", others=("safetensors",))
    with harness.answering(str(tmp_path)):
        panel.click("otherWayButton")
    assert computer.asked[-1] == ["--no-index", "--upgrade", "--find-links", str(tmp_path),
                                  "torch>=2.3,!=2.9.*", "safetensors>=0.4"]  # fmt: skip
    assert said(panel) == ""


def test_a_failed_installation_shows_the_last_lines_and_can_be_tried_again(
    panel, computer, torchUtils
):
    from UGMCLSegmentationLib.storage import userFolder

    computer.has(torch="")
    succeed, torchUtils.act = torchUtils.act, fails("Collecting torch", "one", "two",
                                                    "ERROR: No space left on device")  # fmt: skip
    look(panel)
    panel.click("installButton")
    assert said(panel).splitlines() == ["The installation failed:", "two",
                                        "ERROR: No space left on device",
                                        "pip ended with exit code 1."]  # fmt: skip
    assert "Collecting torch" in panel.ui.logText.toPlainText()
    (log,) = userFolder.logs().iterdir()
    assert "No space left" in log.read_text()
    assert shown(panel) == ("Try again", "Install from a folder…")
    torchUtils.act = succeed
    panel.click("installButton")
    assert said(panel) == ""


def test_a_torch_that_cannot_be_imported_is_a_failure_too(panel, computer, torchUtils):
    def act():
        raise ImportError("DLL load failed while importing _C")

    computer.has(torch="")
    torchUtils.act = act
    look(panel)
    panel.click("installButton")
    assert "DLL load failed" in said(panel) and shown(panel)[0] == "Try again"


def test_torch_is_too_old(panel, computer, torchUtils, answers):
    computer.has(torch="2.1.2+cu118")
    look(panel)
    assert "2.1.2+cu118 is too old: 2.3" in said(panel)
    assert shown(panel)[0] == "Update PyTorch…"
    answers.yes = False
    panel.click("installButton")
    assert computer.asked == [] and said(panel).startswith("Nothing was installed.")
    answers.yes = True
    panel.click("installButton")
    assert computer.asked[0] == "uninstall"
    assert computer.asked[1]["torchVersionRequirement"] == ">=2.3,!=2.9.*"
    assert said(panel) == ""


def test_an_update_without_the_extension_says_where_to_get_it(panel, computer, answers):
    computer.has(torch="2.1.2", isExtensionInstalled=False, isExtensionLoaded=False)
    look(panel)
    panel.click("installButton")
    assert "Extensions Manager" in said(panel)


def test_cpu_torch_beside_a_gpu(panel, computer, torchUtils, answers, slicer_app):
    from UGMCLSegmentationLib.panel.setup import dependencies

    computer.has(torchUsesGpu=False, hasNvidia=True)
    look(panel)
    assert "NVIDIA GPU" in said(panel)
    assert shown(panel) == ("Install PyTorch for the GPU…", "Keep the CPU")
    panel.segment(support.add_volume())  # it is no obstacle
    panel.click("installButton")
    assert computer.asked[0] == "uninstall" and said(panel) == ""
    computer.has(torchUsesGpu=False)
    look(panel)
    panel.click("otherWayButton")
    assert slicer_app.settings().value(dependencies.KEEP_CPU) == "yes"


def test_the_choice_of_the_cpu_is_kept(panel, monkeypatch):
    from UGMCLSegmentationLib.panel.setup import dependencies

    monkeypatch.setattr(dependencies, "_hasNvidia", lambda: True)
    monkeypatch.setattr(dependencies, "_torchUsesGpu", lambda: False)
    look(panel)
    panel.click("otherWayButton")
    assert said(panel) == ""
    look(panel)
    assert said(panel) == ""


def test_numpy_does_not_fit(panel, computer, pip, answers):
    computer.has(numpy="1.26.4", numpyWanted="<2.7,>=2.0")
    look(panel)
    assert "1.26.4" in said(panel) and "<2.7,>=2.0" in said(panel)
    assert shown(panel)[0] == "Repair NumPy…"
    pip.act = lambda: computer.has(numpy="2.4.6", replaced=("numpy",))
    panel.click("installButton")
    assert computer.asked == [["numpy<2.7,>=2.0"]]
    assert "Restart Slicer" in said(panel) and "numpy" in said(panel)
    panel.segment(support.add_volume())  # by a process of its own, which has the new one


@pytest.mark.parametrize("name", ["slicer.packaging", "slicer.pydeps", "neither"])
def test_safetensors_comes_by_slicers_own_way(panel, computer, pip, answers, monkeypatch, name):
    def ensure(requirements, **options):
        assert options == {"requester": "UGMCL Segmentation"}
        computer.asked.append(requirements)
        computer.has(others=("safetensors",))

    computer.has(others=())
    if name != "neither":
        module = types.ModuleType(name)
        module.pip_ensure = ensure
        monkeypatch.setitem(sys.modules, name, module)
    look(panel)
    assert "safetensors" in said(panel) and shown(panel)[0] == "Install…"
    panel.click("installButton")
    # early versions of pip_ensure take no text
    expected = ["safetensors>=0.4"] if name == "neither" else [Requirement("safetensors>=0.4")]
    assert computer.asked == [expected]
    assert len(answers.questions) == (name == "neither")  # pip_ensure asks by itself
    assert said(panel) == ""


def test_a_refusal_to_pip_ensure(panel, computer, monkeypatch):
    def refuse(_requirements, **_options):
        raise RuntimeError("User declined package installation")

    computer.has(others=())
    module = types.ModuleType("slicer.packaging")
    module.pip_ensure = refuse
    monkeypatch.setitem(sys.modules, "slicer.packaging", module)
    look(panel)
    panel.click("installButton")
    assert said(panel).startswith("Nothing was installed.")


def test_segment_installs_what_is_missing_and_goes_on(panel, computer, torchUtils, pip, answers):
    computer.has(torch="", others=())
    look(panel)
    node = panel.segment(support.add_volume())
    assert node is not None
    assert len(computer.asked) == 2  # torch, then safetensors


def test_segment_does_nothing_while_something_stays_missing(panel, computer, torchUtils):
    computer.has(torch="")
    torchUtils.act = lambda: None
    look(panel)
    panel.select(support.add_volume())
    panel.click("segmentButton")
    assert not panel.widget.logic.running and len(computer.asked) == 1
    assert said(panel).startswith("Nothing was installed.")


def test_an_installer_without_effect_is_told(panel, computer, torchUtils):
    computer.has(torch="")
    torchUtils.act = object
    look(panel)
    panel.click("installButton")
    assert "the problem remains" in said(panel) and "PyTorch" in said(panel)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("RuntimeError: Numpy is not available", "NumPy and PyTorch do not fit"),
        ("AttributeError: _ARRAY_API not found", "NumPy and PyTorch do not fit"),
        ("OSError: [WinError 126] The specified module could not be found", "Visual C++"),
        ("ModuleNotFoundError: No module named 'safetensors'", "not installed"),
    ],
)
def test_a_run_that_fails_for_its_packages_says_so(panel, monkeypatch, words, expected):
    monkeypatch.setenv("FAKE_ERROR", words)
    panel.select(support.add_volume())
    panel.click("segmentButton")
    panel.finish()
    assert expected in panel.message and words in panel.message
