"""Weights of the subtasks that outline the same region, fitted on validation cases.

    p = sum over k of w_k p_k,   w_k >= 0,   sum over k of w_k = 1

The weights maximise the logarithmic score of p, as in stacking of predictive distributions (Yao et al.,
Bayesian Analysis 13 (2018)). A subtask has one weight for cases with a primary modality and another for cases
without, so every validation case also counts with each of its modalities left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.cases.formats.voxels import IGNORED
from lib.ciml.inference.predict import predict, subtask_probabilities
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.training.patches import TrainingCase

MIN_CASES = 4  # fewer validation cases cannot tell the subtasks apart, so all weigh the same
DISPUTED = 0.1  # probability of one subtask from which a voxel outside the region counts
VOXELS = 4000  # of a case and a choice of modalities
PULL = 0.1  # nats; with 1 the weights stay equal, with 0.01 six sarcoma patients were fitted too closely
STEPS, RATE = 200, 0.05  # of Adam; a handful of weights converges long before
_TINY = 1e-4


def reliability_of(
    network: CimlNetwork, cases: Sequence[TrainingCase], *, device: torch.device | str = "cpu"
) -> Tensor | None:
    """Weights of a network's subtasks for its buffer `reliability`, shape (2, S, R), largest 1 in a region.

    The weights are pulled towards equal ones, the more so the fewer cases there are.

    Args:
        network: Trained network.
        cases: Validation cases.
        device: Device to compute on.

    Returns:
        The weights; None if no region is outlined by several subtasks, or there are fewer cases than
        `MIN_CASES`.
    """
    decomposition = network.decomposition
    outlined = [region for task in decomposition.subtasks for region in decomposition.region_indices(task)]
    shared = [region for region in range(len(decomposition.regions)) if outlined.count(region) > 1]
    if not shared or len(cases) < MIN_CASES:
        return None
    samples: dict[int, list[Sample]] = {region: [] for region in shared}
    for case in cases:
        for probabilities, led in _outlines(network, case, device=device):
            for region, of in samples.items():
                of.extend(_sampled(network, region, probabilities, case.label, led))
    weights = torch.ones_like(network.reliability)
    for region, of in samples.items():
        _, rows = _channels(network, region)
        weights[:, rows, region] = _fitted(of, subtasks=len(rows), cases=len(cases)).to(weights)
    return weights


@dataclass(frozen=True, eq=False)
class Sample:
    """Voxels of a case with a choice of its modalities, where the K subtasks of a region may disagree.

    Attributes:
        given: Probability of each subtask, shape (P, K).
        inside: Whether the voxel is in the region, shape (P,), bool.
        led: Whether each subtask has a primary modality, shape (K,), 0 or 1.
    """

    given: Tensor
    inside: Tensor
    led: Tensor


def _outlines(
    network: CimlNetwork, case: TrainingCase, *, device: torch.device | str
) -> Iterator[tuple[NDArray[np.float32], Tensor]]:
    """Probabilities of a case's subtasks with all its modalities, then with each of them left out."""
    there = np.array(case.prepared.present)
    for absent in (None, *(np.flatnonzero(there) if there.sum() > 1 else ())):
        present = there.copy()
        if absent is not None:
            present[absent] = False
        found = predict(network, case.prepared, present=present, device=device, read=subtask_probabilities)
        yield found, network.led(torch.from_numpy(present)[None])[0]


def _sampled(
    network: CimlNetwork,
    region: int,
    probabilities: NDArray[np.float32],
    label: NDArray[np.uint8],
    led: Tensor,
) -> Iterator[Sample]:
    """Some of the voxels in a region or in an outline of it; nothing if there are none."""
    channels, rows = _channels(network, region)
    of_region = probabilities[channels]
    inside = np.isin(label, network.decomposition.regions[region].labels)
    counts = (label != IGNORED) & (inside | (of_region >= DISPUTED).any(axis=0))
    places = np.flatnonzero(counts)
    places = places[:: max(1, len(places) // VOXELS)]
    if len(places):
        given = of_region.reshape(len(channels), -1)[:, places].T
        yield Sample(
            torch.from_numpy(np.ascontiguousarray(given)),
            torch.from_numpy(inside.ravel()[places]),
            led[rows].long(),
        )


def _fitted(samples: Sequence[Sample], *, subtasks: int, cases: int) -> Tensor:
    """Weights of the K subtasks of a region, shape (2, K), largest 1; row 1 is with a primary modality."""
    logarithms, each = torch.zeros(2, subtasks, requires_grad=True), torch.arange(subtasks)
    optimiser = torch.optim.Adam([logarithms], lr=RATE)
    for _ in range(STEPS if samples else 0):
        optimiser.zero_grad()
        scores = [
            _log_score(torch.softmax(logarithms[sample.led, each], dim=0), sample) for sample in samples
        ]
        loss = PULL / cases * logarithms.square().mean() - torch.stack(scores).mean()
        loss.backward()
        optimiser.step()
    found = logarithms.detach()
    return torch.exp(found - found.max())


def _log_score(weights: Tensor, sample: Sample) -> Tensor:
    """Mean log probability of what the contour says, in nats a voxel."""
    merged = (sample.given @ weights).clamp(_TINY, 1.0 - _TINY)
    return torch.where(sample.inside, merged, 1.0 - merged).log().mean()


def _channels(network: CimlNetwork, region: int) -> tuple[list[int], list[int]]:
    """Channels of a region in `subtask_probabilities`, and the subtasks that they belong to."""
    pairs = [
        (row, index)
        for row, task in enumerate(network.decomposition.subtasks)
        for index in network.decomposition.region_indices(task)
    ]
    found = [(channel, row) for channel, (row, index) in enumerate(pairs) if index == region]
    return [channel for channel, _ in found], [row for _, row in found]
