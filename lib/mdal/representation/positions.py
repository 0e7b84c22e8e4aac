"""Location of a feature position in the patient."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lib.cases.boxes import Box
from lib.mdal.representation.encoder import STRIDE, place_counts
from lib.mdal.representation.views import VIEW_SHAPE, Shape, view_box


def position_box(position: int, foreground: NDArray[np.bool_], *, shape: Shape = VIEW_SHAPE) -> Box:
    """Box of a prepared case around the centre of a feature position, one stride wide.

    A strided convolution with a padding of 1 centres position i on voxel i * stride of the view, not on the
    centre of the i-th block.

    Args:
        position: Index into the last axis of the features, which runs over (d, h, w).
        foreground: Foreground of the prepared case, shape (D, H, W).
        shape: Shape of the view.

    Returns:
        Slices along D, H and W, inside the part of the case that the view shows.

    Raises:
        ValueError: If the position is out of range.
    """
    counts = place_counts(shape, STRIDE)
    if not 0 <= position < math.prod(counts):
        raise ValueError(f"position must be 0 to {math.prod(counts) - 1}; got {position}.")
    parts = []
    axes = zip(view_box(foreground), np.unravel_index(position, counts), STRIDE, shape, strict=True)
    for seen, place, step, length in axes:
        scale = (seen.stop - seen.start) / length
        middle, half = seen.start + (int(place) * step + 0.5) * scale, step * scale / 2
        start = max(seen.start, math.floor(middle - half))
        parts.append(slice(start, max(start + 1, min(seen.stop, math.ceil(middle + half)))))
    return parts[0], parts[1], parts[2]
