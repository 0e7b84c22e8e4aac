"""Independent pieces of work, shared among processes of this machine or among the ranks of torchrun.

The trainings of a pool (folds by seeds) do not depend on each other, so one process runs each training as a
whole. Processes exchange nothing but result files, so the result does not depend on who ran which piece.
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
from lib.runtime.processes import POLL_S, process_pool
from lib.runtime.progress import OnShareDone

MAX_PROCESSES = 8  # each process loads about 0.4 GB of libraries
_RANK_TIMEOUT = timedelta(days=7)  # the other ranks wait while the first one checks and reads the pool


class Job(Protocol):
    """Work that consists of numbered pieces; pickled and sent to other processes."""

    def __call__(self, piece: int, device: torch.device, tell: OnShareDone) -> None:
        """Do one piece and write its result to a file; return at once if the file exists already."""


def join_ranks() -> int:
    """Join the processes that torchrun started and return the rank; 0 without torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group(_backends(), timeout=_RANK_TIMEOUT)
    return distributed.get_rank() if distributed.is_initialized() else 0


def _backends() -> str:
    """Backends of torch.distributed; NCCL does not let two processes share a GPU, gloo does."""
    own_gpu = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) <= torch.cuda.device_count()
    return "cpu:gloo,cuda:nccl" if own_gpu and distributed.is_nccl_available() else "gloo"


def rank_count() -> int:
    """Number of processes that torchrun started; 1 without torchrun."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def leave_ranks() -> None:
    """Leave the other processes that torchrun started."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def assist(device: torch.device) -> None:
    """Work for the first rank until it dismisses the others; called on every other rank."""
    while (sent := broadcast(None)) is not None:
        job, pieces = sent
        own = pieces[distributed.get_rank() :: distributed.get_world_size()]
        if _run_with_other_ranks(
            partial(_do_pieces, job, own, _device_of_rank(device), lambda place, done: None)
        ):
            return


def dismiss() -> None:
    """Let the other ranks go; called on the first rank when no work is left."""
    if distributed.is_initialized():
        broadcast(None)


def share_out(
    job: Job,
    pieces: Sequence[int],
    *,
    device: torch.device,
    processes: int = 1,
    on_progress: OnShareDone = lambda done: None,
) -> None:
    """Do all pieces; returns once every piece has written its result.

    Args:
        job: Does one piece.
        pieces: Numbers of the pieces.
        device: Device to compute on. Several processes of one thread share a CPU; one process uses a GPU.
        processes: Number of processes on this machine; ignored under torchrun, whose ranks do the work.
        on_progress: Called with the share done, 0 to 1; under torchrun the share of the first rank.

    Raises:
        RuntimeError: If another rank failed.
    """
    if distributed.is_initialized():
        broadcast((job, pieces))
        own = pieces[:: distributed.get_world_size()]
        failed = _run_with_other_ranks(
            partial(_do_pieces, job, own, _device_of_rank(device), _mean_progress(on_progress, len(own)))
        )
        if failed:
            raise RuntimeError(f"every rank must do its share; one said: {failed}")
        return
    processes = min(processes, MAX_PROCESSES, len(pieces)) if device.type == "cpu" else 1
    if processes <= 1:
        _do_pieces(job, pieces, device, _mean_progress(on_progress, len(pieces)))
        return
    with TemporaryDirectory(prefix="shares-") as folder:
        done = np.lib.format.open_memmap(Path(folder) / "done.npy", "w+", np.float64, (len(pieces),))
        _run_processes(
            [(job, pieces, rank, processes, Path(folder) / "done.npy") for rank in range(processes)],
            lambda: on_progress(float(done.mean())),
        )


def _run_processes(shares: Sequence[tuple[Any, ...]], on_poll: Callable[[], None]) -> None:
    """Do each share in its own process; an error in one process ends the others.

    Args:
        shares: Arguments of `_do_share`, one tuple a process.
        on_poll: Called every `POLL_S` seconds until all shares are done.
    """
    with ExitStack() as ending:
        before = multiprocessing.active_children()
        pools = [ending.enter_context(process_pool(1)) for _ in shares]
        try:
            with _interrupts_held():  # children inherit the mask: only this process handles Ctrl-C
                running = [pool.submit(_do_share, *share) for pool, share in zip(pools, shares, strict=True)]
            while running:
                state = wait(running, POLL_S, FIRST_COMPLETED)
                for ended in state.done:
                    ended.result()
                on_poll()
                running = list(state.not_done)
        except BaseException:
            for process in multiprocessing.active_children():
                if process not in before:
                    process.kill()
            raise


def _do_share(job: Job, pieces: Sequence[int], rank: int, count: int, progress_file: Path) -> None:
    done = np.load(progress_file, mmap_mode="r+")

    def tell(place: int, share: float) -> None:
        done[rank + place * count] = share

    _do_pieces(job, pieces[rank::count], torch.device("cpu"), tell)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Block SIGINT, also in the processes that are started inside the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_with_other_ranks(work: Callable[[], None]) -> str:
    """Do this rank's share, wait for the other ranks, and return the first failure; empty if none failed."""
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


def _do_pieces(
    job: Job, pieces: Sequence[int], device: torch.device, tell: Callable[[int, float], None]
) -> None:
    """Do the pieces one after another, on a CPU in one thread.

    One thread adds in the same order on every machine, and processes do not compete for cores.
    """
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


def _mean_progress(on_progress: OnShareDone, count: int) -> Callable[[int, float], None]:
    return lambda place, share: on_progress((place + share) / count)


def _device_of_rank(device: torch.device) -> torch.device:
    """Device of this rank: under torchrun each process of a machine has its own GPU."""
    if device.type != "cuda":
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def broadcast(value: Any) -> Any:
    """Value of the first rank, on every rank; the other ranks' values are ignored."""
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


@contextmanager
def first_rank(device: str) -> Iterator[None]:
    """Run the block on the first rank only; every other rank does its share of the work and exits here.

    A `UserError` means that the first rank refused the request before it shared out any work, so it
    dismisses the others. After any other error the others may be in the middle of a training; torchrun ends
    them.

    Args:
        device: Name of the device to train on; the first rank reports a wrong name.
    """
    try:
        if join_ranks():
            try:
                found = device_of(device)
            except UserError:
                found = device_of("cpu")
            assist(found)
            leave_ranks()
            # A normal exit may stop a gloo thread inside C++, which torchrun reports as a failure.
            os._exit(0)
        try:
            yield
        except UserError:
            dismiss()
            raise
        dismiss()
    finally:
        leave_ranks()
