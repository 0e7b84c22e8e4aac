"""Independent pieces of work shared out: to processes of this machine, or to the ranks of torchrun.

A pool's trainings (folds by seeds) do not need one another, so each runs whole, by one process: nothing is
exchanged but the files they leave, and the result is the same whoever ran what.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import torch
from torch import distributed

from lib.runtime.devices import device_of
from lib.runtime.errors import UserError
from lib.runtime.processes import processes as started

MOST_PROCESSES = 8  # each holds about 0.4 GB of libraries
_PATIENCE = timedelta(days=7)  # a rank waits for the first while that checks and reads the pool
_LOOK_S = 0.5

Tell = Callable[[float], None]


class Job(Protocol):
    """Pieces of work; sent to other processes by pickle."""

    def __call__(self, piece: int, device: torch.device, tell: Tell) -> None:
        """Do one piece and leave its result in a file; at once where it is there."""


def join_ranks() -> int:
    """Join the other processes that torchrun started; the rank, 0 where there is none."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    return distributed.get_rank() if distributed.is_initialized() else 0


def leave_ranks() -> None:
    """Leave the other processes that torchrun started."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def assist(device: torch.device) -> None:
    """On every rank but the first: do a share of what the first shares out, until it says that it is done."""
    while (sent := _broadcast(None)) is not None:
        job, pieces = sent
        own = pieces[distributed.get_rank() :: distributed.get_world_size()]
        if _together(partial(_work, job, own, _of_rank(device), lambda place, done: None)):
            return


def dismiss() -> None:
    """On the first rank: tell the others that nothing more is to be shared out."""
    if distributed.is_initialized():
        _broadcast(None)


def share_out(
    job: Job,
    pieces: Sequence[int],
    *,
    device: torch.device,
    processes: int = 1,
    on_progress: Tell = lambda done: None,
) -> None:
    """Do all pieces; returns when each has left its result.

    Args:
        job: Does a piece.
        pieces: Their numbers.
        device: A CPU is shared by processes of one thread each, a GPU used by one process.
        processes: Of this machine; torchrun's ranks take their place.
        on_progress: Told the share done; under torchrun that of the first rank.
    """
    if distributed.is_initialized():
        _broadcast((job, pieces))
        own = pieces[:: distributed.get_world_size()]
        failed = _together(partial(_work, job, own, _of_rank(device), _tell_mean(on_progress, len(own))))
        if failed:
            raise RuntimeError(f"every rank must do its share; one said: {failed}")
        return
    processes = min(processes, MOST_PROCESSES, len(pieces)) if device.type == "cpu" else 1
    if processes <= 1:
        _work(job, pieces, device, _tell_mean(on_progress, len(pieces)))
        return
    with TemporaryDirectory(prefix="shares-") as folder:
        done = np.lib.format.open_memmap(Path(folder) / "done.npy", "w+", np.float64, (len(pieces),))
        _run_processes(
            [(job, pieces, rank, processes, Path(folder) / "done.npy") for rank in range(processes)],
            lambda: on_progress(float(done.mean())),
        )


def _run_processes(shares: Sequence[tuple[Any, ...]], look: Callable[[], None]) -> None:
    """Do each share in a process of its own; an error in one ends the others.

    Args:
        shares: Arguments of `_process`.
        look: Called now and then until all is done.
    """
    with ExitStack() as ending:
        before = multiprocessing.active_children()
        pools = [ending.enter_context(started(1)) for _ in shares]
        try:
            with _interrupts_held():  # the children keep it so: Ctrl-C is this process's to handle
                running = [pool.submit(_process, *share) for pool, share in zip(pools, shares, strict=True)]
            while running:
                state = wait(running, _LOOK_S, FIRST_COMPLETED)
                for ended in state.done:
                    ended.result()
                look()
                running = list(state.not_done)
        except BaseException:
            for process in multiprocessing.active_children():
                if process not in before:
                    process.kill()
            raise


def _process(job: Job, pieces: Sequence[int], rank: int, count: int, told: Path) -> None:
    done = np.load(told, mmap_mode="r+")

    def tell(place: int, share: float) -> None:
        done[rank + place * count] = share

    _work(job, pieces[rank::count], torch.device("cpu"), tell)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keep SIGINT waiting, also for the processes that are started meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _together(work: Callable[[], None]) -> str:
    """Do a rank's share and wait for the others; what a rank said that failed, empty if none did."""
    failure: Exception | None = None
    try:
        work()
    except Exception as err:
        failure = err
    said: list[str] = [""] * distributed.get_world_size()
    distributed.all_gather_object(said, f"{type(failure).__name__}: {failure}" if failure else "")
    if failure is not None:
        raise failure
    return next(filter(None, said), "")


def _work(job: Job, pieces: Sequence[int], device: torch.device, tell: Callable[[int, float], None]) -> None:
    """One thread on a CPU: sums have one order then, whatever the machine, and processes do not fight."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        for place, piece in enumerate(pieces):

            def tell_piece(share: float, place: int = place) -> None:
                tell(place, share)

            job(piece, device, tell_piece)
    finally:
        torch.set_num_threads(threads)


def _tell_mean(on_progress: Tell, count: int) -> Callable[[int, float], None]:
    return lambda place, share: on_progress((place + share) / count)


def _of_rank(device: torch.device) -> torch.device:
    """Under torchrun each process of a machine has a GPU of its own."""
    if device.type != "cuda":
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def _broadcast(value: Any) -> Any:
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


@contextmanager
def first_rank(device: str) -> Iterator[None]:
    """Go on as the first process, or the only one; every other does its share and ends here.

    A UserError is what the first process refuses before anything is shared out; it then lets the others go.
    After any other error they may be in the midst of a training: torchrun ends them.

    Args:
        device: Where to train, by name; if it is none, the first process says so.
    """
    try:
        if join_ranks():
            try:
                found = device_of(device)
            except UserError:
                found = device_of("cpu")
            assist(found)
            leave_ranks()
            os._exit(
                0
            )  # Python's own way out may end a thread of gloo amid C++, and torchrun calls that failed
        try:
            yield
        except UserError:
            dismiss()
            raise
        dismiss()
    finally:
        leave_ranks()
