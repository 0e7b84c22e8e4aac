"""Where two modalities of a case disagree: -PMI of each position, as blocks on the case's grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from lib.cases.formats.image import Volume
from lib.cases.preprocessing import PreparedCase
from lib.mdal.representation.positions import position_box
from lib.pipeline.planning import PATCH_FILE
from lib.pipeline.workspace import Workspace
from lib.views.pictures.thumbnails import Patches

OUTSIDE = -1000.0  # below any -PMI: no position lies there; NaN would not survive a viewer
_COLOURED = (50.0, 98.0)  # percentiles of the pool between which a map is coloured


@dataclass(frozen=True)
class PatchScale:
    """What of a pair is coloured, the same for every case of the pool.

    Attributes:
        low: Median of the pool's positions, -PMI in nats; what differs less is not coloured.
        high: 98th percentile, coloured most.
    """

    low: float
    high: float


def patches_of(workspace: Workspace) -> Patches:
    """PMI at every position of the newest plan's cases; of none where that is not known."""
    plan, path = workspace.plan.current(), workspace.folders.work / PATCH_FILE
    try:
        stamp = path.stat().st_mtime_ns
    except FileNotFoundError:
        stamp = 0
    return _patches(path, plan.content if plan else "", stamp)


def pairs_of(patches: Patches, id: str) -> tuple[str, ...]:
    """The pairs of modalities for which it is known where a case's differ."""
    if id not in patches.rows:
        return ()
    known = np.isfinite(patches.nats[patches.rows[id]]).any(axis=1)
    return tuple(pair for pair, is_known in zip(patches.pairs, known, strict=True) if is_known)


def scale_of(patches: Patches, pair: str) -> PatchScale:
    """Which values of a pair are coloured."""
    return _scales(patches)[pair]


def patch_map(case: PreparedCase, patches: Patches, pair: str) -> Volume:
    """-PMI in nats of each position, the same over its whole block; `OUTSIDE` where there is none.

    Args:
        case: On its grid.
        patches: With the case and the pair.
        pair: One of `pairs_of`.
    """
    map = np.full(case.grid.shape, OUTSIDE, dtype=np.float32)
    nats = patches.nats[patches.rows[case.id], patches.pairs.index(pair)]
    for position in np.flatnonzero(np.isfinite(nats)):
        map[position_box(int(position), case.foreground)] = -float(nats[position])
    return Volume(map, case.grid)


def place_of(case: PreparedCase, position: int) -> tuple[float, float, float]:
    """RAS mm of the middle of a position's block."""
    box = position_box(position, case.foreground)
    middle = [(part.start + part.stop - 1) / 2.0 for part in reversed(box)]
    x, y, z = (case.grid.affine @ [*middle, 1.0])[:3]
    return float(x), float(y), float(z)


@lru_cache(maxsize=1)
def _patches(path: Path, content: str, stamp: int) -> Patches:
    """Kept while the file stays as it is: it holds the whole pool."""
    return Patches.load(path, of=content)


@lru_cache(maxsize=1)
def _scales(patches: Patches) -> dict[str, PatchScale]:
    scales = {}
    for number, pair in enumerate(patches.pairs):
        nats = patches.nats[:, number]
        known = -nats[np.isfinite(nats)].astype(np.float32)
        low, high = np.percentile(known, _COLOURED) if known.size else (0.0, 1.0)
        scales[pair] = PatchScale(float(low), max(float(high), float(low) + 1e-3))
    return scales
