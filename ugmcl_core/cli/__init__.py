"""The command line: one file for each command, with NAME, HELP, DESCRIPTION, EPILOG,
add_arguments and run.

No command imports torch, numpy or scipy before it runs.
"""

from types import ModuleType

from . import (
    computers,
    evaluate,
    experiment,
    finetune,
    methods,
    models,
    plan,
    rank,
    segment,
    train,
    worker,
)

COMMANDS: tuple[ModuleType, ...] = (
    segment,
    rank,
    finetune,
    train,
    plan,
    evaluate,
    experiment,
    methods,
    models,
    computers,
    worker,
)
