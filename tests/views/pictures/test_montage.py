"""The montage: the right slice the right way round, every modality that is there, readable by a program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from lib.cases.formats.image import Grid
from lib.cases.preprocessing import PreparedCase
from lib.cases.structure_colours import colour_of
from lib.ciml.decomposition.table import decomposition_for
from lib.ciml.inference.explanation import Explanation, Link, messages_of
from lib.views.pictures.montage import Plane, draw_montage, write_montage

MODALITIES = ("CT", "PET", "MR_T1")
SHAPE = (12, 20, 24)
RAS = np.array([[4.0, 0, 0, -50], [0, 4.0, 0, -40], [0, 0, 5.0, 100], [0, 0, 0, 1]])
# The same grid, read from the other corner.
LPS = np.array([[-4.0, 0, 0, 42], [0, -4.0, 0, 36], [0, 0, -5.0, 155], [0, 0, 0, 1]])
RIGHT_FRONT = (slice(7, 8), slice(13, 17), slice(16, 20))  # along RAS: high is right, front, head


def case_of(affine: np.ndarray, *, absent: str = "") -> PreparedCase:
    array = np.random.default_rng(0).standard_normal((3, *SHAPE)).astype(np.float16) * 0.1
    present = np.array([name != absent for name in MODALITIES])
    return PreparedCase("p1", MODALITIES, array, np.ones(SHAPE, bool), present, Grid(SHAPE, affine))


def explained(region: np.ndarray, *, loud: Link = ("PET", "anatomy"), absent: str = "") -> Explanation:
    decomposition = decomposition_for(MODALITIES)
    links = messages_of(decomposition)
    maps = {link: np.full(SHAPE, float(link == loud), np.float32) for link in links}
    numbers = {link: float(link == loud) for link in links}
    return Explanation(
        decomposition,
        (absent,) if absent else (),
        region[None].astype(np.float32),
        {"addition": maps},
        {"addition": numbers},
    )


def region_at(box: tuple[slice, slice, slice]) -> np.ndarray:
    region = np.zeros(SHAPE, bool)
    region[box] = True
    return region


@pytest.mark.parametrize("flipped", [False, True])
def test_the_slice_goes_through_the_largest_outline_with_the_left_on_the_right(flipped: bool) -> None:
    region = region_at(RIGHT_FRONT)
    region[2, 0, 0] = True  # a smaller one elsewhere
    region = region[::-1, ::-1, ::-1] if flipped else region
    affine = LPS if flipped else RAS
    plane = Plane.through(case_of(affine), region)
    rows, columns = np.nonzero(plane.of(region))
    height, width = plane.of(region).shape
    assert len(rows) == 16
    assert plane.height_mm == pytest.approx(135.0)
    assert rows.mean() < height / 2  # in front is at the top
    assert columns.mean() < width / 2  # the patient's right is on the left
    assert plane.size_mm == pytest.approx((80.0, 96.0))


def test_every_modality_has_a_row_and_every_message_to_it_a_picture() -> None:
    figure = draw_montage(case_of(RAS), explained(region_at(RIGHT_FRONT)), version=7)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert sum("outline" in title for title in titles) == 3
    assert sum("→ subtask" in title for title in titles) == 6
    text = " ".join(figure.get_suptitle().split())  # lines break anywhere
    assert "p1, model version 7" in text
    assert "as reconstructed from its abstract" in text
    assert any("typical length" in axes.get_ylabel() for axes in figure.axes)


def test_a_modality_that_is_absent_is_not_drawn() -> None:
    case, found = case_of(RAS, absent="MR_T1"), explained(region_at(RIGHT_FRONT), absent="MR_T1")
    figure = draw_montage(case, found, sentence="PET accounts for all. MR_T1 absent.")
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert not any(title.startswith("MR_T1") for title in titles)
    assert "MR_T1 absent." in " ".join(figure.get_suptitle().split())


def test_only_the_message_that_spoke_is_coloured(tmp_path: Path) -> None:
    loud = messages_of(decomposition_for(MODALITIES))[0]
    figure = draw_montage(case_of(RAS), explained(region_at(RIGHT_FRONT), loud=loud))
    figure.canvas.draw()
    for axes in figure.axes:
        if "→" in axes.get_title():
            drawn = axes.images[1]
            alpha = drawn.to_rgba(drawn.get_array())[..., 3]
            assert (alpha.max() > 0.5) == axes.get_title().startswith(f"{loud[0]} → subtask {loud[1]}:")


def test_the_same_case_gives_the_same_png(tmp_path: Path) -> None:
    for name in ("first.png", "second.png"):
        write_montage(case_of(RAS), explained(region_at(RIGHT_FRONT)), tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    pixels = np.asarray(Image.open(tmp_path / "first.png").convert("RGB"), dtype=float) / 255
    outline = np.abs(pixels - to_rgb(colour_of(1))).max(axis=-1) < 0.05
    assert outline.sum() > 100


def test_a_case_in_which_nothing_is_outlined_is_drawn_without_an_outline() -> None:
    figure = draw_montage(case_of(RAS), explained(np.zeros(SHAPE, bool)))
    assert "most of the body" in figure.get_suptitle()
    assert not any(axes.collections for axes in figure.axes if "outline" in axes.get_title())
