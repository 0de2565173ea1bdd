"""Cases that run inside Slicer, started from the module's developer section or by ctest."""

from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest


class UGMCLSegmentationTest(ScriptedLoadableModuleTest):
    """The parts that need a scene, but neither a model nor torch."""

    def runTest(self) -> None:
        for name in sorted(n for n in dir(self) if n.startswith("test_")):
            self.setUp()
            getattr(self, name)()
