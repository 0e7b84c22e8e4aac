"""Prediction for a case: probabilities and their uncertainty."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.cases.boxes import Box, bounding_box, padded_box, whole_box
from lib.cases.preprocessing import PreparedCase
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.inference.windows import Attempt, attempts, pass_through, window_of
from lib.ciml.network.ciml_network import CimlNetwork, Output
from lib.ciml.network.precision import Precision, autocast, precision_for
from lib.ciml.network.tuning import laid_out

MARGIN_VOXELS = 2  # voxels kept around the body
OVERLAP = 0.25  # share of a window that its neighbour repeats
Read = Callable[[Output, Decomposition], Tensor]  # probabilities (B, R, D, H, W) from an output


@dataclass(frozen=True, eq=False)
class Answer:
    """Prediction of a network for a case.

    Attributes:
        probabilities: Probabilities inside the box, shape (R, d, h, w), float32, with the regions in the
            decomposition's order.
        box: Box on the case's grid; outside it every probability is 0.
        shape: Shape (D, H, W) of the case's grid.
        uncertainty: Mean binary entropy of the regions' probabilities over the foreground, in nats: 0 is
            certain, 0.693 is a coin toss.
        seconds: Seconds of `pre`, preparing the box, and `infer`, running the network.
        device: Device of the computation.
        precision: Number format of the computation.
        fallback: Sentence that says how the case was computed after memory ran out; else empty.
    """

    probabilities: NDArray[np.float32]
    box: Box
    shape: tuple[int, int, int]
    uncertainty: float
    seconds: dict[str, float]
    device: str
    precision: Precision
    fallback: str

    def whole(self) -> NDArray[np.float32]:
        """Probabilities on the case's grid, shape (R, D, H, W)."""
        probabilities = np.zeros((len(self.probabilities), *self.shape), dtype=np.float32)
        probabilities[(slice(None), *self.box)] = self.probabilities
        return probabilities


def predict(
    network: CimlNetwork,
    prepared: PreparedCase | NDArray[Any],
    *,
    present: NDArray[np.bool_] | None = None,
    device: torch.device | str = "cpu",
    max_voxels: int | None = None,
    precision: Precision | None = None,
    read: Read | None = None,
) -> NDArray[np.float32]:
    """Probability of each region at each voxel; 0 outside the body. Arguments as for `infer`.

    Returns:
        Probabilities on the case's grid, shape (R, D, H, W).
    """
    return infer(
        network,
        prepared,
        present=present,
        device=device,
        max_voxels=max_voxels,
        precision=precision,
        read=read,
    ).whole()


def infer(
    network: CimlNetwork,
    prepared: PreparedCase | NDArray[Any],
    *,
    present: NDArray[np.bool_] | None = None,
    device: torch.device | str = "cpu",
    max_voxels: int | None = None,
    precision: Precision | None = None,
    read: Read | None = None,
) -> Answer:
    """Predict the regions of a case, with uncertainty.

    The box around the body passes through the network at once if memory suffices, and otherwise in
    overlapping windows. If memory still runs out, smaller windows are tried, then the CPU.
    `region_probabilities` merges subtasks that outline the same region.

    Args:
        network: 3-D network; its mode is restored afterwards.
        prepared: Case, or array (M, D, H, W) normalised like `lib.cases.preprocessing`, without a foreground.
        present: Modalities to use, shape (M,), bool; None uses those of the case, or all of an array.
        device: Device to compute on.
        max_voxels: Largest number of voxels in one pass; None derives it from the device's memory.
        precision: Number format; None uses the fastest format of the device.
        read: Function that turns the network's output into probabilities, (B, R, D, H, W); None takes
            `region_probabilities`.

    Raises:
        ValueError: If the channels do not fit the network, or no modality is present.
        torch.OutOfMemoryError: If memory runs out in every attempt.
    """
    start = time.monotonic()
    opened = _Opened.of(network, prepared, present)
    x = torch.from_numpy(np.array(opened.array[(slice(None), *opened.box)], dtype=np.float32))[None]
    here = None if opened.present.all() else torch.from_numpy(np.array(opened.present))[None]
    ready = time.monotonic()
    with in_use(network), torch.inference_mode():
        run = _run(
            network, x, here, torch.device(device), max_voxels, precision, read or region_probabilities
        )
        inside = run.probabilities[0]
        foreground = (
            None if opened.foreground is None else torch.from_numpy(np.array(opened.foreground[opened.box]))
        )
        uncertainty = _entropy(inside, foreground)
    return Answer(
        inside.numpy(),
        opened.box,
        opened.shape,
        uncertainty,
        {"pre": ready - start, "infer": time.monotonic() - ready},
        str(run.attempt.device),
        run.precision,
        run.fallback,
    )


def region_probabilities(output: Output, decomposition: Decomposition) -> Tensor:
    """Probability of each region, averaged over the subtasks that outline it, weighted by reliability.

    Returns:
        Probabilities, shape (B, R, D, H, W), regions in the decomposition's order.
    """
    found: dict[str, dict[int, Tensor]] = {region.name: {} for region in decomposition.regions}
    for number, subtask in enumerate(decomposition.subtasks):
        probabilities = torch.sigmoid(output.logits[subtask.name].float())
        for channel, name in enumerate(subtask.regions):
            found[name][number] = probabilities[:, channel]
    merged = (
        _mean(several, None if output.reliability is None else output.reliability[:, :, region])
        for region, several in enumerate(found.values())
    )
    return torch.stack(list(merged), dim=1)


def subtask_probabilities(output: Output, decomposition: Decomposition) -> Tensor:
    """Probability of every region of every subtask, without merging.

    Returns:
        Probabilities, shape (B, K, D, H, W), ordered by subtask and then by its regions.
    """
    logits = [output.logits[subtask.name].float() for subtask in decomposition.subtasks]
    return torch.sigmoid(torch.cat(logits, dim=1))


def _mean(several: dict[int, Tensor], reliability: Tensor | None) -> Tensor:
    """Mean of the probabilities of a region by subtask, weighted by `reliability`, shape (B or 1, S)."""
    if len(several) == 1:
        return next(iter(several.values()))
    stacked = torch.stack(list(several.values()), dim=1)  # (B, K, D, H, W)
    if reliability is None:
        return stacked.mean(dim=1)
    weights = reliability[:, list(several)]
    weights = weights / weights.sum(dim=1, keepdim=True)
    return (stacked * weights.view(*weights.shape, *(1,) * (stacked.ndim - 2))).sum(dim=1)


def body_box(foreground: NDArray[np.bool_]) -> Box:
    """Box around the body with a margin; the whole grid for an empty mask."""
    box = bounding_box(foreground) or whole_box(foreground.shape)
    return padded_box(box, (MARGIN_VOXELS,) * 3, foreground.shape)


@dataclass(frozen=True)
class _Run:
    probabilities: Tensor
    attempt: Attempt
    precision: Precision
    fallback: str


def _run(
    network: CimlNetwork,
    x: Tensor,
    present: Tensor | None,
    device: torch.device,
    max_voxels: int | None,
    precision: Precision | None,
    read: Read,
) -> _Run:
    """Run the attempts in turn until memory suffices."""
    ways = list(attempts(network, device, precision or precision_for(device)))
    shape, divisor = tuple(x.shape[2:]), network.settings.divisor
    for number, way in enumerate(ways):
        limit = way.max_voxels if max_voxels is None else min(way.max_voxels, max_voxels >> (2 * number))
        window = window_of(shape, divisor, limit)
        chosen = precision or precision_for(way.device)
        network.to(way.device)

        def compute(part: Tensor, way: Attempt = way, chosen: Precision = chosen) -> Tensor:
            here = None if present is None else present.to(way.device).expand(len(part), -1)
            return read(network(laid_out(part, network, chosen), here), network.decomposition)

        try:
            with autocast(way.device, chosen):
                answer = pass_through(compute, x, window, device=way.device, overlap=OVERLAP)
            return _Run(answer, way, chosen, way.sentence(window) if number else "")
        except torch.OutOfMemoryError:
            if number == len(ways) - 1:
                raise
        if way.device.type == "cuda":
            torch.cuda.empty_cache()  # outside the handler, which holds the failed pass's tensors
    raise AssertionError("the last attempt answers or raises")


def _entropy(probabilities: Tensor, foreground: Tensor | None) -> float:
    """Mean binary entropy in nats over the foreground, or over the whole box without a foreground."""
    of_region = probabilities.flatten(1)
    if foreground is not None and bool(foreground.any()):
        of_region = of_region[:, foreground.flatten()]
    return float(np.mean([(torch.special.entr(p) + torch.special.entr(1.0 - p)).mean() for p in of_region]))


@contextmanager
def in_use(network: CimlNetwork) -> Iterator[None]:
    """Put a network into evaluation mode until the block ends."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


@dataclass(frozen=True, eq=False)
class _Opened:
    array: NDArray[Any]
    box: Box
    present: NDArray[np.bool_]
    foreground: NDArray[np.bool_] | None

    @property
    def shape(self) -> tuple[int, int, int]:
        depth, height, width = self.array.shape[1:]
        return depth, height, width

    @classmethod
    def of(
        cls, network: CimlNetwork, prepared: PreparedCase | NDArray[Any], present: NDArray[np.bool_] | None
    ) -> _Opened:
        array, foreground = prepared, None
        if isinstance(prepared, PreparedCase):
            if prepared.modalities != network.modalities:
                raise ValueError(
                    f"the case must have the channels {', '.join(network.modalities)}; "
                    f"got {', '.join(prepared.modalities)}. Prepare it for this model."
                )
            array, foreground = prepared.array, np.asarray(prepared.foreground)
            present = prepared.present if present is None else present
        array = np.asanyarray(array)
        if network.settings.spatial_dims != 3 or array.ndim != 4 or len(array) != len(network.modalities):
            raise ValueError(
                f"predict needs a 3-D network and an array ({len(network.modalities)}, D, H, W); got "
                f"{network.settings.spatial_dims}-D and {array.shape}."
            )
        box = whole_box(array.shape[1:]) if foreground is None else body_box(foreground)
        return cls(array, box, np.ones(len(array), dtype=bool) if present is None else present, foreground)
