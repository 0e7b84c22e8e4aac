"""A still picture of a case: every modality in three planes through the same point."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from lib.cases.boxes import Box
from lib.cases.case import Case
from lib.cases.formats.image import Volume, read_volume, resample
from lib.cases.preprocessing import PreparedCase, prepare
from lib.mdal.representation.views import view_box
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.views.pictures.difference_map import ColourRange
from lib.views.pictures.outlines import draw_outlines, draw_structures, volumes_of
from lib.views.pictures.reorientation import Reorientation
from lib.views.pictures.saving import save_jpeg
from lib.views.pictures.thumbnails import displayed

_CELL_INCHES, _DPI, _QUALITY = 2.6, 100, 80
_CROSS = "#ffc24b"


@dataclass(frozen=True, eq=False)
class DrawnDifference:
    """Where the modalities of a case differ.

    Attributes:
        map: Departure of each place in deviations, on the case's grid (`difference_map`).
        range: Range of the colours.
    """

    map: Volume
    range: ColourRange


@dataclass(frozen=True)
class _View:
    """One of the three planes as radiologists hang it.

    Attributes:
        name: Name of the plane, shown above it.
        axes: Axes of (left, posterior, inferior): down the picture, across it, and through the plane.
        sides: Letters at the left and the right edge.
    """

    name: str
    axes: tuple[int, int, int]
    sides: tuple[str, str]


_VIEWS = (
    _View("axial", (1, 0, 2), ("R", "L")),
    _View("coronal", (2, 0, 1), ("R", "L")),
    _View("sagittal", (2, 1, 0), ("A", "P")),
)


def readable_case(workspace: Workspace, case: Case) -> PreparedCase:
    """A prepared case with its readable modalities.

    Raises:
        UserError: If no modality can be read.
    """
    with suppress(UserError):
        return workspace.cache.get(case)
    kept = {}
    for name, source in case.modalities.items():
        with suppress(UserError):
            if np.isfinite(read_volume(source, max_voxels=workspace.preparation.max_voxels).array).all():
                kept[name] = source
    if not kept:
        raise UserError(f"case {case.id} must have an image that can be read; none can. Export it again.")
    return prepare(replace(case, modalities=kept), workspace.preparation)


def write_planes(
    path: Path,
    case: PreparedCase,
    *,
    through: tuple[float, float, float] | None = None,
    label: Volume | None = None,
    structures: Mapping[str, int] | None = None,
    difference: DrawnDifference | None = None,
) -> None:
    """Write a JPEG with a row per modality and a column per plane.

    Args:
        path: File to write.
        case: Prepared case.
        through: Point in RAS mm; None for the middle of the label, or of the body without a label.
        label: Label to draw as outlines.
        structures: Value of each structure's name, for the legend.
        difference: Where the modalities differ, in a row of its own; None for no such row.
    """
    figure = draw_planes(case, through=through, label=label, structures=structures, difference=difference)
    save_jpeg(figure, path, quality=_QUALITY, optimize=True)


def draw_planes(
    case: PreparedCase,
    *,
    through: tuple[float, float, float] | None = None,
    label: Volume | None = None,
    structures: Mapping[str, int] | None = None,
    difference: DrawnDifference | None = None,
) -> Figure:
    """Draw the figure that `write_planes` saves."""
    outlined = None if label is None else resample(label, case.grid, nearest=True).array
    patient = Reorientation.to("LPI", case.grid)
    place = patient.index(_voxel(case, through, None if outlined is None else outlined > 0))
    body = patient.volume(case.foreground)
    window, step = patient.box(view_box(case.foreground)), patient.spacing
    names = [name for name, here in zip(case.modalities, case.present, strict=True) if here]
    size_mm = [(part.stop - part.start) * mm for part, mm in zip(window, step, strict=True)]
    widths = [size_mm[view.axes[1]] for view in _VIEWS]
    tall = max(size_mm[view.axes[0]] for view in _VIEWS) * len(_VIEWS) / sum(widths)
    count = len(names) + (difference is not None)
    figure = Figure(
        (_CELL_INCHES * len(_VIEWS), (_CELL_INCHES * min(tall, 2.0) + 0.2) * count),
        dpi=_DPI,
        layout="constrained",
        facecolor="black",
    )
    cells = figure.subplots(count, len(_VIEWS), squeeze=False, width_ratios=widths)
    outline = None if outlined is None else patient.volume(outlined)
    cuts = [_Cut(view, place, window, step) for view in _VIEWS]
    shown = {
        name: _images(patient.volume(case.array[case.modalities.index(name)]), body, name, cuts)
        for name in names
    }
    for row, name in zip(cells, names, strict=False):
        for axes, cut, image in zip(row, cuts, shown[name], strict=True):
            _draw(axes, cut, image, None if outline is None else cut.of(outline))
            _name(axes, f"{name}, {cut.view.name}")
    if difference is not None:
        departure = patient.volume(difference.map.array)
        for axes, cut, image in zip(cells[-1], cuts, shown[names[0]], strict=True):
            _draw(axes, cut, image, None if outline is None else cut.of(outline))
            _colour(axes, cut, cut.of(departure), difference.range)
            _name(axes, f"where the modalities differ, {cut.view.name}")
    if label is not None and structures:
        draw_structures(figure, volumes_of(label), structures)
    return figure


def _name(axes: Axes, title: str) -> None:
    axes.set_title(title, color="white", fontsize=9, parse_math=False, pad=3)


def _colour(axes: Axes, cut: _Cut, departure: NDArray[np.float32], colours: ColourRange) -> None:
    """Colour what departs from what is usual by more than half of the pool does."""
    height, width = cut.size_mm
    axes.imshow(
        np.ma.masked_less(departure, colours.low),
        cmap="inferno", vmin=colours.low, vmax=colours.high, alpha=0.6,
        extent=(0.0, width, height, 0.0), interpolation="nearest",
    )  # fmt: skip


@dataclass(frozen=True)
class _Cut:
    """A plane through a voxel, cropped to the body."""

    view: _View
    place: tuple[int, int, int]
    window: Box
    step: tuple[float, float, float]

    def of(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Pixels (rows, columns) of a volume along (left, posterior, inferior) in this plane."""
        down, across, along = self.view.axes
        cut = np.moveaxis(volume, (down, across), (0, 1))[:, :, self.place[along]]
        return np.asarray(cut[self.window[down], self.window[across]])

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width in mm."""
        down, across, _ = self.view.axes
        height, width = (
            (self.window[axis].stop - self.window[axis].start) * self.step[axis] for axis in (down, across)
        )
        return height, width

    @property
    def cross_mm(self) -> tuple[float, float]:
        """Distance of the point from the top and from the left, in mm."""
        down, across = (
            (self.place[axis] - self.window[axis].start + 0.5) * self.step[axis]
            for axis in self.view.axes[:2]
        )
        return down, across


def _images(
    volume: NDArray[Any], body: NDArray[np.bool_], name: str, cuts: list[_Cut]
) -> list[NDArray[np.float32]]:
    """The three planes of a modality, with one window for all."""
    planes = [cut.of(volume).astype(np.float32) for cut in cuts]
    inside = np.concatenate([cut.of(body).ravel() for cut in cuts])
    shown = displayed(np.concatenate([plane.ravel() for plane in planes]), inside, name)
    ends = np.cumsum([plane.size for plane in planes])[:-1]
    return [part.reshape(plane.shape) for part, plane in zip(np.split(shown, ends), planes, strict=True)]


def _draw(axes: Axes, cut: _Cut, image: NDArray[np.float32], outline: NDArray[Any] | None) -> None:
    height, width = cut.size_mm
    axes.axis("off")
    axes.imshow(
        image, cmap="gray", vmin=0.0, vmax=1.0, extent=(0.0, width, height, 0.0), interpolation="bilinear"
    )
    down, across = cut.cross_mm
    axes.axhline(down, color=_CROSS, linewidth=0.6, alpha=0.7)
    axes.axvline(across, color=_CROSS, linewidth=0.6, alpha=0.7)
    if outline is not None:
        draw_outlines(axes, outline, size_mm=cut.size_mm)
    for place, side in zip((0.03, 0.97), cut.view.sides, strict=True):
        mark = axes.text(
            place, 0.5, side, color="white", fontsize=8, ha="center", va="center", transform=axes.transAxes
        )
        mark.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _voxel(
    case: PreparedCase, through: tuple[float, float, float] | None, region: NDArray[np.bool_] | None
) -> tuple[int, int, int]:
    """Voxel (W, H, D) that the planes go through."""
    if through is not None:
        voxel = (np.linalg.inv(case.grid.affine) @ [*through, 1.0])[:3]
    elif region is not None and region.any():
        voxel = np.argwhere(region).mean(axis=0)[::-1]
    else:
        voxel = np.array([(part.start + part.stop - 1) / 2 for part in view_box(case.foreground)])[::-1]
    i, j, k = (
        min(max(round(float(at)), 0), size - 1) for at, size in zip(voxel, case.grid.shape[::-1], strict=True)
    )
    return i, j, k
