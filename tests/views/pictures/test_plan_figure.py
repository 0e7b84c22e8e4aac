import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from lib.cases.formats.image import read_grid
from lib.pipeline.place_differences import differences_folder
from lib.pipeline.plan_document import MDAL_METHOD, PlanDocument, PlannedCase
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.plan.budget import Budget
from lib.plan.scores import CaseScore
from lib.views.pictures.plan_figure import draw, write_figure
from tests.conftest import SAMPLES
from tests.support.places import differences, peak

PAIR = "CT/PET"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Nine cases by their folders, of two patients' images, so that few are read."""
    studies = tmp_path_factory.mktemp("figure") / "studies"
    for number in range(9):
        shutil.copytree(SAMPLES / ("STS_025", "STS_041")[number % 2], studies / f"p{number}")
    workspace = Workspace(studies, AppSettings())
    workspace.plan.write(content="c", seed=0, scores={}, orders={}, about={})
    known = {f"p{number}": peak(120 + number) for number in range(9)}
    differences(known, [PAIR]).save(differences_folder(workspace), of="c")
    return workspace


def planned(number: int, *, scored: bool = True, chosen: bool = True) -> PlannedCase:
    features = np.random.default_rng(number).normal(size=5)
    known = CaseScore(
        2.0 - number / 2, 100.0 - 12.5 * number, {"most_different_pair": PAIR}, features=features, cluster=0
    )
    return PlannedCase(number + 1, f"p{number}", chosen, known if scored else CaseScore())


def document(*cases: PlannedCase, **about: object) -> PlanDocument:
    return PlanDocument("diversemd", Budget.parse("20%"), (PAIR,), cases, {}, about)


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_the_figure_shows_the_first_eight_chosen_and_says_what_it_is(workspace: Workspace) -> None:
    figure = draw(document(*map(planned, range(9))), workspace)
    told = words(figure)
    assert MDAL_METHOD in told
    assert "reconstructed from its abstract" in told
    assert "1.  p0   MD +2.00, percentile 100" in told
    assert "8.  p7" in told
    assert "9.  p8" not in told
    images = [image for axes in _all_axes(figure) for image in axes.images]
    assert len(images) == 8 * 2
    boxes = [patch for axes in _all_axes(figure) if axes.images for patch in axes.patches]
    assert len(boxes) == 8 * 2
    assert {axes.get_title() for axes in _all_axes(figure) if axes.images} == {"CT", "PET"}


def test_a_thumbnail_keeps_the_patients_proportions(workspace: Workspace) -> None:
    figure = draw(document(planned(0)), workspace)
    axes = next(axes for axes in _all_axes(figure) if axes.images)
    grid = read_grid(workspace.pool.by_id["p0"].modalities["MR_T1"])
    left, right, bottom, top = axes.images[0].get_extent()
    rows, columns = axes.images[0].get_array().shape
    assert axes.get_aspect() == 1.0  # millimetres on both axes
    assert abs(right - left) / columns == pytest.approx(grid.spacing[2])
    assert abs(top - bottom) / rows == pytest.approx(grid.spacing[1])


def test_only_chosen_cases_are_ringed_and_numbered(workspace: Workspace) -> None:
    cases = [planned(number, chosen=number < 3) for number in range(9)]
    figure = draw(document(*cases), workspace)
    chart = next(axes for axes in _all_axes(figure) if axes.get_title().startswith("Map"))
    dots, rings = chart.collections
    assert len(dots.get_offsets()) == 9
    assert len(rings.get_offsets()) == 3
    assert [text.get_text() for text in chart.texts] == ["1", "2", "3"]


def test_failed_gates_stand_in_the_title(workspace: Workspace) -> None:
    gates = [
        {"name": name, "passed": passed, "of_the_order": True}
        for name, passed in (("a", True), ("b", False), ("c", None))
    ]
    assert "1 of 3 gates failed" in words(draw(document(planned(0), planned(1), gates=gates), workspace))


def test_a_pool_without_a_difference_is_shown_with_the_reason(workspace: Workspace) -> None:
    cases = (planned(0, scored=False), planned(1, scored=False))
    told = words(draw(document(*cases, warnings=["at least 6 patients are needed"]), workspace))
    assert "at least 6 patients are needed" in told
    assert "1.  p0" in told
    assert "MD" not in told.replace(MDAL_METHOD, "").replace("diversemd", "")


def test_a_case_whose_file_is_gone_says_so_in_its_place(workspace: Workspace, tmp_path: Path) -> None:
    studies = shutil.copytree(SAMPLES / "STS_025", tmp_path / "studies" / "p0").parent
    shutil.copytree(SAMPLES / "STS_041", studies / "p1")
    lost = Workspace(studies, AppSettings())
    (studies / "p1" / "CT.nii.gz").unlink()
    told = words(draw(document(planned(0), planned(1)), lost))
    assert "CT.nii.gz" in told


def test_a_name_with_dollars_or_in_another_script_is_drawn_as_it_is(
    workspace: Workspace, tmp_path: Path
) -> None:
    studies = shutil.copytree(SAMPLES / "STS_025", tmp_path / "studies" / "患者 (1) ة").parent
    odd = Workspace(studies, AppSettings())
    case = PlannedCase(1, "患者 (1) ة", True, CaseScore())
    write_figure(document(case, warnings=["costs $5 and $6"]), odd, tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size > 5000


def test_the_same_plan_gives_the_same_bytes(workspace: Workspace, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        write_figure(document(planned(0), planned(1), planned(2)), workspace, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def _all_axes(figure: Figure) -> list[Axes]:
    return figure.findobj(Axes)
