"""Strips of a real patient: every modality side by side, kept on disk."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.pipeline.place_differences import differences_folder, place_differences
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.plan.scores import CaseScore
from lib.runtime.errors import UserError
from lib.views.pictures.strips import Strips, strip
from tests.support.places import differences, peak

PLACE = 130


@pytest.fixture
def workspace(samples: Callable[..., Path]) -> Workspace:
    """Two patients; it is known where the modalities of the first differ most."""
    workspace = Workspace(samples("STS_008", "STS_025"), AppSettings(budget="1"))
    workspace.plan.write(
        content="c",
        seed=0,
        scores={"STS_008": CaseScore(1.0, 90.0, {"most_different_pair": "CT/PET"}), "STS_025": CaseScore()},
        orders={workspace.settings.strategy: ("STS_008", "STS_025")},
        about={},
    )
    differences({"STS_008": peak(PLACE)}).save(differences_folder(workspace), of="c")
    return workspace


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def marked(picture: np.ndarray) -> np.ndarray:
    return (picture[..., 0] - picture[..., 1]) > 60


def test_every_modality_has_an_equal_part_and_the_same_box(workspace: Workspace) -> None:
    case = workspace.cache.get(workspace.pool.by_id["STS_008"])
    box = place_differences(workspace).most_different(case)
    picture = pixels(strip(case, box))
    parts = np.array_split(picture, len(case.modalities), axis=1)
    assert len({part.shape[1] for part in parts}) <= 2  # to a pixel
    for part in parts:
        assert part.mean(axis=2).std() > 10  # something is seen
        assert marked(part).any()
    assert not marked(pixels(strip(case, None))).any()


def test_a_modality_that_a_case_lacks_is_crossed_out(
    workspace: Workspace, samples: Callable[..., Path]
) -> None:
    (workspace.folders.studies / "STS_025" / "PET_SUVx100.nii.gz").unlink()
    lacking = Workspace(workspace.folders.studies, AppSettings())
    case = lacking.cache.get(lacking.pool.by_id["STS_025"])
    parts = np.array_split(pixels(strip(case, None)), len(case.modalities), axis=1)
    shown = {name: part.mean() for name, part in zip(case.modalities, parts, strict=True)}
    assert 0 < shown["PET"] < min(shown[name] for name in ("CT", "MR_T1"))


def test_a_strip_is_made_once_until_the_case_or_its_place_changes(workspace: Workspace) -> None:
    strips, case = Strips(workspace), workspace.pool.by_id["STS_008"]
    file = strips.file(case)
    assert marked(pixels(file.read_bytes())).any()  # the plan's place
    file.write_bytes(b"kept")
    assert Strips(workspace).file(case).read_bytes() == b"kept"
    workspace.plan.write(content="d", seed=0, scores={}, orders={}, about={})
    assert Strips(workspace).file(case) != file
    assert not marked(pixels(Strips(workspace).file(case).read_bytes())).any()


def test_the_chosen_cases_have_their_strips_beforehand(workspace: Workspace) -> None:
    assert Strips(workspace).keep_chosen() == 1
    assert len(list((workspace.folders.work / "strips").glob("*/*.jpg"))) == 1


def test_a_case_that_cannot_be_read_is_left_out_and_says_why(workspace: Workspace) -> None:
    (workspace.folders.studies / "STS_008" / "CT.nii.gz").write_bytes(b"no image")
    assert Strips(workspace).keep_chosen() == 0
    with pytest.raises(UserError, match=r"CT\.nii\.gz"):
        Strips(workspace).file(workspace.pool.by_id["STS_008"])
