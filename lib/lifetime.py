"""The life of a process that another one started."""

from __future__ import annotations

import os
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
