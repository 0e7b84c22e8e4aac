"""What the values of a CT or a PET say of their unit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.cases.case import Case
from lib.cases.formats.image import Volume
from tests.support.checked_samples import changed, codes, verdict_on


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(lambda hu: hu + 1024, "counted from air, not from water", id="stored from 0"),
        pytest.param(lambda hu: hu + 1000, "counted from air, not from water", id="attenuation, water 1,000"),
        pytest.param(lambda hu: hu - 1024, "has soft tissue", id="intercept twice"),
        pytest.param(lambda hu: hu + 32768, "has soft tissue", id="unsigned"),
        pytest.param(
            lambda hu: np.clip(hu, -1000, 1000) / 2000 + 0.5, "a picture, no Hounsfield units", id="0 to 1"
        ),
        pytest.param(
            lambda hu: np.rint((np.clip(hu, -160, 240) + 160) / 400 * 255),
            "a picture, no Hounsfield units",
            id="8 bits of a window",
        ),
    ],
)
def test_a_ct_whose_zero_is_not_water_is_held_back(
    cases: dict[str, Case],
    measured: dict[str, dict[str, Any]],
    tmp_path: Path,
    change: Callable[[np.ndarray], np.ndarray],
    sentence: str,
) -> None:
    stored = changed(
        cases["STS_042"], "CT", lambda v: Volume(change(v.array).astype(np.float32), v.grid), tmp_path
    )
    verdict = verdict_on(stored, measured)
    assert verdict.status == "quarantined"
    assert any(sentence in finding.sentence for finding in verdict.findings)
    assert verdict_on(cases["STS_042"], measured).status == "ok"


@pytest.mark.parametrize("factor", [4000.0, 5037.0, 1e-6])
def test_a_pet_whose_values_are_no_suv_is_held_back(
    cases: dict[str, Case], measured: dict[str, dict[str, Any]], tmp_path: Path, factor: float
) -> None:
    stored = changed(
        cases["STS_042"], "PET", lambda v: Volume(v.array * np.float32(factor), v.grid), tmp_path
    )
    verdict = verdict_on(stored, measured)
    assert verdict.status == "quarantined"
    assert any("brightest thousandth" in finding.sentence for finding in verdict.findings)


@pytest.mark.parametrize("modality", ["CT", "PET"])
def test_a_volume_without_an_image_is_not_also_one_of_another_unit(
    cases: dict[str, Case], measured: dict[str, dict[str, Any]], tmp_path: Path, modality: str
) -> None:
    empty = changed(cases["STS_042"], modality, lambda v: Volume(np.zeros_like(v.array), v.grid), tmp_path)
    assert codes(verdict_on(empty, measured)) == {"empty"}


def test_a_ct_without_air_around_it_is_in_hounsfield_units_all_the_same(
    cases: dict[str, Case], measured: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    inside = changed(
        cases["STS_042"], "CT", lambda v: Volume(np.where(v.array < -300, 0, v.array), v.grid), tmp_path
    )
    assert "value" not in codes(verdict_on(inside, measured))
