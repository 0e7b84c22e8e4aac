"""Explanation of one case: what each modality added to each subtask, as maps and numbers.

CIML as reconstructed from its abstract (Shen et al., Neural Networks 180 (2024) 106670);
`lib.ciml.inference.contribution_maps` has the equations of the maps.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.cases.preprocessing import PreparedCase
from lib.ciml.decomposition.subtask import Subtask
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.inference.contribution_maps import MAPS, MEASURE_UNITS, OF_PRIMARIES, Link, record
from lib.ciml.inference.predict import OVERLAP, body_box
from lib.ciml.inference.windows import attempts, pass_through, window_of
from lib.ciml.network.ciml_network import CimlNetwork

__all__ = ["MEASURES", "MEASURE_UNITS", "Explanation", "Link", "explain", "links_of", "messages_of"]

MEASURES = tuple(MAPS)
Volume = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Contributions of each modality to each subtask in one case; a link is (modality, subtask).

    Attributes:
        decomposition: Decomposition of the network, with the primary modalities and senders of each subtask.
        absent: Modalities that the case lacks.
        probabilities: Probabilities of the regions on the case's grid, shape (R, D, H, W).
        maps: Map of each measure and link on the case's grid, shape (D, H, W); zero for a modality that is
            absent or silent. Every measure has the links sender -> subtask; `addition`, `gradient` and
            `grad_cam` also have the links from a primary modality to its own subtask.
        contributions: Contribution by measure and link, one number each; 0 from an absent sender. `gradient`
            is signed: the first-order estimate of the mean logit that the subtask's predicted region loses
            when the message is silenced. The other measures are the mean of their map in the predicted region
            of the subtask, or in the body if no region is predicted.
    """

    decomposition: Decomposition
    absent: tuple[str, ...]
    probabilities: Volume
    maps: dict[str, dict[Link, Volume]]
    contributions: dict[str, dict[Link, float]]


def messages_of(decomposition: Decomposition) -> list[Link]:
    """Link (sender, subtask) of every message."""
    return [(sender, task.name) for task in decomposition.subtasks for sender in task.auxiliary]


def links_of(decomposition: Decomposition, measure: str) -> list[Link]:
    """Links of a measure: every message, and some measures also link a primary modality to its subtask."""
    own = [(name, task.name) for task in decomposition.subtasks for name in task.primary]
    return [*(own if measure in OF_PRIMARIES else ()), *messages_of(decomposition)]


def explain(
    network: CimlNetwork,
    prepared: PreparedCase | NDArray[Any],
    *,
    measures: Sequence[str] = MEASURES,
    present: NDArray[np.bool_] | None = None,
    silent: Collection[Link] = (),
    device: torch.device | str = "cpu",
    max_voxels: int | None = None,
) -> Explanation:
    """Explain the segmentation of a case by maps and numbers.

    The box around the body passes through the network at once if memory suffices, and otherwise in
    overlapping windows. Measures relative to the box are then relative to a window.

    Args:
        network: 3-D network; it is not changed.
        prepared: Case, or array (M, D, H, W) as for `predict`.
        measures: Measures to compute, from `MEASURES`.
        present: Modalities to use, shape (M,), bool; None uses those of the case, or all of an array.
        silent: Messages that are not sent.
        device: Device to compute on.
        max_voxels: Largest number of voxels in one pass; None derives it from the device's memory.

    Raises:
        ValueError: If there is no such measure or the case does not fit the network.
    """
    if unknown := [measure for measure in measures if measure not in MAPS]:
        raise ValueError(f"measure must be one of {', '.join(MEASURES)}; got {unknown[0]!r}.")
    array, body, here = _opened(network, prepared, present)
    box = body_box(body)
    x = torch.from_numpy(np.array(array[(slice(None), *box)], dtype=np.float32))[None]
    rows = _rows(network.decomposition, measures)
    frozen = copy.deepcopy(network).to(device).eval().requires_grad_(False)  # the caller's may be in use
    limit = next(attempts(frozen, torch.device(device), "float32")).max_voxels // 2  # gradients take as much
    window = window_of(tuple(x.shape[2:]), network.settings.divisor, max_voxels or limit)
    inside = pass_through(
        lambda part: _all_rows(frozen, part, here, rows=rows, measures=measures, silent=silent),
        x,
        window,
        device=torch.device(device),
        overlap=OVERLAP,
    )
    whole: dict[tuple[str, ...], Volume] = {}
    for row, values in zip(rows, inside[0].numpy(), strict=True):
        whole[row] = np.zeros(body.shape, dtype=np.float32)
        whole[row][box] = values
    absent = tuple(name for name, there in zip(network.modalities, here, strict=True) if not there)
    return _explanation(network.decomposition, absent, whole, body)


def _opened(
    network: CimlNetwork, prepared: PreparedCase | NDArray[Any], present: NDArray[np.bool_] | None
) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
    """Array (M, D, H, W), body (D, H, W) and present modalities (M,)."""
    if isinstance(prepared, PreparedCase):
        if prepared.modalities != network.modalities:
            raise ValueError(
                f"the case must have the channels {', '.join(network.modalities)}; "
                f"got {', '.join(prepared.modalities)}. Prepare it for this model."
            )
        body, here = np.asarray(prepared.foreground), prepared.present
        array: NDArray[Any] = prepared.array
    else:
        array, body = prepared, np.ones(prepared.shape[1:], dtype=bool)
        here = np.ones(len(prepared), dtype=bool)
    if network.settings.spatial_dims != 3 or array.ndim != 4 or len(array) != len(network.modalities):
        raise ValueError(
            f"explain needs a 3-D network and an array ({len(network.modalities)}, D, H, W); got "
            f"{network.settings.spatial_dims}-D and {array.shape}."
        )
    here = here if present is None else present
    return array, body if body.any() else np.ones_like(body), np.asarray(here, dtype=bool)


def _rows(decomposition: Decomposition, measures: Sequence[str]) -> list[tuple[str, ...]]:
    """Channels of a window's result: (subtask, region) for probabilities, (measure, modality, subtask)."""
    rows: list[tuple[str, ...]] = [
        (task.name, region) for task in decomposition.subtasks for region in task.regions
    ]
    for measure in measures:
        rows += [(measure, *link) for link in links_of(decomposition, measure)]
    return rows


def _all_rows(
    network: CimlNetwork,
    x: Tensor,
    here: NDArray[np.bool_],
    *,
    rows: Sequence[tuple[str, ...]],
    measures: Sequence[str],
    silent: Collection[Link],
) -> Tensor:
    """All rows of one window, shape (1, rows, D, H, W)."""
    trace = record(network, x, torch.from_numpy(here)[None].to(x.device), silent=silent)
    found: dict[tuple[str, ...], Tensor] = {}
    for task in network.decomposition.subtasks:
        for channel, region in enumerate(task.regions):
            found[task.name, region] = torch.sigmoid(trace.output.logits[task.name][:, channel : channel + 1])
    for measure in measures:
        found |= {(measure, *link): values for link, values in MAPS[measure](trace).items()}
    zero = x.new_zeros(1, 1, *x.shape[2:])
    return torch.cat([found.get(row, zero) for row in rows], dim=1)


def _explanation(
    decomposition: Decomposition,
    absent: tuple[str, ...],
    whole: Mapping[tuple[str, ...], Volume],
    body: NDArray[np.bool_],
) -> Explanation:
    """Explanation with its numbers, from the rows on the whole grid."""
    by_region = {
        region.name: np.mean(
            [whole[task.name, region.name] for task in decomposition.subtasks if region.name in task.regions],
            axis=0,
        )
        for region in decomposition.regions
    }
    maps: dict[str, dict[Link, Volume]] = {}
    numbers: dict[str, dict[Link, float]] = {}
    inside = {task.name: _outlined(task, by_region) for task in decomposition.subtasks}
    for row, values in whole.items():
        if len(row) != 3:
            continue
        measure, link = row[0], (row[1], row[2])
        masks = inside[link[1]]
        maps.setdefault(measure, {})[link] = values
        where = masks.any(axis=0) if masks.any() else body
        number = values.sum() / max(masks.sum(), 1) if measure == "gradient" else values[where].mean()
        numbers.setdefault(measure, {})[link] = float(number)
    return Explanation(decomposition, absent, np.stack(list(by_region.values())), maps, numbers)


def _outlined(task: Subtask, by_region: Mapping[str, Volume]) -> NDArray[np.bool_]:
    """Predicted masks of the regions of a subtask, shape (R_s, D, H, W)."""
    return np.stack([by_region[region] >= 0.5 for region in task.regions])
