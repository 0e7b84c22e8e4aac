"""Outlines of structures over a picture, each in its colour, and their legend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from lib.cases.formats.image import Volume
from lib.cases.structure_colours import colour_of


def draw_outlines(axes: Axes, label: NDArray[Any], *, size_mm: tuple[float, float]) -> None:
    """Outline every value of a label map (rows, columns) on a picture of that height and width in mm."""
    height, width = size_mm
    rows, columns = label.shape
    down = (np.arange(rows) + 0.5) * height / rows
    across = (np.arange(columns) + 0.5) * width / columns
    for value in np.unique(label[label > 0]).astype(int).tolist():
        region = label == value
        if not region.all():
            axes.contour(across, down, region, [0.5], colors=colour_of(value), linewidths=1.1)


def draw_structures(figure: Figure, volumes_ml: Mapping[int, float], names: Mapping[str, int]) -> None:
    """Legend below a dark figure: colour, name and volume of each structure.

    Args:
        figure: Figure in the constrained layout.
        volumes_ml: Volume in ml by label value.
        names: Value of each structure's name.
    """
    name_of = {value: name for name, value in names.items()}
    lines = [
        Line2D(
            [], [], color=colour_of(value), label=f"{name_of.get(value, f'value {value}')}, {volume:.1f} ml"
        )
        for value, volume in sorted(volumes_ml.items())
    ]
    if lines:
        figure.legend(
            handles=lines, loc="outside lower center", ncols=min(4, len(lines)), fontsize=9,
            facecolor="black", edgecolor="black", labelcolor="white",
        )  # fmt: skip


def volumes_of(label: Volume) -> dict[int, float]:
    """Volume in ml of each structure of a label."""
    voxel_ml = float(np.prod(label.grid.spacing)) / 1000.0
    values, counts = np.unique(label.array[label.array > 0], return_counts=True)
    return {int(value): float(count) * voxel_ml for value, count in zip(values, counts, strict=True)}
