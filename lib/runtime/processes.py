"""Child processes that end with their parent, however the parent ends."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor

from lib import ROOT
from lib.runtime.temporary import claim_folder_beside_the_servers

_SERVER_VARIABLE = "MDAL_CIML_SERVER"  # environment variable: process id of the server, for its children
_SERVER_MODULES = ("monailabel.interfaces.utils.app", "lib.cli.background")  # main modules of its children
_PR_SET_PDEATHSIG = 1
POLL_S = 0.5  # between two looks at other processes


def server_environment() -> dict[str, str]:
    """Environment variables that a server passes to its child processes."""
    return {_SERVER_VARIABLE: str(os.getpid())}


def become_a_job() -> None:
    """In a process that a server started: end with it, and keep temporary files apart from its own.

    In the server itself this does nothing. The server removes the temporary files of a job that was killed.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name in _SERVER_MODULES and _SERVER_VARIABLE in os.environ:
        end_with_the_parent(int(os.environ[_SERVER_VARIABLE]))
        claim_folder_beside_the_servers()


def end_with_the_parent(parent: int = 0) -> None:
    """End this process when its parent ends, whatever either of them is doing.

    Call it before any import that takes seconds. On Linux the kernel kills this process, even inside a
    library that holds the interpreter; elsewhere a thread watches the parent. Linux kills as soon as the
    *thread* that started the process ends, so that thread must wait for the process.

    Args:
        parent: Id of the parent process, to notice that it has ended already; by default the current parent.
    """
    parent = parent or os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), name="end-with-the-parent", daemon=True).start()
    if os.getppid() != parent:  # the parent ended before this call
        os._exit(1)


def process_pool(count: int) -> ProcessPoolExecutor:
    """Pool of spawned processes that end with this one.

    The processes are not forked, because a fork of a process with torch or ITK threads may hang. The
    initializer is source text rather than a function: MONAI Label removes the app's folder from the path
    after loading, so a new process cannot import `lib` before the path is set again.
    """
    begin = (
        f"import site; site.addsitedir({str(ROOT)!r})\n"
        f"from lib.runtime.processes import end_with_the_parent; end_with_the_parent({os.getpid()})"
    )
    return ProcessPoolExecutor(
        count, multiprocessing.get_context("spawn"), initializer=exec, initargs=(begin,)
    )


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_S)
    os._exit(1)
