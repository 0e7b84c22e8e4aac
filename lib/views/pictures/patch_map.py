"""Maps of where two modalities of a case disagree: -PMI of each position, as blocks on the case's grid."""

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

OUTSIDE = -1000.0  # value outside all positions, below any -PMI; viewers do not handle NaN
_COLOURED = (50.0, 98.0)  # range of the colours, in percentiles of the pool


@dataclass(frozen=True)
class PatchScale:
    """Range of the colours for a pair, the same for every case of the pool.

    Attributes:
        low: Median -PMI of the pool's positions in nats; smaller values are not coloured.
        high: 98th percentile of -PMI in nats, with the strongest colour.
    """

    low: float
    high: float


def patches_of(workspace: Workspace) -> Patches:
    """PMI at every position of the newest plan's cases; empty if it is not known."""
    plan, path = workspace.plan.current(), workspace.folders.work / PATCH_FILE
    try:
        stamp = path.stat().st_mtime_ns
    except FileNotFoundError:
        stamp = 0
    return _patches(path, plan.content if plan else "", stamp)


def pairs_of(patches: Patches, id: str) -> tuple[str, ...]:
    """Pairs of modalities for which a case has PMI at any position."""
    if id not in patches.rows:
        return ()
    known = np.isfinite(patches.nats[patches.rows[id]]).any(axis=1)
    return tuple(pair for pair, is_known in zip(patches.pairs, known, strict=True) if is_known)


def scale_of(patches: Patches, pair: str) -> PatchScale:
    """Range of the colours for a pair."""
    return _scales(patches)[pair]


def patch_map(case: PreparedCase, patches: Patches, pair: str) -> Volume:
    """-PMI of each position in nats, constant over its block; `OUTSIDE` elsewhere.

    Args:
        case: Prepared case.
        patches: PMI of the case and the pair.
        pair: Pair of modalities, one of `pairs_of`.
    """
    map = np.full(case.grid.shape, OUTSIDE, dtype=np.float32)
    nats = patches.nats[patches.rows[case.id], patches.pairs.index(pair)]
    for position in np.flatnonzero(np.isfinite(nats)):
        map[position_box(int(position), case.foreground)] = -float(nats[position])
    return Volume(map, case.grid)


def place_of(case: PreparedCase, position: int) -> tuple[float, float, float]:
    """Middle of a position's block, in RAS mm."""
    box = position_box(position, case.foreground)
    middle = [(part.start + part.stop - 1) / 2.0 for part in reversed(box)]
    x, y, z = (case.grid.affine @ [*middle, 1.0])[:3]
    return float(x), float(y), float(z)


@lru_cache(maxsize=1)
def _patches(path: Path, content: str, stamp: int) -> Patches:
    """Read the file, which holds the whole pool; cached until the file changes."""
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
