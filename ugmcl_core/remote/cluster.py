"""Independent tasks of a command on a Dask cluster: ``--cluster``.

A task is a picklable function and its arguments; its files are those that every worker sees, as on
one computer or on a shared file system. A task that fails because its worker died goes to another
one once, and is named if that dies too.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import Canceled, InputError, in_one_line, require

if TYPE_CHECKING:
    from distributed import Client

LOCAL, SLURM = "local", "slurm"
PATIENCE = 60.0
"""Seconds within which a scheduler must answer; workers of a queue may take as long as they do."""
_AGAIN = 1  # times that a task is given to another worker after its own died


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of the cluster at ``address``; one that was started for it ends with the block.
    Raises InputError."""
    require("distributed", "to work on a cluster")
    import dask
    from distributed import Client

    # the scheduler counts deaths of a worker that a task was on
    dask.config.set({"distributed.scheduler.allowed-failures": _AGAIN})
    with contextlib.ExitStack() as stack:
        where: Any = address
        kind, _, count = address.partition(":")
        if kind in (LOCAL, SLURM):
            if not count.isascii() or not count.isdigit() or not int(count):
                raise InputError(f"--cluster {address}: give a number of workers, as in {kind}:4")
            started = _local if kind == LOCAL else _slurm
            where = stack.enter_context(started(int(count)))
        try:
            client = stack.enter_context(Client(where, timeout=PATIENCE, set_as_default=False))
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError(
                f"--cluster {address}: there is no scheduler ({in_one_line(error)}); check the "
                "address"
            ) from None
        yield client


@contextlib.contextmanager
def _local(count: int) -> Iterator[Any]:
    from distributed import LocalCluster

    threads = str(max(1, (os.cpu_count() or 1) // count))
    with tempfile.TemporaryDirectory(prefix="ugmcl-cluster-") as folder, LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=True,
        local_directory=folder,
        dashboard_address=":0",
        env={"OMP_NUM_THREADS": threads},
        silence_logs=50,
    ) as cluster:  # fmt: skip
        yield cluster


@contextlib.contextmanager
def _slurm(count: int) -> Iterator[Any]:
    require("dask_jobqueue", "for a SLURM queue")
    from dask_jobqueue import SLURMCluster

    try:
        cluster = SLURMCluster()
    except (ValueError, TypeError) as error:
        raise InputError(
            f"--cluster slurm: the queue is not described ({in_one_line(error)}); set cores and "
            "memory in ~/.config/dask/jobqueue.yaml"
        ) from None
    with cluster:
        cluster.scale(jobs=count)
        yield cluster


def outcomes(
    address: str | None,
    work: Callable[..., Any],
    tasks: Mapping[str, tuple[Any, ...]],
    progress: Callable[[float, str], None],
    log: Callable[[str], None],
) -> Iterator[tuple[str, Any]]:
    """``work(*tasks[name])`` of every task: the name, and the result or the exception; on the
    cluster at ``address``, or one after the other here. Raises Canceled."""
    if address:
        with connected(address) as client:
            yield from run(client, work, tasks, progress, log)
        return
    for number, (name, arguments) in enumerate(tasks.items()):
        progress(number / len(tasks), name)
        try:
            outcome = work(*arguments)
        except Canceled:
            raise
        except Exception as error:
            outcome = error
        yield name, outcome


def run(
    client: Client,
    work: Callable[..., Any],
    tasks: Mapping[str, tuple[Any, ...]],
    progress: Callable[[float, str], None],
    log: Callable[[str], None],
) -> Iterator[tuple[str, Any]]:
    """``work(*tasks[name])`` of every task, in the order in which they end: the name, and the
    result or the exception."""
    from distributed import as_completed

    log(f"the cluster's dashboard is at {client.dashboard_link}; waiting for its workers")
    waiting = iter(tasks.items())
    names: dict[Any, str] = {}

    def submit() -> list[Any]:
        """As many tasks as threads are free: a task that waits at a worker would be blamed for its
        death too."""
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        free = max(1, sum(worker["nthreads"] for worker in workers)) - len(names)
        futures = []
        for _, (name, arguments) in zip(range(free), waiting, strict=False):
            future = client.submit(work, *arguments, pure=False)
            names[future.key] = name
            futures.append(future)
        return futures

    client.wait_for_workers(1)
    began = time.monotonic()
    with client.as_current():
        ending = as_completed(submit())
    for done, future in enumerate(ending, 1):
        name = names.pop(future.key)
        error = future.exception()
        outcome = future.result() if error is None else _named(error)
        left = (time.monotonic() - began) / done * (len(tasks) - done)
        progress(done / len(tasks), f"{done} of {len(tasks)}, {left:.0f} s left")
        for new in submit():
            ending.add(new)
        future.release()
        yield name, outcome


def _named(error: BaseException) -> BaseException:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return InputError(
            f"two workers died of it, perhaps for lack of memory ({error.last_worker.address} "
            "last); give workers more memory, or set a region of interest"
        )
    return error
