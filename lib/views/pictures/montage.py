"""Montage of a case as a PNG: each modality, with the contributions of the other modalities over it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from lib.cases.formats.image import Volume
from lib.cases.preprocessing import PreparedCase
from lib.ciml.inference.contribution_maps import MEASURE_UNITS, Link
from lib.ciml.inference.explanation import Explanation
from lib.ciml.inference.predict import body_box
from lib.runtime.files import replacing
from lib.views.pictures.outlines import draw_outlines, draw_structures, volumes_of
from lib.views.pictures.reorientation import Reorientation
from lib.views.pictures.saving import save_png
from lib.views.pictures.thumbnails import displayed

CIML_METHOD = "CIML as reconstructed from its abstract (Shen et al., Neural Networks 180 (2024) 106670)"
_CELL_INCHES, _DPI = 3.1, 120
_LETTERS_PER_INCH = 11  # in the caption
_GREY = "#9aa5b1"
_FOR, _AGAINST = "#ff6d00", "#2962ff"
LEGENDS = {
    "attention": "attention A to the sender",
    "magnitude": "magnitude of the message z",
    "kl": "information in the message",
    "addition": "magnitude of the message's addition",
    "gradient": "effect of the message on the logit; orange for, blue against",
    "grad_cam": "Grad-CAM of the sender",
}


@dataclass(frozen=True, eq=False)
class Plane:
    """One axial slice of a grid, the patient's right on the left and the front at the top.

    Attributes:
        patient: Reorientation of the grid to left, posterior, superior.
        level: Index of the slice, counted from the feet.
        window: Columns and rows that hold the body.
        size_mm: Height and width of the window.
        height_mm: Superior coordinate of the middle of the slice, in the header's coordinates.
    """

    patient: Reorientation
    level: int
    window: tuple[slice, slice]
    size_mm: tuple[float, float]
    height_mm: float

    @classmethod
    def through(cls, case: PreparedCase, region: NDArray[np.bool_]) -> Plane:
        """The slice with the largest part of a region, or of the body if the region is empty."""
        patient = Reorientation.to("LPS", case.grid)
        shown = patient.volume(region if region.any() else case.foreground)
        level = int(shown.sum(axis=(0, 1)).argmax())
        columns, rows, _ = patient.box(body_box(case.foreground))
        wide, tall, _ = patient.spacing
        left, posterior, _ = ((size - 1) / 2.0 for size in shown.shape)
        return cls(
            patient,
            level,
            (columns, rows),
            ((rows.stop - rows.start) * tall, (columns.stop - columns.start) * wide),
            float((case.grid.affine @ [*patient.voxel((left, posterior, level)), 1.0])[2]),
        )

    def of(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Pixels (rows, columns) of a volume (D, H, W) in this plane."""
        return self.patient.volume(volume)[:, :, self.level][self.window].T


def write_montage(
    case: PreparedCase,
    explanation: Explanation,
    path: Path,
    *,
    sentence: str = "",
    version: int | None = None,
    measure: str = "addition",
) -> None:
    """Draw a case and put it into a PNG file, atomically; the same input gives the same bytes."""
    figure = draw_montage(case, explanation, sentence=sentence, version=version, measure=measure)
    with replacing(path) as part:
        save_png(figure, part)


def draw_montage(
    case: PreparedCase,
    explanation: Explanation,
    *,
    sentence: str = "",
    version: int | None = None,
    measure: str = "addition",
) -> Figure:
    """Draw a row per modality: the image with the outline, then the contribution map of each other modality.

    Args:
        case: Case on the grid of the explanation.
        explanation: Explanation with the maps of `measure`.
        sentence: Sentence on what each modality accounts for, for the caption.
        version: Version of the model, for the caption.
        measure: Measure of the maps; all maps share one colour scale.
    """
    label = explanation.decomposition.labels_of(explanation.probabilities)
    plane, links = Plane.through(case, label > 0), _links_by_row(case, explanation)
    maps = explanation.maps[measure]
    shown = {link: plane.of(maps[link]) for row in links.values() for link in row}
    scale = _scale(list(shown.values()), signed=measure == "gradient")
    columns = 1 + max(len(row) for row in links.values())
    tall = plane.size_mm[0] / plane.size_mm[1]
    size = (_CELL_INCHES * columns + 0.9, (_CELL_INCHES * tall + 0.25) * len(links) + 0.9)
    figure = Figure(size, dpi=_DPI, layout="constrained", facecolor="black")
    cells = figure.subplots(len(links), columns, squeeze=False)
    for line, (name, row) in zip(cells, links.items(), strict=True):
        image = _image(case, plane, name)
        for axes in line:
            axes.axis("off")
        _draw_image(line[0], image, plane)
        draw_outlines(line[0], plane.of(label), size_mm=plane.size_mm)
        _title(line[0], f"{name}, outline of all subtasks")
        for axes, link in zip(line[1:], row, strict=False):
            _draw_image(axes, image, plane)
            _draw_map(axes, shown[link], scale, plane)
            draw_outlines(axes, plane.of(label), size_mm=plane.size_mm)
            number = explanation.contributions[measure][link]
            _title(axes, f"{link[0]} → subtask {link[1]}: {number:.2f}")
    _draw_legend(figure, cells, scale, measure)
    structures = explanation.decomposition.labels
    draw_structures(figure, volumes_of(Volume(label, case.grid)), structures)
    caption = _caption(case, explanation, plane, sentence, version)
    lines = [textwrap.fill(line, int(_LETTERS_PER_INCH * size[0])) for line in caption.splitlines()]
    figure.suptitle("\n".join(lines), color="white", fontsize=11, parse_math=False)
    return figure


def _links_by_row(case: PreparedCase, explanation: Explanation) -> dict[str, list[Link]]:
    """Links to the subtask that each modality leads, from the other modalities that the case has."""
    had = [name for name, here in zip(case.modalities, case.present, strict=True) if here]
    return {
        name: [
            (sender, task.name)
            for task in explanation.decomposition.subtasks
            if name in task.primary
            for sender in task.auxiliary
            if sender in had
        ]
        for name in had
    }


def _image(case: PreparedCase, plane: Plane, name: str) -> NDArray[np.float32]:
    channel = np.asarray(case.array[case.modalities.index(name)])
    return displayed(plane.of(channel).astype(np.float32), plane.of(case.foreground), name)


def _scale(shown: list[NDArray[Any]], *, signed: bool) -> ScalarMappable:
    """Colour scale, transparent at zero; the strongest half percent of the shown voxels share one colour."""
    values = np.abs(np.concatenate([part.ravel() for part in shown])) if shown else np.zeros(1)
    limit = max(float(np.percentile(values, 99.5)), 1e-6)
    strong, clear = (to_rgba(_FOR, 0.9), to_rgba(_FOR, 0.0))
    colours = [to_rgba(_AGAINST, 0.9), to_rgba(_AGAINST, 0.0), clear, strong] if signed else [clear, strong]
    places = [0.0, 0.5, 0.5, 1.0] if signed else [0.0, 1.0]
    map = LinearSegmentedColormap.from_list("contribution", list(zip(places, colours, strict=True)))
    return ScalarMappable(Normalize(-limit if signed else 0.0, limit), map)


def _draw_image(axes: Axes, image: NDArray[np.float32], plane: Plane) -> None:
    height, width = plane.size_mm
    axes.imshow(
        image, cmap="gray", vmin=0.0, vmax=1.0, extent=(0.0, width, height, 0.0), interpolation="bilinear"
    )
    for place, side in ((0.02, "R"), (0.98, "L")):
        mark = axes.text(
            place, 0.5, side, color="white", fontsize=9, ha="center", va="center", transform=axes.transAxes
        )
        mark.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _draw_map(axes: Axes, values: NDArray[Any], scale: ScalarMappable, plane: Plane) -> None:
    (height, width), (low, high) = plane.size_mm, scale.get_clim()
    axes.imshow(
        values,
        cmap=scale.cmap,
        vmin=low,
        vmax=high,
        extent=(0.0, width, height, 0.0),
        interpolation="bilinear",
    )


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, color="white", fontsize=9.5, parse_math=False, pad=3)


def _draw_legend(figure: Figure, cells: NDArray[Any], scale: ScalarMappable, measure: str) -> None:
    bar = figure.colorbar(scale, ax=cells.ravel().tolist(), pad=0.01, aspect=40, fraction=0.03)
    bar.ax.set_facecolor("black")
    bar.ax.tick_params(colors="white", labelsize=8)
    bar.outline.set_edgecolor(_GREY)
    bar.set_label(
        f"{LEGENDS[measure]} ({MEASURE_UNITS[measure]}); above a picture: mean inside the outline",
        color="white",
        fontsize=9,
    )


def _caption(
    case: PreparedCase, explanation: Explanation, plane: Plane, sentence: str, version: int | None
) -> str:
    model = "" if version is None else f", model version {version}"
    region = "the largest outline" if (explanation.probabilities >= 0.5).any() else "most of the body"
    return (
        f"{case.id}{model}: axial slice with {region}, z = {plane.height_mm:.0f} mm\n"
        f"{sentence}\n{CIML_METHOD}"
    )
