"""Memory that this process took at most."""

from __future__ import annotations

from pathlib import Path


def peak_kb() -> int:
    """Peak since the program began, or since `forget_peak`, in kB.

    `ru_maxrss` would not do: a process inherits it from the one that started it.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def forget_peak() -> int:
    """Count from what is in use now, which is returned in kB."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_kb()
