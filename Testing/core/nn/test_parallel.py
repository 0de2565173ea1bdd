"""Training over several processes: the same numbers as in one, and one model from torchrun."""

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from samples import tiny_model
from torch import nn

from ugmcl_core.data.batches import BatchSettings, BatchSource, make_batch
from ugmcl_core.data.cases import Representation, find_cohort, prepare_case
from ugmcl_core.data.phantoms import write_cohort
from ugmcl_core.data.preprocessing import Normalization
from ugmcl_core.errors import InputError
from ugmcl_core.models.model import open_model
from ugmcl_core.nn import parallel
from ugmcl_core.nn.network import DualTaskVNet, NetworkSettings
from ugmcl_core.nn.schedules import Step

HERE = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform == "win32", reason="needs gloo"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    write_cohort(root, 4, 5, (24, 22, 8), (4.0, 4.4, 8.0))
    tiny_model(root / "base", patch=(32, 32, 16))
    return root


def environment(**further):
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    plain = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    return {**plain, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **further}


def ranks(count, *arguments):
    """Run parallel_training.py as ``count`` processes that find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    command = [sys.executable, str(HERE / "parallel_training.py"), *map(str, arguments)]
    processes = [
        subprocess.Popen(
            command,
            env=environment(RANK=str(n), LOCAL_RANK=str(n), **shared),
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(count)
    ]
    ends = [p.communicate(timeout=240)[1] for p in processes]
    assert all(p.returncode == 0 for p in processes), ends


@pytest.mark.slow
def test_two_processes_train_what_one_does(folder, tmp_path):
    for count, name in ((1, "one"), (2, "two")):
        ranks(count, folder, "ugmcl", tmp_path / name)  # a supervised start is part of it
    one, two = (load_file(tmp_path / n / "checkpoint.safetensors") for n in ("one", "two"))
    assert set(one) == set(two)
    start = 0.0
    for key, value in one.items():
        assert torch.allclose(value, two[key], rtol=1e-4, atol=2e-6), key
        start = max(start, float((value - one[key.replace("student", "teacher", 1)]).abs().max()))
    assert start > 1e-4  # the student moved, so there was something to compare
    logs = [json.loads(line) for line in (tmp_path / "two/log.jsonl").open()]
    (done,) = [e for e in logs if e["event"] == "done"]
    losses = [
        json.loads(line)["losses"]
        for name in ("one", "two")
        for line in (tmp_path / name / "log.jsonl").open()
        if '"progress"' in line and '"step": 6' in line
    ]
    assert done["step"] == 6 and losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_two_processes_start_coarse_as_one_does(folder, tmp_path):
    for count, name in ((1, "one"), (2, "two")):
        ranks(count, folder, "dual-task", tmp_path / name, 6.0)
    one, two = (open_model(tmp_path / n / "coarse/model").load_weights() for n in ("one", "two"))
    for key, value in one.items():
        assert torch.allclose(value, two[key], rtol=1e-4, atol=2e-6), key
    model = open_model(tmp_path / "two/model")
    assert model.card.training["iterations"] == 6 and tuple(model.card.spacing) == (4.0, 4.0, 8.0)
    assert any(not torch.equal(value, two[key]) for key, value in model.load_weights().items())


def torchrun(folder, output, *further, program=("-m", "ugmcl_core")):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", *program, "train"]
    command += ["--images", str(folder / "images"), "--labels", str(folder / "labels")]
    command += ["--method", "supervised", "--device", "cpu", "--base", str(folder / "base")]
    command += ["--output", str(output), *further]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_torchrun_writes_one_model_and_speaks_once(folder, tmp_path):
    run = torchrun(folder, tmp_path / "run", "--iterations", "2", "--batch", "2+0")
    said, errors = run.communicate(timeout=280)
    assert run.returncode == 0, errors
    assert said.count("model written to") == 1
    assert open_model(tmp_path / "run/model").card.training["iterations"] == 2
    assert not (tmp_path / "run/cache").exists()


@pytest.mark.slow
def test_a_batch_that_cannot_be_divided_is_one_line(folder, tmp_path):
    run = torchrun(folder, tmp_path / "run", "--batch", "1+2")
    errors = run.communicate(timeout=120)[1]
    assert run.returncode != 0
    assert errors.count("ugmcl: 1 samples a step cannot be divided by 2 processes") == 1
    assert not (tmp_path / "run").exists()


FAILING = """
import os, sys
from ugmcl_core import __main__
from ugmcl_core.training.trainer import Trainer

step = Trainer.step

def failing(self, at, batch):
    if at.index == 2 and os.environ["RANK"] == "1":
        raise RuntimeError("no memory left")
    return step(self, at, batch)

Trainer.step = failing
sys.exit(__main__.main())
"""


@pytest.mark.slow
def test_an_error_of_one_process_ends_all(folder, tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    program = (str(tmp_path / "failing.py"),)
    options = ("--iterations", "100000", "--batch", "2+0")
    run = torchrun(folder, tmp_path / "run", *options, program=program)
    errors = run.communicate(timeout=240)[1]
    assert run.returncode != 0
    assert "ugmcl: unexpected RuntimeError: no memory left" in errors
    assert not (tmp_path / "run/model").exists()


@pytest.mark.slow
def test_ctrl_c_ends_all_and_leaves_a_model(folder, tmp_path):
    run = torchrun(folder, tmp_path / "run", "--iterations", "100000", "--batch", "2+0")
    log = tmp_path / "run/log.jsonl"
    until = time.monotonic() + 120
    while time.monotonic() < until and not (log.exists() and "progress" in log.read_text()):
        time.sleep(0.2)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=120)
    assert run.returncode != 0
    model = open_model(tmp_path / "run/model")
    assert 0 < model.card.training["iterations"] < 100000


def test_parts_of_a_batch_are_the_whole(folder):
    found = find_cohort(folder / "images", folder / "labels", ["phantom-005", "phantom-006"])
    representation = Representation((4.0, 4.0, 8.0), Normalization("z-score"))
    known = [prepare_case(c, representation) for c in found.labeled]
    new = [prepare_case(c, representation) for c in found.unlabeled]
    settings = BatchSettings((16, 16, 6), 2, 4)
    source, step = BatchSource(known, new, settings, representation, 3), Step(5, 10)
    whole = make_batch(source, step)
    parts = (lambda n, r=r: range(r * n // 2, (r + 1) * n // 2) for r in (0, 1))
    halves = [make_batch(replace(source, part=part), step) for part in parts]
    assert torch.equal(whole.labels, torch.cat([h.labels for h in halves]))
    known = torch.cat([h.image[h.labeled] for h in halves])
    new = torch.cat([h.image[h.unlabeled] for h in halves])
    assert torch.equal(whole.image, torch.cat([known, new]))


def test_alone_nothing_is_exchanged(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    value = torch.ones(3, requires_grad=True)
    assert parallel.total(value) is value
    assert (parallel.size(), parallel.rank(), parallel.part(3)) == (1, 0, range(3))
    assert parallel.anywhere(True, torch.device("cpu")) is True
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = pytest.raises(InputError, match="several processes: use auto, cuda or cpu")
    with refused, parallel.taking_part("mps"):
        pass
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="start them with torchrun"), parallel.taking_part("cpu"):
        pass


def test_on_gpus_batch_norm_is_shared_and_saved_as_before(monkeypatch):
    network = DualTaskVNet(NetworkSettings(filters=2)).eval()
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert parallel.with_shared_statistics(network, cuda) is network  # alone
    monkeypatch.setattr(parallel, "size", lambda: 2)
    assert parallel.with_shared_statistics(network, cpu) is network
    shared = parallel.with_shared_statistics(copy.deepcopy(network), cuda)
    kinds = {type(m) for m in shared.modules()}
    assert nn.SyncBatchNorm in kinds and nn.BatchNorm3d not in kinds
    assert list(shared.state_dict()) == list(network.state_dict())
    x = torch.randn(1, 1, 32, 16, 16)
    assert torch.equal(shared.eval()(x).logits, network(x).logits)
