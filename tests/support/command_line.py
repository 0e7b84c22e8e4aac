"""The command line as a person uses it: started, read in a narrow terminal, and ended with Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pytest

from benchmarks.common.folders import ROOT
from lib.cli.main import main

START_S, END_S = 240, 60  # seconds until a command is in the midst of its work, and until it has ended


def exit_code(*words: object) -> int:
    """Exit code of a command that is run in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def said(output: str) -> str:
    """What was printed, without the line breaks of a narrow terminal."""
    return " ".join(output.split())


def press_ctrl_c(
    command: Sequence[str], *, once: Callable[[], bool], environment: Mapping[str, str] | None = None
) -> str:
    """Start a command in a process of its own and end it with Ctrl-C, cleanly: what it printed.

    Args:
        command: Program and arguments.
        once: True when the command is in the midst of its work.
        environment: Variables beside those of this process.
    """
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=listening,  # noqa: PLW1509
    ) as running:
        until = time.monotonic() + START_S
        while not once():
            assert running.poll() is None, running.stdout.read()
            assert time.monotonic() < until
            time.sleep(0.2)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        told = said(running.communicate(timeout=END_S)[0])
    assert running.returncode == 130
    assert "Traceback" not in told
    return told
