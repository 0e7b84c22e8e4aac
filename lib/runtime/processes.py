"""The life of a process that another one started: it ends with the other, whatever ends that."""

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

_SERVER = "MDAL_CIML_SERVER"  # in the environment: id of the server, for the processes that it starts
_STARTED = ("monailabel.interfaces.utils.app", "lib.cli.background")  # modules that a server starts
_PR_SET_PDEATHSIG = 1
_LOOK_S = 0.5


def known_as_server() -> dict[str, str]:
    """What the processes that this one starts find in their environment."""
    return {_SERVER: str(os.getpid())}


def end_with_the_server() -> None:
    """`end_with_the_parent` in a process that a server started for a job; nothing in the server itself."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name in _STARTED and _SERVER in os.environ:
        end_with_the_parent(int(os.environ[_SERVER]))


def end_with_the_parent(parent: int = 0) -> None:
    """End this process when the one that started it ends, whatever either of them is doing.

    To be called first, before anything is imported that takes seconds. On Linux the kernel kills this
    process, even inside a library that lets no other thread run; elsewhere a thread looks. Linux does so when
    the *thread* ends that started the process: processes are started by threads that wait for them.

    Args:
        parent: Id of the process that started this one, by which one that has ended already is recognised;
            by default whichever is the parent now.
    """
    parent = parent or os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), name="end-with-the-parent", daemon=True).start()
    if os.getppid() != parent:  # it ended before
        os._exit(1)


def processes(count: int) -> ProcessPoolExecutor:
    """Fresh processes that end with this one; a fork of one that runs threads of torch or ITK may hang.

    They begin with a text and not with a function of ours: MONAI Label takes the app's folder off the path
    once it is loaded, and a process finds `lib` only after it was told where that is.
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
        time.sleep(_LOOK_S)
    os._exit(1)
