"""How well encoders match the modalities of patients that they were not trained on."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.mdal.representation.encoder import Encoders, foreground_positions, place_counts
from lib.mdal.representation.views import PatientViews

_MOST = 128  # cases that are matched, and candidates besides them; bounds time and memory for any pool
_BATCH = 16  # cases that are embedded at a time
_PLACES = 256  # places that are compared at a time


def matched_share(encoders: Encoders, cases: PatientViews, held_out: NDArray[np.intp]) -> tuple[float, float]:
    """Share of the places of held-out cases at which their own counterpart is the nearest of all cases.

    At each place the features of one modality of a held-out case are compared with the other modality of
    the case itself and of every case of another patient.

    Args:
        encoders: Encoders, which must not have been trained on the held-out patients.
        cases: Views of all cases and their patients.
        held_out: Rows of the held-out cases.

    Returns:
        Share that is matched, mean over the pairs of modalities, and the share expected by chance; NaN
        if no held-out case has two modalities.
    """
    chosen = held_out[:_MOST]
    others = np.setdiff1d(np.arange(len(cases.views)), chosen)
    rows = np.concatenate([chosen, others[:: -(-len(others) // _MOST) or 1]])
    training = encoders.training
    encoders.eval()
    places = math.prod(place_counts(cases.views.shape[2:], encoders.settings.stride))
    features = torch.empty(len(rows), cases.views.shape[1], encoders.settings.features, places)
    inside = torch.empty(len(rows), cases.views.shape[1], places, dtype=torch.bool)
    for block in np.array_split(np.arange(len(rows)), -(-len(rows) // _BATCH)):
        batch, here, body = cases.batch(rows[block])
        device = encoders.log_excess.device
        with torch.inference_mode():
            features[block] = encoders((batch * body[:, None]).to(device), here.to(device)).cpu()
        inside[block] = foreground_positions(body, encoders.settings.stride)[:, None] & here[:, :, None]
    encoders.train(training)
    patients = torch.from_numpy(cases.groups[rows])
    own = torch.eye(len(rows), dtype=torch.bool)[: len(chosen)]
    allowed = own | (patients[: len(chosen), None] != patients[None, :])
    found = [
        _matched(features, inside, pair, allowed) for pair in combinations(range(cases.views.shape[1]), 2)
    ]
    matched, chance = torch.tensor(found, dtype=torch.float64).nanmean(dim=0).tolist()
    return float(matched), float(chance)


def _matched(features: Tensor, inside: Tensor, pair: tuple[int, int], allowed: Tensor) -> tuple[float, float]:
    """Matched share and chance of one pair; the first rows are the held-out cases."""
    count, (a, b) = len(allowed), pair
    both = inside[:, a] & inside[:, b]  # (n, P)
    hits, chances = [], []
    for places in torch.where(both[:count].any(dim=0))[0].split(_PLACES):
        likeness = torch.einsum("ikp,jkp->pij", features[:count, a][..., places], features[:, b][..., places])
        candidates = allowed & both[:, places].T[:, None, :]  # (p, i, j)
        best = likeness.masked_fill(~candidates, -torch.inf).argmax(dim=2)
        asked = both[:count, places].T
        hits.append((best == torch.arange(count))[asked])
        chances.append((1.0 / candidates.sum(dim=2).clamp(min=1))[asked])
    if not hits:
        return float("nan"), float("nan")
    return float(torch.cat(hits).double().mean()), float(torch.cat(chances).double().mean())
