"""Two modalities of a case in one picture: a checkerboard of both, with the outline of the body in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from lib.cases.body import body_mask
from lib.cases.case import Case
from lib.cases.formats.image import Grid, Volume, read_volume, resample
from lib.cases.modalities import kind
from lib.cases.preprocessing import Preparation, normalise
from lib.cases.quality.measurements import coarsen
from lib.pipeline.disk import disk_bytes
from lib.pipeline.workspace import Workspace
from lib.views.documents.case_files import NotThere
from lib.views.pictures.picture_cache import PictureCache
from lib.views.pictures.saving import save_jpeg
from lib.views.pictures.thumbnails import displayed

CHECKERBOARD_VERSION = 1  # raise when a picture of the same files changes
_PIXELS = 420  # along the longer side of a plane
_TILES = 9  # along the longer side of a plane
_OUTSIDE = 0.22  # grey level outside an image's field of view
_MARGIN = 0.15  # margin around the common field of view, as a share of its size
_OUTLINES: tuple[tuple[str, Literal["-", "--"]], ...] = (("#00e5ff", "-"), ("#ffb000", "--"))
_DPI, _INCHES, _QUALITY = 100, 3.2, 80

Picture = NDArray[np.float32]  # (rows, columns)


@dataclass(frozen=True, eq=False)
class _Image:
    """One modality: its voxels, and its body mask on a coarse grid."""

    name: str
    volume: Volume
    body: Volume

    @classmethod
    def read(cls, case: Case, name: str, preparation: Preparation) -> _Image:
        volume = read_volume(case.modalities[name], max_voxels=preparation.max_voxels)
        coarse = coarsen(volume)
        body = body_mask(np.nan_to_num(coarse.array), name)
        return cls(name, volume, Volume(body.astype(np.float32), coarse.grid))

    @property
    def field(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Smallest and largest RAS coordinates of the field of view, in mm."""
        d, h, w = self.volume.grid.shape
        indices = np.array([[i, j, k, 1.0] for i in (0, w - 1) for j in (0, h - 1) for k in (0, d - 1)])
        corners = (self.volume.grid.affine @ indices.T)[:3]  # (3, 8)
        return corners.min(axis=1), corners.max(axis=1)

    def on(self, plane: Grid, preparation: Preparation) -> tuple[Picture, Picture]:
        """Grey values, 0 black to 1 white and NaN outside the field of view, and the body from 0 to 1."""
        values = resample(self.volume, plane, fill=np.nan).array.squeeze()
        body = resample(self.body, plane, fill=0.0).array.squeeze()
        inside, known = body >= 0.5, np.nan_to_num(values)
        shown = normalise(known, self.name, inside, preparation).astype(np.float32)
        if kind(self.name) == "PET":  # dark outside the body like the others, with a visible skin
            grey = np.sqrt(np.clip(shown, 0.0, 1.0))
        else:
            grey = displayed(shown, inside, self.name)
        return np.where(np.isfinite(values), grey, np.nan).astype(np.float32), body


class Checkerboards:
    """Checkerboards of the cases, made once for their files, then read from disk."""

    def __init__(self, workspace: Workspace) -> None:
        """Make no picture yet."""
        self.workspace = workspace
        self._kept = PictureCache(
            workspace.folders.work / "checkerboards",
            max_bytes=disk_bytes(workspace.settings, "checkerboards"),
        )

    def file(self, case: Case, first: str, second: str) -> Path:
        """A JPEG of two modalities of a case, made now if it does not exist.

        Raises:
            NotThere: If the case does not have both modalities, or they are the same.
            UserError: If one of the images cannot be read.
        """
        if first == second or not {first, second} <= case.modalities.keys():
            raise NotThere(
                f"first and second must be two of {', '.join(case.modalities)}, which case {case.id} has; "
                f"got {first[:40]!r} and {second[:40]!r}."
            )
        preparation = self.workspace.preparation

        def make(path: Path) -> None:
            write_checkerboard(path, case, first, second, preparation)

        files = [[name, case.modalities[name].stamp()] for name in (first, second)]
        display_window = [preparation.ct_window, preparation.pet_ceiling]
        return self._kept.file(CHECKERBOARD_VERSION, case.id, files, display_window, suffix=".jpg", make=make)


def write_checkerboard(path: Path, case: Case, first: str, second: str, preparation: Preparation) -> None:
    """Write a JPEG of two modalities, alone and as a checkerboard, in an axial and a coronal plane.

    Each plane lies at the same position in both modalities. If their fields of view do not overlap, there is
    no such position: each modality is then shown in its own planes, without a checkerboard.

    Args:
        path: File to write.
        case: Case of the images.
        first: Modality with the solid outline.
        second: Modality with the dashed outline.
        preparation: Preparation that maps values to grey levels.

    Raises:
        UserError: If one of the images cannot be read.
    """
    images = [_Image.read(case, name, preparation) for name in (first, second)]
    met = _Planes.of_both(*images)
    planes = [met, met] if met else [_Planes.of_one(image) for image in images]
    tall = sum(_tall(grid) for grid in planes[0].grids().values())
    columns = 3 if met else 2
    figure = Figure(
        (columns * _INCHES, _INCHES * min(tall, 3.0) + 0.7), dpi=_DPI, layout="constrained", facecolor="black"
    )
    cells = figure.subplots(2, columns, height_ratios=[_tall(grid) for grid in planes[0].grids().values()])
    for row, title in zip(cells, planes[0].grids(), strict=True):
        grids = [part.grids()[title] for part in planes]
        shown = [image.on(grid, preparation) for image, grid in zip(images, grids, strict=True)]
        for place, (axes, image) in enumerate(zip(row, images, strict=False)):
            outlines = [body if met or place == of else None for of, (_, body) in enumerate(shown)]
            _draw(axes, f"{image.name}, {title}", shown[place][0], outlines)
        if met:
            board = _board(*(grey for grey, _ in shown))
            _draw(row[2], f"both, {title}", board, [body for _, body in shown])
    lines = [
        Line2D([], [], color=colour, linestyle=style, label=f"body in {image.name}")
        for image, (colour, style) in zip(images, _OUTLINES, strict=True)
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False, labelcolor="white")
    save_jpeg(figure, path, quality=_QUALITY)


@dataclass(frozen=True, eq=False)
class _Planes:
    """A box along the patient's axes in RAS mm, and the point that the planes go through."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    middle: NDArray[np.float64]

    @classmethod
    def of_both(cls, first: _Image, second: _Image) -> _Planes | None:
        """Planes around the common field of view; None if the fields of view do not overlap."""
        (a, b), (c, d) = first.field, second.field
        low, high = np.maximum(a, c), np.minimum(b, d)
        reached = np.isfinite(resample(second.body, first.body.grid, fill=np.nan).array)
        if (low >= high).any() or not reached.any():
            return None
        margin = _MARGIN * (high - low)
        within = (np.maximum(low - margin, np.minimum(a, c)), np.minimum(high + margin, np.maximum(b, d)))
        body = (first.body.array >= 0.5) & reached
        return cls(*within, _middle(first.body.grid, body if body.any() else reached))

    @classmethod
    def of_one(cls, image: _Image) -> _Planes:
        """Planes of one image's whole field of view."""
        body = image.body.array >= 0.5
        return cls(*image.field, _middle(image.body.grid, body if body.any() else ~body))

    def grids(self) -> dict[str, Grid]:
        """Grids of the planes: the patient's right on the left, anterior or superior at the top."""
        size, (_, y, z) = self.high - self.low, self.middle
        step = float(size.max()) / _PIXELS
        columns, rows, levels = (max(2, int(length / step)) for length in size)
        axial, coronal = np.diag([-step, -step, step, 1.0]), np.diag([-step, -step, -step, 1.0])
        axial[:3, 3] = (self.high[0], self.high[1], z)
        coronal[:3, 3] = (self.high[0], y, self.high[2])
        return {"axial": Grid((1, rows, columns), axial), "coronal": Grid((levels, 1, columns), coronal)}


def _middle(grid: Grid, region: NDArray[np.bool_]) -> NDArray[np.float64]:
    k, j, i = (np.median(places) for places in np.nonzero(region))
    return np.asarray((grid.affine @ [i, j, k, 1.0])[:3])


def _tall(grid: Grid) -> float:
    return max(grid.shape[:2]) / grid.shape[2]


def _board(first: Picture, second: Picture) -> Picture:
    """Checkerboard with tiles of the two pictures in turn."""
    rows, columns = np.indices(first.shape) // max(1, _PIXELS // _TILES)
    return np.asarray(np.where((rows + columns) % 2 == 0, first, second))


def _draw(axes: Axes, title: str, grey: Picture, outlines: Sequence[Picture | None]) -> None:
    axes.imshow(np.where(np.isfinite(grey), grey, _OUTSIDE), cmap="gray", vmin=0.0, vmax=1.0)
    for body, (colour, style) in zip(outlines, _OUTLINES, strict=True):
        if body is not None and (body >= 0.5).any() and (body < 0.5).any():
            axes.contour(body, [0.5], colors=colour, linestyles=style, linewidths=1.3)
    for place, side in ((0.02, "R"), (0.98, "L")):
        mark = axes.text(
            place, 0.5, side, color="white", fontsize=9, ha="center", va="center", transform=axes.transAxes
        )
        mark.set_path_effects([withStroke(linewidth=2, foreground="black")])
    axes.set_title(title, color="white", fontsize=10, pad=3, parse_math=False)
    axes.axis("off")
