"""Strips of a real patient: every modality side by side, kept on disk."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.cases.case import CaseError
from lib.overview.strips import Strips, strip
from lib.plan.scores import CaseScore
from lib.planning import PATCHES
from lib.settings import AppSettings
from lib.site import Site

PLACE = 130


@pytest.fixture
def site(samples: Callable[..., Path]) -> Site:
    """Two patients; it is known where the modalities of the first differ most."""
    site = Site(samples("STS_008", "STS_025"), AppSettings(budget="1"))
    nats = np.ones((1, 1, 216), np.float16)
    nats[0, 0, PLACE] = -3.0
    site.plan.write(
        content="c",
        seed=0,
        scores={"STS_008": CaseScore(1.0, 90.0, {"most_different_pair": "CT/PET"}), "STS_025": CaseScore()},
        orders={site.settings.strategy: ("STS_008", "STS_025")},
        about={},
    )
    np.savez(
        site.work / PATCHES, content="c", ids=np.array(["STS_008"]), pairs=np.array(["CT/PET"]), nats=nats
    )
    return site


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def marked(picture: np.ndarray) -> np.ndarray:
    return (picture[..., 0] - picture[..., 1]) > 60


def test_every_modality_has_an_equal_part_and_the_same_box(site: Site) -> None:
    case = site.cache.get(site.pool.by_id["STS_008"])
    picture = pixels(strip(case, PLACE))
    parts = np.array_split(picture, len(case.modalities), axis=1)
    assert len({part.shape[1] for part in parts}) <= 2  # to a pixel
    for part in parts:
        assert part.mean(axis=2).std() > 10  # something is seen
        assert marked(part).any()
    assert not marked(pixels(strip(case, None))).any()


def test_a_modality_that_a_case_lacks_is_crossed_out(site: Site, samples: Callable[..., Path]) -> None:
    (site.studies / "STS_025" / "PET_SUVx100.nii.gz").unlink()
    lacking = Site(site.studies, AppSettings())
    case = lacking.cache.get(lacking.pool.by_id["STS_025"])
    parts = np.array_split(pixels(strip(case, None)), len(case.modalities), axis=1)
    shown = {name: part.mean() for name, part in zip(case.modalities, parts, strict=True)}
    assert 0 < shown["PET"] < min(shown[name] for name in ("CT", "MR_T1"))


def test_a_strip_is_made_once_until_the_case_or_its_place_changes(site: Site) -> None:
    strips, case = Strips(site), site.pool.by_id["STS_008"]
    file = strips.file(case)
    assert marked(pixels(file.read_bytes())).any()  # the plan's place
    file.write_bytes(b"kept")
    assert Strips(site).file(case).read_bytes() == b"kept"
    (site.work / PATCHES).unlink()
    assert Strips(site).file(case) != file
    assert not marked(pixels(Strips(site).file(case).read_bytes())).any()


def test_the_chosen_cases_have_their_strips_beforehand(site: Site) -> None:
    assert Strips(site).keep_chosen() == 1
    assert len(list((site.work / "strips").glob("*/*.jpg"))) == 1


def test_a_case_that_cannot_be_read_is_left_out_and_says_why(site: Site) -> None:
    (site.studies / "STS_008" / "CT.nii.gz").write_bytes(b"no image")
    assert Strips(site).keep_chosen() == 0
    with pytest.raises(CaseError, match=r"CT\.nii\.gz"):
        Strips(site).file(site.pool.by_id["STS_008"])
