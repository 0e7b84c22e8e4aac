"""How a long computation runs: where, from which seed, with how many processes, and who is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from lib.runtime.progress import OnProgress


@dataclass(frozen=True, eq=False)
class Computation:
    """How a computation runs; what it computes is decided by its other arguments.

    Attributes:
        device: Device to compute on.
        seed: Seed; the same input, settings and seed give the same result.
        processes: Number of processes that share the work on a CPU.
        on_progress: Called with the share done, 0 to 1, and the current step in words.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    processes: int = 1
    on_progress: OnProgress = lambda done, message: None
