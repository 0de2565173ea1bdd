"""What is tried when memory runs out, and how memory is measured."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ugmcl_core.errors import InputError
from ugmcl_core.nn.devices import has_half_gradients, precision
from ugmcl_core.training.memory import attempts_for, run_with_fallback
from ugmcl_core.training.profiles import COMPACT

ROOT = Path(__file__).resolve().parents[3]
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def test_a_gpu_goes_by_batch_and_window_to_the_cpu():
    attempts = attempts_for(COMPACT, "cuda:1")
    sizes = [(r.profile.batch.labeled, r.profile.batch.unlabeled) for r in attempts]
    assert sizes == [(2, 2), (1, 1), (1, 1), (2, 2)]
    patches = [r.profile.batch.patch for r in attempts]
    assert patches == [(96, 80, 48), (96, 80, 48), (48, 48, 48), (96, 80, 48)]
    assert [r.device for r in attempts] == ["cuda:1"] * 3 + ["cpu"]
    assert all(n % 16 == 0 for p in patches for n in p)
    assert [r.device for r in attempts_for(COMPACT, "cpu")] == ["cpu"] * 3


@pytest.mark.parametrize(
    ("batch", "half"), [((4, 4), (2, 2)), ((3, 1), (1, 1)), ((4, 0), (2, 0)), ((1, 1), (1, 1))]
)
def test_half_the_batch_has_the_same_kinds_of_patches(batch, half):
    profile = replace(COMPACT, batch=replace(COMPACT.batch, labeled=batch[0], unlabeled=batch[1]))
    found = attempts_for(profile, "cpu")[1].profile.batch
    assert (found.labeled, found.unlabeled) == half


@pytest.mark.parametrize("full", [FULL, MemoryError(), RuntimeError("can't allocate memory")])
def test_each_step_down_is_told(full):
    attempts, tried, said = attempts_for(COMPACT, "cuda"), [], []

    def work(attempt):
        tried.append(attempt)
        if len(tried) < 4:
            raise full
        return "done"

    assert run_with_fallback(attempts, work, said.append) == "done"
    assert tried == attempts
    assert [t.split("with ")[1] for t in said] == [
        "half the batch.",
        "a window of 48x48x48 voxels.",
        "the CPU.",
    ]


def test_other_errors_and_the_last_rungs_are_raised():
    said = []
    for error in (InputError("wrong"), RuntimeError("shapes differ")):
        with pytest.raises(type(error)):
            run_with_fallback(attempts_for(COMPACT, "cuda"),
                              lambda _, e=error: (_ for _ in ()).throw(e),
                          said.append)  # fmt: skip
    assert said == []
    with pytest.raises(torch.OutOfMemoryError):
        run_with_fallback(attempts_for(COMPACT, "cuda"),
                          lambda _: (_ for _ in ()).throw(FULL), said.append)  # fmt: skip
    assert len(said) == 3


def test_the_peak_of_memory_is_seen():
    """In a process of its own: this one may have freed memory to use again."""
    code = (
        "import numpy, torch\n"
        "from ugmcl_core.training.memory import Peak\n"
        "with Peak(torch.device('cpu')) as before: pass\n"
        "with Peak(torch.device('cpu')) as peak: numpy.ones(40_000_000).sum()\n"
        "print(peak.bytes - before.bytes)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert int(done.stdout) > 0.9 * 320_000_000


def test_a_torch_that_cannot_tell_of_bfloat16_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")  # as before torch 2.6
    assert precision(torch.device("cpu")) == torch.float32


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_half_precision_gradients_are_used_only_where_they_are_right(length):
    cpu = torch.device("cpu")
    if not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this processor does not compute in bfloat16")
    torch.manual_seed(0)
    conv = torch.nn.Conv3d(32, 32, 3, padding=1)
    x = torch.randn(2, 32, length, 3, 3)
    exact = torch.nn.grad.conv3d_weight(x, conv.weight.shape, torch.ones_like(x), padding=1)
    right = True
    for _ in range(8):
        conv.zero_grad(set_to_none=True)
        junk = [torch.full((n,), 1e4) for n in (1000, 10_000, 100_000) * 10]
        del junk
        with torch.autocast("cpu", torch.bfloat16):
            y = conv(x)
        y.float().sum().backward()
        gap = (conv.weight.grad - exact).abs().max() / exact.abs().max()
        right = right and bool(gap < 0.05)
    assert right or not has_half_gradients(cpu, length)
