"""What a header says of how a series was made."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from lib.cases.formats.acquisition import UNSAID, Acquisition


def header(**fields: Any) -> Dataset:
    made = Dataset()
    for keyword, value in fields.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize("agent", ["", "NONE", "no", "N", "0", "without contrast", None])
def test_an_agent_that_is_none_is_no_agent(agent: str | None) -> None:
    assert Acquisition.of(header(ContrastBolusAgent=agent)) == UNSAID == Acquisition.of(header())


@pytest.mark.parametrize(
    ("given", "acquired", "after"),
    [
        ("101500", "102000.5", True),
        ("101500.0", "101500", True),
        ("102000", "101500", False),
        ("102000", "", None),
        ("", "101500", None),
        ("1015", "101500", None),
    ],
)
def test_the_times_say_whether_a_series_was_made_after_the_injection(
    given: str, acquired: str, after: bool | None
) -> None:
    made = Acquisition.of(
        header(ContrastBolusAgent="Dotarem", ContrastBolusStartTime=given, AcquisitionTime=acquired)
    )
    assert (made.agent, made.after_injection) == ("Dotarem", after)


def test_diffusion_and_corrections_are_read_from_their_attributes() -> None:
    assert Acquisition.of(header(DiffusionBValue=1000.0)).diffusion_weighted
    assert not Acquisition.of(header(DiffusionBValue=0.0)).diffusion_weighted
    assert Acquisition.of(header(ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC"])).apparent_diffusion
    assert not Acquisition.of(header(ImageType="ORIGINAL")).apparent_diffusion
    for corrections, corrected in ((["DECY", "ATTN"], True), (["DECY"], False), ("ATTN", True), (None, None)):
        assert Acquisition.of(header(CorrectedImage=corrections)).attenuation_corrected is corrected
