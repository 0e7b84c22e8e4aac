"""Fit of a label to the grey values of its images, as it lies and with its axes turned.

A label whose axes another program mirrored or exchanged keeps its header and lies in the body, so only the
images can tell. There is no absolute limit; the test is whether they tell more of the label once it is
turned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lib.cases.quality.alignment import BINS, entropy, grey_levels

MIN_VOXELS = 64  # of the compared grid; the images tell something of a smaller label wherever it lies
_MIRRORED = {  # axes of a turn, whichever way the volume lies
    "mirrored along its slices": (0,),
    "mirrored along its rows": (1,),
    "mirrored along its columns": (2,),
    "turned by half a circle in its slices": (1, 2),
}


def turned_fit(
    label: NDArray[np.bool_],
    images: Mapping[str, NDArray[np.float32]],
    bodies: Mapping[str, NDArray[np.bool_]],
) -> dict[str, float | str] | None:
    """What the images tell of a label as it lies and turned, each a mean over the images of I / H(label).

    Args:
        label: Label, shape (D, H, W).
        images: Image of each modality on the same grid; NaN outside.
        bodies: Body on each image, on the same grid.

    Returns:
        `present`, and for the best of the turns its name, `turn`, and `best`; None if the label is small, or
        if there is one image alone, which says too little.
    """
    if len(images) < 2 or int(label.sum()) < MIN_VOXELS:
        return None
    levels = [grey_levels(np.where(bodies[name], images[name], np.float32(np.nan))) for name in images]
    found = {turn: _told(levels, turned) for turn, turned in _turns(label)}
    turn = max(found, key=lambda turn: found[turn])
    return {"present": _told(levels, label), "best": found[turn], "turn": turn}


def _turns(label: NDArray[np.bool_]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for name, axes in _MIRRORED.items():
        yield name, np.flip(label, axes)
    if label.shape[1] == label.shape[2]:
        yield "with its rows and columns exchanged", label.transpose(0, 2, 1)


def _told(levels: Sequence[NDArray[np.intp]], label: NDArray[np.bool_]) -> float:
    """Mean over the images of I(level, label) / H(label) inside their bodies, corrected for chance, 0 to 1.

    I = H(level) + H(label) - H(level, label) - (n - 1) / 2N for n levels and N voxels, Miller-Madow's
    correction.
    """
    told = []
    for level in levels:
        inside = level < BINS
        joint = np.bincount(2 * level[inside] + label[inside], minlength=2 * BINS).reshape(BINS, 2)
        rows, columns, count = joint.sum(axis=1), joint.sum(axis=0), int(joint.sum())
        if count == 0 or not columns.all():
            told.append(0.0)
            continue
        information = entropy(rows, count) + entropy(columns, count) - entropy(joint, count)
        chance = (np.count_nonzero(rows) - 1) / (2.0 * count)
        told.append(max(0.0, (information - chance) / entropy(columns, count)))
    return float(np.mean(told))
