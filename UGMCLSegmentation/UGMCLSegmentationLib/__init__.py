"""The library of the UGMCL Segmentation module. Slicer's start imports nothing of it.

Layout, each room using only those before it:

    errors        PanelError, whose message the panel shows
    storage/      folders on disk
    worker/       the child process and the engine that runs tasks with it
    scene/        MRML nodes: volumes, segmentations, results
    parameters    the state of the panel, stored in the scene
    panel/        one folder for each section: its section.py, and what only this section uses
    console       functions for scripts
    logic         the workers, the current run, the console's functions
    selftest      cases that run inside Slicer
    widget        the shell: the sections, and the events of the scene

Rules: imports are absolute. `storage` and `worker` know no section. Torch is never imported here:
it stays in the child process. Reload drops the whole package, so no file keeps state of its own.

A new overlay is a row of `scene.overlays.OVERLAYS`, a check box and a slider in Display.ui. A new
section is a folder in `panel/`, a .ui file, and its name in `widget._UI`.
"""
