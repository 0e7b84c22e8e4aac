"""The life of a process that another one started."""

from __future__ import annotations

import os
import sys
import threading
import time


def end_with_the_parent() -> None:
    """Watch for the end of the process that started this one, and end then.

    Children of a server or a command that was killed would go on computing for hours.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-the-parent", daemon=True).start()


def end_with_the_server() -> None:
    """`end_with_the_parent` in the process that MONAI Label starts for a job.

    A job asked for with `run_sync` runs in the server itself, which may outlive the shell that started it.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name == "monailabel.interfaces.utils.app":
        end_with_the_parent()
