"""Uncertainty-guided mutual consistency learning (UG-MCL) for medical image segmentation.

Each folder is a room that imports only from the rooms before it:

    errors, files            used everywhere
    nn           the network, the teacher, the equations, and where to compute
    data         image files, cases, preprocessing, augmentation and batches
    models       model folders: cards, weights, the store, exports
    inference    segmentation of volumes, ranking, result files
    evaluation   measures, and comparison of files
    methods      UG-MCL and its variants; `methods.baselines` holds the other papers' methods
    training     profiles, the trainer, fine-tuning
    experiments  the paper's tables and figures
    worker       the process behind the Slicer panel
    remote       work on another computer over ssh, and on clusters
    cli          the command line

Importing this package imports neither torch nor scipy: the submodules do, when they are used.
"""

__version__ = "0.1.0"
