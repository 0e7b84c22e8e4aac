"""The still picture of a case: where it is cut, and which way round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import AxesImage

from lib.cases.formats.image import Volume
from lib.cases.structure_colours import colour_of
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.views.pictures.difference_map import colour_range, difference_map, middle_of
from lib.views.pictures.planes import DrawnDifference, draw_planes, readable_case, write_planes
from tests.support.images import write_image
from tests.support.places import differences, peak
from tests.views.pictures.test_thumbnails import LEFT_FRONT_HIGH, affines, prepared


def drawn(figure: object) -> list[np.ndarray]:
    """The pictures, row by row: axial, coronal, sagittal."""
    return [
        np.asarray(child.get_array())
        for axes in figure.axes
        for child in axes.get_children()
        if isinstance(child, AxesImage)
    ]


@pytest.mark.parametrize("orientation", ["ras", "lps", "coronal"])
def test_every_plane_goes_through_the_place_and_hangs_as_radiologists_hang_it(orientation: str) -> None:
    case = prepared(*affines()[orientation])
    x, y, z = LEFT_FRONT_HIGH
    pictures = drawn(draw_planes(case, through=(-x, y, z)))
    assert len(pictures) == 6  # two modalities
    axial, coronal, sagittal = (
        np.argwhere(picture == 1.0).mean(axis=0) / picture.shape for picture in pictures[:3]
    )
    assert axial[0] < 0.5 < axial[1]  # the front at the top, the left on the right
    assert coronal[0] < 0.5 < coronal[1]  # the head at the top, the left on the right
    assert sagittal[0] < 0.5  # the head at the top, the front on the left
    assert sagittal[1] < 0.5
    elsewhere = drawn(draw_planes(case, through=(x, -y, -z)))
    assert not any((picture == 1.0).any() for picture in elsewhere[:3])


def test_a_labelled_case_is_cut_through_its_label(tmp_path: Path) -> None:
    case = prepared(*affines()["ras"])
    bright = Volume((np.asarray(case.array[0]) > 0.5).astype(np.uint8), case.grid)
    assert all((picture == 1.0).any() for picture in drawn(draw_planes(case, label=bright))[:3])
    write_planes(tmp_path / "planes.jpg", case, label=bright)
    assert (tmp_path / "planes.jpg").read_bytes().startswith(b"\xff\xd8")


def test_each_structure_has_its_colour_and_the_legend_says_its_volume() -> None:
    case = prepared(*affines()["ras"])
    values = np.zeros(case.grid.shape, np.uint8)
    values[2:8, 4:12, 4:12] = 2
    values[4:6, 6:10, 6:10] = 1
    shown = draw_planes(case, label=Volume(values, case.grid), structures={"core": 1, "oedema": 2, "rim": 3})
    colours = {
        to_hex(colour)
        for axes in shown.axes
        for lines in axes.collections
        for colour in lines.get_edgecolor()
    }
    assert colours == {colour_of(1), colour_of(2)}
    millilitres = np.bincount(values.ravel())[1:] * np.prod(case.grid.spacing) / 1000.0
    legend = [text.get_text() for text in shown.legends[0].get_texts()]
    assert legend == [f"core, {millilitres[0]:.1f} ml", f"oedema, {millilitres[1]:.1f} ml"]


def test_a_case_with_a_damaged_image_is_shown_with_the_others(tmp_path: Path) -> None:
    for name in ("CT", "PET"):
        write_image(tmp_path / "studies" / "a" / f"{name}.nii.gz", shape=(20, 20, 20))
    workspace = Workspace(tmp_path / "studies", AppSettings())
    (tmp_path / "studies" / "a" / "CT.nii.gz").write_bytes(b"no image")
    shown = readable_case(workspace, workspace.pool.cases[0])
    assert dict(zip(shown.modalities, shown.present.tolist(), strict=True)) == {"CT": False, "PET": True}


def test_a_row_shows_where_the_modalities_differ() -> None:
    case = prepared(*affines()["ras"])
    known = differences({"p": peak(86)})
    shown = DrawnDifference(difference_map(case, known), colour_range(known))
    figure = draw_planes(case, through=middle_of(case, known.box(case, 86)), difference=shown)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[-3:] == [
        f"where the modalities differ, {name}" for name in ("axial", "coronal", "sagittal")
    ]
    for axes in figure.axes[-3:]:
        _, colours = axes.findobj(AxesImage)
        values = colours.get_array()
        assert values.max() == pytest.approx(shown.map.array.max())
        assert 0 < values.count() < values.size
