"""Slicer's start: the entry file is executed every time, the library only when it is used."""

from __future__ import annotations

import json
import subprocess
import sys

import module_support as support

# a Slicer of which only the names exist that the entry file and the samples need at start
SLICER = '''
import sys, time, types

class Application:
    def connect(self, signal, slot):
        self.slot = slot

class Parent:
    pass

def module(name, **content):
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(content)
    return sys.modules[name]

class Base:
    def __init__(self, parent=None):
        pass

registered = []
names = ("", "Logic", "Test", "Widget")
bases = {f"ScriptedLoadableModule{name}": type(name, (Base,), {}) for name in names}
slicer = module("slicer", app=Application())
module("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
module("slicer.ScriptedLoadableModule", **bases)
register = staticmethod(lambda **source: registered.append(source))
logic = type("SampleDataLogic", (), {"registerCustomSampleDataSource": register})
module("SampleData", SampleDataLogic=logic)
'''

START = '''
def library():
    return [n for n in sys.modules if n.split(".")[0] in ("UGMCLSegmentationLib", "ugmcl_core")]

started = time.perf_counter()
import UGMCLSegmentation as entry
seconds = time.perf_counter() - started
entry.UGMCLSegmentation(Parent())
found = {"seconds": seconds, "library": library(), "classes": [
    hasattr(entry, "UGMCLSegmentation" + name) for name in names]}
slicer.app.slot()
found["sources"] = [source["thumbnailFileName"] for source in registered]
found["heavy"] = [n for n in ("numpy", "scipy", "torch", "SimpleITK") if n in sys.modules]
import json; print(json.dumps(found))
'''


def start() -> dict:
    script = f"{SLICER}\nsys.path.insert(0, {str(support.ENTRY.parent)!r})\n{START}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_slicer_starts_without_the_library():
    runs = [start() for _ in range(5)]
    for found in runs:
        assert found["library"] == [] and all(found["classes"])
        assert len(found["sources"]) == 3 and found["heavy"] == []
    assert min(found["seconds"] for found in runs) < 0.06  # about 0.01 s on an idle computer
