"""A thousand spoiled copies read in a process of its own, within bounded memory and time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

from benchmarks.common.folders import ROOT
from lib.cases.case import CaseError
from tests.support.memory import peak_kb

MEMORY_KB, SECONDS = 1_000_000, 10.0  # of the process at most, and of one copy


def read_each(
    copies: Iterable[bytes], read: Callable[[bytes], int], *, between: Callable[[], object] = lambda: None
) -> None:
    """Read a thousand copies or more; each is read or refused in a sentence.

    Args:
        copies: Contents of the spoiled files.
        read: Reads a copy; returns how many of its volumes make sense.
        between: Called after every 65th copy; nothing that it raises is forgiven.
    """
    taken = count = 0
    for data in copies:
        begin, count = time.monotonic(), count + 1
        try:
            taken += read(data)
        except CaseError:
            pass
        if count % 65 == 0:
            between()
        assert time.monotonic() - begin < SECONDS
    peak = peak_kb()
    assert count >= 1000
    assert peak < MEMORY_KB, peak
    print(f"{count} mutants, {taken} read, peak {peak} kB")


def run_alone(function: Callable[..., None], *arguments: str) -> None:
    """Call a function of a test module in a process of its own, whose memory is measured."""
    call = f"from {function.__module__} import {function.__name__} as call; call(*{arguments!r})"
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", call],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
