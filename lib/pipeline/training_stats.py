"""Progress of a training: a file that clients read, correct even after the training was killed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ConfigDict
from typing_extensions import TypedDict

from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.runtime.own_files import read_or_set_aside

PATIENCE_S = 5.0  # longer than `_is_written` holds the lock


class _Stats(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]  # pydantic reads it
    state: str
    epoch: int
    total_epochs: int
    best_metric: float
    current_time: float
    total_time: float
    seconds_left: float
    train: dict[str, Any]
    eval: dict[str, Any]
    warnings: list[str]
    message: str


class TrainingStats:
    """Training statistics with MONAI Label's keys; only one training at a time writes them.

    Slicer and OHIF read `epoch`, `total_epochs` and `best_metric`, and take a `total_time` for the end.
    Without these keys they show epoch 1 of 1, 100 %, so a training that does not run always has a
    `total_time`.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the statistics in a folder, which need not exist yet."""
        self._file, self._lock = folder / "train_stats.json", folder / ".training.lock"

    def read(self) -> dict[str, Any]:
        """Statistics of the running or last training; without a `state` before the first."""
        kept = read_or_set_aside(
            self._file, _Stats, consequence="The result of the last training is no longer shown."
        )
        if kept is None:
            return _ended({})
        stats: dict[str, Any] = {**kept}
        if stats.get("state") == "running" and not self._is_written():
            return _stopped(stats)
        return stats

    def write(self, stats: Mapping[str, Any]) -> None:
        """Replace the statistics, atomically."""
        with replacing(self._file) as part:
            part.write_text(json.dumps(stats, allow_nan=False))

    @contextmanager
    def training(self) -> Iterator[None]:
        """Hold the lock of a training; an early end is recorded as `failed` or `stopped`.

        Raises:
            UserError: If another process is training.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock, timeout=PATIENCE_S)
        try:
            lock.acquire()
        except Timeout as err:
            raise UserError(
                f"only one training at a time can use {self._file.parent}; another one is running. "
                "Wait until it is done, or stop it."
            ) from err
        for part in self._file.parent.glob(".part-*"):  # left by a training that was killed
            part.unlink(missing_ok=True)
        try:
            yield
        except Exception as err:
            self.write({**_ended(self.read()), "state": "failed", "message": str(err)})
            raise
        except BaseException:
            self.end_early()
            raise
        finally:
            lock.release()

    def end_early(self) -> None:
        """Record that the running training was stopped."""
        stats = self.read()
        if stats.get("state") == "running":
            self.write(_stopped(stats))

    def _is_written(self) -> bool:
        lock = FileLock(self._lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False


def _stopped(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Statistics of a training that was stopped before its last epoch."""
    return {
        **_ended(stats),
        "state": "stopped",
        "message": (
            f"The training was stopped after epoch {stats.get('epoch', 0)} of "
            f"{stats.get('total_epochs', 0)}; with the same labels and settings the next one resumes there."
        ),
    }


def _ended(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Add the `total_time` by which clients know that nothing runs; they treat 0 as missing."""
    return {"total_time": stats.get("current_time") or 0.1, **stats}
