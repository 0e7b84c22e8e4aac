"""Weights of the subtasks that outline the same region, fitted on validation cases.

    p = sum over k of w_k p_k,   w_k >= 0,   sum over k of w_k = 1

The weights maximise the logarithmic score of p, as in stacking of predictive distributions (Yao et al.,
Bayesian Analysis 13 (2018)). A subtask has one weight for cases with a primary modality and another for cases
without, so every validation case also counts with each of its modalities left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    shared = sorted({region for region in outlined if outlined.count(region) > 1})
    if not shared or len(cases) < MIN_CASES:
        return None
    seen = [evidence for case in cases for evidence in _evidence(network, case, device=device)]
    weights = torch.ones_like(network.reliability)
    for region in shared:
        weights[:, :, region] = _fitted(network, region, seen, cases=len(cases))
    return weights


Evidence = tuple[
    NDArray[np.float32], NDArray[np.uint8], Tensor
]  # by subtask and region, regions, whether led


def _evidence(network: CimlNetwork, case: TrainingCase, *, device: torch.device | str) -> Iterator[Evidence]:
    """Probabilities of a case's subtasks with all its modalities, then with each of them left out."""
    there = np.array(case.prepared.present)
    regions = network.decomposition.regions_of(case.label)
    regions[:, case.label == IGNORED] = IGNORED
    for absent in (None, *(np.flatnonzero(there) if there.sum() > 1 else ())):
        present = there.copy()
        if absent is not None:
            present[absent] = False
        (led,) = network.led(torch.from_numpy(present)[None])
        yield (
            predict(network, case.prepared, present=present, device=device, read=subtask_probabilities),
            regions,
            led,
        )


def _fitted(network: CimlNetwork, region: int, seen: Sequence[Evidence], *, cases: int) -> Tensor:
    """Weights of the subtasks for a region, shape (2, S), largest 1; row 1 is with a primary modality."""
    channels, rows = _channels(network, region)
    samples = [
        (*_disputed(probabilities[channels], regions[region]), led[rows].long())
        for probabilities, regions, led in seen
    ]
    samples = [sample for sample in samples if len(sample[1])]
    logarithms = torch.zeros(2, len(rows), requires_grad=True)
    optimiser = torch.optim.Adam([logarithms], lr=RATE)
    for _ in range(STEPS if samples else 0):
        optimiser.zero_grad()
        scores = [
            _log_score(torch.softmax(logarithms[led, torch.arange(len(rows))], dim=0), given, inside)
            for given, inside, led in samples
        ]
        loss = logarithms.square().mean() / cases - torch.stack(scores).mean()
        loss.backward()
        optimiser.step()
    weights = torch.ones(2, len(network.branches))
    weights[:, rows] = torch.exp(logarithms.detach() - logarithms.detach().max())
    return weights


def _log_score(weights: Tensor, given: Tensor, inside: Tensor) -> Tensor:
    """Mean log probability of what the contour says, in nats a voxel."""
    merged = (given @ weights).clamp(_TINY, 1.0 - _TINY)
    return torch.where(inside, merged, 1.0 - merged).log().mean()


def _disputed(probabilities: NDArray[np.float32], region: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Voxels in the region or in a subtask's outline: probabilities (P, K), and whether inside, (P,)."""
    counts = (region != IGNORED) & ((region == 1) | (probabilities >= DISPUTED).any(axis=0))
    places = np.flatnonzero(counts)
    places = places[:: max(1, len(places) // VOXELS)]
    given = probabilities.reshape(len(probabilities), -1)[:, places].T
    return torch.from_numpy(np.ascontiguousarray(given)), torch.from_numpy(region.ravel()[places] == 1)


def _channels(network: CimlNetwork, region: int) -> tuple[list[int], list[int]]:
    """Channels of a region in `subtask_probabilities`, and the subtasks that they belong to."""
    pairs = [
        (row, index)
        for row, task in enumerate(network.decomposition.subtasks)
        for index in network.decomposition.region_indices(task)
    ]
    found = [(channel, row) for channel, (row, index) in enumerate(pairs) if index == region]
    return [channel for channel, _ in found], [row for _, row in found]
