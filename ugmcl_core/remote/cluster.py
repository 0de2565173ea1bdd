"""Independent tasks of a command on a Dask cluster: ``--cluster``.

A task is a picklable function and its arguments; its files are those that every worker sees, as on
one computer or on a shared file system. A worker does one task at a time. A task that fails, or
whose worker dies, goes to another worker once, and is named if it fails there too. The function of
a long task calls `report` and `is_unwanted`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import Canceled, InputError, in_one_line, interruptible, require

if TYPE_CHECKING:
    from distributed import Client, Future, Worker

Tasks = Mapping[str, tuple[Any, ...]]
"""The arguments of each task, by its name."""
LOCAL, SLURM = "local", "slurm"
PATIENCE = 60.0
"""Seconds within which a scheduler must answer; workers of a queue may take any time."""
_GLANCE = 0.2  # seconds between looks for Ctrl-C
_AGAIN = 1  # times that a task is given to another worker after its own has died
_TOPIC = "ugmcl"  # of what tasks report
_AT_WORK = threading.Lock()  # of a worker: the threads of a process share torch's random numbers
_WHERE = "ugmcl_worker"  # attribute of an exception: the address of the worker that raised it


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of the cluster at ``address``; one that was started for it ends with the block.
    Raises InputError."""
    require("distributed", "to work on a cluster")
    import dask
    from distributed import Client

    # the scheduler counts how many workers died with a task
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
        preload=[__name__],
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
            f"--cluster slurm: the queue is not configured ({in_one_line(error)}); set cores and "
            "memory in ~/.config/dask/jobqueue.yaml"
        ) from None
    with cluster:
        cluster.scale(jobs=count)
        yield cluster


def outcomes(
    address: str | None,
    work: Callable[..., Any],
    tasks: Tasks,
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
    tasks: Tasks,
    progress: Callable[[float, str], None],
    log: Callable[[str], None],
    more: Callable[[], Tasks] = dict,
    grace: float = 0.0,
) -> Iterator[tuple[str, Any]]:
    """``work(*tasks[name])`` of every task, in the order in which they end: the name, and the
    result or the exception. Raises InputError once there is no scheduler any more.

    ``more`` gives the tasks that an outcome made known, and is called after each. When the command
    is stopped, tasks at work have ``grace`` seconds to end.
    """
    log(f"the cluster's dashboard is at {client.dashboard_link}; waiting for its workers")
    client.wait_for_workers(1)
    board = _Board(client, work, progress)
    board.add(tasks)
    client.subscribe_topic(_TOPIC, board.hear)
    ending: queue.SimpleQueue[Future] = queue.SimpleQueue()
    # Ctrl-C is asked for: as an exception it may rise where Dask drops it
    with interruptible() as interrupted:
        try:
            board.fill(ending.put)
            while board.is_busy:
                if interrupted():
                    raise KeyboardInterrupt
                try:
                    ended = board.end(ending.get(timeout=_GLANCE))
                except queue.Empty:
                    board.fill(ending.put)  # workers of a queue come one after the other
                    continue
                if ended is not None:
                    yield ended
                    board.add(more())
                board.fill(ending.put)
        except (KeyboardInterrupt, GeneratorExit):
            board.stop(grace)
            raise


@dataclass
class _Task:
    """A task, the worker that it failed at, and the parts of it (0 to 1) that it told first and
    last to be done: a training that is resumed begins in its middle."""

    name: str
    arguments: tuple[Any, ...]
    failed_at: str | None = None
    first: float = 0.0
    reached: float = 0.0


class _Board:
    """Which tasks are waiting and which are running, and their progress."""

    def __init__(
        self, client: Client, work: Callable[..., Any], progress: Callable[[float, str], None]
    ) -> None:
        self._client, self._work, self._progress = client, work, progress
        self._waiting: deque[_Task] = deque()
        self._futures: dict[str, Future] = {}
        self._at_work: dict[str, _Task] = {}
        self._total, self._done, self._gained = 0, 0, 0.0
        self._began = time.monotonic()
        self._lock = threading.Lock()  # `hear` is called in a thread of the client

    def add(self, tasks: Tasks) -> None:
        """Add tasks to those that wait."""
        self._waiting.extend(_Task(*task) for task in tasks.items())
        self._total += len(tasks)

    @property
    def is_busy(self) -> bool:
        """Whether a task is at work."""
        return bool(self._at_work)

    def fill(self, ending: Callable[[Future], None]) -> None:
        """Give as many tasks as workers are free: one that waits at a worker would be blamed for
        its death too. ``ending`` is called, in a thread of the client, with each that ends."""
        if not self._waiting:
            return
        workers = [*self._client.scheduler_info(n_workers=-1)["workers"]]
        while self._waiting and len(self._at_work) < max(1, len(workers)):
            task = self._waiting.popleft()
            others = [w for w in workers if w != task.failed_at] if task.failed_at else []
            future = self._client.submit(
                _alone, self._work, *task.arguments, pure=False,
                workers=others or None, allow_other_workers=bool(others),
            )  # fmt: skip
            self._at_work[future.key], self._futures[future.key] = task, future
            future.add_done_callback(ending)

    def end(self, future: Future) -> tuple[str, Any] | None:
        """Name and outcome of the task of a future that is done; None if it failed for the first
        time, and waits again. Raises InputError once there is no scheduler any more."""
        if future.status not in ("finished", "error"):
            raise InputError(
                "the connection to the cluster's scheduler was lost; check the cluster, and start "
                "the command again"
            )
        error = future.exception()
        with self._lock:
            task = self._at_work.pop(future.key)
            del self._futures[future.key]
            if task.failed_at is None and (where := getattr(error, _WHERE, None)) is not None:
                self._waiting.append(_Task(task.name, task.arguments, where))
                return None
            self._done += 1
            self._gained += 1 - task.first
            self._show()
        return task.name, future.result() if error is None else _named(error)

    def hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """Note what a task reported."""
        with self._lock:
            task = self._at_work.get(event[1]["task"])
            if task is not None:
                task.first = task.first or event[1]["part"]
                task.reached = event[1]["part"]
                self._show()

    def _show(self) -> None:
        parts = [task.reached for task in self._at_work.values()]
        reached = self._done + sum(parts)
        gained = self._gained + sum(t.reached - t.first for t in self._at_work.values())
        text = f"{self._done} of {self._total}"
        if any(parts):
            text += f", at work: {', '.join(f'{part:.0%}' for part in parts)}"
        if gained > 0:
            left = (time.monotonic() - self._began) / gained * (self._total - reached)
            text += f", {left:.0f} s left"
        self._progress(reached / self._total, text)

    def stop(self, grace: float) -> None:
        """Tell the running tasks to stop, and give them time to end."""
        self._client.cancel([*self._futures.values()], force=True)
        if grace:
            self._client.run(_ended, grace)


def _alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """On a worker: run a task, after any other one there."""
    from distributed import get_worker

    with _AT_WORK:
        try:
            return work(*arguments)
        except Exception as error:
            setattr(error, _WHERE, get_worker().address)
            raise


async def _ended(grace: float) -> None:
    """On a worker: wait for the end of its task."""
    end = time.monotonic() + grace
    while _AT_WORK.locked() and time.monotonic() < end:
        await asyncio.sleep(0.1)


def report(part: float) -> None:
    """In a task: show the part of it that is done, 0 to 1."""
    from distributed import get_worker

    worker = get_worker()
    worker.log_event(_TOPIC, {"task": worker.get_current_task(), "part": part})


def is_unwanted() -> bool:
    """In a task: whether nobody waits for it any more, as after Ctrl-C."""
    from distributed import get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state != "executing"


def dask_setup(worker: Worker) -> None:
    """Dask calls this in each process that it starts for ``local:N``: a terminal sends Ctrl-C to
    it too, and the command is to end it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _named(error: BaseException) -> BaseException:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return InputError(
            f"two workers died on it, perhaps for lack of memory ({error.last_worker.address} "
            "last); give workers more memory, or set a region of interest"
        )
    return error
