"""Devices and processor cores to compute on."""

from __future__ import annotations

import os

import torch

from lib.runtime.errors import UserError


def device_of(name: str) -> torch.device:
    """Device for the setting `device`; `auto` means the first GPU, or the CPU if there is none.

    Raises:
        UserError: If the name is no device, or this machine has no such device.
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
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spare_cores() -> int:
    """Number of cores for a long job beside a server; one core stays free to answer viewers.

    The job does not lose by it: two threads that compete with a third process for two cores are slower than
    one thread, because they wait for each other.
    """
    return max(1, cores() - 1)
