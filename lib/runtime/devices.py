"""Where to compute, and with how much of the machine."""

from __future__ import annotations

import os

import torch

from lib.runtime.errors import UserError


def device_of(name: str) -> torch.device:
    """The device that the setting `device` means; `auto` is the first GPU, or the CPU.

    Raises:
        UserError: If it is none, or not in this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as err:
        raise UserError(
            f"device must be auto, cpu, cuda or cuda:N; got {name!r}. Set --conf device."
        ) from err
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device must be in this machine; it has {torch.cuda.device_count()} GPUs, got {name!r}. "
            "Set --conf device auto."
        )
    return device


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spare_cores() -> int:
    """For a job of minutes beside a server: one core stays free, so that viewers are still answered.

    Two threads that fight a third process for two cores are also slower than one: they wait for each other.
    """
    return max(1, cores() - 1)
