"""The processes that torchrun starts: the first runs the command, the others share its trainings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lib.cases.case import CaseError
from lib.compute import device_of
from lib.mdal.shards import assist, dismiss, join_ranks, leave_ranks


@contextmanager
def first_rank(device: str) -> Iterator[bool]:
    """Whether this is the first process, or the only one; every other has done its share when it learns that.

    A CaseError is what the first process refuses before anything is shared out; it then lets the others go.
    After any other error they may be in the midst of a training: torchrun ends them.

    Args:
        device: Where to train, by name; if it is none, the first process says so.
    """
    try:
        if join_ranks():
            try:
                found = device_of(device)
            except CaseError:
                found = device_of("cpu")
            assist(found)
            yield False
            return
        try:
            yield True
        except CaseError:
            dismiss()
            raise
        dismiss()
    finally:
        leave_ranks()
